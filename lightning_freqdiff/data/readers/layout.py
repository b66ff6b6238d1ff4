"""Tables laid out as series: wide (a series a row) or long (a step a row, a channel a column)."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from lightning_freqdiff.data.readers.csv_text import is_number
from lightning_freqdiff.data.readers.table import Frame
from lightning_freqdiff.data.series.breaks import find_breaks
from lightning_freqdiff.data.series.calendar import calendar_columns
from lightning_freqdiff.data.series.ragged import Ragged, Roles

KNOWN = (("id", "time"), ("sample", "step"))
"""Pairs of columns that tell a long table without being named; the second pair is what sampling writes."""


def complete(roles: Roles, names: Iterable[str]) -> Roles:
    """Take the columns `id` and `time`, or `sample` and `step`, for what they say, where no others are named."""
    names = set(names)
    for identity, time in KNOWN:
        if roles.id in (None, identity) and roles.time in (None, time) and names.issuperset((identity, time)):
            return replace(roles, id=identity, time=time)
    return roles


def check_named(roles: Roles, names: Sequence[str], source: str) -> None:
    """Refuse columns that a setting names and the table does not have."""
    for setting, name in (*roles.settings, *(("covariates", name) for name in roles.covariates)):
        if name not in names:
            few = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
            raise ValueError(
                f"{source}: expected a column {name!r}, got {few}; set `data.{setting}`, or leave it out"
            )


def lay_out(frame: Frame, roles: Roles, window: bool, source: str) -> Ragged:
    """Return the series of a table: long if it has a column for series or time, or if windows are cut; else wide."""
    roles = complete(roles, frame)
    check_named(roles, list(frame), source)
    taken = {*(name for _, name in roles.settings), *roles.covariates}
    values = {name: column for name, column in frame.items() if name not in taken}
    own = len(values)
    values |= {name: frame[name] for name in roles.covariates}
    for name, column in values.items():
        if column.dtype.kind not in "fiu":
            row = next((i for i, cell in enumerate(column) if not is_number(str(cell))), 0)
            raise ValueError(
                f"{source}: expected numbers, got {str(column[row])!r} in row {row + 1} (the header not counted), "
                f"column {name!r}; mend it or drop the column in the file of `data.path`, or say what it is with "
                "`data.time`, `data.id`, `data.labels`, `data.static` or `data.split_by`"
            )
    if not own or not len(next(iter(values.values()))):
        raise ValueError(f"{source}: expected a table with rows, and a column of numbers, got none; mend `data.path`")
    x = np.stack(list(values.values()), axis=1)
    if roles.calendar:
        if roles.time is None:
            raise ValueError(
                f"{source}: expected a column of time stamps for `data.calendar`, got none: set `data.time`"
            )
        told = calendar_columns(as_times(frame[roles.time], roles.time, source), roles.calendar)
        x, values = np.concatenate([x, *(one[:, None] for one in told.values())], axis=1), values | told
    if roles.id is None and roles.time is None and not window:
        if roles.covariates:
            raise ValueError(f"{source}: expected a long table, a step a row, for `data.covariates`: set `data.id`")
        return Ragged(x[..., None], ("channel 0",), source, (), **roles.fields(frame))
    return _long(frame, roles, x, tuple(values), source, len(values) - own)


def _long(
    frame: Frame, roles: Roles, x: np.ndarray, channels: tuple[str, ...], source: str, covariates: int
) -> Ragged:
    """Gather the rows `(rows, M)` of each series, in the order in which the series begin."""
    names, first, order, cuts = _grouped(frame, roles, len(x))
    breaks = []
    if roles.time is not None:
        times = _check_times(frame[roles.time], order, cuts, roles, source)
        breaks = find_breaks(times, frame[roles.time][order], cuts)
    for name in roles.per_series:
        column = frame[name][order]
        # what is missing is NaN, which is not equal to itself
        changes = (column[1:] != column[:-1]) & ~((column[1:] != column[1:]) & (column[:-1] != column[:-1]))
        changes[cuts - 1] = False
        if changes.any():
            where = names[int(np.searchsorted(cuts, int(changes.argmax()) + 1, side="right"))]
            raise ValueError(
                f"{source}: expected one value of column {name!r} for each series, got several in series {where!r}; "
                "name the column that tells the series apart with `data.id`, or another column"
            )
    series = [x[rows] for rows in np.split(order, cuts)]
    per_series = roles.fields({name: frame[name][first] for name in roles.per_series})
    return Ragged(series, channels, source, names, breaks=breaks, covariates=covariates, **per_series)


def _grouped(frame: Frame, roles: Roles, rows: int) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Return names and first rows of the series, in the order in which they begin, all rows in it, and the cuts."""
    if roles.id is None:
        return [""], np.zeros(1, int), np.arange(rows), np.empty(0, int)
    ids = frame[roles.id]
    _, begins, member = np.unique(ids, return_index=True, return_inverse=True)
    rank = np.empty(len(begins), int)
    rank[np.argsort(begins)] = np.arange(len(begins))
    first = np.sort(begins)
    order = np.argsort(rank[member], kind="stable")
    return [str(ids[i]) for i in first], first, order, np.flatnonzero(np.diff(rank[member][order])) + 1


def rows_of_series(frame: Frame, roles: Roles, source: str) -> list[np.ndarray]:
    """Return the rows of each series of a long table, in the order in which the series begin."""
    _, _, order, cuts = _grouped(frame, roles, len(next(iter(frame.values()))))
    if roles.time is not None:
        _check_times(frame[roles.time], order, cuts, roles, source)
    return np.split(order, cuts)


def as_times(column: np.ndarray, name: str, source: str) -> np.ndarray:
    """Return time stamps that can be compared: numbers, or dates in ISO 8601."""
    if column.dtype.kind in "US":
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of time zones: what is compared is UTC
                column = column.astype("datetime64[us]")
        except ValueError as error:
            raise ValueError(
                f"{source}: expected numbers or dates such as 2020-01-31 12:00 in column {name!r}, got "
                f"{str(column[0])!r} in its first row ({error}); mend the column, or leave `data.time` out if the "
                "rows are in order"
            ) from error
    missing = np.isnat(column) if column.dtype.kind in "mM" else ~np.isfinite(column)
    if missing.any():
        raise ValueError(
            f"{source}: expected a time stamp in every row, got none in row {int(missing.argmax()) + 1} (the "
            f"header not counted), column {name!r}; fill it in, or drop the row"
        )
    return column


def _check_times(column: np.ndarray, order: np.ndarray, cuts: np.ndarray, roles: Roles, source: str) -> np.ndarray:
    """Return the times of the rows in the order of their series; refuse those that do not rise within a series."""
    sorted_times = as_times(column, str(roles.time), source)[order]
    wrong = sorted_times[1:] <= sorted_times[:-1]
    wrong[cuts - 1] = False
    if not wrong.any():
        return sorted_times
    at = int(wrong.argmax())
    before, after = column[order[at]], column[order[at + 1]]
    where = f"row {int(order[at + 1]) + 1} (the header not counted), column {roles.time!r}"
    by = " and ".join(repr(name) for name in (roles.id, roles.time) if name is not None)
    if sorted_times[at] == sorted_times[at + 1]:
        raise ValueError(
            f"{source}: expected each time stamp once in a series, got {after} again in {where}; drop one of the "
            "rows, or name the column that tells the series apart with `data.id`"
        )
    raise ValueError(
        f"{source}: expected time stamps that rise, got {after} after {before} in {where}; sort the table by "
        f"{by}, or name the column that tells the series apart with `data.id`"
    )
