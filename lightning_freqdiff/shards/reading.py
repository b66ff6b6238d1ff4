"""Samples that were written, as an array or lazily as a data set of another library."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lightning_freqdiff.shards.dataset import PARTITION, Entry, SampleSet
from lightning_freqdiff.shards.formats import Parquet
from lightning_freqdiff.shards.store import is_url

Form = Literal["numpy", "polars", "datasets"]


def read_samples(source: str | Path, format: Form = "numpy", start: int = 0, stop: int | None = None) -> Any:
    """Read the samples that a run left, whatever it left them as.

    Args:
        source: The run's ``sampling.output``: a folder, or the URL of a data set of many files.
        format: ``numpy`` for an array of samples ``start`` to ``stop``; lazily, ``polars`` for a ``LazyFrame``
            (Parquet alone) or ``datasets`` for a Hugging Face ``IterableDataset``, with a row for each series: its
            number as ``sample``, and a list for each channel.
        start: First sample.
        stop: The one behind the last; all if not given.

    Returns:
        An array ``(stop - start, N, M)``, float32; it is mapped from disk where the run is a single ``samples.npy``.

    Raises:
        ValueError: Where samples are missing or damaged, naming the file.
    """
    if format not in get_args(Form):
        raise ValueError(f"expected `format` as one of {', '.join(get_args(Form))}, got {format!r}")
    whole = Path(source).expanduser() / "samples.npy"
    if format == "numpy" and not is_url(str(source)) and whole.is_file():
        return np.load(whole, mmap_mode="r")[start:stop]
    samples = SampleSet(str(source), "source")
    samples.read()
    start, stop, _ = slice(start, stop).indices(samples.num_samples)
    units = _units(samples, start, stop)
    if format == "numpy":
        return _array(samples, start, stop)
    return _polars(samples, units, start, stop) if format == "polars" else _datasets(samples, units, start, stop)


def _units(samples: SampleSet, start: int, stop: int) -> range:
    """Return the units that hold a range of samples, all of which must be there."""
    size = samples.encoding.size
    units = range(start // size, -(-stop // size)) if start < stop else range(0)
    missing = samples.missing(units.start, units.stop) if units else []
    if len(missing):
        raise ValueError(
            f"{samples.store.url} lacks {len(missing)} of {len(units)} units, the first that of sample "
            f"{missing[0] * size}: run the command that drew the others again"
        )
    return units


def pieces(samples: SampleSet, start: int, stop: int) -> Iterator[tuple[int, np.ndarray]]:
    """Yield samples unit by unit, each piece ``(count, N, M)`` with the number of its first sample."""
    size = samples.encoding.size
    units = range(start // size, -(-stop // size)) if start < stop else range(0)
    entries: dict[int, list[Entry]] = {}
    for unit in units:
        if unit not in entries:  # listed a partition at a time
            entries = samples.entries(unit, min(units.stop, (unit // PARTITION + 1) * PARTITION))
        series = samples.get(unit, entries.get(unit, []))
        first, last = max(start, unit * size), min(stop, (unit + 1) * size)
        yield first, series[first - unit * size : last - unit * size]


def _array(samples: SampleSet, start: int, stop: int) -> np.ndarray:
    x = np.empty((max(0, stop - start), *samples.encoding.shape[1:]), np.float32)
    for first, series in pieces(samples, start, stop):
        x[first - start : first - start + len(series)] = series
    return x


def _polars(samples: SampleSet, units: range, start: int, stop: int) -> Any:
    """Return a lazy frame that reads through fsspec, with its credentials, what is asked of it and no more."""
    if samples.run["format"] != "parquet":
        raise ValueError(
            f"expected Parquet for a lazy frame, got {samples.run['format']}: set `format` numpy or datasets"
        )
    polars = _library("polars")
    import pyarrow.dataset

    assert isinstance(samples.encoding, Parquet)
    files = [samples.place(unit) for unit in units]
    rows = pyarrow.dataset.dataset(files, samples.encoding.schema, "parquet", samples.store.fs)
    frame = polars.scan_pyarrow_dataset(rows)
    return frame.filter((polars.col("sample") >= start) & (polars.col("sample") < stop))


def _datasets(samples: SampleSet, units: range, start: int, stop: int) -> Any:
    datasets = _library("datasets")
    rows = partial(_rows, url=samples.store.url, start=start, stop=stop)
    values = datasets.List(datasets.Value("float32"))
    features = {"sample": datasets.Value("int64"), **dict.fromkeys(samples.encoding.channels, values)}
    # A list is what the library deals out over ranks and loading processes.
    return datasets.IterableDataset.from_generator(rows, datasets.Features(features), gen_kwargs={"units": [*units]})


def _rows(units: list[int], url: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Yield the samples of some units one by one."""
    samples = SampleSet(url, "source")
    samples.read()
    size = samples.encoding.size
    for unit in units:
        for first, series in pieces(samples, max(start, unit * size), min(stop, (unit + 1) * size)):
            for number, one in enumerate(series, first):
                yield {"sample": number, **dict(zip(samples.encoding.channels, one.T, strict=True))}


def _library(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ValueError(
            f'expected {name} to be installed: pip install "lightning-freqdiff[readers]", or set `format` numpy'
        ) from error
