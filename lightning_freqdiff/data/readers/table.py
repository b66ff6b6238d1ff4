"""Tables as named columns, from `.csv`, `.parquet`, pandas, polars or pyarrow, or as rows with one series each."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightning_freqdiff.data.readers.csv_text import GAPS, CsvText, Keep, Wording, is_gap, is_number, load, rows

Frame = dict[str, np.ndarray]
"""Columns `(rows,)` by name: numbers, text or dates."""

FRAMES = ("pandas", "polars", "pyarrow")
"""Libraries whose tables are read in memory."""

REMEDY = "get this file anew, or point `data.path` to a sound copy"
"""What to do about a faulty file of a published data set; said at the end of each message."""
PUBLISHED = Wording("{} columns in every row", "numbers", REMEDY, REMEDY)
OWN = Wording(
    "{} cells as in the first row",
    "a number",
    "mend the file of `data.path`",
    "mend it or drop the column, or say what it is with `data.time`, id, labels or split_by",
)
WIDE_REMEDY = (
    "mend the file of `data.path`, or name the columns that hold no steps (`data.labels`), or, if a row is a step, "
    "`data.time`, `data.id` or `data.window`"
)
SEPARATORS = {",": "commas", "\t": "tabs"}


def is_frame(values: Any) -> bool:
    """Say whether something is a table of pandas, polars or pyarrow, or a mapping of columns."""
    return isinstance(values, Mapping) or hasattr(values, "columns") or hasattr(values, "column_names")


def frame_columns(table: Any, source: str) -> Frame:
    """Return the columns of a table in memory."""
    keys = list(table) if isinstance(table, Mapping) else list(getattr(table, "column_names", table.columns))
    names = [str(key) for key in keys]
    _check_names(names, source)
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
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ImportError(
            f"{path}: a .parquet file needs pyarrow, which is not installed; "
            'pip install "lightning-freqdiff[tables]", or give `data.path` a .npz, .npy or .csv file'
        ) from error
    try:
        with pq.ParquetFile(path) as file:
            table = file.read()
    except (ValueError, OSError) as error:  # ArrowInvalid is a ValueError
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected a Parquet file, got one that is damaged, or none ({reason}); mend `data.path`"
        ) from error
    return frame_columns(table, str(path))


def csv_header(path: Path) -> list[str] | None:
    """Return the names in the first row, or None where it holds numbers alone."""
    _, first = next(rows(path), (0, []))
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
    line, first = next(rows(path), (0, []))
    skip = 0 if names is None else line
    names = names or [f"channel {i}" for i in range(len(first))]
    _check_names(names, str(path))
    text = [name for name in names if name in text]
    frame = CsvText(path, names, skip, OWN, gaps).read([name for name in names if name not in text], text)
    if not len(frame[names[0]]):
        raise ValueError(f"{path}: expected rows of numbers, got none; mend the file of `data.path`")
    return {name: _plain(np.char.strip(frame[name])) if name in text else frame[name] for name in names}


def published_header(path: Path) -> tuple[int, list[str]]:
    """Return the number of the first row, and the names of columns that it must hold."""
    line, first = next(rows(path), (0, []))
    if not first:
        raise ValueError(f"{path}: expected a table with a header, got an empty file; {REMEDY}")
    return line, [name.strip() for name in first]


def published_columns(
    path: Path, numbers: Sequence[str], text: Sequence[str] = (), keep: Keep | None = None
) -> Frame:
    """Return columns of a published table by their names; a missing number is NaN.

    Args:
        path: The file, with a header.
        numbers: Columns of numbers.
        text: Columns of text.
        keep: Says which lines to look at, in a file that has a line a row; all if not given.
    """
    line, found = published_header(path)
    wanted = (*numbers, *text)
    for name in wanted:
        if name not in found:
            raise ValueError(
                f"{path}: expected the columns {', '.join(wanted)}, got no {name!r} among {', '.join(found)}; "
                f"{REMEDY}"
            )
    return CsvText(path, found, line, PUBLISHED, keep=keep).read(numbers, text)


def read_columns(path: Path, names: Sequence[str]) -> np.ndarray:
    """Read columns of a published table: `(rows, len(names))` of float64; a missing number is NaN."""
    table = np.stack(list(published_columns(path, names).values()), axis=1)
    if not len(table):
        raise ValueError(f"{path}: expected rows below the header, got none; {REMEDY}")
    return table


def read_wide(path: Path, delimiter: str = ",") -> np.ndarray:
    """Read a series a row: numbers `(n, N)`, with or without a header."""
    skip, width = _header_lines(path, delimiter)
    try:
        table = load(path, float, skip, delimiter)
        if table.shape[1] == width:
            return table
    except (ValueError, UserWarning):
        pass
    return np.array(list(_by_row(path, skip, width, delimiter)))


def read_uneven(path: Path, trim: bool) -> list[np.ndarray]:
    """Read a series a row: `(N_i, 1)` of any lengths, a gap being NaN.

    Args:
        path: The file.
        trim: Let empty cells at the end of a row be none: its series is shorter.
    """
    skip, _ = _header_lines(path)
    return [np.array(row)[:, None] for row in _by_row(path, skip, trim=trim)]


def _header_lines(path: Path, delimiter: str = ",") -> tuple[int, int]:
    """Return how many lines to skip, and the cells in the first row; it is a header if all of them are names.

    Were one such cell enough, a slip of the pen in the first series would cost that series.
    """
    both = rows(path, delimiter)
    line, first = next(both, (0, []))
    names = [not is_number(cell) for cell in first]
    header = all(names) and all(cell.strip() for cell in first)
    if any(names) and not header:
        column = names.index(True)
        index = "; if the first column is an index, drop it (pandas: index=False)" if first[0] == "" else ""
        raise ValueError(
            f"{path}: expected only names or only numbers in the first row, got {first[column]!r} in row "
            f"{line}, column {column + 1}; mend the file of `data.path`{index}"
        )
    _, second = next(both, (0, []))
    both.close()
    if not first or (header and not second):
        raise ValueError(f"{path}: expected a row for each series, got none; mend the file of `data.path`")
    counts = len(first) > 2 and first == [str(i) for i in range(len(first))]
    if counts and not all(cell.isdecimal() for cell in second):
        raise ValueError(
            f"{path}: expected names or a series in the first row, got 0, 1, 2, ..., which may be either; in "
            "the file of `data.path` drop the row if it is a header (pandas: header=False), else write 0.0"
        )
    return (line if header else 0), len(first)


def _by_row(
    path: Path, skip: int, width: int | None = None, delimiter: str = ",", trim: bool = False
) -> Iterator[list[float]]:
    """Read cell by cell, with gaps where no width is given; say which cell or row cannot be read, counting from 1."""
    for line, row in rows(path, delimiter):
        if line <= skip:
            continue
        while trim and row and not row[-1].strip():
            row = row[:-1]
        known = [is_number(cell) for cell in row]
        for column, cell in enumerate(row):
            if not known[column] and (width or not is_gap(cell)):
                raise ValueError(
                    f"{path}: expected numbers, separated by {SEPARATORS[delimiter]}, got {cell!r} in row {line}, "
                    f"column {column + 1}; {WIDE_REMEDY}"
                )
        if width and len(row) != width:
            raise ValueError(
                f"{path}: expected series of one length, {width} as in the first, got {len(row)} steps in row "
                f"{line}; {WIDE_REMEDY}"
            )
        yield [float(cell) if number else np.nan for cell, number in zip(row, known, strict=True)]


def _check_names(names: Sequence[str], source: str) -> None:
    """Refuse columns that have the same name, or none."""
    if not names:
        raise ValueError(f"{source}: expected columns, got none; mend the file of `data.path`")
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(
            f"{source}: expected columns of different names, got {twice[0]!r} twice; mend the table of `data.path`"
        )


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
