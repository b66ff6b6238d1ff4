"""Daily weather of the counties of the United States (NASA POWER), from Kaggle's drought data set.

Prepared as by Crabbé et al., arXiv 2402.05933: the year 2011 of each county, and of the 18 weather variables the 13
that are not near copies of another.
"""

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from lightning_freqdiff.data.base import require_at_least
from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.readers.table import REMEDY, published_columns
from lightning_freqdiff.data.sets.named import NamedData

# Left out: dew point, wet bulb, highest, lowest and earth skin temperature.
CHANNELS = (
    *("PRECTOT", "PS", "QV2M", "T2M", "T2M_RANGE"),
    *("WS10M", "WS10M_MAX", "WS10M_MIN", "WS10M_RANGE", "WS50M", "WS50M_MAX", "WS50M_MIN", "WS50M_RANGE"),
)
COUNTIES = 3_108


class USDroughts(NamedData):
    """US-Droughts: daily weather of counties over one year, 365 steps and 13 channels.

    One county is one series, and the papers split counties at random; neighbours have much the same weather, and
    `split_by: state` keeps those of a state together.

    Args:
        year: The year, 2000 to 2016; 2011 in the papers.
        **kwargs: Settings of `NamedData`.
    """

    title: ClassVar[str] = "us_droughts"
    kaggle: ClassVar[str] = "cdminix/us-drought-meteorological-data"
    groups: ClassVar[tuple[str, ...]] = ("state", "fips", "year")

    def __init__(self, year: int = 2011, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(1, year=year)
        self.year = year

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return f"counties_{self.year}"

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays: weekly drought indices of the states, of another shape."""
        return ["us_drought_dsci.npz"]

    def raw_files(self) -> RawFiles:
        """Name the table."""
        return RawFiles([Path("train_timeseries.csv")], inside=Path("train_timeseries"))

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read one year of every county that has all days of it."""
        weather, fips, dates = read_weather(files[0], self.year)
        order = np.lexsort((dates, fips))
        counties, counts = np.unique(fips, return_counts=True)
        days = Counter(counts.tolist()).most_common(1)[0][0]
        whole = counties[counts == days]
        self.check_count(len(whole), COUNTIES, f"counties in {files[0]}", downloaded, at_least=True)
        order = order[np.isin(fips[order], whole)]
        x = weather[order].reshape(len(whole), days, len(CHANNELS))
        calendar = dates[order].reshape(len(whole), days)
        if days != len(np.unique(calendar)) or not np.isfinite(x).all():
            raise ValueError(
                f"{files[0]}: expected the same {days} days in each county and no missing weather in {self.year}, "
                f"got {len(np.unique(calendar))} days and {int((~np.isfinite(x)).sum())} missing numbers; {REMEDY}"
            )
        return {"x": x, "columns": np.array(CHANNELS), "fips": whole, "state": whole // 1000}


def read_weather(path: Path, year: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read one year: weather `(rows, 13)`, county codes and dates `(rows,)`.

    The table has some twenty million rows, so only the lines of the year are looked into.
    """
    mark = f",{year}-"
    table = published_columns(path, ("fips", *CHANNELS), ("date",), keep=lambda line: mark in line)
    fips, dates = table.pop("fips"), table.pop("date")
    if not len(fips):
        raise ValueError(f"{path}: expected rows of {year}, got none; mend `data.year`, or {REMEDY}")
    return np.stack(list(table.values()), axis=1).astype(np.float32), fips.astype(int), dates
