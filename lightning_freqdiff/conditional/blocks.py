"""Coordinates of the linear model that go together, and how series are made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.domains import Representation


class Block(NamedTuple):
    """Numbers of a series that the linear model takes for independent of all others.

    Attributes:
        entries: Which numbers of the flattened series ``(N * M,)``, ``(e,)``.
        coordinates: Which whitened coordinates they are made of, ``(n',)``.
        basis: Principal directions ``Q`` of these, ``(n', c)``; ``None`` where they are the coordinates themselves.
        design: ``D Q``: the numbers that a unit along each direction makes, ``(e, c)``.
        power: Training variance along each direction, ``(c,)``.
    """

    entries: Tensor
    coordinates: Tensor
    basis: Tensor | None
    design: Tensor
    power: Tensor

    def left(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the variance that is left along each direction, given ``α r`` in white noise ``σ``, ``(B, c)``."""
        total = alpha.square() * self.power + sigma.square()
        return torch.where(total > 0, self.power * sigma.square() / total, 0.0)

    def clean(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the linear estimate's gain, from ``α r`` in white noise ``σ`` to ``r``, by direction, ``(B, c)``."""
        total = alpha.square() * self.power + sigma.square()
        return torch.where(total > 0, alpha * self.power / total, 0.0)


Spread = Callable[[Block], Tensor]
"""The variances ``c`` along the directions of a block, ``(1, c)``, or ``(B, c)`` where series have their own."""


def by_channel(layout: Representation, unit: Tensor, power: Tensor, bases: Tensor | None = None) -> Iterator[Block]:
    """Make a block of each channel, whose coordinates are independent, or given the principal directions of each."""
    single = Representation(layout.domain, layout.length, 1).to(unit.device)
    size = single.tokens * single.features
    whole = torch.eye(size, dtype=unit.dtype, device=unit.device).view(-1, single.tokens, single.features)
    transform = single.decode(whole).flatten(1).T
    numbers = torch.arange(unit.numel(), device=unit.device).view(unit.shape)
    steps = torch.arange(layout.length, device=unit.device) * layout.channels
    for m in range(layout.channels):
        own = slice(m, None, layout.channels)
        variance, made = power[:, own].flatten().to(unit), transform * unit[:, own].flatten()
        if bases is None:
            live = (unit[:, own].flatten() > 0).nonzero().flatten()
            yield Block(steps + m, numbers[:, own].flatten()[live], None, made[:, live], variance[live])
        else:
            basis = bases[m].to(unit)
            yield Block(steps + m, numbers[:, own].flatten(), basis, made @ basis, variance)
