"""Channels of which the logarithm is learnt: prices, populations, whatever comes in many sizes.

A model's error is about as large for small series as for large ones. Where values span orders of magnitude, small
ones drown in it, or fall below 0. Their logarithm moves as much for a cent of a small price as for a dollar of a
large one, and its exponential is positive.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

Logarithms = Literal["wide", "always", "never"]
"""Of which channels: of those that span orders of magnitude, of all, or of none."""

ORDERS = 10.0
"""By what factor the middle nine tenths of positive values differ in a channel that is wide."""

LOOKED = 2**22
"""Numbers of which it is found out, at most: those of some series from all over the set."""


def span(x: Tensor) -> Tensor:
    """Return the factor between the 95th and the 5th percentile of each channel, 1 where not all values are positive.

    Args:
        x: Series, ``(n, N, M)``; NaN where a value is missing.

    Returns:
        Shape ``(M,)``.

    Examples:
        >>> span(torch.tensor([[[1.0, -1.0], [100.0, 1.0]]]).repeat(10, 1, 1)).tolist()
        [100.0, 1.0]
    """
    rows = x.flatten(0, 1)
    known = rows.isfinite()
    positive = known.any(0) & torch.where(known, rows, 1.0).gt(0).all(0)
    low, high = torch.from_numpy(np.nanquantile(torch.where(positive, rows, 1.0).numpy(), (0.05, 0.95), axis=0))
    return torch.where(positive, high / low, 1.0)


class Logarithm(nn.Module):
    """Series to what is learnt of them, and back: the logarithm of some channels, and the others as they are.

    Args:
        channels: Channels of a series, ``M``.

    Attributes:
        taken: 1 for a channel whose logarithm is learnt, else 0, ``(M,)``.
        least: The least of its training values, for which what has no logarithm is taken; 1 for the others, ``(M,)``.
        channels: Numbers of those channels.
    """

    taken: Tensor
    least: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("taken", torch.zeros(channels))
        self.register_buffer("least", torch.ones(channels))
        self.channels: tuple[int, ...] = ()

    def take(self, which: Tensor, least: Tensor) -> None:
        """Take the logarithm of some channels from now on.

        Args:
            which: Whether it is taken, ``(M,)``.
            least: The least training value of each channel, ``(M,)``.
        """
        self.taken.copy_(which)
        self.least.copy_(torch.where(which, least, 1.0))
        self._look()

    def _look(self) -> None:
        # Once, and at no call, which a GPU would have to wait for.
        self.channels = tuple(self.taken.nonzero().flatten().tolist())

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._look()

    def forward(self, series: Tensor) -> Tensor:
        """Return series ``(B, N, M)`` in the data's units as they are learnt."""
        if not self.channels:
            return series
        taken, positive = self.taken.to(series.device) > 0, torch.where(series > 0, series, self.least.to(series))
        return torch.where(taken, torch.where(taken, positive, 1.0).log(), series)

    def back(self, learnt: Tensor) -> Tensor:
        """Undo :meth:`forward`."""
        if not self.channels:
            return learnt
        taken = self.taken.to(learnt.device) > 0
        return torch.where(taken, torch.where(taken, learnt, 0.0).exp(), learnt)

    def expect_positive(self, series: Tensor, known: Tensor, setting: str) -> None:
        """Refuse values that have no logarithm.

        Args:
            series: In the data's units, ``(B, N, M)``.
            known: 1 where there is a value, ``(B, N, M)``.
            setting: What to set, in words.

        Raises:
            ValueError: With the first such value and its channel.
        """
        for channel in self.channels:
            values = series[..., channel][known[..., channel] > 0]
            if len(wrong := values[values <= 0]):
                raise ValueError(
                    f"expected positive values of channel {channel}, whose logarithm is learnt, got "
                    f"{float(wrong[0]):g}: {setting}"
                )
