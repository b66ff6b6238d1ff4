"""What time stamps tell: the hour of the day, the day of the week and so on, as points of circles."""

from typing import Literal, get_args

import numpy as np

Calendar = Literal["hour", "weekday", "day", "month", "yearday"]


def calendar_columns(times: np.ndarray, wanted: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Return sine and cosine of the places of time stamps `(rows,)` in their cycles, columns `(rows,)` by name.

    All go on within a unit: at half past two the hour is 2.5.

    Args:
        times: Dates; numbers tell no hour.
        wanted: Which cycles, see `Calendar`.

    Examples:
        >>> noon = np.array(["2024-01-01T12:00"], "datetime64[us]")
        >>> {name: float(column[0].round(3)) for name, column in calendar_columns(noon, ("hour",)).items()}
        {'hour sin': 0.0, 'hour cos': -1.0}
    """
    if unknown := [name for name in wanted if name not in get_args(Calendar)]:
        raise ValueError(f"expected `data.calendar` of {', '.join(get_args(Calendar))}, got {unknown[0]!r}")
    if times.dtype.kind != "M":
        raise ValueError(f"expected dates such as 2020-01-31 12:00 for `data.calendar`, got numbers ({times[0]})")
    stamps = times.astype("datetime64[us]")
    days, months, years = (stamps.astype(f"datetime64[{unit}]") for unit in "DMY")
    apart = {
        "hour": (stamps - days, np.timedelta64(1, "D")),
        # 1970-01-01 was a Thursday; Monday begins the week
        "weekday": (stamps - np.datetime64("1969-12-29"), np.timedelta64(7, "D")),
        "day": (stamps - months, (months + 1).astype("datetime64[D]") - months.astype("datetime64[D]")),
        "month": (_month(stamps, months, years), 12.0),
        "yearday": (stamps - years, (years + 1).astype("datetime64[D]") - years.astype("datetime64[D]")),
    }
    found = {}
    for name in wanted:
        since, cycle = apart[name]
        angle = 2 * np.pi * (since / cycle)
        found |= {f"{name} sin": np.sin(angle), f"{name} cos": np.cos(angle)}
    return found


def _month(stamps: np.ndarray, months: np.ndarray, years: np.ndarray) -> np.ndarray:
    """Return the months gone by in the year, with their fraction."""
    length = (months + 1).astype("datetime64[us]") - months.astype("datetime64[us]")
    return (months - years.astype("datetime64[M]")).astype(float) + (stamps - months) / length
