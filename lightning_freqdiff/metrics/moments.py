"""Differences of skewness, kurtosis and autocorrelation, channel by channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.samples import check_count, check_pair, widen
from lightning_freqdiff.metrics.sliced_wasserstein import summarize

MOST_LAGS = 64


def moment_difference(generated: Tensor, reference: Tensor, order: int = 3) -> dict[str, Tensor]:
    r"""Compute the absolute difference of a standardised moment of each channel: skewness (3), kurtosis (4).

    .. math:: E[(x - \mu)^k] / \sigma^k

    over series and steps together (TSGBench, Ang et al., VLDB 2023). Costs milliseconds.

    Args:
        generated: Series, ``(n, N, M)``.
        reference: Series to compare with, ``(m, N, M)``.
        order: Which moment, ``k``, from 3: mean and deviation are taken out.

    Returns:
        ``mean``, ``two_se`` (twice the standard error of the mean over channels, NaN for one) and ``max``, scalars
        without unit. The moments of a constant channel are 0.

    Examples:
        >>> x = torch.tensor([0.0, 0.0, 0.0, 1.0]).reshape(4, 1, 1)
        >>> round(float(moment_difference(1 - x, x)["mean"]), 4)
        2.3094
        >>> two_points = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1)
        >>> moment_difference(torch.zeros(2, 1, 1), two_points, order=4)["mean"]
        tensor(1.)
    """
    check_pair(generated, reference)
    check_count(order, "order", least=3)
    first, second = (_unit(x).pow(order).mean((0, 1)) for x in (generated, reference))
    return summarize((first - second).abs().to(reference.device, torch.float32))


def autocorrelation_difference(generated: Tensor, reference: Tensor, lags: int | None = None) -> dict[str, Tensor]:
    r"""Compute the distance between the autocorrelation functions of each channel.

    .. math:: \Big( \sum_{k=1}^{K} (\rho_k^{gen} - \rho_k^{ref})^2 \Big)^{1/2}, \quad
              \rho_k = E[(x_t - \mu)(x_{t+k} - \mu)] / \sigma^2

    with mean and deviation over series and steps together (TSGBench, Ang et al., VLDB 2023). Costs milliseconds.

    Args:
        generated: Series, ``(n, N, M)``, ``N >= 2``.
        reference: Series to compare with, ``(m, N, M)``.
        lags: Largest lag, ``K``; by default 63, as published, or the longest that the series have.

    Returns:
        ``mean``, ``two_se`` (twice the standard error of the mean over channels, NaN for one) and ``max``, scalars
        without unit. A constant channel has no correlation.

    Examples:
        >>> back_and_forth = torch.tensor([1.0, -1.0]).reshape(1, 2, 1)
        >>> autocorrelation_difference(torch.zeros(1, 2, 1), back_and_forth)["mean"]
        tensor(1.)
    """
    check_pair(generated, reference)
    length = reference.shape[1]
    if length < 2:
        raise ValueError("expected at least 2 steps to correlate, got 1: lengthen the series")
    if lags is not None:
        check_count(lags, "lags")
        if lags >= length:
            raise ValueError(f"expected a lag under the {length} steps of the series, got {lags!r}: set `lags`")
    most = lags or min(MOST_LAGS, length) - 1
    first, second = (autocorrelation(x, most) for x in (generated, reference))
    return summarize((first - second).square().sum(0).sqrt().to(reference.device, torch.float32))


def autocorrelation(x: Tensor, lags: int) -> Tensor:
    """Compute the autocorrelation of series ``(n, N, M)`` at lags ``1 ... lags``, ``(lags, M)``, float64."""
    unit = _unit(x)
    return torch.stack([(unit[:, lag:] * unit[:, :-lag]).mean((0, 1)) for lag in range(1, lags + 1)])


def _unit(x: Tensor) -> Tensor:
    """Standardise channels by themselves, in float64; a constant one is 0."""
    # Sums of equal numbers leave a rounding error that must not become a deviation.
    constant = (x == x[:1, :1]).all(0).all(0).cpu()
    x = widen(x).cpu().double()
    x = x - x.mean((0, 1))
    spread = torch.where(constant, 0.0, x.square().mean((0, 1)).sqrt())
    return torch.where(spread > 0, x / spread, 0.0)


class MomentDifference(TwoSampleMetric):
    """Absolute difference of a standardised moment of each channel (:func:`moment_difference`).

    Args:
        order: Which moment: 3 is the skewness, 4 the kurtosis.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, order: int = 3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_count(order, "order", least=3)
        self.order = order

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over channels."""
        return moment_difference(*self.samples(), order=self.order)


class AutocorrelationDifference(TwoSampleMetric):
    """Distance between the autocorrelation functions of each channel (:func:`autocorrelation_difference`).

    Args:
        lags: Largest lag; by default 63, or the longest that the series have.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, lags: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if lags is not None:
            check_count(lags, "lags")
        self.lags = lags

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over channels."""
        return autocorrelation_difference(*self.samples(), lags=self.lags)
