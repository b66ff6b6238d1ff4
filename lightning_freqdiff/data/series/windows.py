"""Windows of long series, such that no window of one part of the split shares a step with another part."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from lightning_freqdiff.data.series.breaks import Breaks
from lightning_freqdiff.data.series.missing import Missing, find_gaps, interpolate
from lightning_freqdiff.data.series.ragged import Ragged
from lightning_freqdiff.data.series.series import Series
from lightning_freqdiff.data.series.split import PARTS


@dataclass(frozen=True)
class Stretch:
    """Consecutive steps of one long series, from `first` up to `last` (without it), that belong to one part."""

    series: int
    part: str
    first: int
    last: int


def starts(length: int, window: int, stride: int) -> np.ndarray:
    """Return where the windows of a stretch begin; the last `(length - window) % stride` steps are in none.

    Examples:
        >>> starts(10, window=4, stride=3)
        array([0, 3, 6])
    """
    return np.arange(0, length - window + 1, stride)


def stretches(ragged: Ragged, val_fraction: float, test_fraction: float, by_group: bool) -> Iterator[Stretch]:
    """Cut each long series in time: first what is trained on, then what is validated on, then what is tested on.

    Series whose part is given stay whole, and so do all where groups are split: a group is on one side anyway.
    """
    given = None if ragged.part is None else ragged.part.astype(str)
    val = 0.0 if given is not None and "val" in given else val_fraction
    test = 0.0 if given is not None and "test" in given else test_fraction
    for i, series in enumerate(ragged.series):
        part, length = "train" if given is None else given[i], len(series)
        if by_group or part != "train":
            yield Stretch(i, "" if by_group and given is None else part, 0, length)
            continue
        num_val, num_test = round(length * val), round(length * test)
        ends = np.cumsum([length - num_val - num_test, num_val, num_test]).tolist()
        for name, first, last in zip(PARTS, [0, *ends], ends, strict=False):
            if last > first:
                yield Stretch(i, name, first, last)


def unbroken(pieces: list[Stretch], ragged: Ragged) -> list[Stretch]:
    """Cut stretches at breaks in time, so that no window crosses one."""
    parted = []
    for piece in pieces:
        places = [one.step for one in ragged.breaks[piece.series] if piece.first < one.step < piece.last]
        edges = [piece.first, *places, piece.last]
        parted += [replace(piece, first=a, last=b) for a, b in zip(edges, edges[1:], strict=False)]
    return parted


def _tell_breaks(ragged: Ragged) -> None:
    """Warn that windows are cut at breaks in time, and say where the first one is."""
    first = next(i for i, found in enumerate(ragged.breaks) if found)
    count = sum(map(len, ragged.breaks))
    warnings.warn(
        f"{ragged.source}: {count} break{'s' * (count > 1)} in the time stamps, the first in {ragged.name(first)} "
        f"{ragged.breaks[first][0].words}; no window crosses one (`data.breaks` cross lets them, where steps "
        "count and not the clock, as with trading days)",
        stacklevel=2,
    )


def cut(
    ragged: Ragged,
    window: int,
    stride: int,
    missing: Missing,
    val_fraction: float,
    test_fraction: float,
    by_group: bool,
    breaks: Breaks = "avoid",
) -> Series:
    """Cut long series into windows that stay views of them, each in one part of the split.

    Args:
        ragged: The long series.
        window: Steps of a window.
        stride: Steps from the start of a window to that of the next.
        missing: What to do about NaN: gaps are filled within a part, and windows that hold one are dropped.
        val_fraction: Share of the steps of each series to validate on.
        test_fraction: Share of the steps of each series to test on.
        by_group: Leave whole series together, since groups of them are split.
        breaks: Whether windows avoid breaks in time, or cross them.
    """
    lengths = np.array([len(one) for one in ragged.series])
    if (lengths < window).any():
        i = int((lengths < window).argmax())
        raise ValueError(
            f"{ragged.source}: expected series of at least {window} steps to cut windows from, got "
            f"{lengths[i]} in {ragged.name(i)}; lower `data.window` (now {window}), or take the series out of "
            "`data.path`"
        )
    pieces = list(stretches(ragged, val_fraction, test_fraction, by_group))
    if breaks == "avoid" and any(ragged.breaks):
        _tell_breaks(ragged)
        # Of what is too short for a window nothing is used, so that there is no need to fill it either.
        pieces = [piece for piece in unbroken(pieces, ragged) if piece.last - piece.first >= window]
    offsets = np.cumsum(lengths) - lengths
    values = _join(ragged)
    gaps = find_gaps(values, ragged, missing)
    if gaps.any() and missing == "interpolate":
        values = values.copy()
        for piece in pieces:
            here = slice(offsets[piece.series] + piece.first, offsets[piece.series] + piece.last)
            what = f"{ragged.source}: {ragged.name(piece.series)}"
            values[here] = interpolate(values[here], what, ragged.channels)
        gaps[:] = False
    bad = np.concatenate([[0], np.cumsum(gaps)]) if gaps.any() else None
    rows, owner, part = [np.empty(0, int)], [np.empty(0, np.int32)], [np.empty(0, "S5")]
    for piece in pieces:
        here = offsets[piece.series] + piece.first + starts(piece.last - piece.first, window, stride)
        if bad is not None:
            here = here[bad[here + window] == bad[here]]
        rows.append(here)
        owner.append(np.full(len(here), piece.series, np.int32))
        part.append(np.full(len(here), piece.part.encode(), "S5"))
    series = _assemble(ragged, values, window, rows, owner, part)
    if not by_group:
        _check_parts(series, pieces, window, val_fraction, test_fraction)
    return series


def _assemble(
    ragged: Ragged,
    values: np.ndarray,
    window: int,
    rows: list[np.ndarray],
    owner: list[np.ndarray],
    part: list[np.ndarray],
) -> Series:
    """Make a set of series of windows that begin at `rows`."""
    of = np.concatenate(owner)
    view = sliding_window_view(values, window, axis=0).transpose(0, 2, 1)
    y, groups = (None if labels is None else labels[of] for labels in (ragged.y, ragged.groups))
    parts = np.concatenate(part)
    index = np.concatenate(rows).astype(np.int32 if len(values) < 2**31 else np.int64)
    named = parts if (parts != b"").all() else None
    static = {name: column[of] for name, column in ragged.static.items()}
    known = ragged.covariates
    return Series(view, y, ragged.channels, ragged.source, groups, named, index, static, known)


def _join(ragged: Ragged) -> np.ndarray:
    """Return all series one after the other, `(steps, M)`: without a copy where they are one array already."""
    series = ragged.series
    if isinstance(series, np.ndarray):
        flat = series.reshape(-1, series.shape[-1])
    else:
        flat = series[0] if len(series) == 1 else np.concatenate(series)
    if flat.dtype.kind not in "fiu":
        raise ValueError(
            f"{ragged.source}: expected real numbers, got dtype {flat.dtype}; store floats or integers in the "
            "file of `data.path`"
        )
    if ragged.stays:
        return flat
    with np.errstate(over="ignore"):  # what becomes infinite is refused later
        return np.ascontiguousarray(flat, np.float32)


def _check_parts(
    series: Series, pieces: list[Stretch], window: int, val_fraction: float, test_fraction: float
) -> None:
    """Refuse a split that leaves a part without a window."""
    for name in ("train", "val", *(["test"] if test_fraction else [])):
        if series.part is None or not (series.part == name.encode()).any():
            steps = max((p.last - p.first for p in pieces if p.part == name), default=0)
            raise ValueError(
                f"{series.source}: expected a window of {window} steps in the {name} part, got none: its longest "
                f"stretch has {steps} steps (windows with gaps are not counted, nor those across breaks in time but "
                f"for `data.breaks` cross); lower `data.window`, or change `data.val_fraction` (now {val_fraction}) "
                f"or `data.test_fraction` (now {test_fraction})"
            )
