"""Samples in other formats than ``.npy``, for people who want a table."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lightning_freqdiff.files import replace_arrays, replacing

Format = Literal["npy", "npz", "parquet", "csv"]
ROWS = 1024
"""Series turned into table rows at once, so that no result has to fit in memory."""


def check_format(name: str | None) -> None:
    """Raise a ``ValueError`` for a format that is unknown or lacks its library, before any sampling."""
    if name is None:
        return
    if name not in get_args(Format):
        raise ValueError(f"expected a format of {', '.join(get_args(Format))}, got {name!r}: set `sampling.format`")
    if name == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ValueError(
                'parquet needs pyarrow: pip install "lightning-freqdiff[tables]", or set `sampling.format` npy'
            ) from error


def _long(series: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield pieces of the long table: sample number, time step, and one column per channel."""
    length, channels = series.shape[1:]
    for first in range(0, len(series), ROWS):
        piece = np.asarray(series[first : first + ROWS])
        sample = np.repeat(np.arange(first, first + len(piece)), length)
        yield sample, np.tile(np.arange(length), len(piece)), piece.reshape(-1, channels)


def to_frame(series: np.ndarray, channels: Sequence[str], library: str) -> Any:
    """Return series ``(n, N, M)`` as a long table of pandas, polars or pyarrow, with the columns of :func:`convert`.

    Raises:
        ValueError: Where the library is not there.
    """
    return frame_of(_columns(series, channels), library)


def to_frame_of_series(samples: np.ndarray, names: Sequence[Any], channels: Sequence[str], library: str) -> Any:
    """Return samples ``(B, S, T, M)`` of named series as a long table with the columns ``series, sample, step``."""
    _, each, length, _ = samples.shape
    columns = _columns(samples.reshape(-1, *samples.shape[2:]), channels)
    columns["sample"] %= each
    return frame_of({"series": np.repeat(np.asarray(names), each * length), **columns}, library)


def _columns(series: np.ndarray, channels: Sequence[str]) -> dict[str, np.ndarray]:
    sample, step, values = (np.concatenate(part) for part in zip(*_long(series), strict=True))
    return {"sample": sample, "step": step, **dict(zip(channels, np.ascontiguousarray(values.T), strict=True))}


def frame_of(columns: Mapping[str, np.ndarray], library: str) -> Any:
    """Return columns as a table of pandas, polars or pyarrow.

    Raises:
        ValueError: Where the library is not there.
    """
    try:
        made = import_module(library)
    except ImportError as error:
        raise ValueError(
            f"expected {library} to be installed for a table of it: pip install {library}, or set `format` numpy"
        ) from error
    columns = dict(columns)
    return made.table(columns) if library == "pyarrow" else made.DataFrame(columns)


def convert(samples: Path, format: Format, channels: Sequence[str]) -> Path:
    """Write ``samples.npy`` in another format beside it in one move, and return the new file.

    ``npz`` holds ``x`` of shape ``(n, N, M)`` and the channels' names as ``columns``; ``csv`` and ``parquet``
    are long tables with the columns ``sample, step`` and one per channel.
    """
    series = np.load(samples, mmap_mode="r")
    target = samples.with_suffix(f".{format}")
    names = ["sample", "step", *channels]
    if format == "npz":
        replace_arrays(target, {"x": series, "columns": np.array(channels)}, compress=True)
    elif format == "csv":
        with replacing(target, "w") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for sample, step, values in _long(series):
                writer.writerows([a, b, *row] for a, b, row in zip(sample, step, values.tolist(), strict=True))
    elif format == "parquet":
        import pyarrow
        import pyarrow.parquet

        types = [pyarrow.int64(), pyarrow.int32(), *[pyarrow.float32()] * len(channels)]
        schema = pyarrow.schema(list(zip(names, types, strict=True)))
        with replacing(target) as file, pyarrow.parquet.ParquetWriter(file, schema) as writer:
            for sample, step, values in _long(series):
                columns = [sample, step.astype(np.int32), *np.ascontiguousarray(values.T)]
                writer.write_table(pyarrow.table(columns, schema=schema))
    return target
