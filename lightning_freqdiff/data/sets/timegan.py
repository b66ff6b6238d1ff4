"""The stocks and energy of Yoon, Jarrett and van der Schaar, "Time-series Generative Adversarial Networks", 2019.

Windows of 24 steps in the papers. TimeGAN also turns the series round in time and shuffles all windows before any is
held out; here the order stays, and parts share no step.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np

from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.sets.long_series import LongSeries, read_long


class Stocks(LongSeries):
    """TimeGAN's stocks: windows of Google's daily prices and volume, 2004 to 2019, 6 channels."""

    title: ClassVar[str] = "stocks"

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return "google"

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays."""
        return ["stock_timegan.npz"]

    def raw_files(self) -> RawFiles:
        """Name the table of TimeGAN."""
        return RawFiles([Path("stock_data.csv")], inside=Path("data"))

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read all days."""
        arrays = read_long(files[0], ["Open", "High", "Low", "Close", "Adj_Close", "Volume"])
        self.check_count(len(arrays["series"]), 3_685, f"rows in {files[0]}", downloaded)
        return arrays


class Energy(LongSeries):
    """TimeGAN's energy: windows of a household's appliances and weather every 10 minutes (UCI), 28 channels."""

    title: ClassVar[str] = "energy"

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return "appliances"

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays."""
        return ["energy_timegan.npz"]

    def raw_files(self) -> RawFiles:
        """Name the table of UCI, which TimeGAN has without its date."""
        return RawFiles([Path("energydata_complete.csv")])

    def find(self, base: Path) -> list[Path]:
        """Return the table, UCI's or TimeGAN's."""
        return super().find(base) or RawFiles([Path("energy_data.csv")], inside=Path("data")).find(base)

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read all readings."""
        arrays = read_long(files[0])
        self.check_count(len(arrays["series"]), 19_735, f"rows in {files[0]}", downloaded)
        return arrays
