"""The text of CSV files: NumPy's parser reads what it can, and cell by cell we say what it cannot."""

import csv
import warnings
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

Keep = Callable[[str], bool]
GAPS = ("", "na", "nan", "n/a", "null", "none", "<na>", "?")
"""What stands for a missing value, in small letters."""


def is_number(cell: str) -> bool:
    """Say whether a cell can be read as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell  # 1_000 is Python, and no table's


def is_gap(cell: str) -> bool:
    """Say whether a cell stands for a missing value."""
    return cell.strip().lower() in GAPS


def rows(path: Path, delimiter: str = ",", keep: Keep | None = None) -> Generator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with its line number in the file, from 1.

    Args:
        path: The file.
        delimiter: What divides the cells.
        keep: Says which lines to look at, in a file that has a line a row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = file if keep is None else (line if keep(line) else "\n" for line in file)
            reader = csv.reader(lines, delimiter=delimiter)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; mend `data.path`") from error


def load(path: Path, dtype: Any, skip: int, delimiter: str = ",", keep: Keep | None = None) -> np.ndarray:
    """Read all columns with NumPy's parser: `(rows, columns)` of one type, or `(rows,)` with a field a column.

    Raises:
        ValueError: Where it cannot read a cell, or rows are of different widths. With its `usecols`, cells too many
            in a row (decimal commas, say) would move the others along unnoticed, so it is never used.
        UserWarning: Where there are no rows.
    """
    with warnings.catch_warnings(), path.open(encoding="utf-8-sig") as file:
        warnings.simplefilter("error", UserWarning)
        return np.loadtxt(
            path if keep is None else filter(keep, islice(file, skip, None)),
            dtype=dtype,
            delimiter=delimiter,
            skiprows=skip if keep is None else 0,
            ndmin=2 if dtype is float else 1,
            comments=None,
            quotechar='"',
            encoding="utf-8-sig",
        )


@dataclass(frozen=True)
class Wording:
    """How to say what is wrong with a file.

    Attributes:
        width: What a row should have, where `{}` is the number of columns.
        cell: What a cell should be.
        mend_row: What to do about a row.
        mend_cell: What to do about a cell.
    """

    width: str
    cell: str
    mend_row: str
    mend_cell: str


@dataclass(frozen=True)
class CsvText:
    """A CSV file with a name for each column.

    Attributes:
        path: The file.
        names: The names, whether from its header or not.
        skip: Lines above the first row.
        wording: How to say what is wrong with it.
        gaps: Read empty cells, `NA` and the like as NaN; otherwise they are refused.
        keep: Says which lines to look at, in a file that has a line a row.
    """

    path: Path
    names: Sequence[str]
    skip: int
    wording: Wording
    gaps: bool = True
    keep: Keep | None = None

    def read(self, numbers: Sequence[str], text: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Return the named columns `(rows,)`; each row must have a cell for each name in the file."""
        where = {name: list(self.names).index(name) for name in (*numbers, *text)}
        try:
            return self._read_fast(where, text)
        except (ValueError, UserWarning):
            return self._read_by_cell(where, text)

    def _read_fast(self, where: dict[str, int], text: Sequence[str]) -> dict[str, np.ndarray]:
        if len(where) == len(self.names) and not text:
            table = load(self.path, float, self.skip, keep=self.keep)
            if table.shape[1] != len(self.names):
                raise ValueError("a header of another width than the rows")
            return {name: table[:, i] for name, i in where.items()}
        kinds = ["U1"] * len(self.names)  # the least there is, for what is not wanted
        for name, i in where.items():
            kinds[i] = "O" if name in text else "f8"
        table = load(self.path, [(str(i), kind) for i, kind in enumerate(kinds)], self.skip, keep=self.keep)
        columns = {name: table[str(i)] for name, i in where.items()}
        return columns | {name: columns[name].astype(str) for name in text}

    def _read_by_cell(self, where: dict[str, int], text: Sequence[str]) -> dict[str, np.ndarray]:
        """Read where values are missing, and say which row or cell cannot be read."""
        columns: dict[str, list[Any]] = {name: [] for name in where}
        for line, row in rows(self.path, keep=self.keep):
            if line <= self.skip:
                continue
            if len(row) != len(self.names):
                cause = "a file cut short?" if len(row) < len(self.names) else "decimal commas?"
                raise ValueError(
                    f"{self.path}: expected {self.wording.width.format(len(self.names))}, got {len(row)} in row "
                    f"{line} ({cause}); {self.wording.mend_row}"
                )
            for name, i in where.items():
                columns[name].append(row[i] if name in text else self._number(row[i], line, name))
        return {name: np.array(cells, str if name in text else float) for name, cells in columns.items()}

    def _number(self, cell: str, line: int, name: str) -> float:
        if is_number(cell):
            return float(cell)
        if is_gap(cell) and self.gaps:
            return np.nan
        remedy = "set `data.missing` interpolate or drop" if is_gap(cell) else self.wording.mend_cell
        raise ValueError(
            f"{self.path}: expected {self.wording.cell}, got {cell!r} in row {line}, column {name!r}; {remedy}"
        )
