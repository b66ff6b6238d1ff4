"""Sliced Wasserstein distance: the mean over random directions of one-dimensional distances."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from lightning_freqdiff.metrics.base import TwoSampleMetric
from lightning_freqdiff.metrics.projections import Projections, SortedReference, exact_matmul, random_directions
from lightning_freqdiff.metrics.samples import (
    Domain,
    check_count,
    check_domain,
    check_pair,
    check_samples,
    coordinates,
)
from lightning_freqdiff.metrics.wasserstein import (
    check_order,
    chunks,
    sorted_wasserstein,
    spread,
    values_at_once,
    wasserstein_1d,
)

__all__ = [
    "SlicedWasserstein",
    "SortedReference",
    "random_directions",
    "sliced_distances",
    "sliced_wasserstein",
    "summarize",
    "wasserstein_1d",
]


def sliced_distances(
    generated: Tensor,
    reference: Tensor | SortedReference,
    directions: range,
    p: float = 2,
    seed: int = 0,
    chunk: int | None = None,
) -> Tensor:
    """Compute the one-dimensional distance along each of a range of directions.

    Args:
        generated: Samples, ``(n, D)`` or ``(n, N, M)``.
        reference: Samples to compare with, of the same shape but for their number, or sorted beforehand.
        directions: Which directions of the seed.
        p: Order of the distance, at least 1.
        seed: Which directions.
        chunk: Directions at a time; by default as many as keep the device busy.

    Returns:
        Distances ``(len(directions),)``, float32, in the units of the samples.
    """
    check_order(p)
    if chunk is not None:
        check_count(chunk, "chunk")
    check_samples(generated, "generated", ndim=(2, 3))
    if isinstance(reference, SortedReference):
        reference.check(generated, directions, seed)
        theirs = reference
    else:
        check_pair(generated, reference, ndim=(2, 3))
        theirs = Projections.of(reference.to(generated.device), seed)
    ours = Projections.of(generated, seed, theirs.center)
    size = chunk or values_at_once(generated.device) // (len(ours) + len(theirs))

    def distances(part: range) -> Tensor:
        return sorted_wasserstein(ours.along(part), theirs.along(part).to(generated.device), p)

    with exact_matmul(generated.device):
        return spread(distances, chunks(directions.start, directions.stop, size), generated.device)


def summarize(distances: Tensor) -> dict[str, Tensor]:
    """Summarise distances ``(k,)``: their ``mean``, twice its standard error ``two_se``, and ``max``.

    The standard error of a single distance is unknown, hence NaN.
    """
    spread = distances.std() if len(distances) > 1 else distances.new_tensor(math.nan)
    return {
        "mean": distances.mean(),
        "two_se": 2 * spread / math.sqrt(len(distances)),
        "max": distances.max(),
    }


def sliced_wasserstein(
    generated: Tensor,
    reference: Tensor | SortedReference,
    num_directions: int = 1000,
    p: float = 2,
    seed: int = 0,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    r"""Estimate the sliced Wasserstein distance between two sets of samples.

    .. math:: SW_p(\mu, \nu) = E_u W_p(u \cdot \mu, u \cdot \nu), \quad u \text{ uniform on the sphere}

    (E2-CRF, arXiv 2604.22901, appendix B.2.) The mean is over the distances, not over their ``p``-th
    powers as in Bonneel et al. and in POT. It is biased upwards when samples are few: compare only figures
    of equal counts, and show the floor beside them (:func:`~lightning_freqdiff.metrics.baselines.floor`).

    Args:
        generated: Samples, ``(n, D)`` or ``(n, N, M)``.
        reference: Samples to compare with, or :class:`SortedReference` to compare with many times.
        num_directions: Number of directions; the spread over them gives the standard error.
        p: Order of the distance, at least 1.
        seed: Which directions.
        chunk: Directions at a time, which bounds the memory; by default as many as keep the device busy.

    Returns:
        ``mean``, ``two_se`` (twice the standard error of the mean over directions) and ``max``, scalars in
        the units of the samples.

    Examples:
        >>> x = torch.randn(100, 2)
        >>> round(float(sliced_wasserstein(x, x + 3)["max"]), 2)  # 3 sqrt(2), along the diagonal
        4.24
    """
    check_count(num_directions, "num_directions")
    return summarize(sliced_distances(generated, reference, range(num_directions), p, seed, chunk))


class SlicedWasserstein(TwoSampleMetric):
    """Sliced Wasserstein distance between series, in time or on the half-spectrum.

    Under DDP the samples are gathered, the directions shared out over the ranks, and the value is that of
    one process. All ranks have to call ``compute``, as for any gathered metric.

    Args:
        num_directions: Number of random directions.
        p: Order of the distance, at least 1.
        seed: Which directions.
        domain: ``time``, or ``frequency`` for real and imaginary parts of the half-spectrum.
        chunk: Directions at a time, which bounds the memory; by default as many as keep the device busy.
        kwargs: Options of ``torchmetrics.Metric``.

    Examples:
        >>> metric = SlicedWasserstein(num_directions=100)
        >>> series = torch.randn(50, 16, 2)
        >>> metric.update(series, series)
        >>> metric.compute()
        {'mean': tensor(0.), 'two_se': tensor(0.), 'max': tensor(0.)}
    """

    higher_is_better = False

    def __init__(
        self,
        num_directions: int = 1000,
        p: float = 2,
        seed: int = 0,
        domain: Domain = "time",
        chunk: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_count(num_directions, "num_directions")
        check_count(seed, "seed", least=0)
        check_order(p)
        check_domain(domain)
        if chunk is not None:
            check_count(chunk, "chunk")
        self.num_directions, self.p, self.seed = num_directions, p, seed
        self.domain: Domain = domain
        self.chunk = chunk

    def compute(self) -> dict[str, Tensor]:
        """Return ``mean``, ``two_se`` and ``max`` over the directions."""
        generated, reference = (coordinates(series, self.domain) for series in self.samples())
        rank, ranks = self.place()
        first, stop = (self.num_directions * i // ranks for i in (rank, rank + 1))
        mine = generated.new_empty(0)
        if first < stop:
            mine = sliced_distances(generated, reference, range(first, stop), self.p, self.seed, self.chunk)
        if ranks > 1:
            gather = self.dist_sync_fn or gather_all_tensors
            mine = torch.cat(gather(mine, group=self.process_group))
        return summarize(mine)
