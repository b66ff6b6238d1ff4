"""Data sets that are one long series, cut into windows: ETT, and TimeGAN's stocks and energy.

Windows overlap, so the long series is cut in time first: no window of one part shares a step with another part. The
papers shuffle all windows instead, which leaves nearly the same windows on both sides.
"""

from abc import ABC
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from lightning_freqdiff.data.base import require_at_least
from lightning_freqdiff.data.readers.raw_files import RawFiles
from lightning_freqdiff.data.readers.table import REMEDY, published_header, read_columns
from lightning_freqdiff.data.series.missing import Missing
from lightning_freqdiff.data.series.ragged import Ragged
from lightning_freqdiff.data.series.series import Series
from lightning_freqdiff.data.series.windows import Stretch, cut, stretches
from lightning_freqdiff.data.sets.named import NamedData
from lightning_freqdiff.files import read_arrays


class LongSeries(NamedData, ABC):
    """Windows of one long series, trained on the first of its steps and validated on those that follow.

    Args:
        window: Steps of a window.
        stride: Steps from the start of a window to that of the next.
        scale: Leave the values as they are (none), or bring each channel to [0, 1] by its range over the whole series
            (minmax), as in TimeGAN and Diffusion-TS, whose published scores are in those units.
        missing: What to do about missing values: refuse, interpolate (linearly in time), or drop the windows.
        **kwargs: Settings of `NamedData`; `path` may be the table itself.
    """

    kaggle: ClassVar[str] = ""

    def __init__(
        self,
        window: int = 24,
        stride: int = 1,
        scale: Literal["none", "minmax"] = "none",
        missing: Missing = "refuse",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        require_at_least(2, window=window)
        require_at_least(1, stride=stride)
        self.window = window
        self.stride = stride
        self.scale = scale
        self.missing: Missing = missing

    def without_files(self, home: Path, download: bool) -> dict[str, np.ndarray]:
        """Say where the table must be."""
        raise FileNotFoundError(
            f"{self._absent(home)}; put it there, or set `data.path` (it is not at Kaggle, so there is no download)"
        )

    def long_series(self) -> tuple[Ragged, list[Stretch]]:
        """Return the long series, and the part of each stretch of it."""
        (path,) = self._ready(download=False)
        ragged = self._long(read_arrays(path)[1], str(path))
        return ragged, list(stretches(ragged, self.val_fraction, self.test_fraction, by_group=False))

    def _from_arrays(self, arrays: dict[str, np.ndarray], source: str) -> Series:
        """Cut windows."""
        if self.split_by is not None:
            raise ValueError("expected no `data.split_by`, for there is one long series, cut in time; leave it out")
        fractions = self.val_fraction, self.test_fraction
        return cut(self._long(arrays, source), self.window, self.stride, self.missing, *fractions, by_group=False)

    def _long(self, arrays: dict[str, np.ndarray], source: str) -> Ragged:
        """Return the series in the units that are asked for."""
        if "series" not in arrays or arrays["series"].ndim != 2:
            raise ValueError(
                f"{source}: expected an array named 'series' of shape (steps, channels), got "
                f"{', '.join(f'{key} {a.shape}' for key, a in arrays.items())}; mend `data.path`"
            )
        series = arrays["series"]
        if self.scale == "minmax":
            low, high = np.nanmin(series, 0), np.nanmax(series, 0)
            series = (series - low) / np.where(high > low, high - low, 1)
        names = arrays.get("columns", np.array([f"channel {i}" for i in range(series.shape[1])]))
        return Ragged([series], tuple(map(str, names)), source)


def read_long(path: Path, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Read a table with a header as one long series: the named columns, or all but the date."""
    _, found = published_header(path)
    names = names or [name for name in found if name.lower() != "date"]
    if not names:
        raise ValueError(f"{path}: expected a column for each channel, got {', '.join(found)}; {REMEDY}")
    return {"series": read_columns(path, names).astype(np.float32), "columns": np.array(names)}


class ETT(LongSeries):
    """Electricity transformer temperature and loads (Zhou et al. 2021): windows of a long record, 7 channels.

    Args:
        record: Which record: h1 and h2 are hourly (17,420 steps), m1 and m2 quarter-hourly (69,680 steps).
        **kwargs: Settings of `LongSeries`.
    """

    title: ClassVar[str] = "ett"
    channel_names: ClassVar[list[str]] = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]

    def __init__(self, record: Literal["h1", "h2", "m1", "m2"] = "h1", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.record = record

    @property
    def variant(self) -> str:
        """Name of the prepared arrays."""
        return f"ETT{self.record}"

    @property
    def archives(self) -> list[str]:
        """Names of files with ready arrays."""
        return [f"ett{self.record}.npz"]

    def raw_files(self) -> RawFiles:
        """Name the table of ETDataset."""
        return RawFiles([Path(f"ETT{self.record}.csv")], inside=Path("ETT-small"))

    def prepare(self, files: list[Path], downloaded: bool) -> dict[str, np.ndarray]:
        """Read all steps."""
        arrays = read_long(files[0], self.channel_names)
        steps = 17_420 if self.record.startswith("h") else 69_680
        self.check_count(len(arrays["series"]), steps, f"rows in {files[0]}", downloaded)
        return arrays
