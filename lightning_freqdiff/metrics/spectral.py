"""What frequencies the energy is at: distance between spectral densities, and spectral localisation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.domains import spectral_density
from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.marginal import marginal_wasserstein
from lightning_freqdiff.metrics.samples import check_pair, check_samples, widen
from lightning_freqdiff.metrics.wasserstein import check_order


def spectral_density_distance(generated: Tensor, reference: Tensor, p: float = 2) -> dict[str, Tensor]:
    r"""Compute the marginal Wasserstein distance between spectral densities.

    The coordinates are the energies :math:`|\tilde x_\kappa|^2` of every frequency ``0 ... N // 2`` and
    channel, so phases do not count.

    Args:
        generated: Series, ``(n, N, M)``.
        reference: Series to compare with, ``(m, N, M)``.
        p: Order of the distance, at least 1.

    Returns:
        ``mean``, ``two_se`` (twice the standard error of the mean over frequencies and channels) and
        ``max``, scalars in squared units of the series.

    Examples:
        >>> x = torch.randn(20, 16, 2)
        >>> bool(spectral_density_distance(x.roll(3, dims=1), x)["max"] < 1e-4)  # a delay turns phases only
        True
    """
    check_pair(generated, reference)
    return marginal_wasserstein(spectral_density(widen(generated)), spectral_density(widen(reference)), p)


def spectral_localisation(x: Tensor, fraction: float = 0.1) -> Tensor:
    r"""Compute the share of each series' energy at the lowest frequencies.

    .. math:: \ell(x) = \sum_{\kappa < f N} w_\kappa \|\tilde x_\kappa\|^2 \,/\, \|x\|^2

    with ``w`` = 2 for frequencies that have a mirror image, else 1 (Parseval). Series that are localised in
    frequency are easier to model there (Crabbé et al., arXiv 2402.05933), and to cache (E2-CRF,
    arXiv 2604.22901, section 4). The mean counts: subtract it first to ask for the energy of variations.

    Args:
        x: Series, ``(n, N, M)``; channels weigh by their energy.
        fraction: Frequencies under ``fraction * N`` are low, of those up to ``N / 2``.

    Returns:
        Shares ``(n,)`` in ``[0, 1]``; 1 for a series that is zero throughout.

    Examples:
        >>> time = torch.arange(100) / 100
        >>> slow, fast = (torch.sin(2 * torch.pi * k * time) for k in (5, 25))
        >>> shares = spectral_localisation(torch.stack([slow, fast, slow + fast])[..., None])
        >>> [round(share, 3) for share in shares.tolist()]
        [1.0, 0.0, 0.5]
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"expected a share of the length in (0, 1], got {fraction!r}: set `fraction`")
    length = check_samples(x, "x").shape[1]
    energy = spectral_density(widen(x)).sum(-1)
    energy[:, 1 : (length + 1) // 2] *= 2
    # Frequencies below the cut-off; rounded first, for 0.07 * 100 is a little over 7.
    low = math.ceil(round(fraction * length, 9))
    total = energy.sum(1)
    return torch.where(total > 0, energy[:, :low].sum(1) / total, 1.0)


class SpectralDensityDistance(TwoSampleMetric):
    """Marginal Wasserstein distance between the spectral densities of series.

    Args:
        p: Order of the distance, at least 1.
        kwargs: Options of ``torchmetrics.Metric``.

    Examples:
        >>> metric = SpectralDensityDistance()
        >>> metric.update(torch.zeros(5, 4, 1), torch.ones(3, 4, 1))
        >>> metric.compute()["max"]  # all at frequency 0, where |x~|^2 = 4
        tensor(4.)
    """

    higher_is_better = False

    def __init__(self, p: float = 2, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_order(p)
        self.p = p

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over frequencies and channels."""
        return spectral_density_distance(*self.samples(), p=self.p)
