"""Daily prices of 2019 of the stocks traded in the United States, from Yahoo Finance (Kaggle, 2020-04-01).

Prepared as by Crabbé et al., arXiv 2402.05933: stocks listed before 2019 and still traded in 2020, with a price on
each of the 252 trading days.
"""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.readers.table import REMEDY, published_columns
from lightning_freqdiff.data.sets.named import NamedData

CHANNELS = ("Adj Close", "Close", "High", "Low", "Open")
START, END, DAYS = "2019-01-01", "2020-01-01", 252
FILES = 5_884
"""Tables in the snapshot."""


class NASDAQ(NamedData):
    """NASDAQ-2019: daily prices of stocks in 2019, 252 days and 5 channels.

    One stock is one series, in dollars, so a random split, the papers', puts no stock in two parts. Stocks with a
    missing price are left out, as is the volume.
    """

    title: ClassVar[str] = "nasdaq"
    kaggle: ClassVar[str] = "jacksoncrow/stock-market-dataset"
    groups: ClassVar[tuple[str, ...]] = ("tickers",)

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return "nasdaq_2019"

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays; both halves make the whole."""
        return ["nasdaq_2019_a.npz", "nasdaq_2019_b.npz"]

    def raw_files(self) -> RawFiles:
        """Name the folder that has a table for each stock."""
        return RawFiles([], folder=Path("stocks"), pattern="*.csv")

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read the year from every table, and keep the stocks that have all of it."""
        self.check_count(len(files), FILES, f"tables in {files[0].parent}", downloaded, at_least=True)
        prices: dict[str, np.ndarray] = {}
        days: dict[str, tuple[str, ...]] = {}
        for file in files:
            year = read_year(file)
            if year is not None:
                days[file.stem], prices[file.stem] = year
        if not prices:
            raise ValueError(
                f"{files[0].parent}: expected stocks with {DAYS} days in 2019, listed before it and traded after, "
                f"got none in {len(files)} tables; {REMEDY}"
            )
        calendar = Counter(days.values()).most_common(1)[0][0]
        tickers = sorted(name for name in prices if days[name] == calendar)
        return {
            "x": np.stack([prices[name] for name in tickers]),
            "columns": np.array(CHANNELS),
            "tickers": np.array(tickers),
            "dates": np.array(calendar),
        }


def read_year(path: Path) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Read the days of 2019 and their prices `(252, 5)`, or None where the stock is not one to keep."""
    dates = np.sort(published_columns(path, (), ("Date",))["Date"])
    if not len(dates) or dates[0] > START or dates[-1] < END:
        return None
    days = tuple(map(str, dates[(dates >= START) & (dates < END)]))
    if len(days) != DAYS or len(set(days)) != DAYS:
        return None
    # Prices are read in a second turn, since most stocks and years are left out.
    year = published_columns(path, CHANNELS, ("Date",), keep=lambda line: START[:5] in line)
    order = np.argsort(year.pop("Date"))
    prices = np.stack(list(year.values()), axis=1)[order].astype(np.float32)
    return (days, prices) if np.isfinite(prices).all() else None
