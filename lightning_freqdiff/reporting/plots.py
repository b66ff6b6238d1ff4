"""Figures from arrays, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

GENERATED, TRAINING = "#c2410c", "#334155"
Array = NDArray[np.floating]


def style(axis: Axes, xlabel: str = "", ylabel: str = "") -> None:
    """Give an axis the look that all figures share."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.set_xlabel(xlabel, fontsize=9)
    axis.set_ylabel(ylabel, fontsize=9)


def name_channels(figure: FigureBase, axis: Axes) -> None:
    """Name the lines of an axis above the figure, where they hide nothing."""
    lines, names = axis.get_legend_handles_labels()
    figure.legend(lines, names, loc="outside upper center", ncols=8, fontsize=8, frameon=False)


def sample_gallery(
    generated: Array, training: Array | None = None, channels: Sequence[str] = (), count: int = 6
) -> Figure:
    """Draw a few generated series, beside training series where these are known.

    Args:
        generated: Series ``(n, N, M)``.
        training: Series ``(m, N, M)`` or ``None``.
        channels: Names of the channels; they label the lines where there are several.
        count: Series of each kind.

    Returns:
        A figure with one row per kind and one column per series.
    """
    rows = [("generated", generated[:count], GENERATED)]
    if training is not None:
        rows.append(("training", training[:count], TRAINING))
    columns = max(len(series) for _, series, _ in rows)
    figure = Figure(figsize=(2.1 * columns, 1.7 * len(rows) + 0.4), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True)
    several = generated.shape[2] > 1
    for row, (label, series, color) in zip(axes, rows, strict=True):
        for axis in row:
            style(axis)
            axis.set_visible(False)
        for axis, one in zip(row, series, strict=False):
            axis.set_visible(True)
            for m in range(one.shape[1]):
                name = channels[m] if m < len(channels) else f"channel {m}"
                axis.plot(one[:, m], color=f"C{m}" if several else color, lw=1, label=name if several else None)
        row[0].set_ylabel(label, fontsize=9)
    if several:
        name_channels(figure, axes[0][0])
    figure.supxlabel("time step", fontsize=9)
    return figure


def mean_spectra(generated: Array, training: Array | None, channels: Sequence[str] = ()) -> Figure:
    """Draw the mean spectral density of each channel, generated beside training.

    Args:
        generated: Mean of ``|x~_k|²`` over generated series, ``(K, M)``.
        training: The same over the training set, or ``None``.
        channels: Names of the channels.

    Returns:
        A figure with one panel per channel, the densities on a logarithmic axis.
    """
    count = generated.shape[1]
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[count:]:
        axis.set_visible(False)
    for m, axis in enumerate(axes[:count]):
        if training is not None:
            axis.semilogy(_positive(training[:, m]), color=TRAINING, lw=1.4, label="training")
        axis.semilogy(_positive(generated[:, m]), color=GENERATED, lw=1.0, label="generated")
        style(axis, "frequency (cycles per series)", "mean |x̃|²")
        axis.set_title(channels[m] if m < len(channels) else f"channel {m}", fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def _positive(density: Array) -> Array:
    """Leave out what a logarithmic axis cannot show (a constant channel has no energy but at DC)."""
    return np.where(density > 0, density, np.nan)


def spectra_with_bands(generated: Array, training: Array, channels: Sequence[str] = ()) -> Figure:
    """Draw each channel's spectral density, median and 10 to 90 % band, generated beside training.

    Args:
        generated: ``|x~_k|²`` of generated series, ``(n, K, M)``.
        training: The same of training series, ``(m, K, M)``.
        channels: Names of the channels.
    """
    count = generated.shape[2]
    columns = min(count, 4)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[count:]:
        axis.set_visible(False)
    for m, axis in enumerate(axes[:count]):
        for density, color, label in ((training, TRAINING, "training"), (generated, GENERATED, "generated")):
            low, middle, high = (_positive(q) for q in np.quantile(density[:, :, m], (0.1, 0.5, 0.9), axis=0))
            axis.fill_between(np.arange(len(middle)), low, high, color=color, alpha=0.2, lw=0)
            axis.semilogy(middle, color=color, lw=1.2, label=label)
        style(axis, "frequency (cycles per series)", "|x̃|², median and 10 to 90 %")
        axis.set_title(channels[m] if m < len(channels) else f"channel {m}", fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    return figure


def cache_curves(curves: dict[str, list[float]]) -> Figure:
    """Draw hit rate, event intensity and probe error of a cache against the network call.

    Args:
        curves: Means over samples for every call, as a cache reports them; NaN where nothing was measured.
    """
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    panels = (("hit_rate", "hit rate"), ("intensity", "event intensity"), ("probe_error", "probe error (rms of ξ̂)"))
    for axis, (name, label) in zip(figure.subplots(1, 3), panels, strict=True):
        values = np.asarray(curves[name], dtype=float)
        known = np.flatnonzero(np.isfinite(values))
        axis.plot(known, values[known], color=GENERATED, lw=0.9)
        style(axis, "network call", label)
        if name == "hit_rate":
            axis.set_ylim(-0.03, 1.03)
        elif (values[known] > 0).any():
            axis.set_yscale("log")
    return figure


def series_and_spectra(series: Array, density: Array, channels: Sequence[str] = (), count: int = 5) -> Figure:
    """Draw each channel of a data set: a few series in the 10 to 90 % band of all, and their spectral density.

    Args:
        series: Series ``(n, N, M)``; ``count`` of them, evenly spaced, are drawn.
        density: ``|x~_k|²`` of the same series, ``(n, K, M)``.
        channels: Names of the channels; the first eight are drawn.
        count: Series to draw.
    """
    rows = min(series.shape[2], 8)
    some = np.linspace(0, len(series) - 1, count).astype(int)
    figure = Figure(figsize=(9, 1.9 * rows + 0.6), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False)
    for m, (left, right) in enumerate(axes):
        low, high = np.quantile(series[:, :, m], (0.1, 0.9), axis=0)
        left.fill_between(np.arange(len(low)), low, high, color=TRAINING, alpha=0.2, lw=0)
        left.plot(series[some, :, m].T, color=TRAINING, lw=0.7)
        low, middle, high = (_positive(q) for q in np.quantile(density[:, :, m], (0.1, 0.5, 0.9), axis=0))
        right.fill_between(np.arange(len(middle)), low, high, color=GENERATED, alpha=0.2, lw=0)
        right.semilogy(middle, color=GENERATED, lw=1)
        left.set_title(channels[m] if m < len(channels) else f"channel {m}", fontsize=9)
        for axis in (left, right):
            style(axis)
    axes[-1][0].set_xlabel("time step", fontsize=9)
    axes[-1][1].set_xlabel("frequency (cycles per series)", fontsize=9)
    axes[0][1].set_title("|x̃|², median and 10 to 90 %", fontsize=9)
    return figure


MARKERS = {"cache": "o", "solver": "x"}


def trade_off(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw what each way to sample gains and what it costs.

    Args:
        rows: Dictionaries with ``name``, ``kind`` (``cache`` or ``solver``; others are left out), ``speedup``,
            ``relative_l2`` and, where it was measured, ``sw_time_change``.

    Returns:
        A figure: relative L2 distance, and change of the sliced Wasserstein distance, against speedup.
    """
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    shown = [row for row in rows if row["kind"] in MARKERS]
    for axis, key, scale in ((left, "relative_l2", 1), (right, "sw_time_change", 100)):
        for i, row in enumerate(shown):
            value = row.get(key)
            if value is None or value != value:
                continue
            cache = row["kind"] == "cache"
            color = f"C{i % 10}" if cache else "grey"
            axis.plot(row["speedup"], scale * value, MARKERS[row["kind"]], color=color, ms=6 if cache else 4)
            place = {"xytext": (4, 3), "textcoords": "offset points", "color": color, "fontsize": 7 if cache else 5}
            axis.annotate(row["name"], (row["speedup"], scale * value), **place)
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.xaxis.set_major_formatter("{x:g}×")
        axis.xaxis.set_minor_formatter(NullFormatter())
    if any((row.get("relative_l2") or 0) > 0 for row in shown):
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter("{x:g}")
        left.yaxis.set_minor_formatter(NullFormatter())
    right.axhline(0, color=TRAINING, lw=0.6)
    right.set_yscale("symlog", linthresh=5)
    right.yaxis.set_major_formatter("{x:.2g}")
    style(left, "speedup over uncached", "relative L2 to the uncached samples")
    style(right, "speedup over uncached", "change of SW to the training set, %")
    return figure
