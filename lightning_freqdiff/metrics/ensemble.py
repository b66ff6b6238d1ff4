"""How well ensembles of series tell what came: proper scores of samples against one truth each.

Everywhere ``samples`` is ``(B, S, N, M)``, ``S`` draws for each of ``B`` series; ``target`` is ``(B, N, M)``; and
``mask`` is 1 where the target counts, all of it if not given.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

CSDI_QUANTILES = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Those of CSDI (Tashiro et al., arXiv 2107.03502): 0.05, 0.1 ... 0.95."""


def check_ensemble(samples: Tensor, target: Tensor, mask: Tensor | None = None, least: int = 1) -> Tensor:
    """Return the mask as bool, ``(B, N, M)``, or raise a ``ValueError`` that names the argument at fault.

    Args:
        samples: Draws.
        target: Truth; may be anything where it does not count.
        mask: Where it counts.
        least: Draws that are needed.
    """
    if samples.ndim != 4 or target.shape != (samples.shape[0], *samples.shape[2:]):
        raise ValueError(
            f"expected samples (B, S, N, M) and a target (B, N, M), got {tuple(samples.shape)} and "
            f"{tuple(target.shape)}: reshape `samples` or `target`"
        )
    if samples.shape[1] < least:
        raise ValueError(f"expected at least {least} draws of each series, got {samples.shape[1]}: add to `samples`")
    if mask is None:
        mask = torch.ones_like(target)
    if mask.shape != target.shape:
        raise ValueError(f"expected a mask of shape {tuple(target.shape)}, got {tuple(mask.shape)}: reshape `mask`")
    counts = mask > 0
    for name, x in (("samples", samples.transpose(0, 1)[:, counts]), ("target", target[counts])):
        if not x.isfinite().all():
            raise ValueError(f"expected finite values where the mask is 1, got NaN or infinity: clean `{name}`")
    return counts


def crps(samples: Tensor, target: Tensor, fair: bool = True) -> Tensor:
    r"""Return the continuous ranked probability score of every value, ``(B, N, M)``, in its units.

    .. math:: \frac1S \sum_i |x_i - y| - \frac{1}{2 S (S - 1)} \sum_{i,j} |x_i - x_j|

    (Gneiting and Raftery 2007, of an ensemble.) Fair (Ferro 2014): its expectation is that of infinitely
    many draws, so that ensembles of any size compare. Otherwise ``S²`` stands for ``S (S - 1)``: the score of the
    ensemble as it is, which rewards more draws.

    Examples:
        >>> samples, target = torch.tensor([0.0, 1.0]).view(1, 2, 1, 1), torch.tensor([[[0.0]]])
        >>> crps(samples, target, fair=False).item(), crps(samples, target).item()
        (0.25, 0.0)
    """
    draws = samples.shape[1]
    near = (samples - target.unsqueeze(1)).abs().mean(1)
    rank = torch.arange(1, draws + 1, device=samples.device).to(samples).view(-1, 1, 1)
    apart = ((2 * rank - draws - 1) * samples.sort(1).values).sum(1)  # half the sum over all pairs
    return near - apart / (draws * (draws - 1 if fair else draws))


def energy_score(samples: Tensor, target: Tensor, mask: Tensor | None = None, fair: bool = True) -> Tensor:
    r"""Return the energy score of every series as a whole, ``(B,)``: it tells wrong dependence, which CRPS does not.

    .. math:: \frac1S \sum_i \|x_i - y\| - \frac{1}{2 S (S - 1)} \sum_{i,j} \|x_i - x_j\|

    (Gneiting and Raftery 2007, with exponent 1.) ``fair`` is as of :func:`crps`.

    Examples:
        >>> samples = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).view(1, 2, 2, 1)
        >>> energy_score(samples, torch.zeros(1, 2, 1), fair=False).item()
        1.25
    """
    counts = torch.ones_like(target, dtype=torch.bool) if mask is None else mask > 0
    rows = torch.where(counts.unsqueeze(1), samples, 0.0).flatten(2)
    truth = torch.where(counts, target, 0.0).flatten(1).unsqueeze(1)
    draws = rows.shape[1]
    near = (rows - truth).norm(dim=2).mean(1)
    apart = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").sum((1, 2))
    return near - apart / (2 * draws * (draws - 1 if fair else draws))


def quantile_loss(samples: Tensor, target: Tensor, quantiles: Sequence[float] = CSDI_QUANTILES) -> Tensor:
    r"""Return twice the pinball loss of an ensemble's quantiles, ``(B, N, M)``, mean over the levels.

    .. math:: 2 (q_\tau - y) (1[y \le q_\tau] - \tau)

    Over all levels it is the CRPS. Summed over all values and over the sum of their sizes, it is CSDI's normalised
    CRPS (:class:`~lightning_freqdiff.metrics.probabilistic.QuantileLoss`).

    Examples:
        >>> quantile_loss(torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1), torch.tensor([[[1.0]]]), [0.5]).item()
        1.0
    """
    levels = _levels(quantiles, "quantiles").to(samples)
    found = torch.quantile(samples, levels, dim=1)  # (Q, B, N, M)
    below = (target <= found).to(samples)
    return (2 * (found - target) * (below - levels.view(-1, 1, 1, 1))).mean(0)


def median_error(samples: Tensor, target: Tensor) -> Tensor:
    """Return the distance of the ensemble's median from the truth, ``(B, N, M)``."""
    return (torch.quantile(samples, 0.5, dim=1) - target).abs()


def coverage(samples: Tensor, target: Tensor, levels: Sequence[float] = (0.5, 0.9)) -> Tensor:
    """Return whether the truth lies in the ensemble's central interval of each level, ``(L, B, N, M)``, 0 or 1.

    The ends are plotting positions ``i / (S + 1)`` of the sorted draws, within which the truth falls with the very
    probability of the level where it is another draw; linear between them, and at most the extremes.

    Examples:
        >>> samples = torch.arange(1.0, 10).view(1, 9, 1, 1)
        >>> coverage(samples, torch.tensor([[[2.4]]]), [0.5, 0.8]).flatten().tolist()
        [0.0, 1.0]
    """
    wanted, draws = _levels(levels, "levels").to(samples), samples.shape[1]
    ends = torch.stack([(1 - wanted) / 2, (1 + wanted) / 2])
    place = ((ends * (draws + 1) - 1) / max(1, draws - 1)).clamp(0, 1)
    low, high = (torch.quantile(samples, one, dim=1) for one in place)
    return ((low <= target) & (target <= high)).to(samples)


def _levels(given: Sequence[float], name: str) -> Tensor:
    if not given or not all(0 < level < 1 for level in given):
        raise ValueError(f"expected levels between 0 and 1, got {list(given)}: set `{name}`")
    return torch.tensor(list(given), dtype=torch.float64)
