"""The papers' backbone: a transformer encoder over frequencies, here pre-norm and open for caches."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.networks.base import (
    Architecture,
    Backbone,
    Embedding,
    FourierTime,
    TokenBlock,
    check_positive,
)
from lightning_freqdiff.networks.kernels import Derived, attention, chunked, feed_forward, full_precision
from lightning_freqdiff.spectral import Codec

PRESETS: dict[str, dict[str, float]] = {
    "small": {"layers": 4, "heads": 4, "width": 64, "feedforward": 256, "time_scale": 4.0},
    "paper": {"layers": 10, "heads": 12, "width": 72, "feedforward": 2048, "time_scale": 30.0},
}

# Bytes of one chunk of a batch on a CPU: feed-forward activations, attention scores.
CPU_HIDDEN_BYTES, CPU_SCORES_BYTES = 12 * 2**20, 7 * 2**20


@dataclass(frozen=True)
class Transformer(Architecture):
    """Pre-norm transformer encoder. A setting that is not given comes from the preset.

    Args:
        preset: ``small`` (4 layers, 4 heads, 64 wide, feed-forward 256, 0.2 M parameters) or ``paper`` (10
            layers, 12 heads, 72 wide, feed-forward 2048, 3.2 M parameters; arXiv 2402.05933).
        layers: Number of blocks.
        heads: Attention heads; must divide the width.
        width: Width of a token's features.
        feedforward: Width of the feed-forward layer.
        time_scale: Scale of the Fourier features of time, in cycles per unit of t.
        dropout: Share of features dropped in training.
    """

    preset: Literal["small", "paper"] = "small"
    layers: int | None = None
    heads: int | None = None
    width: int | None = None
    feedforward: int | None = None
    time_scale: float | None = None
    dropout: float = 0.0

    def setting(self, name: str) -> int:
        """Return a setting by name, from the preset where it was not given."""
        value = getattr(self, name)
        return int(PRESETS[self.preset][name] if value is None else value)

    def build(self, codec: Codec, sizes: ConditionSizes = UNCONDITIONAL) -> TransformerBackbone:
        """Make a transformer, which takes no notice of conditions."""
        chosen = {name: self.setting(name) for name in ("layers", "heads", "width", "feedforward")}
        check_positive(**chosen)
        if chosen["width"] % chosen["heads"] or chosen["width"] % 2:
            raise ValueError(
                f"expected an even width that the heads divide, got width {chosen['width']} and heads "
                f"{chosen['heads']}: set `model.network.width` or `model.network.heads`"
            )
        scale = PRESETS[self.preset]["time_scale"] if self.time_scale is None else self.time_scale
        layout = codec.layout
        return TransformerBackbone(layout.tokens, layout.features, **chosen, time_scale=scale, dropout=self.dropout)


class Block(Derived):
    """One pre-norm encoder block, whose queries may be fewer tokens than its keys and values.

    Args:
        width: Width of a token's features.
        heads: Attention heads.
        feedforward: Width of the feed-forward layer.
        dropout: Share of features dropped in training.
    """

    def __init__(self, width: int, heads: int, feedforward: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm_attention, self.norm_feedforward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)
        self.expand, self.contract = nn.Linear(width, feedforward), nn.Linear(feedforward, width)

    def queries_keys_values(self, h: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Project the block's input ``(B, S, d)`` to queries ``(B, S, d)``, and keys beside values ``(B, S, 2d)``."""
        with full_precision(h):
            q, kv = self.query_key_value(self.norm_attention(h)).tensor_split([h.shape[-1]], dim=-1)
        return q, kv

    def queries(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Project to queries alone."""
        return self._project(h, slice(None, h.shape[-1]))

    def keys_values(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Project to keys and values alone."""
        return self._project(h, slice(h.shape[-1], None))

    def _project(self, h: Tensor, rows: slice) -> Tensor:
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        with full_precision(h):
            return F.linear(self.norm_attention(h), weight[rows], bias[rows])

    def finish(self, h: Tensor, q: Tensor, kv: Tensor, context: Tensor | None = None) -> Tensor:
        """Attend from queries ``(B, S, d)`` to keys and values ``(B, K, 2d)``, then feed forward ``h``."""
        rate = self.dropout if self.training else 0.0
        with full_precision(h):
            h = h + F.dropout(self.project(attention(q, kv, self.heads, rate)), rate, rate > 0)
            normed = self.norm_feedforward(h)
        return feed_forward(h, normed, self.expand, self.contract, rate, self)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Run the whole block on all tokens ``(B, K, d)``."""
        return self.finish(h, *self.queries_keys_values(h))


class TransformerBackbone(Backbone):
    """Token and time embedding, encoder blocks, and a head that starts at zero.

    Args:
        tokens: Number of tokens, ``K``.
        features: Width of a token, ``F``.
        layers: Number of blocks.
        heads: Attention heads.
        width: Width of a token's features, ``d``.
        feedforward: Width of the feed-forward layer.
        time_scale: Scale of the Fourier features of time.
        dropout: Share of features dropped in training.
    """

    def __init__(
        self,
        tokens: int,
        features: int,
        layers: int,
        heads: int,
        width: int,
        feedforward: int,
        time_scale: float,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.token = nn.Linear(features, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = FourierTime(width, time_scale)
        self.layers = nn.ModuleList(Block(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, features)
        # A zero head makes the untrained model the Wiener filter, already the best linear denoiser.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        fit = min(CPU_HIDDEN_BYTES // (4 * tokens * feedforward), CPU_SCORES_BYTES // (4 * heads * tokens**2))
        self.tokens, self.cpu_chunk = tokens, 2 ** int(math.log2(max(1, fit)))

    @property
    def token_blocks(self) -> Sequence[TokenBlock]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks in order."""
        return cast("list[Block]", list(self.layers))

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)`` at time ``t`` as ``h⁰``, ``(B, K, d)``."""
        return Embedding(self.token(z) + self.position + self.time(t))

    def in_chunks(self, run: Callable[..., Any], *inputs: Any) -> Any:
        """Run on a CPU on as many samples at once as its caches hold, more of them where they have fewer tokens."""
        h = inputs[0]
        if not h.is_cpu or torch.is_grad_enabled():
            return run(*inputs)
        return chunked(run, max(1, self.cpu_chunk * self.tokens // max(1, h.shape[1])), *inputs)

    def block(self, number: int, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Run one block on all tokens ``(B, K, d)``."""
        return self.layers[number](h)

    def modulated(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the first block's normalised input."""
        return cast(Block, self.layers[0]).norm_attention(h)

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Turn features ``(B, S, d)`` of any tokens into raw output ``(B, S, F)``."""
        return self.out(self.norm(h))
