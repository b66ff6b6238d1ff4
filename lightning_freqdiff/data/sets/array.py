"""Series of your own: arrays and tables, in files, in a folder, or in memory."""

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lightning_freqdiff.data.base import require_at_least
from lightning_freqdiff.data.loaded import LoadedData
from lightning_freqdiff.data.readers.sources import GIVEN, Reader, is_table
from lightning_freqdiff.data.readers.table import FRAMES
from lightning_freqdiff.data.series.breaks import Breaks
from lightning_freqdiff.data.series.calendar import Calendar
from lightning_freqdiff.data.series.lengths import Lengths, equalize
from lightning_freqdiff.data.series.missing import Missing, impute, impute_in_place
from lightning_freqdiff.data.series.ragged import Ragged, Roles
from lightning_freqdiff.data.series.series import Series, validate
from lightning_freqdiff.data.series.split import keep_some
from lightning_freqdiff.data.series.windows import Stretch, cut, stretches, unbroken


class ArrayData(LoadedData):
    """Series from a `.npz`, `.npy`, `.csv` or `.parquet` file, from a folder of them, or (`ArrayData.of`) in memory.

    Arrays: a `.npz` holds `x` of shape `(n, N, M)`, and may hold labels `y` and channel names `columns`; a `.npy`
    holds `x` alone. Without the last axis there is a single channel. For windows, a `.npz` may hold long series as
    `series` of shape `(L, M)` or `(n, L, M)`, and `x` of two axes is `(L, M)` as well
    (with a single name in `columns`, `(n, L)`).

    Tables: wide, with one series a row and one step a column, so a single channel; a `.csv` may have a header. Long,
    with a step a row and a channel a column, if `id` or `time` are named (columns `id` and `time`, or `sample` and
    `step`, need not be) or windows are cut. A folder has a long table or an array `(N, M)` for each series.

    GluonTS: a file with a JSON object in each line, or a folder with `train/data.json` or the like, each entry a
    series; `feat_dynamic_real` may be named in `covariates`.

    Windows: each long series is first cut in time into a training, a validation and a test part, then each part into
    windows, of which the last steps may be in none; with `split_by`, whole series go to one side instead.

    Args:
        path: The file or folder.
        limit: Keep this many series, drawn with `seed`, for trials; all if not given.
        window: Steps of the windows to cut long series into; if not given, series are used as they are.
        stride: Steps from the start of a window to that of the next.
        id: Column of a long table that tells the series apart.
        time: Column with time stamps; they must rise within a series.
        labels: Array or column with the labels; `y` of a `.npz` if not given.
        parts: Array or column that says train, val or test of each series, in place of a random split.
        missing: What to do about missing values: refuse them; interpolate linearly in time, each series by itself;
            drop the series, or window, that lacks one; or mask them, so that the loss counts observed values alone.
        lengths: What to do about series of unequal lengths: refuse them; crop all to the shortest; or pad all to the
            longest with their last value.
        breaks: What windows do at breaks in the time stamps, steps of time longer than one and a half times the usual
            (the median): avoid them; or cross them, where steps count and not the clock, as with trading days.
        in_memory: Read a `.npy` whole (true), or fetch each batch from disk (false); if not given, a file of 1 GiB
            or more stays on disk.
        static: Columns or arrays with what is known of each series and told to the model: numbers, or categories
            where they hold text.
        covariates: Columns or arrays that are no series, but known at every step and told to the model.
        calendar: What the model is told of the time stamps, as sines and cosines: hour (of the day), weekday, day (of
            the month), month, yearday.
        conditional: Tell the model the label of each series; if not given, where `labels` names it.
        **kwargs: Settings of `LoadedData`.
    """

    def __init__(
        self,
        path: str,
        limit: int | None = None,
        window: int | None = None,
        stride: int = 1,
        id: str | None = None,
        time: str | None = None,
        labels: str | None = None,
        parts: str | None = None,
        missing: Missing = "refuse",
        lengths: Lengths = "refuse",
        breaks: Breaks = "avoid",
        in_memory: bool | None = None,
        static: list[str] | str | None = None,
        covariates: list[str] | str | None = None,
        calendar: list[Calendar] | Calendar | None = None,
        conditional: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(conditional=labels is not None if conditional is None else conditional, **kwargs)
        require_at_least(1, stride=stride)
        require_at_least(2, **{k: v for k, v in (("limit", limit), ("window", window)) if v is not None})
        for name, value, choices in (
            ("missing", missing, Missing),
            ("lengths", lengths, Lengths),
            ("breaks", breaks, Breaks),
        ):
            if value not in get_args(choices):
                raise ValueError(f"expected `data.{name}` as one of {', '.join(get_args(choices))}, got {value!r}")
        self.path = path
        self.limit = limit
        self.window = window
        self.stride = stride
        told = (
            (names,) if isinstance(names, str) else tuple(names or ()) for names in (static, covariates, calendar)
        )
        self.roles = Roles(id, time, labels, self.split_by, parts, *told)
        self.missing: Missing = missing
        self.lengths: Lengths = lengths
        self.breaks: Breaks = breaks
        self.in_memory = in_memory
        self._values: Any = None

    @classmethod
    def of(cls, values: Any, **settings: Any) -> "ArrayData":
        """Take series that are in memory, or wherever they are.

        Args:
            values: A tensor or array `(n, N, M)` or `(n, N)`, with `window` also `(L, M)` or `(L,)`; a list of arrays
                `(N_i, M)`; a table of pandas, polars or pyarrow; or a mapping of what a `.npz` would hold; or
                a path.
            **settings: Settings of `ArrayData`.

        Examples:
            >>> ArrayData.of(np.random.default_rng(0).normal(size=(20, 8, 3))).shape
            (8, 3)
        """
        if isinstance(values, (str, Path)):
            return cls(str(values), **settings)
        data = cls(GIVEN, **settings)
        data._values = values
        return data

    @property
    def format(self) -> str:
        """Format that samples are wanted back in: `npy`, or that of the table the series came from."""
        if self._values is not None:
            return "csv" if is_table(self._values) else "npy"
        path = Path(self.path).expanduser()
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        suffixes = {file.suffix.lower() for file in files} & {".csv", ".parquet"}
        return "csv" if ".csv" in suffixes else "parquet" if suffixes else "npy"

    @property
    def frame(self) -> str | None:
        """Library of the data frame that was given: pandas, polars or pyarrow."""
        library = type(self._values).__module__.partition(".")[0]
        return library if library in FRAMES and is_table(self._values) else None

    @property
    def label_name(self) -> str:
        """What the column of the labels is called."""
        return self.roles.labels or "label"

    @property
    def calendar(self) -> tuple[str, ...]:
        """What the model is told of time stamps."""
        return self.roles.calendar

    def all_series(self, differ: bool = True) -> Series:
        """Return all series, checked, in the order of their source, for those who part them by themselves.

        Args:
            differ: Refuse series that are all the same: nothing is to be learnt from them, but a model may draw such.
        """
        series = validate(self._load(), differ)
        own = len(series.channels) - series.covariates
        return replace(series, x=series.x[..., :own], channels=series.channels[:own], covariates=0)

    def as_given(self, long: bool = False) -> Ragged:
        """Return the series as their source holds them, of any lengths and with gaps, which are NaN.

        Args:
            long: Take a table, or an array of two axes, for one series with a step a row.
        """
        reader = Reader(self.roles, long, gaps=True, uneven=not long, in_memory=self.in_memory)
        ragged = reader.read(Path(self.path).expanduser()) if self._values is None else reader.take(self._values)
        ragged.check_labels()
        return ragged

    def long_series(self) -> tuple[Ragged, list[Stretch]] | None:
        """Return the long series that windows are cut from, with breaks to avoid, and the part of each stretch.

        Where groups are split, parts have no name.
        """
        if self.window is None:
            return None
        ragged = self.as_given(long=True)
        ragged = ragged if self.breaks == "avoid" else replace(ragged, breaks=())
        pieces = list(stretches(ragged, self.val_fraction, self.test_fraction, self.split_by is not None))
        return ragged, unbroken(pieces, ragged) if any(ragged.breaks) else pieces

    def _load(self) -> Series:
        gaps, uneven = self.missing != "refuse", self.lengths != "refuse"
        reader = Reader(self.roles, self.window is not None, gaps, uneven, self.in_memory)
        path = Path(self.path).expanduser()
        ragged = reader.read(path) if self._values is None else reader.take(self._values)
        if isinstance(ragged.series, np.ndarray) and ragged.series.ndim != 3:
            return _as_series(ragged)  # to be refused for its shape
        ragged.check_labels()
        if self.window is None and len(ragged) == 1 and isinstance(ragged.series, list):
            raise ValueError(
                f"{ragged.source}: expected several series, got a single one of {len(ragged.series[0])} "
                "steps; set `data.window` to cut windows from it, or `data.id` to tell series apart"
            )
        if self.window is not None:
            fractions = self.val_fraction, self.test_fraction
            by_group = self.split_by is not None
            series = cut(ragged, self.window, self.stride, self.missing, *fractions, by_group, self.breaks)
        elif ragged.stays:
            series = impute_in_place(_as_series(ragged), self.missing)
        else:
            series = _as_series(equalize(impute(ragged, self.missing), self.lengths))
        series = replace(series, gaps=self.missing == "mask")
        return series if self.limit is None else keep_some(series, self.limit, self.seed)


def _as_series(ragged: Ragged) -> Series:
    x = np.asarray(ragged.series)
    per_series = ragged.y, ragged.channels, ragged.source, ragged.groups, ragged.part
    return Series(x, *per_series, static=ragged.static, covariates=ragged.covariates)
