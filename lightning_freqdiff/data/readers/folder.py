"""A folder with a file for each series."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from lightning_freqdiff.data.readers.layout import check_named, lay_out
from lightning_freqdiff.data.readers.npy import read_npy
from lightning_freqdiff.data.readers.table import csv_columns, csv_header, parquet_columns
from lightning_freqdiff.data.series.ragged import Ragged, Roles

KINDS = (".csv", ".parquet", ".npy")
FILE = "file"
"""What `split_by` calls the name of the file."""


def read_folder(folder: Path, roles: Roles, gaps: bool) -> Ragged:
    """Read the files of a folder in the order of their names: steps in rows, channels in columns.

    Args:
        folder: The folder; files of other kinds and hidden ones are passed over.
        roles: Columns that hold no values. Labels, groups and parts must be the same in all rows of a file.
        gaps: Read empty cells as NaN.
    """
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in KINDS and p.name[0] != "." and p.is_file())
    kinds = sorted({file.suffix.lower() for file in files})
    if len(kinds) != 1:
        found = " and ".join(kinds) or "none"
        raise ValueError(
            f"{folder}: expected a file for each series, all of them .csv, .parquet or .npy, got {found}; mend "
            "`data.path`"
        )
    if roles.id is not None:
        raise ValueError(f"{folder}: expected `data.id` for one table only: a folder has a file for each series")
    by_file = roles.groups == FILE
    inside = replace(roles, groups=None if by_file else roles.groups)
    read = [_read_one(file, inside, gaps) for file in files]
    first = read[0]
    series = [_in_order(one, first, files[i].name) for i, one in enumerate(read)]
    labels = inside.fields({n: np.concatenate([one.column(n, inside) for one in read]) for n in inside.per_series})
    names = [file.name for file in files]
    if by_file:
        labels["groups"] = np.array(names)
    breaks = [found for one in read for found in one.breaks]
    known = first.covariates
    return Ragged(series, first.channels, str(folder), names, breaks=breaks, covariates=known, **labels)


def _read_one(file: Path, roles: Roles, gaps: bool) -> Ragged:
    if file.stat().st_size == 0:
        raise ValueError(f"{file}: expected series, got an empty file; write it anew or mend `data.path`")
    if file.suffix.lower() == ".npy":
        if roles.settings:
            setting, name = roles.settings[0]
            raise ValueError(
                f"{file}: expected a table with a column {name!r}, got a .npy; leave `data.{setting}` out"
            )
        x = read_npy(file, in_memory=True)
        x = x[:, None] if x.ndim == 1 else x
        if x.ndim != 2:
            raise ValueError(
                f"{file}: expected an array (steps, channels) in each file of a folder, got shape {x.shape}; point "
                "`data.path` to the file itself if it holds many series"
            )
        return Ragged([x], tuple(f"channel {i}" for i in range(x.shape[1])), str(file))
    if file.suffix.lower() == ".csv":
        check_named(roles, csv_header(file) or [], str(file))
        frame = csv_columns(file, [name for _, name in roles.settings], gaps)
    else:
        frame = parquet_columns(file)
    return lay_out(frame, roles, True, str(file))


def _in_order(one: Ragged, first: Ragged, file: str) -> np.ndarray:
    """Return the steps `(N, M)` of a file with its channels in the order of the first file."""
    missing = [name for name in first.channels if name not in one.channels]
    more = [name for name in one.channels if name not in first.channels]
    if missing or more:
        what = f"no {missing[0]!r}" if missing else f"{more[0]!r} as well"
        raise ValueError(
            f"{first.source}: expected the columns {', '.join(first.channels)} in every file as in the first, got "
            f"{what} in {file}; mend that file, or take it out of the folder of `data.path`"
        )
    (x,) = one.series
    return x[:, [one.channels.index(name) for name in first.channels]]
