"""Marginal Wasserstein distance: one-dimensional distances along the coordinate axes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.samples import Domain, check_domain, check_pair, coordinates
from lightning_freqdiff.metrics.sliced_wasserstein import summarize
from lightning_freqdiff.metrics.wasserstein import check_order, wasserstein_1d


def marginal_wasserstein(generated: Tensor, reference: Tensor, p: float = 2) -> dict[str, Tensor]:
    r"""Compute the mean over coordinates of the Wasserstein distance between marginals.

    .. math:: MW_p(\mu, \nu) = \frac1D \sum_{i=1}^{D} W_p(e_i \cdot \mu, e_i \cdot \nu)

    (Crabbé et al., arXiv 2402.05933.) It sees no dependence between coordinates.

    Args:
        generated: Samples, ``(n, D)`` or ``(n, N, M)``.
        reference: Samples to compare with, of the same shape but for their number.
        p: Order of the distance, at least 1.

    Returns:
        ``mean``, ``two_se`` (twice the standard error of the mean over coordinates) and ``max``, scalars in
        the units of the samples.

    Examples:
        >>> import torch
        >>> x = torch.randn(100, 2)
        >>> round(float(marginal_wasserstein(x, x + torch.tensor([1.0, 3.0]))["mean"]), 4)
        2.0
    """
    check_pair(generated, reference, ndim=(2, 3))
    return summarize(wasserstein_1d(generated.flatten(1), reference.flatten(1), p))


class MarginalWasserstein(TwoSampleMetric):
    """Marginal Wasserstein distance between series, in time or on the half-spectrum.

    Args:
        p: Order of the distance, at least 1.
        domain: ``time``, or ``frequency`` for real and imaginary parts of the half-spectrum.
        kwargs: Options of ``torchmetrics.Metric``.

    Examples:
        >>> import torch
        >>> metric = MarginalWasserstein()
        >>> metric.update(torch.zeros(5, 8, 1), torch.ones(3, 8, 1))
        >>> metric.compute()["max"]
        tensor(1.)
    """

    higher_is_better = False

    def __init__(self, p: float = 2, domain: Domain = "time", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_order(p)
        check_domain(domain)
        self.p = p
        self.domain: Domain = domain

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over the coordinates."""
        generated, reference = (coordinates(series, self.domain) for series in self.samples())
        return marginal_wasserstein(generated, reference, self.p)
