"""Transformers over tokens, open for caches: with adaptive layer norms, and the papers' encoder, here pre-norm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.networks.adaptive import AdaptiveBlock, Modulation, OverTime
from lightning_freqdiff.networks.base import (
    Architecture,
    Backbone,
    Embedding,
    TokenBlock,
    check_positive,
    refuse_conditions,
)
from lightning_freqdiff.networks.context import Context
from lightning_freqdiff.networks.plain import PlainTransformer
from lightning_freqdiff.networks.tokens import TokenTransformer
from lightning_freqdiff.networks.unet import GROUP
from lightning_freqdiff.networks.view import Frequencies, Steps

PRESETS: dict[str, dict[str, float]] = {
    "small": {"layers": 4, "heads": 4, "width": 64, "feedforward": 128, "time_scale": 4.0},
    "base": {"layers": 6, "heads": 8, "width": 128, "feedforward": 256, "time_scale": 4.0},
    "plain": {"layers": 4, "heads": 4, "width": 64, "feedforward": 256, "time_scale": 4.0},
    "paper": {"layers": 10, "heads": 12, "width": 72, "feedforward": 2048, "time_scale": 30.0},
}
PLAIN = ("plain", "paper")
"""Presets that add the time to their tokens, and know no condition."""


@dataclass(frozen=True)
class Transformer(Architecture):
    """Transformer over frequencies or steps. A setting that is not given comes from the preset.

    Args:
        preset: ``small`` (4 layers, 64 wide) and ``base`` (6 layers, 128 wide) scale and shift their features by time
            and condition, and have gated feed-forward layers. ``paper`` is the encoder of arXiv 2402.05933 (10
            layers, 12 heads, 72 wide, feed-forward 2048, 3.2 M parameters), ``plain`` the same on a small scale: they
            add the time to their tokens, and can be told nothing.
        axis: What the tokens are: ``frequency`` those of the domain, which are frequencies unless another is chosen
            (``model.domain``); or steps, to which these are transformed and back.
        group: Neighbouring tokens or steps that make one; more are faster. Caches that choose tokens want them one by
            one.
        mix: Steps that a convolution over time sees, odd: after each block over tokens the features go to the time
            axis, through a residual block of two convolutions, and back. 0: none.
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

    @property
    def sees_time(self) -> bool:
        """Where its tokens are steps."""
        return self.axis == "time"

    def setting(self, name: str) -> int:
        """Return a setting by name, from the preset where it was not given."""
        value = getattr(self, name)
        return int(PRESETS[self.preset][name] if value is None else value)

    def build(self, codec: Codec, sizes: ConditionSizes = UNCONDITIONAL) -> Backbone:
        """Make a transformer."""
        chosen = {name: self.setting(name) for name in ("layers", "heads", "width", "feedforward")}
        check_positive(**chosen, group=self.group)
        if self.mix and (self.axis, self.group) != ("frequency", 1):
            raise ValueError(
                f"expected single frequencies where mix is set, got axis {self.axis} and group {self.group}: "
                "set `model.network.mix` 0"
            )
        channels = codec.layout.parts * GROUP
        if self.mix and (self.mix < 0 or not self.mix % 2 or chosen["width"] % channels):
            raise ValueError(
                f"expected an odd mix and a width that {channels} divides, got {self.mix} and "
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
        refuse_conditions(sizes, f"a transformer of preset {self.preset}")
        layout = codec.layout
        return PlainTransformer(layout.tokens, layout.features, **chosen, time_scale=scale, dropout=self.dropout)


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
        self.sees_linear = view.linear
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
