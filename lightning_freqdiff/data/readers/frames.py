"""Tables as named columns: from `.csv`, from `.parquet`, or from pandas, polars or pyarrow, none of them needed."""

import csv
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_freqdiff.data.readers.tables import csv_rows, is_number, open_parquet

Frame = dict[str, np.ndarray]
"""Columns `(rows,)` by name: numbers, text or dates."""

GAPS = ("", "na", "nan", "n/a", "null", "none", "<na>")
"""What stands for a missing value, in small letters."""


def is_frame(values: Any) -> bool:
    """Say whether something is a table of pandas, polars or pyarrow, or a mapping of columns."""
    return isinstance(values, Mapping) or hasattr(values, "columns") or hasattr(values, "column_names")


def frame_columns(table: Any, source: str) -> Frame:
    """Return the columns of a table in memory."""
    keys = list(table) if isinstance(table, Mapping) else list(getattr(table, "column_names", table.columns))
    names = [str(key) for key in keys]
    check_names(names, source)
    columns = {}
    for name, key in zip(names, keys, strict=True):
        if name.startswith("__index_level_"):  # how pandas stores an index in Parquet
            continue
        column = table[key]
        values = np.asarray(column.to_numpy() if hasattr(column, "to_numpy") else column)
        if values.ndim != 1:
            raise ValueError(f"{source}: expected columns of one axis, got shape {values.shape} in column {name!r}")
        columns[name] = _plain(values) if values.dtype.kind == "O" else values
    return columns


def parquet_columns(path: Path) -> Frame:
    """Return the columns of a Parquet file."""
    return frame_columns(open_parquet(path), str(path))


def csv_header(path: Path) -> list[str] | None:
    """Return the names in the first row, or None where it holds numbers alone."""
    try:
        _, first = next(csv_rows(path), (0, []))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; mend `data.path`") from error
    names = [cell.strip() for cell in first]
    return None if all(is_number(name) for name in names) else names


def csv_columns(path: Path, text: Sequence[str], gaps: bool) -> Frame:
    """Return the columns of a table with numbers in it, whose first row may name them.

    Args:
        path: The file.
        text: Columns that may hold anything; those that are not there are passed over.
        gaps: Read empty cells, `NA` and the like as NaN; otherwise they are refused.
    """
    names = csv_header(path)
    try:
        first = [] if names is None else [next(csv_rows(path))[0]]
        if names is None:
            names = [f"channel {i}" for i in range(len(next(csv_rows(path), (0, []))[1]))]
        check_names(names, str(path))
        skip = first[0] if first else 0
        if next((row for line, row in csv_rows(path) if line > skip), None) is None:
            raise ValueError(f"{path}: expected rows of numbers, got none; mend the file of `data.path`")
        return _read(path, names, skip, [i for i, name in enumerate(names) if name in text], gaps)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; mend `data.path`") from error


def check_names(names: Sequence[str], source: str) -> None:
    """Refuse columns that have the same name, or none."""
    if not names:
        raise ValueError(f"{source}: expected columns, got none; mend the file of `data.path`")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(
            f"{source}: expected columns of different names, got {twice[0]!r} twice; mend the table of `data.path`"
        )


def _read(path: Path, names: list[str], skip: int, text: list[int], gaps: bool) -> Frame:
    """Read with NumPy's parser, or cell by cell where that one cannot."""
    numbers = [i for i in range(len(names)) if i not in text]
    how: dict[str, Any] = {
        "delimiter": ",",
        "skiprows": skip,
        "ndmin": 2,
        "comments": None,
        "quotechar": '"',
        "encoding": "utf-8-sig",
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            values = np.loadtxt(path, usecols=numbers, **how) if numbers else np.empty((0, 0))
            words = np.loadtxt(path, usecols=text, dtype=str, **how) if text else np.empty((0, 0), str)
    except (ValueError, UserWarning):
        values, words = _read_slowly(path, names, skip, text, gaps)
    columns = {names[i]: values[:, k] for k, i in enumerate(numbers)}
    columns |= {names[i]: _plain(np.char.strip(words[:, k])) for k, i in enumerate(text)}
    return {name: columns[name] for name in names}


def _read_slowly(
    path: Path, names: list[str], skip: int, text: list[int], gaps: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Read cell by cell; say which one, counting rows from 1 and the header among them, is no number."""
    values, words = [], []
    for line, row in csv_rows(path):
        if line <= skip:
            continue
        if len(row) != len(names):
            raise ValueError(
                f"{path}: expected {len(names)} cells as in the first row, got {len(row)} in row {line} (a file cut "
                "short?); mend the file of `data.path`"
            )
        values.append([_number(row[i], path, line, names[i], gaps) for i in range(len(names)) if i not in text])
        words.append([row[i] for i in text])
    return np.array(values, float), np.array(words, str).reshape(len(words), len(text))


def _number(cell: str, path: Path, line: int, column: str, gaps: bool) -> float:
    if is_number(cell):
        return float(cell)
    missing = cell.strip().lower() in GAPS
    if missing and gaps:
        return np.nan
    remedy = "mend it or drop the column, or say what it is with `data.time`, id, labels or split_by"
    if missing:
        remedy = "set `data.missing` interpolate or drop"
    raise ValueError(f"{path}: expected a number, got {cell!r} in row {line}, column {column!r}; {remedy}")


def _plain(values: np.ndarray) -> np.ndarray:
    """Turn objects or text into numbers where all of them are, None and the like being NaN; else into text."""
    words = np.array([str(value) for value in values]) if values.dtype.kind == "O" else values
    if not len(words):
        return words
    gap = np.isin(np.char.lower(words), (*GAPS, "nat"))
    try:
        if gap.any():
            return np.where(gap, "nan", words).astype(float)
        number = words.astype(float)
        whole = np.abs(number) < 2**53
        return words.astype(np.int64) if (whole & (np.char.isdecimal(np.char.lstrip(words, "-")))).all() else number
    except ValueError:
        return words
