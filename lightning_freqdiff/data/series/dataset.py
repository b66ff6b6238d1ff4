"""Series that are fetched a batch at a time, from memory or from disk, and the order they are fetched in."""

import mmap
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.data.series.series import mapped

LISTED = 2**16
"""Row numbers that are Python objects at the same time."""


def numbers(total: int, count: int, seed: int) -> np.ndarray:
    """Draw ``count`` of the numbers below ``total``, in order."""
    return np.sort(np.random.default_rng([seed, 2]).choice(total, count, replace=False, shuffle=False))


class Rows(Dataset[Tensor]):
    """Rows of an array `(n, N, M)`, of which a whole batch is fetched with one gather, as float32.

    Args:
        x: The array, which may be mapped from a file, or a view that shows windows over a long series.
        index: The rows that count, in their order; all if not given.
    """

    def __init__(self, x: np.ndarray, index: np.ndarray | None = None) -> None:
        self.x = x
        self.index = index

    def __len__(self) -> int:
        return len(self.x) if self.index is None else len(self.index)

    def __getitem__(self, index: int) -> Tensor:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int] | np.ndarray) -> Tensor:
        rows = np.asarray(indices)
        return _float32(self.x[rows if self.index is None else self.index[rows]])

    def seen(self, indices: Sequence[int] | np.ndarray) -> Tensor | None:
        """Return which values of some rows are there, `(B, N, M)`; `None` where all are."""
        return None

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all rows, `size` at a time, in the order they are stored in: what lies on disk is read once."""
        order = None if self.index is None else np.sort(self.index)
        for first in range(0, len(self), size):
            rows = slice(first, first + size)
            yield _float32(self.x[rows] if order is None else self.x[order[rows]])

    def whole(self) -> Tensor:
        """Return all rows in one piece, `(n, N, M)`: the very array where it is in memory, a copy elsewhere."""
        return _float32(self.x if self.index is None else self.x[self.index])

    def some(self, count: int, seed: int) -> Tensor:
        """Return so many rows, drawn at random, in the order they are stored in."""
        return self.__getitems__(numbers(len(self), count, seed))

    def __getstate__(self) -> dict[str, Any]:
        """Let a mapped file go to another process as its name: NumPy would send everything in it."""
        file = mapped(self.x)
        return self.__dict__ if file is None else {**self.__dict__, "x": _place(self.x, file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        x = state["x"]
        self.__dict__.update(state, x=_open(*x) if isinstance(x, tuple) else x)


def _float32(x: np.ndarray) -> Tensor:
    x = np.ascontiguousarray(x, dtype=np.float32)
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def _place(x: np.ndarray, file: np.memmap) -> tuple[Any, ...]:
    """Say where in which file the numbers of a view lie."""
    # A mapping starts at a page; what NumPy knows as the offset is where its first number lies.
    page = file.offset - file.offset % mmap.ALLOCATIONGRANULARITY
    start = np.frombuffer(file._mmap, np.uint8).__array_interface__["data"][0]  # pyright: ignore
    return str(file.filename), page + x.__array_interface__["data"][0] - start, x.dtype, x.shape, x.strides


def _open(name: str, offset: int, dtype: np.dtype, shape: tuple[int, ...], strides: tuple[int, ...]) -> np.ndarray:
    reach = sum((n - 1) * step for n, step in zip(shape, strides, strict=True)) + dtype.itemsize
    flat = np.memmap(name, np.uint8, "r", offset, (reach,))
    return np.ndarray(shape, dtype, flat, 0, strides)


class Batch:
    """Series and what is known of them: what a data set yields.

    No tuple and no dataclass: into those a trainer in another precision than float32 would reach for the tensors.

    Args:
        series: Values, ``(B, N, M)``, float32, in the data's units.
        condition: What is known of each.
        seen: 1 where a value was observed, 0 where it stands for a missing one, ``(B, N, M)``; ``None`` for all.
    """

    def __init__(self, series: Tensor, condition: Condition = NOTHING, seen: Tensor | None = None) -> None:
        self.series, self.condition, self.seen = series, condition, seen

    def to(self, *args: Any, **kwargs: Any) -> "Batch":
        """Move to a device, as ``Tensor.to`` does; Lightning calls this for every batch."""
        seen = None if self.seen is None else self.seen.to(*args, **kwargs)
        return Batch(self.series.to(*args, **kwargs), self.condition.to(*args, **kwargs), seen)


class Told(Dataset[Batch]):
    """Rows with what is known of them, fetched a batch at a time.

    Args:
        rows: The series.
        condition: What is known of each row, in the same order.
        covariates: What is known at every step of each row, in the same order.
        units: Mean and scale of the covariates over the training series, ``(2, C)``.
    """

    def __init__(
        self,
        rows: Rows,
        condition: Condition = NOTHING,
        covariates: Rows | None = None,
        units: Tensor | None = None,
    ) -> None:
        self.rows, self.condition, self.covariates, self.units = rows, condition, covariates, units

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        """Return a single series ``(N, M)``, and a condition of one row."""
        one = self.__getitems__([index])
        return Batch(one.series[0], one.condition, one.seen)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        return Batch(self.rows.__getitems__(indices), self.known(indices), self.rows.seen(indices))

    def known(self, indices: Sequence[int] | np.ndarray) -> Condition:
        """Return what is known of some rows."""
        known = self.condition.take(torch.as_tensor(indices)) if self.condition else NOTHING
        if self.covariates is None or self.units is None:
            return known
        mean, scale = self.units
        return replace(known, covariates=(self.covariates.__getitems__(indices) - mean) / scale)


class Shuffled(DistributedSampler[int]):
    """Rows in random order, each rank its share, without a Python list of all of them.

    The orders are those of torch's own samplers (`RandomSampler` on one rank, `DistributedSampler` on several), but
    ten million rows take 40 MB and not half a gigabyte. Lightning leaves a `DistributedSampler` where it is.

    Args:
        rows: What is fetched from.
        ranks: Number of ranks.
        rank: The rank this sampler is for.
    """

    def __init__(self, rows: Rows, ranks: int = 1, rank: int = 0) -> None:
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))  # as Lightning does
        super().__init__(rows, ranks, rank, shuffle=True, seed=seed)
        self.rows = len(rows)

    def __iter__(self) -> Iterator[int]:
        one = self.num_replicas == 1
        seed = int(torch.empty((), dtype=torch.int64).random_().item()) if one else self.seed + self.epoch
        generator = torch.Generator().manual_seed(seed)
        kind = torch.int32 if self.rows < 2**31 else torch.int64
        order = torch.randperm(self.rows, generator=generator, dtype=kind)
        if self.total_size > self.rows:  # the shares are made equal by dealing some rows twice
            times = -(-self.total_size // self.rows)
            order = order.repeat(times)[: self.total_size]
        for piece in order[self.rank : self.total_size : self.num_replicas].split(LISTED):
            yield from piece.tolist()
