"""Dynamic time warping between generated series and real ones, all pairs at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.nearest import in_own_order
from lightning_freqdiff.metrics.post_hoc import standardize
from lightning_freqdiff.metrics.samples import check_count, check_pair, widen
from lightning_freqdiff.metrics.sliced_wasserstein import summarize

CELLS = 2**22  # of all pairs' diagonals at a time: 32 MiB, some times over


def warping_distances(a: Tensor, b: Tensor) -> Tensor:
    r"""Compute the dynamic time warping distance of all pairs (Sakoe and Chiba 1978).

    .. math:: \Big( \min_\pi \sum_{(i, j) \in \pi} \|a_i - b_j\|^2 \Big)^{1/2}

    over paths that go from the first to the last steps of both, by 1 in one or in both. Channels are warped together.
    The table is filled by anti-diagonals, on which no cell needs another, so ``2 N`` operations on whole tensors do
    for all pairs.

    Args:
        a: Series, ``(n, N, M)``.
        b: Series, ``(m, N, M)``.

    Returns:
        Distances ``(n, m)``, float64, in the units of the series.

    Examples:
        >>> bump = torch.tensor([0.0, 1.0, 0.0, 0.0]).reshape(1, 4, 1)
        >>> warping_distances(bump, bump.roll(1, dims=1))  # a delay costs nothing
        tensor([[0.]], dtype=torch.float64)
    """
    rows = max(1, CELLS // (len(b) * b.shape[1]))
    return torch.cat([_warped(part, b.double()) for part in a.double().split(rows)])


def _warped(a: Tensor, b: Tensor) -> Tensor:
    length = a.shape[1]
    first, second = a.transpose(0, 1), b.transpose(0, 1)  # (N, n, M)
    size_a, size_b = first.square().sum(2)[..., None], second.square().sum(2)[:, None]
    # Row i + 1 of a diagonal is cell (i, diagonal - i); row 0 is the border.
    before, last = (a.new_full((length + 1, len(a), len(b)), torch.inf) for _ in range(2))
    before[0] = 0  # from where the path enters its first cell
    for diagonal in range(2 * length - 1):
        low, high = max(0, diagonal - length + 1), min(diagonal, length - 1) + 1
        steps = torch.arange(low, high, device=a.device)
        cost = torch.baddbmm(
            size_a[low:high] + size_b[diagonal - steps], first[low:high], second[diagonal - steps].mT, alpha=-2
        ).clamp_(min=0)
        best = torch.minimum(before[low:high], torch.minimum(last[low:high], last[low + 1 : high + 1]))
        following = torch.full_like(last, torch.inf)
        following[low + 1 : high + 1] = cost + best
        before, last = last, following
    return last[length].sqrt()


def nearest_warping(generated: Tensor, reference: Tensor, rows: int = 200, seed: int = 0) -> dict[str, Tensor]:
    """Compute the dynamic time warping distance of generated series to the closest real one.

    TSGBench (Ang et al., VLDB 2023) lists the distance of pairs taken in order; generated series have no order, so
    here each is held against its nearest. Costs ``rows ** 2 N ** 2 (M + 4)`` operations: for 200 of each, about a
    second of a core at 24 steps and half a minute at 187.

    Args:
        generated: Series, ``(n, N, M)``.
        reference: Real series, ``(m, N, M)``.
        rows: Series of each at most, drawn at random where there are more. The distance falls with the number of real
            ones.
        seed: Which series are drawn.

    Returns:
        ``mean``, ``two_se`` (twice its standard error over generated series) and ``max``, scalars, in deviations of
        the real channels.

    Examples:
        >>> x = torch.randn(20, 8, 1)
        >>> bool(nearest_warping(x, x)["max"] < 1e-5)
        True
    """
    check_pair(generated, reference)
    check_count(rows, "rows")
    check_count(seed, "seed", least=0)
    real = widen(reference).cpu()
    random = torch.Generator().manual_seed(seed)
    few = []
    for x in (widen(generated).cpu(), real):
        few.append(standardize(in_own_order(x)[torch.randperm(len(x), generator=random)[:rows]], real))
    return summarize(warping_distances(*few).amin(1).to(reference.device, torch.float32))


class NearestWarping(TwoSampleMetric):
    """Dynamic time warping distance of generated series to the closest real ones (:func:`nearest_warping`).

    Args:
        rows: Series of each at most.
        seed: Which series are drawn.
        kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def __init__(self, rows: int = 200, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_count(rows, "rows")
        check_count(seed, "seed", least=0)
        self.rows, self.seed = rows, seed

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over generated series."""
        return nearest_warping(*self.samples(), rows=self.rows, seed=self.seed)
