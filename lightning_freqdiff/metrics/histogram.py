"""Marginal distribution difference: are the values of each step and channel spread alike?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.samples import check_count, check_pair, widen
from lightning_freqdiff.metrics.sliced_wasserstein import summarize
from lightning_freqdiff.metrics.wasserstein import chunks, values_at_once


def histogram_difference(generated: Tensor, reference: Tensor, bins: int = 50) -> dict[str, Tensor]:
    r"""Compute the total variation between histograms of each step and channel.

    .. math:: \frac12 \sum_b | p_b^{gen} - p_b^{ref} |

    The marginal distribution difference of TSGBench (Ang et al., VLDB 2023) and of Sig-Wasserstein GANs, as a share:
    they average the differences of densities over the bins, which is this times twice the inverse of the real range.
    The bins divide the real range of each step and channel; what is generated beside it is in bins of its own. With
    ``m`` real series and as many generated ones, chance alone gives about ``sqrt(bins / (pi m))``. Costs
    milliseconds.

    Args:
        generated: Series, ``(n, N, M)``.
        reference: Series to compare with, ``(m, N, M)``.
        bins: Number of bins.

    Returns:
        ``mean``, ``two_se`` (twice the standard error of the mean over steps and channels) and ``max``, scalars in
        ``[0, 1]``. A step and channel that is constant in the reference counts as 0.

    Examples:
        >>> x = torch.arange(100.0)[:, None, None]
        >>> histogram_difference(x + 50, x)["max"]
        tensor(0.5000)
    """
    check_pair(generated, reference)
    check_count(bins, "bins")
    device = reference.device
    fake, real = widen(generated).to(device).flatten(1), widen(reference).flatten(1)
    parts = chunks(0, real.shape[1], values_at_once(device) // (len(fake) + len(real) + bins))
    shares = [_total_variation(fake[:, p.start : p.stop], real[:, p.start : p.stop], bins) for p in parts]
    return summarize(torch.cat(shares).to(device))


def _total_variation(fake: Tensor, real: Tensor, bins: int) -> Tensor:
    low, high = real.amin(0), real.amax(0)
    span = torch.where(high > low, high - low, 1.0)

    def histogram(x: Tensor) -> Tensor:
        place = ((x - low) / span * bins).floor().clamp(-1, bins)
        place = torch.where(x == high, bins - 1, place).long() + 1
        counts = torch.zeros(bins + 2, x.shape[1], dtype=torch.int32, device=x.device)
        return counts.scatter_add_(0, place, torch.ones_like(place, dtype=counts.dtype))

    # Counts of a common size, as thirds of one would not add up to it.
    counts = histogram(fake).long() * len(real) - histogram(real).long() * len(fake)
    difference = counts.abs().sum(0) / (2 * len(fake) * len(real))
    return torch.where(high > low, difference, 0.0)


class HistogramDifference(TwoSampleMetric):
    """Total variation between histograms of each step and channel (:func:`histogram_difference`).

    Args:
        bins: Number of bins.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, bins: int = 50, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_count(bins, "bins")
        self.bins = bins

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over steps and channels."""
        return histogram_difference(*self.samples(), bins=self.bins)
