"""How the coordinates of training series go together: their principal directions, and what all say of each.

The Wiener filter of one coordinate takes it for independent of the others. Frequencies of heartbeats are not: a beat
or a plateau is one event in time, and a phase relation over all frequencies. The best linear prediction from all of
them is known in closed form wherever their covariance ``C = Q diag(p) Qᵀ`` is: of ``x`` in noise ``σ`` that is white,
``z = α x + σ ξ``,

    E[x | z] = Q diag(α p / (α² p + σ²)) Qᵀ z.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

OverRanks = Callable[[Tensor], Tensor]
"""Adds up a tensor over all ranks of a run, and gives each the sum."""

LARGEST = 2048
"""Of more coordinates than this, the covariance is not taken: it would be larger than most networks."""


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

    def fit(self, batches: Iterable[Tensor], deviation: Tensor, over_ranks: OverRanks | None = None) -> None:
        """Take the covariance from batches of rows ``(B, n)`` of mean 0, in float64.

        Correlations are shrunk by the share of them that is expected to be chance: Schäfer and Strimmer, "A shrinkage
        approach to large-scale covariance matrix estimation" (2005), target D, their table 2.

        Args:
            batches: The rows.
            deviation: Deviation of each number over all of them, ``(n,)``.
            over_ranks: Adds up over all ranks, where each was given a share of the rows.
        """
        deviation = deviation.double()
        unit = torch.where(deviation > 0, deviation, torch.inf)
        count, products, squares = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            rows = batch.double() / unit
            count, products = count + len(rows), products + rows.T @ rows
            squares = squares + rows.square().T @ rows.square()
        if over_ranks is not None:
            products, squares = over_ranks(products), over_ranks(squares)
            count = int(over_ranks(torch.tensor(count)))
        correlation = products / count
        chance = (squares / count - correlation.square()) / max(1, count - 1)
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
