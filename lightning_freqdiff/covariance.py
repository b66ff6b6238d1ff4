"""How the coordinates of training series go together: their principal directions, and what all say of each.

The Wiener filter of one coordinate takes it for independent of the others. Frequencies of heartbeats are not: a beat
or a plateau is one event in time, and a phase relation over all frequencies. The best linear prediction from all of
them is known in closed form wherever their covariance ``C = Q diag(p) Qᵀ`` is: of ``x`` in noise ``σ`` that is white,
``z = α x + σ ξ``,

    E[x | z] = Q diag(α p / (α² p + σ²)) Qᵀ z.

Where all coordinates are too many for that, those of each channel are taken together, and channels for independent.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

OverRanks = Callable[[Tensor], Tensor]
"""Adds up a tensor over all ranks of a run, and gives each the sum."""

LARGEST = 2048
"""Of more coordinates than this, the covariance is not taken: it would be larger than most networks."""


def groups_of(coordinates: int, channels: int) -> int:
    """Return in how many groups the covariance of coordinates is taken: 1, one for each channel, or 0 if in none."""
    if coordinates <= LARGEST:
        return 1
    return channels if coordinates**2 <= channels * LARGEST**2 else 0  # as many numbers as of all together


def _apart(rows: Tensor, groups: int) -> Tensor:
    """Return rows ``(B, n)`` in which groups take turns, as those of channels do, as ``(G, B, n / G)``."""
    return rows.reshape(len(rows), rows.shape[1] // groups, groups).permute(2, 0, 1)


def _together(rows: Tensor) -> Tensor:
    """Undo :func:`_apart`."""
    return rows.permute(1, 2, 0).flatten(1)


class JointMoments:
    """Mean, covariance and mixed fourth moments of rows that come in batches, in one pass, in float64.

    Sums are taken about the mean of the first batch, and moved to that of all rows in the end, so that an offset,
    however large, costs no digits.

    Args:
        shape: Of a row.
        groups: In which numbers are taken together; they take turns in a row.

    Attributes:
        count: Rows seen.
    """

    def __init__(self, shape: torch.Size, groups: int = 1) -> None:
        self.shape, self.groups = shape, groups
        self.count, n = 0, shape.numel() // groups
        self._shift, self._sum = torch.zeros(2, groups, n, dtype=torch.float64)
        self._products, self._mixed, self._squares = torch.zeros(3, groups, n, n, dtype=torch.float64)

    def update(self, batch: Tensor) -> None:
        """Take in rows ``(B, ...)``."""
        if not len(batch):
            return
        rows = _apart(batch.double().flatten(1), self.groups)
        if not self.count:
            self._shift = rows.mean(1)
        rows = rows - self._shift.unsqueeze(1)
        squares = rows.square()
        self.count, self._sum = self.count + len(batch), self._sum + rows.sum(1)
        self._products = self._products + rows.mT @ rows
        self._mixed = self._mixed + squares.mT @ rows
        self._squares = self._squares + squares.mT @ squares

    @property
    def mean(self) -> Tensor:
        """Their mean."""
        return self._mean.T.reshape(self.shape)

    @property
    def _mean(self) -> Tensor:
        return self._shift + self._sum / max(1, self.count)

    @property
    def variance(self) -> Tensor:
        """Their mean squared distance from it."""
        return self.covariance.diagonal(dim1=1, dim2=2).clamp(min=0).T.reshape(self.shape)

    @property
    def covariance(self) -> Tensor:
        """Their covariance in each group, ``(G, n, n)``."""
        return self._about(self._mean)[0] / self.count

    @property
    def fourth(self) -> Tensor:
        """Mean product of the squared distances of two numbers from their means, ``(G, n, n)``."""
        return self._about(self._mean)[1] / self.count

    def share(self, over_ranks: OverRanks) -> None:
        """Take in the rows of all ranks."""
        count = int(over_ranks(torch.tensor(self.count)))
        mean = over_ranks(self._mean * self.count) / count
        products, squares = self._about(mean)
        self._products, self._squares = over_ranks(products), over_ranks(squares)
        self.count, self._shift, self._sum = count, mean, torch.zeros_like(mean)

    def _about(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of products and of products of squares about another point, ``(G, n, n)`` each."""
        d, first, n = point - self._shift, self._sum, self.count
        second = self._products.diagonal(dim1=1, dim2=2)
        products = self._products - _outer(d, first) - _outer(first, d) + n * _outer(d, d)
        # (a - d)² (b - e)² = (a² - 2ad + d²)(b² - 2be + e²), term by term with its mirror image.
        half = _outer(second, d.square()) - 2 * self._mixed * d.unsqueeze(1) - 2 * _outer(d * first, d.square())
        squares = self._squares + half + half.mT
        squares = squares + 4 * _outer(d, d) * self._products + n * _outer(d.square(), d.square())
        return products, squares


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return a.unsqueeze(2) * b.unsqueeze(1)


class Directions(nn.Module):
    """Principal directions of rows of ``n`` numbers, all of them together or group by group.

    Args:
        size: Numbers in a row, ``n``.
        groups: Groups of numbers, which take turns in a row, as do the groups' directions.

    Attributes:
        basis: The directions ``Q``, in columns, ``(n, n)``; of groups ``(G, n / G, n / G)``.
        power: Variance along each, the greatest of a group last, ``(n,)``.
        shrinkage: Share of the covariances that was taken for chance.
    """

    basis: Tensor
    power: Tensor
    shrinkage: Tensor

    def __init__(self, size: int, groups: int = 1) -> None:
        super().__init__()
        self.groups = groups
        basis = torch.eye(size // groups)
        self.register_buffer("basis", basis if groups == 1 else basis.repeat(groups, 1, 1))
        self.register_buffer("power", torch.ones(size))
        self.register_buffer("shrinkage", torch.ones(()))

    def fit(self, moments: JointMoments, deviation: Tensor) -> None:
        """Take the directions of the covariance, in float64.

        Correlations are shrunk by the share of them that is expected to be chance: Schäfer and Strimmer, "A shrinkage
        approach to large-scale covariance matrix estimation" (2005), target D, their table 2.

        Args:
            moments: Of rows that differ from those that are meant by a factor in each number.
            deviation: Deviation of each number of those that are meant, ``(n,)``.
        """
        deviation, spread = (
            x.double().view(-1, self.groups).T for x in (deviation, moments.variance.flatten().sqrt().to(deviation))
        )
        unit = torch.where(deviation > 0, spread, torch.inf)
        correlation = moments.covariance.to(unit) / _outer(unit, unit)
        fourth = moments.fourth.to(unit) / _outer(unit.square(), unit.square())
        chance = (fourth - correlation.square()) / max(1, moments.count - 1)
        apart = 1 - torch.eye(unit.shape[1], dtype=torch.float64, device=unit.device)
        known = (correlation.square() * apart).sum()
        shrinkage = ((chance * apart).sum() / known.clamp(min=1e-300)).clamp(0, 1)
        correlation = correlation * (1 - shrinkage * apart)
        power, basis = torch.linalg.eigh(correlation * _outer(deviation, deviation))
        self.basis.copy_(basis.view_as(self.basis))
        self.power.copy_(power.clamp(min=0).T.flatten())
        self.shrinkage.copy_(shrinkage)

    def along(self, rows: Tensor) -> Tensor:
        """Return rows ``(B, n)`` along the directions, ``(B, n)``."""
        return self._turned(rows, self.basis)

    def back(self, rows: Tensor) -> Tensor:
        """Undo :meth:`along`."""
        return self._turned(rows, self.basis.mT)

    def _turned(self, rows: Tensor, basis: Tensor) -> Tensor:
        with torch.autocast(rows.device.type, enabled=False):
            basis = basis.to(rows)
            return rows @ basis if self.groups == 1 else _together(_apart(rows, self.groups) @ basis)

    def leading(self, count: int) -> tuple[Tensor, Tensor]:
        """Return the directions in which rows differ most, in columns, ``(n, r)``, and the variance along each.

        Args:
            count: How many, ``r``; the greatest is the last.
        """
        if self.groups == 1:
            return self.basis[:, -count:], self.power[-count:]
        which = self.power.argsort(stable=True)[-count:]
        one = torch.zeros(count, len(self.power), dtype=self.basis.dtype, device=self.basis.device)
        one[torch.arange(count, device=which.device), which] = 1
        return self.back(one).T, self.power[which]

    def predict(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the best linear prediction of clean rows, over the root mean square that it has on average.

        Divided by it, a prediction under strong noise, which is nearly 0, is as loud as any other.

        Args:
            z: Noisy rows, ``(B, n)``.
            alpha: Scale of the clean rows in them, broadcastable to ``(B, 1)``.
            sigma: Deviation of the noise, the same.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, alpha, sigma = (x.to(self.basis.dtype) for x in (z, alpha, sigma))
            total = alpha.square() * self.power + sigma.square()
            gain = torch.where(total > 0, alpha * self.power / total, 0.0)
            size = (gain.square() * total).mean(dim=1, keepdim=True).sqrt()
            return self.back(self.along(z) * (gain / torch.where(size > 0, size, 1.0)))

    def noise(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the best linear prediction of the noise in noisy rows ``(B, n)``, where it has unit variance.

        Args:
            z: Noisy rows.
            alpha: Scale of the clean rows in them, broadcastable to ``(B, 1)``.
            sigma: Deviation of the noise, the same.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, alpha, sigma = (x.to(self.basis.dtype) for x in (z, alpha, sigma))
            return self.back(self.along(z) * (sigma / (alpha.square() * self.power + sigma.square())))
