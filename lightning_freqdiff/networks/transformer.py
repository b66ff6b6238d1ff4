"""Transformers over tokens, open for caches: with adaptive layer norms, and the papers' encoder, here pre-norm."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.networks.adaptive import AdaptiveBlock, Modulation, OverTime
from lightning_freqdiff.networks.base import Architecture, Backbone, Embedding, TokenBlock, check_positive
from lightning_freqdiff.networks.context import Context, FourierTime
from lightning_freqdiff.networks.kernels import Derived, attention, chunked, feed_forward, full_precision
from lightning_freqdiff.networks.unet import GROUP
from lightning_freqdiff.networks.view import Frequencies, Steps
from lightning_freqdiff.spectral import Codec

PRESETS: dict[str, dict[str, float]] = {
    "small": {"layers": 4, "heads": 4, "width": 64, "feedforward": 128, "time_scale": 4.0},
    "base": {"layers": 6, "heads": 8, "width": 128, "feedforward": 256, "time_scale": 4.0},
    "plain": {"layers": 4, "heads": 4, "width": 64, "feedforward": 256, "time_scale": 4.0},
    "paper": {"layers": 10, "heads": 12, "width": 72, "feedforward": 2048, "time_scale": 30.0},
}
PLAIN = ("plain", "paper")
"""Presets that add the time to their tokens, and know no condition."""

# Bytes of one chunk of a batch on a CPU: feed-forward activations, attention scores.
CPU_HIDDEN_BYTES, CPU_SCORES_BYTES = 12 * 2**20, 7 * 2**20


@dataclass(frozen=True)
class Transformer(Architecture):
    """Transformer over frequencies or steps. A setting that is not given comes from the preset.

    Args:
        preset: ``small`` (4 layers, 64 wide) and ``base`` (6 layers, 128 wide) scale and shift their features by time
            and condition, and have gated feed-forward layers. ``paper`` is the encoder of arXiv 2402.05933 (10
            layers, 12 heads, 72 wide, feed-forward 2048, 3.2 M parameters), ``plain`` the same on a small scale: they
            add the time to their tokens, and take no notice of conditions.
        axis: What the tokens are: frequencies, or steps, to which they are transformed and back.
        group: Neighbouring frequencies or steps that make one token; more are faster. Caches that choose tokens want
            the frequencies one by one.
        mix: Steps that a convolution over time sees, odd: after each block over frequencies the features go to the
            time axis, through a residual block of two convolutions, and back. 0: none.
        layers: Number of blocks.
        heads: Attention heads; must divide the width.
        width: Width of a token's features.
        feedforward: Width of the feed-forward layer.
        time_scale: Scale of the Fourier features of time, in cycles per unit of t.
        dropout: Share of features dropped in training.
    """

    preset: Literal["small", "base", "plain", "paper"] = "small"
    axis: Literal["frequency", "time"] = "frequency"
    group: int = 1
    mix: int = 0
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

    def build(self, codec: Codec, sizes: ConditionSizes = UNCONDITIONAL) -> Backbone:
        """Make a transformer."""
        chosen = {name: self.setting(name) for name in ("layers", "heads", "width", "feedforward")}
        check_positive(**chosen, group=self.group)
        if self.mix and (self.axis, self.group, codec.layout.domain) != ("frequency", 1, "frequency"):
            raise ValueError(
                f"expected single frequencies where mix is set, got axis {self.axis}, group {self.group} in the "
                f"domain {codec.layout.domain}: set `model.network.mix` 0"
            )
        if self.mix and (self.mix < 0 or not self.mix % 2 or chosen["width"] % (2 * GROUP)):
            raise ValueError(
                f"expected an odd mix and a width that {2 * GROUP} divides, got {self.mix} and "
                f"{chosen['width']}: set `model.network.mix` or `model.network.width`"
            )
        if chosen["width"] % chosen["heads"] or chosen["width"] % 2:
            raise ValueError(
                f"expected an even width that the heads divide, got width {chosen['width']} and heads "
                f"{chosen['heads']}: set `model.network.width` or `model.network.heads`"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"expected dropout in [0, 1), got {self.dropout}: set `model.network.dropout`")
        scale = PRESETS[self.preset]["time_scale"] if self.time_scale is None else self.time_scale
        if self.preset not in PLAIN:
            return AdaptiveTransformer(codec, sizes, self, scale, **chosen)
        if (self.axis, self.group, self.mix) != ("frequency", 1, 0):
            raise ValueError(
                f"expected axis frequency, group 1 and mix 0 with preset {self.preset}, got {self.axis}, "
                f"{self.group} and {self.mix}: set `model.network.preset` to small or base"
            )
        layout = codec.layout
        return PlainTransformer(layout.tokens, layout.features, **chosen, time_scale=scale, dropout=self.dropout)


class TokenTransformer(Backbone):
    """What transformers have in common: blocks whose queries may be fewer tokens than their keys and values.

    Args:
        tokens: Tokens that the blocks work on.
        heads: Attention heads.
        feedforward: Width of the feed-forward layer.
    """

    def __init__(self, tokens: int, heads: int, feedforward: int) -> None:
        super().__init__()
        fit = min(CPU_HIDDEN_BYTES // (4 * tokens * feedforward), CPU_SCORES_BYTES // (4 * heads * tokens**2))
        self.tokens, self.cpu_chunk = tokens, 2 ** int(math.log2(max(1, fit)))

    def in_chunks(self, run: Callable[..., Any], *inputs: Any) -> Any:
        """Run on a CPU on as many samples at once as its caches hold, more of them where they have fewer tokens."""
        h = inputs[0]
        if not h.is_cpu or torch.is_grad_enabled():
            return run(*inputs)
        return chunked(run, max(1, self.cpu_chunk * self.tokens // max(1, h.shape[1])), *inputs)

    def block(self, number: int, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Run one block on all tokens ``(B, K, d)``."""
        return self.layers[number](h, context)


class AdaptiveTransformer(TokenTransformer):
    """Tokens of any view, blocks that time and condition scale and shift, and a head that starts at zero.

    Peebles and Xie, "Scalable Diffusion Models with Transformers", arXiv 2212.09748, section 3.2.

    Args:
        codec: Layout and units of the tokens.
        sizes: Which conditions it will be given.
        settings: Axis, group and dropout.
        time_scale: Scale of the Fourier features of time.
        layers: Number of blocks.
        heads: Attention heads.
        width: Width of a token's features, ``d``.
        feedforward: Width of the feed-forward layer.
    """

    def __init__(
        self,
        codec: Codec,
        sizes: ConditionSizes,
        settings: Transformer,
        time_scale: float,
        layers: int,
        heads: int,
        width: int,
        feedforward: int,
    ) -> None:
        view = (Steps if settings.axis == "time" else Frequencies)(codec, sizes)
        group = min(settings.group, view.rows)
        super().__init__(-(-view.rows // group), heads, feedforward)
        self.view, self.group, self.padding = view, group, -view.rows % group
        self.along_tokens = settings.axis == "frequency"
        self.context = Context(width, time_scale, sizes)
        self.token = nn.Linear(group * view.inputs, width)
        self.position = nn.Parameter(0.02 * torch.randn(self.tokens, width))
        self.layers = nn.ModuleList()
        for _ in range(layers):
            self.layers.append(AdaptiveBlock(width, heads, feedforward, settings.dropout))
            if settings.mix:
                self.layers.append(OverTime(codec.layout, width, settings.mix, settings.dropout))
        self.norm, self.out = Modulation(width, parts=1), nn.Linear(width, group * view.outputs)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def token_blocks(self) -> Sequence[TokenBlock] | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks in order, where a token is a token of the layout and nothing but attention mixes tokens."""
        whole = self._whole and all(isinstance(layer, AdaptiveBlock) for layer in self.layers)
        return cast("list[AdaptiveBlock]", list(self.layers)) if whole else None

    @property
    def _whole(self) -> bool:
        return isinstance(self.view, Frequencies) and self.group == 1

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)`` as ``h⁰``, ``(B, K', d)``, time and condition as ``(B, d)``."""
        rows = F.pad(self.view.see(z, condition), (0, 0, 0, self.padding)).unflatten(1, (self.tokens, -1)).flatten(2)
        return Embedding(self.token(rows) + self.position, self.context(len(z), t, condition))

    def modulated(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the first block's normalised, scaled and shifted input."""
        return cast(AdaptiveBlock, self.layers[0]).attended(h, context)

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Turn features ``(B, S, d)`` into raw output ``(B, S, F)``; of some tokens where these are the layout's."""
        ((scale, shift),) = self.norm.parts(context)
        rows = self.out(self.norm(h, scale, shift))
        if not self._whole:
            rows = rows.unflatten(2, (self.group, -1)).flatten(1, 2)[:, : self.view.rows]
        return self.view.back(rows)


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


class PlainTransformer(TokenTransformer):
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
        super().__init__(tokens, heads, feedforward)
        self.token = nn.Linear(features, width)
        self.position = nn.Parameter(0.02 * torch.randn(tokens, width))
        self.time = FourierTime(width, time_scale)
        self.layers = nn.ModuleList(Block(width, heads, feedforward, dropout) for _ in range(layers))
        self.norm, self.out = nn.LayerNorm(width), nn.Linear(width, features)
        # A zero head makes the untrained model the Wiener filter, already the best linear denoiser.
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    @property
    def token_blocks(self) -> Sequence[TokenBlock]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The blocks in order."""
        return cast("list[Block]", list(self.layers))

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)`` at time ``t`` as ``h⁰``, ``(B, K, d)``."""
        return Embedding(self.token(z) + self.position + self.time(t))

    def modulated(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the first block's normalised input."""
        return cast(Block, self.layers[0]).norm_attention(h)

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Turn features ``(B, S, d)`` of any tokens into raw output ``(B, S, F)``."""
        return self.out(self.norm(h))
