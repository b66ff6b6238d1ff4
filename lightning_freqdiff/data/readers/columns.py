"""Tables with a header, of which some columns are read: one row a step."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

MISSING = ("", "na", "nan", "null", "none", "?")


def header(path: Path) -> list[str]:
    """Return the names of the columns."""
    if path.stat().st_size == 0:
        raise ValueError(f"{path}: expected a table with a header, got an empty file; {remedy()}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [name.strip() for name in next(csv.reader(file), [])]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; {remedy()}") from error


def remedy() -> str:
    """Return what to do about a faulty file; said at the end of each message."""
    return "get this file anew, or point `data.path` to a sound copy"


def positions(path: Path, found: Sequence[str], names: Sequence[str]) -> list[int]:
    """Return where the named columns are, or raise a ValueError that names the first that is not."""
    for name in names:
        if name not in found:
            raise ValueError(
                f"{path}: expected the columns {', '.join(names)}, got no {name!r} among {', '.join(found)}; "
                f"{remedy()}"
            )
    return [list(found).index(name) for name in names]


def read_columns(path: Path, names: Sequence[str]) -> np.ndarray:
    """Read the named columns of a table with a header.

    Returns:
        Numbers `(rows, len(names))` of float64; a missing one (an empty cell, NA, NaN) is NaN.
    """
    found = header(path)
    where = positions(path, found, names)
    _check_last_row(path, len(found))
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*input contained no data.*")  # said below, with the remedy
            table = np.loadtxt(
                path,
                delimiter=",",
                skiprows=1,
                usecols=where,
                ndmin=2,
                comments=None,
                quotechar='"',
                encoding="utf-8",
            )
    except ValueError:
        table = _read_slowly(path, where, found)
    if not len(table):
        raise ValueError(f"{path}: expected rows below the header, got none; {remedy()}")
    return table


def _check_last_row(path: Path, columns: int) -> None:
    """Refuse a last row that was cut short: the columns read may be there, and the last of them half."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 65536))
        last = file.read().rstrip().rsplit(b"\n", 1)[-1]
    if b'"' not in last and last.count(b",") + 1 != columns:
        raise ValueError(
            f"{path}: expected {columns} columns in every row, got {last.count(b',') + 1} in the last one (a file "
            f"cut short?); {remedy()}"
        )


def _read_slowly(path: Path, where: Sequence[int], found: Sequence[str]) -> np.ndarray:
    """Read numbers where some are missing, and say which cell or row cannot be read."""
    rows = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            next(reader)
            for row in filter(None, reader):
                line = reader.line_num
                if len(row) != len(found):
                    raise ValueError(
                        f"{path}: expected {len(found)} columns in every row, got {len(row)} in row {line} (a file "
                        f"cut short?); {remedy()}"
                    )
                rows.append([number(row[i], path, line, found[i]) for i in where])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; {remedy()}") from error
    return np.array(rows, float).reshape(-1, len(where))


def number(cell: str, path: Path, line: int, column: str) -> float:
    """Read one cell; NaN where it is missing."""
    try:
        return float(cell)
    except ValueError as error:
        if cell.strip().lower() in MISSING:
            return float("nan")
        raise ValueError(
            f"{path}: expected numbers, got {cell!r} in row {line}, column {column!r}; {remedy()}"
        ) from error
