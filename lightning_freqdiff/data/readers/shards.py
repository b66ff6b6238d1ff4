"""Series in many Parquet files on a path or an object store, a series a row, read piece by piece."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.shards import Store

FILE, GROUP, START, STOP = range(4)
"""Columns of a table of pieces: rows ``START`` to ``STOP`` of row group ``GROUP`` of file number ``FILE``."""
READERS = 16
"""Files that are looked into at the same time, which for an object store is a matter of waiting alone."""


class Shards:
    """Parquet files with a list of values for each channel in a row.

    Args:
        url: A folder, of which all Parquet files below are taken, or a single file.
        columns: Names of the channels; all columns that are lists if not given.

    Raises:
        ValueError: Where there is no such file, or none has such columns.
    """

    def __init__(self, url: str, columns: Sequence[str] = ()) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.store = Store(url, "data.path")
        fs = self.store.fs
        self.files = sorted(self.store.again(lambda: fs.find(self.store.root)))
        self.files = [name for name in self.files if name.endswith(".parquet")]
        if not self.files:
            raise ValueError(f"expected Parquet files, found none at {url}: set `data.path`")

        def look(name: str) -> Any:
            try:
                return self.store.again(lambda: pq.read_metadata(name, filesystem=fs))
            except pa.ArrowInvalid as error:
                raise ValueError(f"{name}: expected a whole Parquet file ({error}); mend `data.path`") from error

        with ThreadPoolExecutor(READERS) as pool:
            found = list(pool.map(look, self.files))
        lists = [field.name for field in found[0].schema.to_arrow_schema() if _is_list(field.type)]
        self.channels = tuple(columns or lists)
        if missing := [name for name in self.channels if name not in lists]:
            raise ValueError(f"expected columns that are lists, {missing[0]} is none of {lists}: set `data.columns`")
        if not self.channels:
            raise ValueError(
                f"{self.files[0]}: expected a column with a list of values for each series, got "
                f"{', '.join(found[0].schema.names)}; long tables are for ArrayData, as far as memory goes"
            )
        self.pieces = np.array(
            [
                (file, group, 0, about.row_group(group).num_rows)
                for file, about in enumerate(found)
                for group in range(about.num_row_groups)
            ],
            dtype=np.int64,
        ).reshape(-1, 4)
        self.length = self.read(self.pieces[0]).shape[1] if len(self.pieces) else 0

    def read(self, piece: np.ndarray) -> np.ndarray:
        """Return the series of a piece, ``(rows, N, M)``, float32."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = self.files[piece[FILE]]

        def group() -> Any:
            with self.store.fs.open(name, "rb") as file:
                return pq.ParquetFile(file).read_row_group(int(piece[GROUP]), columns=list(self.channels))

        try:
            table = self.store.again(group).slice(piece[START], piece[STOP] - piece[START])
            values = [table[channel].combine_chunks() for channel in self.channels]
            x = np.stack([_matrix(column) for column in values], axis=-1)
        except (pa.ArrowException, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{name}: expected lists of numbers, all of one length ({reason}); mend `data.path`"
            ) from error
        known = getattr(self, "length", x.shape[1])
        if x.shape[1] != known:
            raise ValueError(f"{name}: expected series of {known} steps, got {x.shape[1]}; mend `data.path`")
        if not np.isfinite(x).all():
            raise ValueError(f"{name}: expected finite numbers, got NaN, infinity or no value; mend `data.path`")
        return x


def has_lists(store: Store) -> bool:
    """Tell whether there is Parquet in a folder, or in a file, whose rows hold lists, as `Shards` reads them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = next((name for name in sorted(store.fs.find(store.root)) if name.endswith(".parquet")), None)
    try:
        return name is not None and any(_is_list(field.type) for field in pq.read_schema(name, filesystem=store.fs))
    except pa.ArrowInvalid:  # for who reads it to complain of
        return False


def _is_list(kind: Any) -> bool:
    import pyarrow.types as types

    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _matrix(column: Any) -> np.ndarray:
    """Return lists of one length as rows."""
    if column.null_count:
        raise ValueError("a row has none")
    lengths = column.value_lengths().to_numpy(zero_copy_only=False)
    if len(lengths) and (lengths != lengths[0]).any():
        raise ValueError(f"there are lists of {lengths.min()} and of {lengths.max()}")
    return column.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).reshape(len(column), -1)


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
        """Return so many series, of row groups in random order; no more of these are read than it takes."""
        return self.shuffled(seed, 2).cut(0, count).whole()
