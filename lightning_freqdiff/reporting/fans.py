"""Fan charts: what is known of series, and the bands in which the rest lies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_freqdiff.reporting.channels import LINES, chosen, letter, names, tell_chosen
from lightning_freqdiff.reporting.plots import GENERATED, TRAINING, Array, style

LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Quantiles that are told: the median, and the ends of two bands around it."""


def fans(observed: Array, quantiles: Array, channels: Sequence[str] = (), truth: Array | None = None) -> Figure:
    """Draw known values, and the median and two bands of samples, which end in one line where values are known.

    Args:
        observed: Values ``(R, N, M)``, NaN where they are not known.
        quantiles: Of samples at :data:`LEVELS`, ``(5, R, N, M)``.
        channels: Names of the channels.
        truth: What came, ``(R, N, M)``, where it is known: a broken line over the bands.

    Returns:
        A figure with a row for each channel, or for some of many, and a column for each series.
    """
    count, length, width = observed.shape
    shown, named = chosen(width, LINES), names(channels, width)
    figure = Figure(figsize=(2.6 * count + 0.6, 1.7 * len(shown) + 0.5), layout="constrained")
    axes = figure.subplots(len(shown), count, squeeze=False, sharex=True)
    steps = np.arange(length)
    for row, m in zip(axes, shown, strict=True):
        came = [None] * count if truth is None else list(truth[..., m])
        each = zip(row, observed[..., m], quantiles[..., m].swapaxes(0, 1), came, strict=True)
        for axis, seen, levels, later in each:
            for low, high in ((0, 4), (1, 3)):
                axis.fill_between(steps, levels[low], levels[high], color=GENERATED, alpha=0.2, lw=0)
            axis.plot(steps, np.where(np.isnan(seen), levels[2], np.nan), color=GENERATED, lw=1)
            axis.plot(steps, seen, color=TRAINING, lw=1, marker=".", ms=2)
            if later is not None:
                axis.plot(steps, np.where(np.isnan(seen), later, np.nan), color=TRAINING, lw=1, ls="--")
            style(axis)
        row[0].set_ylabel(named[m], fontsize=9)
    tell_chosen(figure, width, len(shown))
    figure.supxlabel("time step", fontsize=9)
    return letter(figure)
