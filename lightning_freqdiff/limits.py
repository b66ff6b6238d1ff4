"""Values that series never pass and often meet exactly: no rain, an empty store, the range they were scaled to.

A diffusion model has a density, so that it draws such a value with probability 0: a day without rain comes out as one
of 0.003 or -0.002 mm, and who looks closely tells every sample by it. What the training series meet is found in them,
and samples that come as near are put there.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SHARE, FEWEST = 0.01, 5
"""Of training series, and how many at least, meet a limit at the same step: else it is their extreme alone."""


class Limits(nn.Module):
    """The lowest and the highest value of each channel, where series often meet them, and what is put there.

    At each step as many samples are put to a limit as there are training series at it: below its threshold, which
    is that quantile of what the model draws, a sample is at the limit. None stays beyond. The map is the same for
    every sample, in whatever batch, and changes no channel whose extremes are met by chance.

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
    def fit(self, real: Tensor, generated: Tensor) -> None:
        """Find what training series meet, and from where on the model's samples are to be put there.

        Args:
            real: Training series, ``(n, N, M)``.
            generated: Samples as the model draws them, ``(m, N, M)``; if there are none, only what lies beyond a
                limit is put to it.
        """
        for side, sign in enumerate((1.0, -1.0)):
            x, drawn = sign * real, sign * generated.to(real)
            bound = x.amin((0, 1))
            count = (x == bound).sum(0)
            met = (count.amax(0) >= max(FEWEST, SHARE * len(x))) & (x.amax((0, 1)) > bound)
            threshold = bound.expand_as(count)
            if len(drawn):
                rank = (count * len(drawn) / len(x)).round().long()
                reached = drawn.sort(0).values.gather(0, (rank - 1).clamp(min=0).unsqueeze(0)).squeeze(0)
                threshold = torch.where(rank > 0, torch.maximum(reached, bound), threshold)
            self.met[side] = met
            self.bound[side] = torch.where(met, sign * bound, 0.0)
            self.threshold[side] = torch.where(met, sign * threshold, 0.0)

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
        state.setdefault(prefix + name, own)
