"""A set of time series, and the checks that each one passes before it is trained on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

CHUNK = 2**24
"""Numbers looked at together while the values are checked, so that a file on disk is never in memory whole."""


@dataclass(frozen=True)
class Series:
    """A set of `n` time series of `N` steps and `M` channels.

    Attributes:
        x: Values `(n, N, M)`. An array in memory is float32 once `validate` has seen it; one that is mapped from a
            file, or given with `rows`, stays as it is, and its batches become float32.
        y: Labels `(n,)`, or None. The model is told them where `data.conditional` says so.
        channels: The `M` channel names, with those of covariates at the end.
        source: Where the values come from, for error messages and titles.
        groups: Label `(n,)` of the group of each series, such as its patient. Where `split_by` is set, a group is
            never on two sides of the split.
        part: `train`, `val` or `test` for each series `(n,)`, where the source says so. What it does not name is
            drawn from its training part.
        rows: Which rows of `x` are the series, where `x` shows more than those (windows over a long series); `y`,
            `groups`, `part` and `static` follow them, and `n` is their number.
        static: What is known of each series and told to the model, columns `(n,)` by name.
        covariates: How many of the channels, the last, are no series but known at every step, and told to the model.
        gaps: Whether NaN is a value that is missing, and no fault.
    """

    x: np.ndarray
    y: np.ndarray | None
    channels: tuple[str, ...]
    source: str
    groups: np.ndarray | None = None
    part: np.ndarray | None = None
    rows: np.ndarray | None = None
    static: Mapping[str, np.ndarray] = field(default_factory=dict)
    covariates: int = 0
    gaps: bool = False

    def __len__(self) -> int:
        return len(self.x) if self.rows is None else len(self.rows)

    @property
    def stays(self) -> bool:
        """Whether `x` is fetched batch by batch from where it is, and not copied."""
        return self.rows is not None or mapped(self.x) is not None

    def take(self, index: np.ndarray) -> "Series":
        """Return the series of these numbers alone; `x` is copied only where it does not stay in its place."""
        x, rows = self.x, self.rows
        if self.stays:
            rows = index if rows is None else rows[index]
        else:
            x = x[index]
        y, groups, part = (None if a is None else a[index] for a in (self.y, self.groups, self.part))
        static = {name: column[index] for name, column in self.static.items()}
        return replace(self, x=x, y=y, groups=groups, part=part, rows=rows, static=static)

    def chunks(self) -> Iterator[np.ndarray]:
        """Yield the values in order, some 64 MB at a time, as they are stored."""
        size = max(1, CHUNK // max(1, int(np.prod(self.x.shape[1:]))))
        for first in range(0, len(self), size):
            rows = slice(first, first + size)
            yield np.asarray(self.x[rows if self.rows is None else self.rows[rows]])


LARGEST = 1e15
"""Numbers beyond are taken for errors: the square of a sum of them would be no number in float32."""


def mapped(x: np.ndarray) -> np.memmap | None:
    """Return the memory-mapped file that an array is, or is a view of."""
    root, base = None, x
    while base is not None:
        root = base if isinstance(base, np.memmap) else root
        base = getattr(base, "base", None)
    return root


def validate(series: Series, differ: bool = True) -> Series:
    """Return the series as float32, or raise a ValueError that says what is wrong with them.

    A channel that never changes is fine: its spectrum is constant, and kept as it is.

    Args:
        series: The series.
        differ: Refuse series that are all the same.
    """
    x, source = np.asarray(series.x), series.source
    if x.dtype.kind not in "fiu":
        raise ValueError(
            f"{source}: expected real numbers, got dtype {x.dtype}; store floats or integers (of complex "
            "values, the real and imaginary parts as two channels) in the file of `data.path`"
        )
    if x.ndim != 3:
        raise ValueError(
            f"{source}: expected 3 axes (series, steps, channels), got {x.ndim} in shape {x.shape}; "
            "reshape the array in the file of `data.path`"
        )
    series = replace(series, x=x)
    n, (steps, channels) = len(series), x.shape[1:]
    if n < 2 or steps < 2 or channels < 1:
        raise ValueError(
            f"{source}: expected at least 2 series (one of them to validate on), 2 steps (one has no "
            f"spectrum) and 1 channel, got shape {(n, steps, channels)}; put more in the file of `data.path`"
        )
    if len(series.channels) != channels:
        raise ValueError(
            f"{source}: expected one name for each of the {channels} channels, got {len(series.channels)}; "
            "mend `columns` in the file of `data.path`"
        )
    _check_names(series)
    _check_labels(series)
    _check_values(series, differ)
    return series if series.stays else replace(series, x=np.ascontiguousarray(x, dtype=np.float32))


def _check_names(series: Series) -> None:
    """Refuse names of channels that no table could have as its columns."""
    for i, name in enumerate(series.channels):
        if name in series.channels[:i] or any("\ud800" <= character <= "\udfff" for character in name):
            reason = "twice" if name in series.channels[:i] else "which is no text"
            raise ValueError(
                f"{series.source}: expected channel names that are text and differ, got {name!r} {reason}; mend "
                "`columns` in the file of `data.path`"
            )


def _check_labels(series: Series) -> None:
    """Refuse labels, groups or parts that are not one for each series."""
    n = len(series)
    if series.y is not None and series.y.shape != (n,):
        raise ValueError(
            f"{series.source}: expected one label for each of the {n} series, got labels of shape "
            f"{series.y.shape}; mend `y` in the file of `data.path`, or leave it out"
        )
    for name, setting in (("groups", "split_by"), ("part", "parts")):
        labels = getattr(series, name)
        if labels is not None and labels.shape != (n,):
            raise ValueError(
                f"{series.source}: expected one of the {name} for each of the {n} series, got shape "
                f"{labels.shape}; mend what `data.{setting}` names in the file of `data.path`, or leave it out"
            )


def _check_values(series: Series, differ: bool) -> None:
    """Refuse what training cannot use, in one pass over the values."""
    count, bad_count, first, differs, one = 0, 0, None, not differ, None
    for chunk in series.chunks():
        with np.errstate(over="ignore"):  # what overflows becomes inf and is reported below
            x = chunk.astype(np.float32, copy=False)
        bad = np.abs(x) > LARGEST if series.gaps else ~(np.abs(x) <= LARGEST)
        if bad.any():
            if first is None:
                row, *rest = (int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
                first = (count + row, *rest), chunk[row, *rest]
            bad_count += int(bad.sum())
        one = x[0].copy() if one is None else one
        differs = differs or not bool(((x == one) | np.isnan(x) | np.isnan(one)).all())
        count += len(x)
    if first is not None:
        raise ValueError(
            f"{series.source}: expected finite float32 numbers, got {bad_count} that are not (NaN, infinite or "
            f"beyond {LARGEST:g}), the first at (sample, step, channel) = {first[0]}: {first[1]}; fill or drop them "
            "in the file of `data.path` (ArrayData: `data.missing` interpolate, drop or mask)"
        )
    if not differs:
        raise ValueError(
            f"{series.source}: expected series that differ, got {count} times the same one, so there is nothing "
            "to learn; check the file of `data.path`"
        )
