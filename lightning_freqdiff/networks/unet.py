"""A network that sees time: a one-dimensional U-Net inside the frequency diffusion.

A spike or an edge is one place in time and a phase relation over all frequencies. So tokens go back to the time axis,
where convolutions see them, and the result returns to standardised token coordinates: what is diffused, its noise and
its Wiener filter stay those of the frequency domain. Ronneberger et al., arXiv 1505.04597; the residual blocks are
those of Ho et al., arXiv 2006.11239, with scale and shift by time as by Dhariwal and Nichol, arXiv 2105.05233.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.networks.base import Architecture, Backbone, Embedding, Levelled, check_positive
from lightning_freqdiff.networks.context import Context
from lightning_freqdiff.networks.view import Steps

PRESETS: dict[str, dict[str, int]] = {
    "small": {"width": 32, "levels": 3, "depth": 1, "heads": 4},
    "base": {"width": 64, "levels": 3, "depth": 2, "heads": 4},
    "large": {"width": 128, "levels": 4, "depth": 2, "heads": 4},
}
TIME_SCALE = 4.0
GROUP = 8
"""Channels that are normalised together."""
CPU_BYTES = 2**20
"""Of the finest features of a chunk of a batch on a CPU."""


@dataclass(frozen=True)
class UNet(Architecture):
    """One-dimensional U-Net over time. A setting that is not given comes from the preset.

    Args:
        preset: ``small`` (32 channels wide, three levels: a laptop core), ``base`` (64 wide, two blocks a level) or
            ``large`` (128 wide, four levels: a GPU).
        width: Channels of the first level, a multiple of 8; each further level has twice as many.
        levels: Times that the length is halved; fewer for short series.
        depth: Residual blocks at each level, down and up.
        kernel: Steps that a convolution sees, odd.
        heads: Heads of the attention at the coarsest level.
        time_scale: Scale of the Fourier features of time, in cycles per unit of t.
        dropout: Share of features dropped in training.
        margin: Steps by which the first and the last value of a series are held beyond its ends, at least, but for
            an eighth of a series: convolutions that see nothing there do badly at the ends, of which there are few to
            learn from. At 0 there are zeros behind the last step alone, where levels need them.
    """

    preset: Literal["small", "base", "large"] = "small"
    width: int | None = None
    levels: int | None = None
    depth: int | None = None
    kernel: int = 5
    heads: int | None = None
    time_scale: float | None = None
    dropout: float = 0.0
    margin: int = 8

    @property
    def sees_time(self) -> bool:
        """It does."""
        return True

    def setting(self, name: str) -> int:
        """Return a setting by name, from the preset where it was not given."""
        value = getattr(self, name)
        return PRESETS[self.preset][name] if value is None else value

    def build(self, codec: Codec, sizes: ConditionSizes = UNCONDITIONAL) -> UNetBackbone:
        """Make a U-Net for series of the codec's length and channels."""
        width, levels, depth, heads = (self.setting(name) for name in ("width", "levels", "depth", "heads"))
        check_positive(width=width, depth=depth, kernel=self.kernel, heads=heads)
        if levels < 0 or not self.kernel % 2 or width % GROUP or width % heads:
            raise ValueError(
                f"expected levels >= 0, an odd kernel and a width that {GROUP} and the heads divide, got levels "
                f"{levels}, kernel {self.kernel}, width {width} and heads {heads}: set `model.network`"
            )
        if self.margin < 0:
            raise ValueError(f"expected a margin of at least 0 steps, got {self.margin}: set `model.network.margin`")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"expected dropout in [0, 1), got {self.dropout}: set `model.network.dropout`")
        # Four steps are left at the coarsest level, where there are as many.
        levels = min(levels, max(0, int(math.log2(codec.layout.length)) - 2))
        return UNetBackbone(codec, sizes, self, width, levels, depth, heads)


class Residual(nn.Module):
    """Two convolutions beside the identity, ``(B, C, L)`` to ``(B, D, L)``, scaled and shifted by the context.

    Args:
        channels: Channels in, ``C``.
        width: Channels out, ``D``.
        context: Width of the context.
        kernel: Steps that a convolution sees.
        dropout: Share of features dropped in training.
    """

    def __init__(self, channels: int, width: int, context: int, kernel: int, dropout: float) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.GroupNorm(channels // GROUP, channels), nn.GroupNorm(width // GROUP, width)
        self.first = nn.Conv1d(channels, width, kernel, padding=kernel // 2)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.modulate, self.dropout = nn.Linear(context, 2 * width), nn.Dropout(dropout)
        self.skip = nn.Identity() if channels == width else nn.Conv1d(channels, width, 1)

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """Add what the convolutions see."""
        scale, shift = self.modulate(context).unsqueeze(-1).chunk(2, dim=1)
        seen = self.norm_out(self.first(F.silu(self.norm_in(h))))
        seen = F.silu(torch.addcmul(shift, seen, 1 + scale))
        return self.skip(h) + self.second(self.dropout(seen))


class Attention(nn.Module):
    """Self-attention over the steps of the coarsest level, beside the identity.

    Args:
        channels: Channels, ``C``.
        length: Steps, ``L``.
        heads: Heads.
    """

    def __init__(self, channels: int, length: int, heads: int) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(channels // GROUP, channels)
        self.position = nn.Parameter(0.02 * torch.randn(channels, length))
        self.query_key_value, self.project = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, h: Tensor) -> Tensor:
        """Mix the steps of ``h``, ``(B, C, L)``."""
        tokens = (self.norm(h) + self.position).transpose(1, 2)
        q, k, v = (
            a.unflatten(-1, (self.heads, -1)).transpose(1, 2) for a in self.query_key_value(tokens).chunk(3, -1)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return h + self.project(mixed).transpose(1, 2)


class Body(nn.Module):
    """All that is between the first and the last convolution, ``(B, L, C)`` to the same.

    Args:
        widths: Channels of every level, the finest first; the coarsest has the attention.
        length: Steps at the finest level, which the levels divide.
        context: Width of the context.
        depth: Residual blocks at each level, down and up.
        kernel: Steps that a convolution sees.
        heads: Heads of the attention.
        dropout: Share of features dropped in training.
    """

    def __init__(
        self,
        widths: Sequence[int],
        length: int,
        context: int,
        depth: int,
        kernel: int,
        heads: int,
        dropout: float,
    ) -> None:
        super().__init__()
        levels = len(widths) - 1

        def column(channels: int, width: int) -> nn.ModuleList:
            inputs = [channels] + [width] * (depth - 1)
            return nn.ModuleList(Residual(c, width, context, kernel, dropout) for c in inputs)

        self.down = nn.ModuleList(column(widths[max(0, i - 1)], widths[i]) for i in range(levels))
        self.enter = Residual(widths[max(0, levels - 1)], widths[-1], context, kernel, dropout)
        self.attention = Attention(widths[-1], length >> levels, heads)
        self.leave = Residual(widths[-1], widths[-1], context, kernel, dropout)
        # Added to what was kept, and not put beside it: nearly a third of the work less.
        self.widen = nn.ModuleList(nn.Conv1d(widths[i + 1], widths[i], 1) for i in reversed(range(levels)))
        self.up = nn.ModuleList(column(widths[i], widths[i]) for i in reversed(range(levels)))

    def forward(self, h: Tensor, context: Tensor) -> Tensor:
        """Go down to the coarsest level and up again, each level seeing what it was on the way down."""
        return self.down_and_up(h.transpose(1, 2), context)[0].transpose(1, 2)

    def down_and_up(
        self, h: Tensor, context: Tensor, level: int = 0, risen: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Do so with features ``(B, C, L)``; also return what came up to a level from the one beneath.

        Args:
            h: Features at the finest level, 0.
            context: Time and condition, ``(B, c)``.
            level: The level.
            risen: What came up to it at another time: the levels beneath are left out then.
        """
        kept, turn = [], len(self.down) if risen is None else level + 1
        for at in range(turn):
            for block in self.down[at]:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, context)
            kept.append(h)
            if risen is None or at < level:
                h = 0.5 * (h[..., ::2] + h[..., 1::2])
        if risen is None:
            h = self.leave(self.attention(self.enter(h, context)), context)
        for at in reversed(range(turn)):
            known = risen is not None and at == level
            rising = risen if known else self.widen[-1 - at](h)
            if at == level:
                risen = rising
            h = kept[at] + rising.repeat_interleave(2, dim=-1)  # pyright: ignore[reportOptionalMemberAccess]
            for block in self.up[-1 - at]:  # pyright: ignore[reportGeneralTypeIssues]
                h = block(h, context)
        return h, risen


class UNetBackbone(Backbone, Levelled):
    """From tokens to the time axis, through the U-Net, and back; the last convolution starts at zero.

    Args:
        codec: Layout and units of the tokens.
        sizes: Which conditions it will be given.
        settings: All other settings.
        width: Channels of the first level.
        levels: Times that the length is halved.
        depth: Residual blocks at each level, down and up.
        heads: Heads of the attention.
    """

    along_tokens = False

    def __init__(
        self, codec: Codec, sizes: ConditionSizes, settings: UNet, width: int, levels: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.view = Steps(codec, sizes)
        self.sees_linear = self.view.linear
        length, kernel, context = codec.layout.length, settings.kernel, 4 * width
        margin = min(settings.margin, -(-length // 8))
        padding = 2 * margin + -(length + 2 * margin) % 2**levels
        before = padding // 2 if margin else 0
        self.padding, self.held = (before, padding - before), "replicate" if margin else "constant"
        scale = TIME_SCALE if settings.time_scale is None else settings.time_scale
        self.context = Context(context, scale, sizes)
        self.enter = nn.Conv1d(self.view.inputs, width, kernel, padding=kernel // 2)
        widths = [width * 2**i for i in range(levels)] + [width * 2 ** max(0, levels - 1)]
        body = Body(widths, length + padding, context, depth, kernel, heads, settings.dropout)
        self.layers = nn.ModuleList([body])
        # No norm before it: how loud a series is as a whole would be lost, and samples would be too quiet.
        self.out = nn.Conv1d(width, self.view.outputs, kernel, padding=kernel // 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # pyright: ignore[reportArgumentType]

    @property
    def parts(self) -> list[nn.Module]:
        """The residual blocks and the attention: all of the U-Net is a single layer."""
        return [part for part in self.layers.modules() if isinstance(part, (Residual, Attention))]

    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)`` as features over time ``(B, L, C)``, time and condition as ``(B, c)``."""
        series = F.pad(self.view.see(z, condition).transpose(1, 2), self.padding, mode=self.held)
        return Embedding(self.enter(series).transpose(1, 2), self.context(len(z), t, condition))

    def block(self, number: int, h: Tensor, context: Tensor | None) -> Tensor:
        """Run the whole U-Net, which is one block, on features ``(B, L, C)``."""
        return self.layers[number](h, context)

    def cpu_fit(self, h: Tensor) -> int:
        """Return how many samples fit by their finest features, as a power of two."""
        return 2 ** int(math.log2(max(1, CPU_BYTES // (4 * math.prod(h.shape[1:])))))

    @property
    def levels(self) -> int:
        """Levels above the coarsest."""
        return len(cast(Body, self.layers[0]).down)

    def above(
        self, h: Tensor, context: Tensor | None, level: int, risen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the levels down to one, or all of them where nothing is known of those beneath."""
        assert context is not None
        h, risen = cast(Body, self.layers[0]).down_and_up(h.transpose(1, 2), context, level, risen)
        return h.transpose(1, 2), risen

    def head(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Turn features ``(B, L, C)`` into raw output ``(B, K, F)`` of standardised token coordinates."""
        x = self.out(F.silu(h).transpose(1, 2)).transpose(1, 2)
        before, behind = self.padding
        return self.view.back(x[:, before : x.shape[1] - behind])
