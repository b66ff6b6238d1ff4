"""Exact Wasserstein distances between one-dimensional samples, many columns at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import torch
from torch import Tensor

from lightning_freqdiff.metrics.samples import check_pair, widen

# Values sorted at a time: a few MB stay in a CPU's cache, an accelerator needs more to be busy.
CPU_VALUES, DEVICE_VALUES = 2**20, 2**25


def wasserstein_1d(a: Tensor, b: Tensor, p: float = 2) -> Tensor:
    r"""Compute the exact Wasserstein distance of order ``p`` between two samples, column by column.

    .. math:: W_p(a, b) = \Big( \int_0^1 | F_a^{-1}(q) - F_b^{-1}(q) |^p \, dq \Big)^{1/p}

    Unequal counts are coupled by quantile, not resampled: the steps of both quantile functions are merged
    on the integers ``0 ... n * m``, where they fall exactly.

    Args:
        a: Samples, ``(n, d)``.
        b: Samples, ``(m, d)``.
        p: Order, at least 1.

    Returns:
        Distances ``(d,)``, in the units of the samples; float64 for float64 samples, else float32.

    Examples:
        >>> wasserstein_1d(torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [2.0], [2.0], [3.0]]))
        tensor([2.])
    """
    check_order(p)
    check_pair(a, b, ndim=(2,))
    a, b = widen(a), widen(b)
    dtype = torch.promote_types(a.dtype, b.dtype)

    def distances(part: range) -> Tensor:
        rows, others = (sort_rows(rows_of(x, part, dtype)) for x in (a, b))
        return sorted_wasserstein(rows, others, p)

    parts = chunks(0, a.shape[1], values_at_once(a.device) // (len(a) + len(b)))
    return spread(distances, parts, a.device)


def sorted_wasserstein(a: Tensor, b: Tensor, p: float) -> Tensor:
    """Compute the distances between rows that are sorted: ``(d, n)`` and ``(d, m)`` give ``(d,)``."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        difference, weight = a - b, 1 / n
    else:
        ia, ib, share = quantile_coupling(n, m)
        difference = a.index_select(1, ia.to(a.device)).sub_(b.index_select(1, ib.to(b.device)))
        weight = share.to(a)
    # The largest difference is taken out, so that no power of any unit over- or underflows.
    peak = torch.linalg.vector_norm(difference, math.inf, dim=1)
    unit = torch.where(peak > 0, peak, 1.0)
    difference.div_(unit[:, None]).mul_(weight ** (1 / p))
    return peak * torch.linalg.vector_norm(difference, p, dim=1)


@lru_cache(maxsize=8)
def quantile_coupling(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Couple the quantile functions of ``n`` and of ``m`` equal weights.

    Returns:
        For each interval of ``[0, 1]`` on which both are constant, of which there are
        ``n + m - gcd(n, m)``: the order statistic of the first, that of the second, and the interval's
        length (float64).

    Examples:
        >>> [column.tolist() for column in quantile_coupling(2, 4)]
        [[0, 0, 1, 1], [0, 1, 2, 3], [0.25, 0.25, 0.25, 0.25]]
    """
    edges = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()
    share = edges.diff(prepend=edges.new_zeros(1)).double() / (n * m)
    return (edges - 1) // m, (edges - 1) // n, share


def sort_rows(x: Tensor) -> Tensor:
    """Sort each row of a matrix, ascending. On the CPU this happens in place.

    NumPy sorts with vector instructions, some twenty times faster than ``torch.sort`` on the CPU, which
    also carries the indices.
    """
    if x.device.type != "cpu":
        return x.sort(dim=1).values
    x = x.contiguous()
    x.numpy().sort(axis=1)
    return x


def spread(task: Callable[[range], Tensor], parts: Iterable[range], device: torch.device) -> Tensor:
    """Run a task on every part and join the results; on the CPU as many at a time as there are threads.

    Each part stays on one thread. Sharing out every single operation, as PyTorch does, makes threads wait
    for each other some ten times a part, and on a busy machine that takes longer than it saves.
    """
    parts, threads = list(parts), torch.get_num_threads()
    if device.type != "cpu" or min(threads, len(parts)) < 2:
        return torch.cat([task(part) for part in parts])
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return torch.cat(list(pool.map(task, parts)))
    finally:
        # The workers have set this for threads yet to come, too.
        torch.set_num_threads(threads)


def rows_of(x: Tensor, columns: range, dtype: torch.dtype) -> Tensor:
    """Copy some columns of a matrix into the rows of another, contiguous and free to be overwritten."""
    part = x[:, columns.start : columns.stop].T
    return part.to(dtype, memory_format=torch.contiguous_format, copy=True)


def values_at_once(device: torch.device) -> int:
    """Return how many values to sort at a time on a device."""
    return CPU_VALUES if device.type == "cpu" else DEVICE_VALUES


def chunks(first: int, stop: int, size: int) -> Iterator[range]:
    """Cut ``first ... stop - 1`` into ranges of at most ``size``, and of at least 1."""
    size = max(1, size)
    return (range(start, min(start + size, stop)) for start in range(first, stop, size))


def check_order(p: float) -> None:
    """Raise a ``ValueError`` unless ``p`` is a finite order of at least 1."""
    if not (1 <= p < math.inf):
        raise ValueError(f"expected a finite order of at least 1, got {p!r}: set `p`")
