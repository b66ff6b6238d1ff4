"""Series in many files on a path or an object store, read piece by piece."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.shards import Store

FILE, GROUP, START, STOP = range(4)
"""Columns of a table of pieces: rows ``START`` to ``STOP`` of group ``GROUP`` of file number ``FILE``."""
READERS = 16
"""Files that are looked into at the same time, which for an object store is a matter of waiting alone."""


class Shards(ABC):
    """Files that hold series, all of one shape, in groups that are read whole.

    Attributes:
        store: Where they are.
        files: Their names, as the store's file system knows them.
        channels: Names of the channels.
        pieces: All groups, ``(groups, 4)``.
        length: Steps of a series.
    """

    store: Store
    files: list[str]
    channels: tuple[str, ...]
    pieces: np.ndarray
    length: int = 0

    @abstractmethod
    def rows(self, piece: np.ndarray) -> np.ndarray:
        """Return the series of a piece, ``(rows, N, M)``, float32.

        Raises:
            ValueError: For a file that holds something else.
        """

    def read(self, piece: np.ndarray) -> np.ndarray:
        """Return the series of a piece, ``(rows, N, M)``, float32, which are found to be what all others are.

        Raises:
            ValueError: For a file that does not fit, by its name.
        """
        name = self.files[piece[FILE]]
        x = self.rows(piece)
        if self.length and x.shape[1:] != (self.length, len(self.channels)):
            expected = f"{self.length} steps, got {x.shape[1]}"
            if x.shape[2] != len(self.channels):
                expected = f"{len(self.channels)} channels, got {x.shape[2]}"
            raise ValueError(f"{name}: expected series of {expected}; mend `data.path`")
        if not np.isfinite(x).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN, infinity or no value; mend `data.path`")
        return x


class Part:
    """Series of some pieces, one after the other, none of which is in memory.

    Args:
        shards: Where they are.
        pieces: Which they are, in their order, ``(pieces, 4)``.
    """

    def __init__(self, shards: Shards, pieces: np.ndarray) -> None:
        self.shards, self.pieces = shards, pieces

    def __len__(self) -> int:
        return int((self.pieces[:, STOP] - self.pieces[:, START]).sum())

    def shuffled(self, *seed: int) -> Part:
        """Return the pieces in random order."""
        return Part(self.shards, np.random.default_rng(seed).permutation(self.pieces))

    def cut(self, start: int, stop: int) -> Part:
        """Return the series ``start`` to ``stop``, of the outer pieces only some rows."""
        lengths = self.pieces[:, STOP] - self.pieces[:, START]
        begins = np.cumsum(lengths) - lengths
        first, last = np.clip(start - begins, 0, lengths), np.clip(stop - begins, 0, lengths)
        kept = self.pieces.copy()
        kept[:, STOP] = kept[:, START] + last
        kept[:, START] += first
        return Part(self.shards, kept[last > first])

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield all series, some ``size`` at a time at most, in order."""
        for piece in self.pieces:
            yield from torch.from_numpy(self.shards.read(piece)).split(size)

    def whole(self, pool: ThreadPoolExecutor | None = None) -> Tensor:
        """Return all series in memory, ``(n, N, M)``."""
        read = [*(pool.map if pool else map)(self.shards.read, self.pieces)]
        empty = np.empty((0, self.shards.length, len(self.shards.channels)), np.float32)
        return torch.from_numpy(np.concatenate(read) if read else empty)

    def some(self, count: int, seed: int) -> Tensor:
        """Return so many series, of groups in random order; no more of these are read than it takes."""
        return self.shuffled(seed, 2).cut(0, count).whole()
