"""How the coordinates of training series go together: their principal directions, and what all say of each.

The Wiener filter of one coordinate takes it for independent of the others. Frequencies of heartbeats are not: a beat
or a plateau is one event in time, and a phase relation over all frequencies. The best linear prediction from all of
them is known in closed form wherever their covariance ``C = Q diag(p) Qᵀ`` is: of ``x`` in noise ``σ`` that is white,
``z = α x + σ ξ``,

    E[x | z] = Q diag(α p / (α² p + σ²)) Qᵀ z.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

OverRanks = Callable[[Tensor], Tensor]
"""Adds up a tensor over all ranks of a run, and gives each the sum."""

LARGEST = 2048
"""Of more coordinates than this, the covariance is not taken: it would be larger than most networks."""


class JointMoments:
    """Mean, covariance and mixed fourth moments of rows that come in batches, in one pass, in float64.

    Sums are taken about the mean of the first batch, and moved to that of all rows in the end, so that an offset,
    however large, costs no digits.

    Args:
        shape: Of a row.

    Attributes:
        count: Rows seen.
    """

    def __init__(self, shape: torch.Size) -> None:
        self.shape, n = shape, shape.numel()
        self.count = 0
        self._shift, self._sum = torch.zeros(2, n, dtype=torch.float64)
        self._products, self._mixed, self._squares = torch.zeros(3, n, n, dtype=torch.float64)

    def update(self, batch: Tensor) -> None:
        """Take in rows ``(B, ...)``."""
        if not len(batch):
            return
        rows = batch.double().flatten(1)
        if not self.count:
            self._shift = rows.mean(0)
        rows = rows - self._shift
        squares = rows.square()
        self.count, self._sum = self.count + len(rows), self._sum + rows.sum(0)
        self._products = self._products + rows.T @ rows
        self._mixed = self._mixed + squares.T @ rows
        self._squares = self._squares + squares.T @ squares

    @property
    def mean(self) -> Tensor:
        """Their mean."""
        return (self._shift + self._sum / max(1, self.count)).view(self.shape)

    @property
    def variance(self) -> Tensor:
        """Their mean squared distance from it."""
        return (self.covariance.diagonal().clamp(min=0)).view(self.shape)

    @property
    def covariance(self) -> Tensor:
        """Their covariance, ``(n, n)``."""
        return self._about(self.mean.flatten())[0] / self.count

    @property
    def fourth(self) -> Tensor:
        """Mean product of the squared distances of two numbers from their means, ``(n, n)``."""
        return self._about(self.mean.flatten())[1] / self.count

    def share(self, over_ranks: OverRanks) -> None:
        """Take in the rows of all ranks."""
        count = int(over_ranks(torch.tensor(self.count)))
        mean = over_ranks(self.mean.flatten() * self.count) / count
        products, squares = self._about(mean)
        self._products, self._squares = over_ranks(products), over_ranks(squares)
        self.count, self._shift, self._sum = count, mean, torch.zeros_like(mean)

    def _about(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sums of products and of products of squares about another point, ``(n, n)`` each."""
        d, first, second, n = point - self._shift, self._sum, self._products.diagonal(), self.count
        products = self._products - torch.outer(d, first) - torch.outer(first, d) + n * torch.outer(d, d)
        # (a - d)² (b - e)² = (a² - 2ad + d²)(b² - 2be + e²), term by term with its mirror image.
        half = torch.outer(second, d.square()) - 2 * self._mixed * d - 2 * torch.outer(d * first, d.square())
        squares = self._squares + half + half.T
        squares = squares + 4 * torch.outer(d, d) * self._products + n * torch.outer(d.square(), d.square())
        return products, squares


class Directions(nn.Module):
    """Principal directions of rows of ``n`` numbers.

    Args:
        size: Numbers in a row, ``n``.

    Attributes:
        basis: The directions ``Q``, in columns, ``(n, n)``.
        power: Variance along each, the greatest last, ``(n,)``.
        shrinkage: Share of the covariances that was taken for chance.
    """

    basis: Tensor
    power: Tensor
    shrinkage: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("basis", torch.eye(size))
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
        deviation = deviation.double()
        spread = moments.variance.flatten().sqrt().to(deviation)
        unit = torch.where(deviation > 0, spread, torch.inf)
        correlation = moments.covariance.to(unit) / unit / unit.unsqueeze(1)
        fourth = moments.fourth.to(unit) / unit.square() / unit.square().unsqueeze(1)
        chance = (fourth - correlation.square()) / max(1, moments.count - 1)
        apart = 1 - torch.eye(len(unit), dtype=torch.float64, device=unit.device)
        known = (correlation.square() * apart).sum()
        shrinkage = ((chance * apart).sum() / known.clamp(min=1e-300)).clamp(0, 1)
        correlation = correlation * (1 - shrinkage * apart)
        power, basis = torch.linalg.eigh(correlation * deviation.unsqueeze(1) * deviation)
        self.basis.copy_(basis)
        self.power.copy_(power.clamp(min=0))
        self.shrinkage.copy_(shrinkage)

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
            gain = gain / torch.where(size > 0, size, 1.0)
            return ((z @ self.basis) * gain) @ self.basis.T

    def noise(self, z: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the best linear prediction of the noise in noisy rows ``(B, n)``, where it has unit variance.

        Args:
            z: Noisy rows.
            alpha: Scale of the clean rows in them, broadcastable to ``(B, 1)``.
            sigma: Deviation of the noise, the same.
        """
        with torch.autocast(z.device.type, enabled=False):
            z, alpha, sigma = (x.to(self.basis.dtype) for x in (z, alpha, sigma))
            gain = sigma / (alpha.square() * self.power + sigma.square())
            return ((z @ self.basis) * gain) @ self.basis.T
