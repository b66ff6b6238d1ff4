"""Breaks in time: places where a recording stopped and went on, by its time stamps."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Breaks = Literal["avoid", "cross"]
USUAL = 1.5
"""Times the usual step, the median, above which a step of time is a break: months differ by less."""


@dataclass(frozen=True)
class Break:
    """A break before step `step` of a series, in words: from one time stamp to the next."""

    step: int
    words: str


def find_breaks(times: np.ndarray, stamps: np.ndarray, cuts: np.ndarray) -> list[list[Break]]:
    """Return the breaks of each series.

    Args:
        times: Rising times of all series, one series after the other, `(rows,)`.
        stamps: The same as they are written, for messages.
        cuts: Where a new series begins, but for the first.

    Examples:
        >>> find_breaks(np.array([0, 1, 2, 9, 10, 0, 1]), np.arange(7), np.array([5]))
        [[Break(step=3, words='from 2 to 3')], []]
    """
    apart = np.diff(times)
    apart = apart.astype("timedelta64[us]").astype(float) if apart.dtype.kind == "m" else apart.astype(float)
    within = np.ones(len(apart), bool)
    within[cuts - 1] = False
    wide = within & (apart > USUAL * np.median(apart[within])) if within.any() else within
    begins = np.concatenate([[0], cuts])
    found: list[list[Break]] = [[] for _ in begins]
    for row in np.flatnonzero(wide) + 1:
        series = int(np.searchsorted(begins, row, side="right")) - 1
        found[series].append(Break(int(row - begins[series]), f"from {stamps[row - 1]} to {stamps[row]}"))
    return found
