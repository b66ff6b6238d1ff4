"""A unit of samples as the bytes of one file, and back: NumPy's own format, Parquet, a chunk of a Zarr array.

The same samples give the same bytes wherever the versions of the libraries are the same.
"""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np

from lightning_freqdiff.files import DAMAGE


class Encoding(ABC):
    """How the samples of a unit are written.

    Args:
        shape: Of all samples, ``(n, N, M)``.
        size: Samples in a unit; the last may have fewer.
        channels: Names of the ``M`` channels.
    """

    def __init__(self, shape: tuple[int, int, int], size: int, channels: Sequence[str]) -> None:
        self.shape, self.size, self.channels = shape, size, list(channels)

    def count(self, unit: int) -> int:
        """Return the samples of a unit."""
        return min(self.size, self.shape[0] - unit * self.size)

    def head(self) -> dict[str, bytes]:
        """Return the files that lie beside the units, by name."""
        return {}

    @abstractmethod
    def name(self, unit: int, folder: str) -> str:
        """Return where the file of a unit lies, given the folder of its partition."""

    @abstractmethod
    def encode(self, unit: int, series: np.ndarray) -> bytes:
        """Return the bytes of series ``(count, N, M)``, float32."""

    @abstractmethod
    def decode(self, unit: int, content: bytes) -> np.ndarray:
        """Return the series ``(count, N, M)`` that the bytes of a unit hold; a ``ValueError`` where they do not."""


class Npy(Encoding):
    """An array ``(count, N, M)`` for each unit."""

    def name(self, unit: int, folder: str) -> str:
        """Return where the file of a unit lies."""
        return f"{folder}/{unit * self.size:012d}.npy"

    def encode(self, unit: int, series: np.ndarray) -> bytes:
        """Return the bytes of series ``(count, N, M)``."""
        file = io.BytesIO()
        np.save(file, np.ascontiguousarray(series, np.float32), allow_pickle=False)
        return file.getvalue()

    def decode(self, unit: int, content: bytes) -> np.ndarray:
        """Return the series that the bytes of a unit hold."""
        try:
            return np.load(io.BytesIO(content), allow_pickle=False)
        except DAMAGE as error:
            raise ValueError(f"no whole array ({' '.join(str(error).split())})") from error


class Parquet(Encoding):
    """A row for each series: its number as ``sample``, and a list of its values for each channel."""

    def name(self, unit: int, folder: str) -> str:
        """Return where the file of a unit lies."""
        return f"{folder}/{unit * self.size:012d}.parquet"

    @cached_property
    def schema(self) -> Any:
        """Columns of every file."""
        import pyarrow as pa

        values = [(name, pa.list_(pa.field("element", pa.float32(), nullable=False))) for name in self.channels]
        return pa.schema([("sample", pa.int64()), *values])

    def encode(self, unit: int, series: np.ndarray) -> bytes:
        """Return the bytes of series ``(count, N, M)``."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        count, length, _ = series.shape
        offsets = pa.array(np.arange(count + 1, dtype=np.int32) * length)
        columns: list[Any] = [pa.array(np.arange(count) + unit * self.size)]
        for m, field in enumerate(list(self.schema)[1:]):
            values = pa.array(np.ascontiguousarray(series[..., m], np.float32).ravel())
            columns.append(pa.ListArray.from_arrays(offsets, values, type=field.type))
        file = io.BytesIO()
        # A dictionary of numbers that hardly ever repeat, and their compression, would cost time and save nothing.
        pq.write_table(pa.table(columns, self.schema), file, use_dictionary=False, compression="none")
        return file.getvalue()

    def decode(self, unit: int, content: bytes) -> np.ndarray:
        """Return the series that the bytes of a unit hold."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(pa.BufferReader(content))
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"no whole Parquet ({' '.join(str(error).split())})") from error
        wanted = ["sample", *self.channels]
        if table.column_names != wanted:
            raise ValueError(f"expected columns {', '.join(wanted)}, got {', '.join(table.column_names)}")
        values = [table[name].combine_chunks().flatten().to_numpy() for name in self.channels]
        return np.stack([column.reshape(len(table), -1) for column in values], axis=-1)


class Zarr(Encoding):
    """A chunk for each unit of one array ``(n, N, M)`` in ``samples.zarr``, format 3."""

    @cached_property
    def _files(self) -> dict[str, Any]:
        return {}

    @cached_property
    def _array(self) -> Any:
        """The array in memory, of which no more than a chunk is there at any time."""
        import zarr
        from zarr.storage import MemoryStore

        return zarr.create_array(
            MemoryStore(self._files),
            shape=self.shape,
            chunks=(self.size, *self.shape[1:]),
            dtype="float32",
            compressors=None,
            attributes={"channels": self.channels},
            config={"write_empty_chunks": True},
        )

    def head(self) -> dict[str, bytes]:
        """Return the description of the array."""
        assert self._array.shape == self.shape  # made by now, and its description with it
        return {"samples.zarr/zarr.json": self._files["zarr.json"].to_bytes()}

    def name(self, unit: int, folder: str) -> str:
        """Return where the file of a unit lies."""
        return f"samples.zarr/c/{unit}/0/0"

    def _rows(self, unit: int) -> slice:
        return slice(unit * self.size, unit * self.size + self.count(unit))

    def encode(self, unit: int, series: np.ndarray) -> bytes:
        """Return the bytes of series ``(count, N, M)``."""
        self._array[self._rows(unit)] = series
        return self._files.pop(f"c/{unit}/0/0").to_bytes()

    def decode(self, unit: int, content: bytes) -> np.ndarray:
        """Return the series that the bytes of a unit hold."""
        need = 4 * self.size * self.shape[1] * self.shape[2]
        if len(content) != need:
            raise ValueError(f"expected a chunk of {need} bytes, got {len(content)}")
        from zarr.core.buffer import default_buffer_prototype

        array, key = self._array, f"c/{unit}/0/0"
        self._files[key] = default_buffer_prototype().buffer.from_bytes(content)
        try:
            return np.asarray(array[self._rows(unit)])
        finally:
            del self._files[key]


FORMATS: dict[str, type[Encoding]] = {"parquet": Parquet, "npy": Npy, "zarr": Zarr}
LIBRARIES = {"parquet": ("pyarrow", "tables"), "zarr": ("zarr", "zarr")}
"""What a format needs, and the extra that brings it."""


def check_format(name: str) -> None:
    """Raise a ``ValueError`` for a format that no data set has, or that lacks its library, before any sampling."""
    if name not in FORMATS:
        raise ValueError(
            f"expected a format of {', '.join(FORMATS)} for a data set of many files, got {name!r}: set "
            "`sampling.format`"
        )
    library, extra = LIBRARIES.get(name, ("numpy", ""))
    try:
        import_module(library)
    except ImportError as error:
        raise ValueError(
            f'{name} needs {library}: pip install "lightning-freqdiff[{extra}]", or set `sampling.format` npy'
        ) from error
