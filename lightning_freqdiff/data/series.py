"""A set of time series, and the checks that each one passes before it is trained on."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Series:
    """A set of `n` time series of `N` steps and `M` channels.

    Attributes:
        x: Values `(n, N, M)`; float32 once `validate` has seen them.
        y: Labels `(n,)`, or None. They take no part in training.
        channels: The `M` channel names.
        source: Where the values come from, for error messages and titles.
    """

    x: np.ndarray
    y: np.ndarray | None
    channels: tuple[str, ...]
    source: str


def validate(series: Series) -> Series:
    """Return the series as float32, or raise a ValueError that says what is wrong with them.

    A channel that never changes is fine: its spectrum is constant, and kept as it is.
    """
    x, source = np.asarray(series.x), series.source
    if x.dtype.kind not in "fiu":
        raise ValueError(
            f"{source}: expected real numbers, got dtype {x.dtype}; store floats or integers (of complex "
            "values, the real and imaginary parts as two channels) in the file of --data.path"
        )
    if x.ndim != 3:
        raise ValueError(
            f"{source}: expected 3 axes (series, steps, channels), got {x.ndim} in shape {x.shape}; "
            "reshape the array in the file of --data.path"
        )
    n, steps, channels = x.shape
    if n < 2 or steps < 2 or channels < 1:
        raise ValueError(
            f"{source}: expected at least 2 series (one of them to validate on), 2 steps (one has no "
            f"spectrum) and 1 channel, got shape {x.shape}; put more in the file of --data.path"
        )
    if len(series.channels) != channels:
        raise ValueError(
            f"{source}: expected one name for each of the {channels} channels, got {len(series.channels)}; "
            "mend `columns` in the file of --data.path"
        )
    if series.y is not None and series.y.shape != (n,):
        raise ValueError(
            f"{source}: expected one label for each of the {n} series, got labels of shape {series.y.shape}; "
            "mend `y` in the file of --data.path, or leave it out"
        )
    return replace(series, x=_finite_float32(x, source))


def _finite_float32(x: np.ndarray, source: str) -> np.ndarray:
    """Convert `(n, N, M)` numbers to float32, refusing what training cannot use."""
    with np.errstate(over="ignore"):  # what overflows becomes inf and is reported below
        x32 = np.ascontiguousarray(x, dtype=np.float32)
    bad = ~np.isfinite(x32)
    if bad.any():
        first = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), bad.shape))
        raise ValueError(
            f"{source}: expected finite float32 numbers, got {int(bad.sum())} that are not (NaN, infinite or "
            f"beyond 3.4e38), the first at (sample, step, channel) = {first}: {x[first]}; fill or drop them "
            "in the file of --data.path"
        )
    if (x32 == x32[0]).all():
        raise ValueError(
            f"{source}: expected series that differ, got {len(x)} times the same one, so there is nothing to "
            "learn; check the file of --data.path"
        )
    return x32
