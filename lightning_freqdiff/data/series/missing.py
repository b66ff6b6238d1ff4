"""What is done about missing values (NaN): they are refused, filled from their neighbours, dropped, or left."""

from dataclasses import replace
from typing import Literal

import numpy as np

from lightning_freqdiff.data.series.ragged import Ragged
from lightning_freqdiff.data.series.series import CHUNK, Series

Missing = Literal["refuse", "interpolate", "drop", "mask"]
LEFT = ("refuse", "mask")
"""Rules by which values stay as they are."""


def interpolate(x: np.ndarray, what: str, channels: tuple[str, ...]) -> np.ndarray:
    """Fill the gaps of a series `(N, M)` linearly in time, channel by channel; its ends take the nearest value.

    Examples:
        >>> interpolate(np.array([[np.nan], [1.0], [np.nan], [3.0]]), "it", ("a",)).T
        array([[1., 1., 2., 3.]])
    """
    gaps = np.isnan(x)
    if not gaps.any():
        return x
    filled, steps = x.copy(), np.arange(len(x))
    for m in np.flatnonzero(gaps.any(0)):
        here = ~gaps[:, m]
        if not here.any():
            raise ValueError(
                f"{what}: expected a value in channel {channels[m]!r} to fill the others from, got none in {len(x)} "
                "steps; set `data.missing` drop, or mend `data.path`"
            )
        filled[~here, m] = np.interp(steps[~here], steps[here], x[here, m])
    return filled


def impute(ragged: Ragged, rule: Missing) -> Ragged:
    """Apply the rule to each series by itself."""
    if rule in LEFT or not len(ragged):
        return ragged
    series, source = ragged.series, ragged.source
    if isinstance(series, np.ndarray) and series.dtype.kind != "f":
        return ragged
    if rule == "drop":
        keep = np.flatnonzero([not np.isnan(one).any() for one in series])
        if len(keep) < 2:
            raise ValueError(
                f"{source}: expected at least 2 series without missing values, got {len(keep)} of {len(ragged)}; "
                "set `data.missing` interpolate, or mend `data.path`"
            )
        return ragged if len(keep) == len(ragged) else ragged.take(keep)
    what = [f"{source}: {ragged.name(i)}" for i in range(len(ragged))]
    filled = [interpolate(one, name, ragged.channels) for one, name in zip(series, what, strict=True)]
    return replace(ragged, series=np.stack(filled) if isinstance(series, np.ndarray) else filled)


def impute_in_place(series: Series, rule: Missing) -> Series:
    """Apply the rule to series in a mapped file: their rows may be dropped, but not rewritten."""
    if rule in LEFT or series.x.dtype.kind != "f":
        return series
    bad = np.concatenate([np.isnan(chunk).any(axis=(1, 2)) for chunk in series.chunks()])
    if not bad.any():
        return series
    if rule == "interpolate":
        raise ValueError(
            f"{series.source}: expected values that can be filled, but the file stays on disk as it is, and "
            f"{int(bad.sum())} of {len(bad)} series have gaps; set `data.in_memory` true, or `data.missing` drop"
        )
    return series.take(np.flatnonzero(~bad))


def find_gaps(values: np.ndarray, ragged: Ragged, missing: Missing) -> np.ndarray:
    """Return which steps of long series, one after the other in `values`, lack a value; refuse them by the rule."""
    size = max(1, CHUNK // max(1, values.shape[1]))
    gaps = np.concatenate(
        [np.isnan(values[i : i + size]).any(1) for i in range(0, max(1, len(values)), size)]
        if values.dtype.kind == "f"
        else [np.zeros(len(values), bool)]
    )
    if not gaps.any():
        return gaps
    if missing == "mask":
        return np.zeros_like(gaps)
    step = int(gaps.argmax())
    if missing == "refuse":
        ends = np.cumsum([len(one) for one in ragged.series])
        i = int(np.searchsorted(ends, step, side="right"))
        channel = ragged.channels[int(np.isnan(values[step]).argmax())]
        raise ValueError(
            f"{ragged.source}: expected a number at every step, got NaN at {int(gaps.sum())} of {len(gaps)}, the "
            f"first at step {step - (int(ends[i - 1]) if i else 0)} of {ragged.name(i)}, channel {channel!r}; "
            "set `data.missing` interpolate or drop"
        )
    if missing == "interpolate" and ragged.stays:
        raise ValueError(
            f"{ragged.source}: expected values that can be filled, but the file stays on disk as it is, and "
            f"{int(gaps.sum())} of {len(gaps)} steps have gaps; set `data.in_memory` true, or `data.missing` drop"
        )
    return gaps
