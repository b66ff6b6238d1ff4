"""Correlational score: do the channels go together as they do in the real series?"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.protocol import Protocol, check_protocol
from lightning_freqdiff.metrics.samples import check_pair, widen


def channel_correlation(x: Tensor) -> Tensor:
    """Compute the correlation between channels over all series and steps at once.

    Args:
        x: Series, ``(n, N, M)``.

    Returns:
        Correlations ``(M, M)``, float64; 0 with a channel that is constant.
    """
    # Double precision, as prices or counts have means far larger than their spread.
    flat = x.detach().cpu().double().flatten(0, 1)
    flat = flat - flat.mean(0)
    spread = flat.square().mean(0).sqrt()
    unit = torch.where(spread > 0, flat / spread, 0.0)
    return unit.T @ unit / len(unit)


def correlational_score(generated: Tensor, reference: Tensor, protocol: Protocol = "project") -> Tensor:
    r"""Compute the mean absolute difference of the correlations between channels.

    .. math:: \frac{2}{M (M-1)} \sum_{i < j} | \rho^{gen}_{ij} - \rho^{ref}_{ij} |

    ``protocol="timegan"`` is what tables in the field report since Diffusion-TS (Yuan and Qiao, ICLR 2024): the sum
    over pairs divided by 10, which is ``M (M - 1) / 20`` times this.

    Args:
        generated: Series, ``(n, N, M)``, ``M >= 2``.
        reference: Series to compare with, ``(m, N, M)``.
        protocol: ``project`` or ``timegan``.

    Returns:
        Scalar in ``[0, 2]``, or in ``[0, M (M - 1) / 10]`` as published; lower is better.

    Examples:
        >>> x = torch.randn(50, 10, 1)
        >>> correlational_score(torch.cat([x, -x], dim=-1), torch.cat([x, x], dim=-1))
        tensor(2.)
    """
    check_protocol(protocol)
    check_pair(generated, reference)
    channels = reference.shape[-1]
    if channels < 2:
        raise ValueError("expected at least 2 channels to correlate, got 1: leave this metric out")
    difference = channel_correlation(generated) - channel_correlation(reference)
    above = torch.ones(channels, channels, dtype=torch.bool).triu(1)
    score = difference[above].abs().mean() * (channels * (channels - 1) / 20 if protocol == "timegan" else 1)
    return score.to(reference.device, widen(reference).dtype)


class CorrelationalScore(TwoSampleMetric):
    """Mean absolute difference of the correlations between channels (:func:`correlational_score`).

    Args:
        protocol: ``project`` or ``timegan``.
        kwargs: Options of ``torchmetrics.Metric``.

    Examples:
        >>> metric = CorrelationalScore()
        >>> x = torch.randn(50, 10, 3)
        >>> metric.update(2 * x + 1, x)
        >>> bool(metric.compute() < 1e-6)
        True
    """

    higher_is_better = False

    def __init__(self, protocol: Protocol = "project", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_protocol(protocol)
        self.protocol: Protocol = protocol

    def compute(self) -> Tensor:
        """Return the score, a scalar."""
        return correlational_score(*self.samples(), self.protocol)
