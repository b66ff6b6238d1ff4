"""Series in Parquet files, a series a row."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lightning_freqdiff.data.readers.shards import FILE, GROUP, READERS, START, STOP, Shards
from lightning_freqdiff.shards import Store


class ParquetShards(Shards):
    """Parquet files with a list of values for each channel in a row; a group is a row group.

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
            raise ValueError(f"expected Parquet files, or chunks of LitData, found none at {url}: set `data.path`")

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
        self.length = self.rows(self.pieces[0]).shape[1] if len(self.pieces) else 0

    def rows(self, piece: np.ndarray) -> np.ndarray:
        """Read a row group, or some of its rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        name = self.files[piece[FILE]]

        def group() -> Any:
            with self.store.fs.open(name, "rb") as file:
                return pq.ParquetFile(file).read_row_group(int(piece[GROUP]), columns=list(self.channels))

        try:
            table = self.store.again(group).slice(piece[START], piece[STOP] - piece[START])
            values = [table[channel].combine_chunks() for channel in self.channels]
            return np.stack([_matrix(column) for column in values], axis=-1)
        except (pa.ArrowException, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"{name}: expected lists of numbers, all of one length ({reason}); mend `data.path`"
            ) from error


def has_lists(store: Store) -> bool:
    """Tell whether there is Parquet in a folder, or in a file, whose rows hold lists."""
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
