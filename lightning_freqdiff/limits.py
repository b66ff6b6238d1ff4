"""Values that series never pass and often meet exactly: no rain, an empty store, the range they were scaled to.

A diffusion model has a density, so that it draws such a value with probability 0: a day without rain comes out as one
of 0.003 or -0.002 mm, and who looks closely tells every sample by it. What the training series meet is found in them,
and samples that come as near are put there.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

SHARE, FEWEST = 0.01, 5
"""Of training series, and how many at least, meet a limit at the same step: else it is their extreme alone."""


class Limits(nn.Module):
    """The lowest and the highest value of each channel, where series often meet them, and what is put there.

    At each step as many samples are put to a limit as there are training series at it: below its threshold, which
    is that quantile of what the model draws, a sample is at the limit. None stays beyond. The map is the same for
    every sample, in whatever batch and whatever it was told: of a model with labels it holds for all classes taken
    together. It changes no channel whose extremes are met by chance.

    Args:
        length: Steps of a series, ``N``.
        channels: Its channels, ``M``.

    Attributes:
        met: 1 where a channel has a limit, the lowest values' before the highest's, ``(2, M)``.
        bound: The limits, in the data's units, ``(2, M)``; 0 where there is none.
        threshold: From where on values are put to them, ``(2, N, M)``.
    """

    met: Tensor
    bound: Tensor
    threshold: Tensor

    def __init__(self, length: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("met", torch.zeros(2, channels))
        self.register_buffer("bound", torch.zeros(2, channels))
        self.register_buffer("threshold", torch.zeros(2, length, channels))
        self.register_load_state_dict_pre_hook(_without)

    @torch.no_grad()
    def fit(self, real: Tensor, draw: Callable[[], Tensor]) -> bool:
        """Find what training series meet, and from where on the model's samples are to be put there.

        Args:
            real: Training series, ``(n, N, M)``; NaN where a value is missing.
            draw: Returns samples as the model draws them, ``(m, N, M)``; asked for only if there is a limit.

        Returns:
            Whether there is one.
        """
        known = real.isfinite()
        there = known.sum(0)
        bounds, counts = [], []
        for sign in (1.0, -1.0):
            bound = torch.where(known, sign * real, torch.inf).amin((0, 1))
            bounds.append(sign * bound)
            counts.append((sign * real == bound).sum(0))
        bound, count = torch.stack(bounds), torch.stack(counts)
        often = (count >= (SHARE * there).clamp(min=FEWEST)).any(1)
        met = often & (bound[0] < bound[1])
        self.met.copy_(met)
        drawn = draw().to(real) if met.any() else real[:0]
        drawn = drawn[drawn.isfinite().flatten(1).all(1)]
        if not len(drawn):
            self.forget()
            return False
        ordered, largest = drawn.sort(0).values, torch.finfo(drawn.dtype).max
        rank = (count * len(drawn) / there.clamp(min=1)).round().long()
        low = ordered.gather(0, (rank[0] - 1).clamp(min=0).unsqueeze(0))[0]
        high = ordered.gather(0, (len(drawn) - rank[1]).clamp(max=len(drawn) - 1).unsqueeze(0))[0]
        low = torch.where(rank[0] > 0, torch.maximum(low, bound[0]), bound[0])
        high = torch.where(rank[1] > 0, torch.minimum(high, bound[1]), bound[1])
        # What all series meet is met by all samples; and nothing is between where series meet either of both.
        always, either = (count == there) & (there > 0), (count.sum(0) == there) & met.all(0)
        low, high = torch.where(always[0], largest, low), torch.where(always[1], -largest, high)
        high = torch.where(either & ~always[1], low, high)
        self.bound.copy_(torch.where(met, bound, 0.0))
        self.threshold.copy_(torch.where(met.unsqueeze(1), torch.stack([low, high]), 0.0))
        return True

    def forget(self) -> None:
        """Put nothing anywhere."""
        self.met.zero_()

    def forward(self, series: Tensor) -> Tensor:
        """Return series ``(B, N, M)`` with what comes near enough to a limit at it."""
        met = self.met > 0
        low, high = met[0] & (series <= self.threshold[0]), met[1] & (series >= self.threshold[1])
        return torch.where(low, self.bound[0], torch.where(high, self.bound[1], series))


def _without(limits: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Load a model from before there were limits as one that has none."""
    for name, own in limits.named_buffers():
        state.setdefault(prefix + name, torch.zeros_like(own))
