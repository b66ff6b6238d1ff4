"""Exact nearest neighbours among rows, in chunks that bound the memory."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.post_hoc import standardize
from lightning_freqdiff.metrics.samples import check_pair, widen
from lightning_freqdiff.metrics.sliced_wasserstein import summarize

PAIRS = 2**22  # distances held at a time: 32 MiB


def nearest_rows(queries: Tensor, rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the nearest rows of each query, exactly.

    Candidates come from a product of matrices in float64, which is several times as fast as differences but leaves
    1e-8 of the rows' size where they are the same; their distances are then taken anew, by differences. Two rows
    whose distances differ by less may change places. Costs ``2 n m D`` operations: a second or two of a core for
    5,000 by 5,000 rows of 187.

    Args:
        queries: Vectors, ``(n, D)``.
        rows: Vectors, ``(m, D)``, ``m >= count``.
        count: How many neighbours, ``k``.

    Returns:
        Distances ``(n, k)``, ascending, float64, and which rows, ``(n, k)``; on the CPU.

    Examples:
        >>> nearest_rows(torch.tensor([[0.0]]), torch.tensor([[3.0], [1.0]]), 2)
        (tensor([[1., 3.]], dtype=torch.float64), tensor([[1, 0]]))
    """
    queries, rows = queries.detach().cpu().double(), rows.detach().cpu().double()
    center = rows.mean(0)
    centered = rows - center
    size = centered.square().sum(1)
    distances, which = [], []
    for part in queries.split(max(1, PAIRS // len(rows))):
        # The query's own size is left out, as it is the same for all rows.
        found = torch.addmm(size, part - center, centered.T, alpha=-2).topk(count, largest=False).indices
        exact = torch.stack([(part - rows[column]).square().sum(1).sqrt() for column in found.T], dim=1)
        exact, order = exact.sort(dim=1, stable=True)
        distances.append(exact)
        which.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(which)


def squared_distances(a: Tensor, b: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Yield squared distances between rows ``(n, D)`` and ``(m, D)``, some rows of ``a`` at a time, ``(chunk, m)``.

    In float64 and on the CPU, by a product of matrices: to 1e-15 of the rows' size about the mean of ``b``.
    """
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    center = b.mean(0)
    b = b - center
    size = b.square().sum(1)
    step = max(1, PAIRS // len(b))
    for start in range(0, len(a), step):
        part = a[start : start + step] - center
        between = torch.addmm(size + part.square().sum(1, keepdim=True), part, b.T, alpha=-2)
        yield slice(start, start + len(part)), between.clamp_(min=0)


def in_own_order(x: Tensor) -> Tensor:
    """Order rows by their sum, so that a part of them does not depend on the order in which ranks gathered them."""
    return x[x.double().flatten(1).sum(1).argsort(stable=True)]


def flat_rows(generated: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Lay out series ``(n, N, M)`` as vectors, with channels standardised by the reference; leave vectors ``(n, D)``.

    Vectors are taken to be features, whose scale means something.
    """
    check_pair(generated, reference, ndim=(2, 3))
    if generated.ndim == 2:
        return widen(generated), widen(reference).to(generated.device)
    real = widen(reference)
    return standardize(widen(generated).to(real.device), real).flatten(1), standardize(real, real).flatten(1)


def nearest_euclidean(generated: Tensor, reference: Tensor) -> dict[str, Tensor]:
    """Compute the distance of each generated series to the closest real one.

    TSGBench (Ang et al., VLDB 2023) lists the Euclidean distance of pairs taken in order; generated series have no
    order, so here each is held against its nearest. Small for good samples and for copies alike: read it beside
    :func:`~lightning_freqdiff.metrics.memorization.memorization`. Costs as :func:`nearest_rows`.

    Args:
        generated: Series, ``(n, N, M)``, or vectors, ``(n, D)``.
        reference: Real series, ``(m, N, M)``, or vectors, ``(m, D)``.

    Returns:
        ``mean``, ``two_se`` (twice its standard error over generated series) and ``max``, scalars; root mean squares
        over steps and channels, in deviations of the real channels (of vectors, in their own units).

    Examples:
        >>> x = torch.tensor([[-1.0], [1.0]])[..., None]
        >>> nearest_euclidean(x + 0.5, x)["max"]
        tensor(0.5000)
    """
    fake, real = flat_rows(generated, reference)
    distances, _ = nearest_rows(fake, real, 1)
    return summarize((distances[:, 0] / math.sqrt(fake.shape[1])).to(generated.device, torch.float32))


class NearestEuclidean(TwoSampleMetric):
    """Distance of generated series to the closest real ones (:func:`nearest_euclidean`).

    Args:
        kwargs: Options of ``torchmetrics.Metric``.
    """

    higher_is_better = False

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over the generated series."""
        return nearest_euclidean(*self.samples())
