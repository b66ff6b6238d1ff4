"""Which values of training series are told to a model that learns to fill in the others."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

KINDS = ("points", "block", "channels", "tail")
"""Single numbers here and there, a block of steps, whole channels, or all after some step: a forecast."""


def draw_masks(shape: tuple[int, ...], share: float, generator: Generator | None = None) -> Tensor:
    """Draw masks for series ``(B, N, M)``: 1 where a value is observed, else 0.

    Nothing is observed of a series but with probability ``share``, so that the model can draw freely, too. Each kind
    of gap is as likely as any other. They hide from 5 to 95 % of single numbers, a block of 5 to 75 % of the steps
    and a tail of as many (a block in each channel with even odds, but in one at least), or each channel with even
    odds, but neither all nor none of them (of a single channel, numbers in their place).

    Args:
        shape: ``(B, N, M)``.
        share: Probability that anything is observed.
        generator: Source of randomness, on the CPU.

    Examples:
        >>> draw_masks((3, 8, 2), 0.0).sum().item()
        0.0
    """
    count, length, channels = shape
    told, kind, size, place = torch.rand(4, count, 1, 1, generator=generator)
    number = torch.rand(count, length, channels, generator=generator)
    channel = torch.rand(count, 1, channels, generator=generator)
    one = channel.argmin(dim=2, keepdim=True) == torch.arange(channels)  # is always hidden
    other = channel.argmax(dim=2, keepdim=True) == torch.arange(channels)  # is never, if there are several
    some = (channel < 0.5) | one
    step = torch.arange(length).view(1, -1, 1)
    steps = ((0.05 + 0.7 * size) * length).ceil()
    first = (place * (length - steps + 1)).floor()
    points = number < 0.05 + 0.9 * size
    block = (step >= first) & (step < first + steps) & some
    whole = (some & ~other).expand(count, length, channels) if channels > 1 else points
    tail = (step >= length - steps).expand(count, length, channels)
    which = (kind * len(KINDS)).long()
    hidden = torch.where(which == 0, points, torch.where(which == 1, block, torch.where(which == 2, whole, tail)))
    return (~hidden & (told < share)).float()
