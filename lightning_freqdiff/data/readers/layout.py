"""Tables laid out as series: wide (a series a row) or long (a step a row, a channel a column)."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lightning_freqdiff.data.readers.csv_text import is_number
from lightning_freqdiff.data.readers.table import Frame
from lightning_freqdiff.data.series.breaks import find_breaks
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
    for setting, name in roles.settings.items():
        if name not in names:
            few = ", ".join(map(repr, names[:8])) + (", ..." if len(names) > 8 else "")
            raise ValueError(
                f"{source}: expected a column {name!r}, got {few}; set `data.{setting}`, or leave it out"
            )


def lay_out(frame: Frame, roles: Roles, window: bool, source: str) -> Ragged:
    """Return the series of a table: long if it has a column for series or time, or if windows are cut; else wide."""
    roles = complete(roles, frame)
    check_named(roles, list(frame), source)
    taken = set(roles.settings.values())
    values = {name: column for name, column in frame.items() if name not in taken}
    for name, column in values.items():
        if column.dtype.kind not in "fiu":
            row = next((i for i, cell in enumerate(column) if not is_number(str(cell))), 0)
            raise ValueError(
                f"{source}: expected numbers, got {str(column[row])!r} in row {row + 1} (the header not counted), "
                f"column {name!r}; mend it or drop the column in the file of `data.path`, or say what it is with "
                "`data.time`, `data.id`, `data.labels` or `data.split_by`"
            )
    if not values or not len(next(iter(values.values()))):
        raise ValueError(f"{source}: expected a table with rows, and a column of numbers, got none; mend `data.path`")
    x = np.stack(list(values.values()), axis=1)
    labels: dict[str, Any] = {field: frame[name] for field, name in roles.per_series.items()}
    if roles.id is None and roles.time is None and not window:
        return Ragged(x[..., None], ("channel 0",), source, (), **labels)
    return _long(frame, roles, x, tuple(values), source, labels)


def _long(frame: Frame, roles: Roles, x: np.ndarray, channels: tuple[str, ...], source: str, labels: Frame) -> Ragged:
    """Gather the rows `(rows, M)` of each series, in the order in which the series begin."""
    if roles.id is None:
        names, first, order = [""], np.zeros(1, int), np.arange(len(x))
        cuts = np.empty(0, int)
    else:
        ids = frame[roles.id]
        _, begins, member = np.unique(ids, return_index=True, return_inverse=True)
        rank = np.empty(len(begins), int)
        rank[np.argsort(begins)] = np.arange(len(begins))
        first = np.sort(begins)
        names = [str(ids[i]) for i in first]
        order = np.argsort(rank[member], kind="stable")
        cuts = np.flatnonzero(np.diff(rank[member][order])) + 1
    breaks = []
    if roles.time is not None:
        times = _check_times(frame[roles.time], order, cuts, roles, source)
        breaks = find_breaks(times, frame[roles.time][order], cuts)
    for field, column in labels.items():
        changes = column[order][1:] != column[order][:-1]
        changes[cuts - 1] = False
        if changes.any():
            name = roles.per_series[field]
            where = names[int(np.searchsorted(cuts, int(changes.argmax()) + 1, side="right"))]
            raise ValueError(
                f"{source}: expected one value of column {name!r} for each series, got several in series {where!r}; "
                "name the column that tells the series apart with `data.id`, or another column"
            )
    series = [x[rows] for rows in np.split(order, cuts)]
    per_series = {field: column[first] for field, column in labels.items()}
    return Ragged(series, channels, source, names, breaks=breaks, **per_series)


def _as_times(column: np.ndarray, name: str, source: str) -> np.ndarray:
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
    sorted_times = _as_times(column, str(roles.time), source)[order]
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
