"""Series in more files than fit in memory, or on a disk: read from where they are while a model is trained."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from lightning_freqdiff.data.base import SeriesData, require_at_least
from lightning_freqdiff.data.readers.opening import open_shards
from lightning_freqdiff.data.readers.shards import Part
from lightning_freqdiff.data.series.stream import Stream


class ShardedData(SeriesData):
    """Series in files below a path or a URL such as `s3://bucket/series`: Parquet, or chunks that LitData wrote.

    A row of Parquet holds a list for each channel, which is also what `predict` leaves at a URL; an item of LitData
    is an array `(N, M)` or `(N,)`, or a dictionary of some. Nothing is copied and no more than two windows are in
    memory. Parts are made of whole groups (row groups or chunks), drawn with `seed`, but for one that may be cut
    between two parts. Each epoch takes the groups in a new order and shuffles the series of a window among each
    other: small groups (1,000 series) and large windows shuffle best; where neighbours in a file are alike, write
    them shuffled.

    Args:
        path: Folder or file, on a path or at a URL.
        columns: Columns or entries that are the channels; all that hold lists or arrays if not given.
        window_mb: Memory of a window, in megabytes; there are two.
        **kwargs: Settings of `SeriesData`; `num_workers` are threads that read.
    """

    streamed = True

    def __init__(self, path: str, columns: tuple[str, ...] = (), window_mb: int = 256, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, window_mb=window_mb)
        self.path, self.columns, self.window_mb = path, columns, window_mb
        self._streams: dict[str, Part] = {}

    def setup(self, stage: str | None = None) -> None:
        """Look into every file, without reading it, and part the series."""
        if self._streams:
            return
        shards = open_shards(self.path, self.columns)
        every = Part(shards, shards.pieces).shuffled(self.seed)
        n = len(every)
        val, test = max(1, round(self.val_fraction * n)), round(self.test_fraction * n)
        ranks = self.trainer.world_size if self.trainer else 1
        if min(n - val - test, val) < ranks or shards.length < 2:
            raise ValueError(
                f"{self.path}: expected series to train on and to validate on, of 2 steps or more, got {n} of "
                f"{shards.length}; put more there, or lower `data.val_fraction`"
            )
        held = every.cut(0, val)
        self._streams = {
            "val": held,
            "test": every.cut(val, val + test) if test else held,
            "train": every.cut(val + test, n),
        }

    def _part(self, name: str) -> Part:
        self.setup()
        return self._streams[name]

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and channels `(N, M)` of a series."""
        return self._part("train").shards.length, len(self.channels)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the `M` channels."""
        return self._part("train").shards.channels

    def train_batches(self, size: int, rank: int = 0, ranks: int = 1) -> Iterator[Tensor]:
        """Yield the series to train on once, or one rank's share of them, at most `size` at a time."""
        part = self._part("train")
        n = len(part)
        return part.cut(n * rank // ranks, n * (rank + 1) // ranks).batches(size)

    def train_dataloader(self) -> Stream:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return shuffled batches of this rank's share."""
        return self._loader_of("train", int(os.environ.get("PL_GLOBAL_SEED", 0)))

    def val_dataloader(self) -> Stream:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return this rank's share of the validation part, in order."""
        return self._loader_of("val")

    def test_dataloader(self) -> Stream:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return this rank's share of the test part, in order."""
        return self._loader_of("test")

    def _loader_of(self, part: str, seed: int | None = None) -> Stream:
        steps, channels = self.shape
        window = max(1, self.window_mb * 2**20 // (4 * steps * channels))
        ranks, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        readers = max(1, self.num_workers)
        return Stream(self._part(part), self.batch_size, window, seed, ranks, rank, readers)
