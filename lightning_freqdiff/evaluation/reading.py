"""The sets of an evaluation from files and folders, whichever model wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.data import ArrayData, Series
from lightning_freqdiff.data.base import REFERENCE_BYTES
from lightning_freqdiff.data.readers.sources import SUFFIXES
from lightning_freqdiff.data.readers.table import csv_header, parquet_columns
from lightning_freqdiff.data.series.breaks import Breaks
from lightning_freqdiff.data.series.lengths import Lengths
from lightning_freqdiff.data.series.missing import Missing
from lightning_freqdiff.data.series.split import split
from lightning_freqdiff.evaluation.sets import Sets
from lightning_freqdiff.evaluation.stored import fetched, local, read_stored
from lightning_freqdiff.files import read_arrays

APART = "the part of the reference that is left out of training by its split"
"""What is held out where the settings of the data say so."""
HELD_OUT_SHARE = 1 / 3
"""Of a reference that has to be parted in time or by group."""


@dataclass(frozen=True)
class Reading:
    """How the reference and the holdout are read, as `ArrayData` reads them.

    Generated series are used as they are, without windows; columns and arrays are looked for in their file as well.

    Args:
        window: Steps of the windows to cut long series into; if not given, series are used as they are.
        stride: Steps from the start of a window to that of the next.
        id: Column of a long table that tells the series apart.
        time: Column with time stamps.
        labels: Column of a long table, or array of a .npz, with the class of each series, which is no channel; an
            array ``y`` is taken without being named. Where generated and real series have one, classifiers are
            trained on either and tested on held-out series.
        split_by: What series must share to stay on one side, where a part of the reference is held out.
        parts: Column or array that says train, val or test of each series: what is not train is held out.
        missing: What to do about missing values: refuse, interpolate or drop.
        lengths: What to do about series of unequal lengths: refuse, crop or pad.
        breaks: What windows do at breaks in the time stamps: avoid or cross them.
        val_fraction: Share of the reference to hold out, drawn as `fit` draws it: given the settings that a model
            was trained with, it is what the model has not seen. If not given, as many as were generated and at most
            half; or a third in time (`window`) or by group (`split_by`).
        test_fraction: Share of the reference to hold out as well, as `fit` does.
        seed: Seed of that split.
    """

    window: int | None = None
    stride: int = 1
    id: str | None = None
    time: str | None = None
    labels: str | None = None
    split_by: str | None = None
    parts: str | None = None
    missing: Missing = "refuse"
    lengths: Lengths = "refuse"
    breaks: Breaks = "avoid"
    val_fraction: float | None = None
    test_fraction: float = 0.0
    seed: int = 0

    @property
    def parted(self) -> bool:
        """Whether the settings say which part of the reference is held out."""
        return any((self.val_fraction, self.window, self.split_by, self.parts, self.test_fraction))

    @property
    def shaped(self) -> str | None:
        """What settings, the first of them, make series of something else or look for columns beside them."""
        named = ("window", "id", "time", "labels", "split_by", "parts")
        return next((name for name in named if getattr(self, name)), None)

    def data(self, path: Path) -> ArrayData:
        """Return the data set of a file of real series."""
        fraction = HELD_OUT_SHARE if self.val_fraction is None else self.val_fraction
        return ArrayData(str(path), **{**asdict(self), "val_fraction": fraction})

    def generated(self, path: Path) -> ArrayData:
        """Return the data set of a file of generated series, with the columns or arrays that it has."""
        names, arrays = _columns(path), path.suffix.lower() == ".npz"
        given = {k: getattr(self, k) for k in ("labels", "split_by", "parts", *(() if arrays else ("id", "time")))}
        columns = {key: name for key, name in given.items() if name in names}
        return ArrayData(str(path), missing=self.missing, lengths=self.lengths, **columns)


def read_sets(
    generated: str, reference: str, holdout: str | None = None, reading: Reading | None = None, seed: int = 0
) -> Sets:
    """Read the sets of an evaluation.

    Args:
        generated: File or folder of generated series, or its URL; also what `predict` left.
        reference: Those of the training series.
        holdout: Those of real series that were not trained on.
        reading: How real series are read.
        seed: Which part of the reference is held out where nothing says so.

    Raises:
        ValueError: On what cannot be read, or does not go together, naming the argument.
        OSError: Where there is no such file.
    """
    reading = reading or Reading()
    given = {"generated": generated, "reference": reference, "holdout": holdout}
    read = {role: _read(path, role, reading) for role, path in given.items() if path is not None}
    channels = read["reference"].channels
    taken = {role: _take(series, channels) for role, series in read.items()}
    (fake, fake_rows), (real, rows) = taken["generated"], taken["reference"]
    labels = {role: one.y[taken[role][1]] for role, one in read.items() if one.y is not None}
    held, origin = taken["holdout"][0] if holdout else None, f"the holdout, {Path(holdout or '').name}"
    if held is None and reading.parted:
        with _named("reference"):
            inside = _held_out(read["reference"], reading)[rows]
        real, held, rows, origin = real[~inside], real[inside], rows[~inside], APART
        if (known := labels.get("reference")) is not None:
            labels |= {"reference": known[~inside], "holdout": known[inside]}
    sets = Sets.of(fake, real, held, channels, seed, labels)
    if reading.labels and sets.labels is None:
        lack = next(role for role in read if role not in labels)
        unused = f"no labels {reading.labels!r} in `{lack}`: no classifier is trained on generated series"
        sets = replace(sets, warnings=(*sets.warnings, unused))
    if held is not None:
        sets = replace(sets, held_out_from=origin)
    return replace(sets, generated_rows=fake_rows, train_rows=rows[sets.train_rows])


def locate(path: Path, role: str) -> Path:
    """Find the samples in an output folder of `predict`; return other files and folders as they are."""
    manifest = path / "manifest.json"
    if manifest.is_file():
        try:
            run = json.loads(manifest.read_text(encoding="utf-8"))
            samples = path / run["file"] if run["status"] == "complete" else None
        except (ValueError, KeyError, TypeError):
            samples = None
        if samples is None or not samples.is_file():
            raise ValueError(
                f"{path}: expected the samples of a finished run, got a run that is not: finish it by the same "
                f"`predict`, or mend `{role}`"
            )
        return samples
    # Others may have copied the samples alone.
    copied = [path / f"samples{suffix}" for suffix in SUFFIXES if (path / f"samples{suffix}").is_file()]
    return copied[0] if copied else path


def _read(given: str, role: str, reading: Reading) -> Series:
    with _named(role):
        path = local(given, role)
        if (stored := read_stored(path, role)) is not None:
            if role != "generated" and reading.shaped is not None:
                raise ValueError(
                    f"expected series that are used as they are from a data set of many files, got {given}: leave "
                    f"`data.{reading.shaped}` out"
                )
            return stored
        with fetched(path, role) as file:
            file = locate(file, role)
            if role == "generated":
                return reading.generated(file).all_series(differ=False)
            return reading.data(file).all_series()


@contextmanager
def _named(role: str) -> Iterator[None]:
    """Let errors name the set where the reader names its path."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        kind = next(kind for kind in (ImportError, OSError, ValueError) if isinstance(error, kind))
        raise kind(str(error).replace("`data.path`", f"`{role}`")) from error


def _columns(path: Path) -> set[str]:
    """Return the names in a table, in the first of a folder of tables, or of the arrays in a .npz."""
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in (".csv", ".parquet")) if path.is_dir() else [path]
    first = files[0] if files else path
    match first.suffix.lower() if first.is_file() else "":
        case ".csv":
            return set(csv_header(first) or ())
        case ".parquet":
            return set(parquet_columns(first))
        case ".npz":
            return set(read_arrays(first, [])[0])
    return set()


def _take(series: Series, channels: tuple[str, ...]) -> tuple[Tensor, np.ndarray]:
    """Fetch the series, 1 GiB at most, with the reference's order of channels, and which they are."""
    most = max(2, REFERENCE_BYTES // (4 * int(np.prod(series.x.shape[1:]))))
    rows = np.arange(len(series))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng([0, 2]).permutation(len(rows))[:most])
    x = series.x[rows if series.rows is None else series.rows[rows]].astype(np.float32)
    if series.channels != channels and sorted(series.channels) == sorted(channels):
        x = x[..., [series.channels.index(name) for name in channels]]
    return torch.from_numpy(np.ascontiguousarray(x)), rows


def _held_out(series: Series, reading: Reading) -> np.ndarray:
    """Say of each series of the reference whether the split leaves it out of training, ``(n,)``."""
    fraction = HELD_OUT_SHARE if reading.val_fraction is None else reading.val_fraction
    parts = split(series, fraction, reading.test_fraction, reading.seed, reading.split_by is not None)
    inside = np.ones(len(series), bool)
    inside[parts["train"]] = False
    return inside
