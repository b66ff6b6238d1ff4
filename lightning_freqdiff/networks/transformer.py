"""The papers' backbone: a transformer encoder over frequencies, here pre-norm and open for caches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.networks.base import Architecture, Backbone, FourierTime, check_positive
from lightning_freqdiff.networks.kernels import cpu
from lightning_freqdiff.networks.kernels.chunks import in_pieces
from lightning_freqdiff.networks.kernels.compiled import Compiled

T = TypeVar("T")

PRESETS: dict[str, dict[str, float]] = {
    "small": {"layers": 4, "heads": 4, "width": 64, "feedforward": 256, "time_scale": 4.0},
    "paper": {"layers": 10, "heads": 12, "width": 72, "feedforward": 2048, "time_scale": 30.0},
}

# Bytes of one piece of a batch on a CPU: feed-forward activations, attention scores.
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

    def build(self, tokens: int, features: int) -> TransformerBackbone:
        """Make a transformer for ``tokens`` tokens of ``features`` numbers."""
        sizes = {name: self.setting(name) for name in ("layers", "heads", "width", "feedforward")}
        check_positive(**sizes)
        if sizes["width"] % sizes["heads"] or sizes["width"] % 2:
            raise ValueError(
                f"expected an even width that the heads divide, got width {sizes['width']} and heads "
                f"{sizes['heads']}: set `model.network.width` or `model.network.heads`"
            )
        scale = PRESETS[self.preset]["time_scale"] if self.time_scale is None else self.time_scale
        return TransformerBackbone(tokens, features, **sizes, time_scale=scale, dropout=self.dropout)


class Block(nn.Module):
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

    def queries_keys_values(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Project this block's input ``(B, S, d)`` to Q, K and V, each ``(B, S, d)``."""
        with cpu.float32(cpu.applies(h) and cpu.lowered()):
            q, k, v = self.query_key_value(self.norm_attention(h)).chunk(3, dim=-1)
        return q, k, v

    def finish(self, h: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from queries ``(B, S, d)`` to keys and values ``(B, K, d)``, then feed forward ``h``."""
        rate = self.dropout if self.training else 0.0
        q, k, v = (a.unflatten(-1, (self.heads, -1)).transpose(1, 2) for a in (q, k, v))
        if cpu.applies(h) and not rate and cpu.plain(self.expand, self.contract):
            low = cpu.lowered()
            with cpu.float32(low):
                h = h + self.project(cpu.attend(q, k, v).transpose(1, 2).flatten(2))
                return cpu.feed_forward(h, self.norm_feedforward(h), self.expand, self.contract, low)
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        h = h + F.dropout(self.project(attended.transpose(1, 2).flatten(2)), rate, self.training)
        hidden = F.relu(self.expand(self.norm_feedforward(h)))
        return h + F.dropout(self.contract(hidden), rate, self.training)

    def forward(self, h: Tensor) -> Tensor:
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
        self.sizes = (tokens, layers, width, feedforward)
        self._parts: dict[Callable[..., Any], Compiled] = {}
        fit = min(CPU_HIDDEN_BYTES // (4 * tokens * feedforward), CPU_SCORES_BYTES // (4 * heads * tokens**2))
        self.cpu_piece = 2 ** int(math.log2(max(1, fit)))

    def piece(self, samples: int, device: torch.device, tokens: int | None = None) -> int:
        """Return how many samples to run at once: on a CPU, as many as its caches hold."""
        if device.type != "cpu" or torch.is_grad_enabled():
            return max(1, samples)
        return max(1, self.cpu_piece * self.sizes[0] // (tokens or self.sizes[0]))

    def flops(self, queries: int) -> int:
        """Count the FLOPs of the blocks for ``queries`` tokens of one sample that attend to all."""
        tokens, layers, width, feedforward = self.sizes
        return layers * queries * (2 * (4 * width**2 + 2 * width * feedforward) + 4 * tokens * width)

    def embed(self, z: Tensor, t: Tensor) -> Tensor:
        """Embed tokens ``(B, K, F)`` at time ``t`` as ``h⁰``, ``(B, K, d)``."""
        return self.token(z) + self.position + self.time(t)

    def run(self, part: Callable[..., T], *inputs: Any, tokens: int | None = None) -> T:
        """Run a part of the network, ``part(network, *inputs)``, in pieces, and compiled where that was asked for.

        Args:
            part: What is run, one function for all calls of its kind.
            inputs: Tensors with samples along the first axis, or lists of such.
            tokens: Tokens of a sample that it works on, if not all.
        """
        plain = partial(part, self)
        run = self._parts.setdefault(part, Compiled(plain)) if self.runs_compiled() else plain
        return in_pieces(run, self.piece(len(inputs[0]), inputs[0].device, tokens), *inputs)

    def at_once(self, most: int) -> int:
        """Return for how many tokens to make room where ``most`` are run: compiled code knows eight numbers."""
        if not self.runs_compiled():
            return most
        step = math.ceil(self.sizes[0] / 8)
        return min(self.sizes[0], step * math.ceil(most / step))

    def blocks(self, h: Tensor) -> Tensor:
        """Run all blocks on all tokens ``(B, K, d)``; on a CPU in pieces whose activations fit its caches."""
        return self.run(TransformerBackbone._blocks, h)

    def _blocks(self, h: Tensor) -> Tensor:
        for block in self.layers:
            h = block(h)
        return h

    def head(self, h: Tensor) -> Tensor:
        """Turn features ``(B, S, d)`` of any tokens into raw output ``(B, S, F)``."""
        return self.out(self.norm(h))
