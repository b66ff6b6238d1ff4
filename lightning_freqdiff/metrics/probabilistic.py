"""Scores of ensembles as torchmetrics: means over all values that count, over batches and ranks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_freqdiff.metrics.ensemble import (
    CSDI_QUANTILES,
    check_ensemble,
    coverage,
    crps,
    energy_score,
    median_error,
    quantile_loss,
)


class EnsembleMetric(Metric, ABC):
    """Mean of a score of ensembles.

    Args:
        shape: Shape of a score.
        **kwargs: Options of ``torchmetrics.Metric``.
    """

    full_state_update = False
    higher_is_better = False
    is_differentiable = False
    least = 1

    total: Tensor
    weight: Tensor

    def __init__(self, shape: Sequence[int] = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("total", default=torch.zeros(tuple(shape), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, samples: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
        """Add series.

        Args:
            samples: Draws, ``(B, S, N, M)``.
            target: What came, ``(B, N, M)``.
            mask: 1 where it counts, ``(B, N, M)``; all if not given.
        """
        counts = check_ensemble(samples, target, mask, self.least)
        # What does not count may be NaN.
        samples = torch.where(counts.unsqueeze(1), samples, 0.0).float()
        target = torch.where(counts, target, 0.0).float()
        total, weight = self.sums(samples, target, counts)
        self.total += total
        self.weight += weight

    @abstractmethod
    def sums(self, samples: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the scores of a batch, and what to divide it by."""

    def compute(self) -> Tensor:
        """Return the mean; NaN where nothing counted."""
        return self.total / self.weight


class ValueMetric(EnsembleMetric):
    """Mean of a score that every value has by itself, over the values that count."""

    def sums(self, samples: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of the scores, and how many values count."""
        return (self.score(samples, target) * counts).sum((-3, -2, -1)).double(), counts.sum().double()

    @abstractmethod
    def score(self, samples: Tensor, target: Tensor) -> Tensor:
        """Return the score of every value, ``(..., B, N, M)``."""


class CRPS(ValueMetric):
    """Continuous ranked probability score: see :func:`~lightning_freqdiff.metrics.ensemble.crps`.

    Args:
        fair: Whether ensembles of any size compare.
        **kwargs: Options of ``torchmetrics.Metric``.

    Examples:
        >>> metric = CRPS()
        >>> metric.update(torch.randn(4, 100, 8, 1), torch.zeros(4, 8, 1))
        >>> 0.1 < metric.compute() < 0.4
        tensor(True)
    """

    def __init__(self, fair: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fair, self.least = fair, 1 + fair

    def score(self, samples: Tensor, target: Tensor) -> Tensor:
        """Return it."""
        return crps(samples, target, self.fair)


class EnergyScore(EnsembleMetric):
    """Energy score, mean over series: see :func:`~lightning_freqdiff.metrics.ensemble.energy_score`.

    Args:
        fair: Whether ensembles of any size compare.
        **kwargs: Options of ``torchmetrics.Metric``.
    """

    def __init__(self, fair: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fair, self.least = fair, 1 + fair

    def sums(self, samples: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum over series of which something counts."""
        some = counts.flatten(1).any(1)
        return energy_score(samples, target, counts, self.fair)[some].sum().double(), some.sum().double()


class QuantileLoss(ValueMetric):
    """Quantile loss: see :func:`~lightning_freqdiff.metrics.ensemble.quantile_loss`.

    Args:
        quantiles: Levels.
        normalised: Whether to divide by the mean size of the target: with CSDI's quantiles, CSDI's normalised CRPS
            (Tashiro et al., arXiv 2107.03502), on values as they came.
        **kwargs: Options of ``torchmetrics.Metric``.
    """

    def __init__(self, quantiles: Sequence[float] = CSDI_QUANTILES, normalised: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.quantiles, self.normalised = tuple(quantiles), normalised

    def sums(self, samples: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of losses, and that of the sizes."""
        total, count = super().sums(samples, target, counts)
        return total, (target * counts).abs().sum().double() if self.normalised else count

    def score(self, samples: Tensor, target: Tensor) -> Tensor:
        """Return it."""
        return quantile_loss(samples, target, self.quantiles)


class MedianError(ValueMetric):
    """Mean absolute error of the ensemble's median."""

    def score(self, samples: Tensor, target: Tensor) -> Tensor:
        """Return it."""
        return median_error(samples, target)


class Coverage(ValueMetric):
    """Share of values in central intervals: see :func:`~lightning_freqdiff.metrics.ensemble.coverage`.

    Good where it is the level itself: more is too wide, less too narrow.

    Args:
        levels: Levels of the intervals.
        **kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = None

    def __init__(self, levels: Sequence[float] = (0.5, 0.9), **kwargs: Any) -> None:
        super().__init__(shape=(len(levels),), **kwargs)
        self.levels = tuple(levels)

    def score(self, samples: Tensor, target: Tensor) -> Tensor:
        """Return it, ``(L, B, N, M)``."""
        return coverage(samples, target, self.levels)
