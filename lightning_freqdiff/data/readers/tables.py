"""Tables in files: rows of a `.csv`, with one series a row and one step a column, and any `.parquet`."""

import csv
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np


def read_csv(path: Path) -> np.ndarray:
    """Read numbers `(n, N)` separated by commas, with or without a header."""
    try:
        return _numbers(path, _header_lines(path))
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; mend `data.path`") from error


def csv_rows(path: Path) -> Generator[tuple[int, list[str]]]:
    """Yield the rows that are not blank, each with its line number in the file, from 1."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file)
        for row in reader:
            if row:
                yield reader.line_num, row


def _header_lines(path: Path) -> int:
    """Return how many lines to skip; a first row is a header if every one of its cells is a name.

    Were one such cell enough, a slip of the pen in the first series would cost that series.
    """
    rows = csv_rows(path)
    line, first = next(rows, (0, []))
    names = [not is_number(cell) for cell in first]
    header = all(names) and all(cell.strip() for cell in first)
    if any(names) and not header:
        column = names.index(True)
        index = "; if the first column is an index, drop it (pandas: index=False)" if first[0] == "" else ""
        raise ValueError(
            f"{path}: expected only names or only numbers in the first row, got {first[column]!r} in row "
            f"{line}, column {column + 1}; mend the file of `data.path`{index}"
        )
    _, second = next(rows, (0, []))
    rows.close()
    if not first or (header and not second):
        raise ValueError(f"{path}: expected a row for each series, got none; mend the file of `data.path`")
    counts = len(first) > 2 and first == [str(i) for i in range(len(first))]
    if counts and not all(cell.isdecimal() for cell in second):
        raise ValueError(
            f"{path}: expected names or a series in the first row, got 0, 1, 2, ..., which may be either; in "
            "the file of `data.path` drop the row if it is a header (pandas: header=False), else write 0.0"
        )
    return line if header else 0


def is_number(cell: str) -> bool:
    """Say whether a cell can be read as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, skip: int) -> np.ndarray:
    try:
        return np.loadtxt(
            path, delimiter=",", skiprows=skip, ndmin=2, comments=None, quotechar='"', encoding="utf-8-sig"
        )
    except ValueError as error:
        fault = _first_fault(path, skip) or f"expected numbers, separated by commas, got: {error}"
        raise ValueError(
            f"{path}: {fault}; mend the file of `data.path`, or name the columns that hold no steps (`data.labels`), "
            "or, if a row is a step, `data.time`, `data.id` or `data.window`"
        ) from error


def _first_fault(path: Path, skip: int) -> str | None:
    """Say which cell or row cannot be read, counting from 1, the header included."""
    width = None
    for line, row in csv_rows(path):
        if line <= skip:
            continue
        for column, cell in enumerate(row, start=1):
            if not is_number(cell):
                return f"expected numbers, separated by commas, got {cell!r} in row {line}, column {column}"
        width = width or len(row)
        if len(row) != width:
            return f"expected series of one length, {width} as in the first, got {len(row)} steps in row {line}"
    return None


def read_ragged_csv(path: Path, trim: bool) -> list[np.ndarray]:
    """Read series `(N_i, 1)` of any lengths, an empty cell being NaN.

    Args:
        path: The file.
        trim: Let empty cells at the end of a row be none: its series is shorter.
    """
    series = []
    try:
        skip = _header_lines(path)
        for line, row in csv_rows(path):
            if line <= skip:
                continue
            while trim and row and not row[-1].strip():
                row = row[:-1]
            fault = next((i for i, cell in enumerate(row) if cell.strip() and not is_number(cell)), None)
            if fault is not None:
                raise ValueError(
                    f"{path}: expected numbers, separated by commas, got {row[fault]!r} in row {line}, column "
                    f"{fault + 1}; mend the file of `data.path`"
                )
            series.append(np.array([float(cell) if cell.strip() else np.nan for cell in row])[:, None])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; mend `data.path`") from error
    return series


def open_parquet(path: Path) -> Any:
    """Read a Parquet file as a pyarrow table."""
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"{path}: a .parquet file needs pyarrow, which is not installed; "
            'pip install "lightning-freqdiff[tables]", or give `data.path` a .npz, .npy or .csv file'
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected a Parquet file, got one that is damaged, or none ({reason}); mend `data.path`"
        ) from error
