"""Daily prices of 2019 of the stocks traded in the United States, from Yahoo Finance (Kaggle, 2020-04-01).

Prepared as by Crabbé et al., arXiv 2402.05933: stocks listed before 2019 and still traded in 2020, with a price on
each of the 252 trading days.
"""

from collections import Counter
from pathlib import Path
from typing import ClassVar

import numpy as np

from lightning_freqdiff.data.readers.columns import number, positions, remedy
from lightning_freqdiff.data.readers.raw_files import RawFiles
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
                f"got none in {len(files)} tables; {remedy()}"
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
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected a table of text, got {error}; {remedy()}") from error
    found = [name.strip() for name in lines[0].split(",")]
    date, *where = positions(path, found, ["Date", *CHANNELS])
    if date != 0:
        raise ValueError(f"{path}: expected Date in the first column, got {found[0]!r}; {remedy()}")
    rows = sorted(line.rstrip("\r") for line in lines[1:] if line.strip())  # no work: they are in order
    if not rows or rows[0][:10] > START or rows[-1][:10] < END:
        return None
    kept = [row.split(",") for row in rows if START <= row[:10] < END]
    days = tuple(dict.fromkeys(row[0] for row in kept))
    if len(days) != DAYS or len(kept) != DAYS:
        return None
    uneven = next((row for row in kept if len(row) != len(found)), None)
    if uneven:
        raise ValueError(
            f"{path}: expected {len(found)} columns in every row, got {len(uneven)} on {uneven[0]}; {remedy()}"
        )
    first = 2 + sum(row[:10] < START for row in rows)
    values = [[number(row[i], path, line, found[i]) for i in where] for line, row in enumerate(kept, start=first)]
    prices = np.array(values, np.float32)
    return (days, prices) if np.isfinite(prices).all() else None
