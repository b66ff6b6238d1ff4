"""Figures from arrays, drawn without a display."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_freqdiff.reporting.channels import LINES, PANELS, chosen, legend, letter, names, tell_chosen

GENERATED, TRAINING = "#c2410c", "#334155"
Array = NDArray[np.floating]


def style(axis: Axes, xlabel: str = "", ylabel: str = "") -> None:
    """Give an axis the look that all figures share."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8)
    axis.set_xlabel(xlabel, fontsize=9)
    axis.set_ylabel(ylabel, fontsize=9)


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
    columns, several = max(len(series) for _, series, _ in rows), generated.shape[2] > 1
    figure = Figure(figsize=(2.1 * columns, 1.7 * len(rows) + 0.4 + 0.2 * several), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False, sharex=True)
    shown, named = chosen(generated.shape[2], LINES), names(channels, generated.shape[2])
    for row, (label, series, color) in zip(axes, rows, strict=True):
        for axis in row[len(series) :]:
            axis.set_visible(False)
        for axis, one in zip(row, series, strict=False):
            style(axis)
            for place, m in enumerate(shown):
                axis.plot(one[:, m], color=f"C{place}" if several else color, lw=1)
        row[0].set_ylabel(label, fontsize=9)
    if several:
        legend(figure, axes[0][0].lines, [named[m] for m in shown])
    tell_chosen(figure, generated.shape[2], len(shown))
    figure.supxlabel("time step", fontsize=9)
    return letter(figure)


def mean_spectra(generated: Array, training: Array | None, channels: Sequence[str] = ()) -> Figure:
    """Draw the mean spectral density of each channel, generated beside training.

    Args:
        generated: Mean of ``|x~_k|²`` over generated series, ``(K, M)``.
        training: The same over the training set, or ``None``.
        channels: Names of the channels.

    Returns:
        A figure with one panel per channel, the densities on a logarithmic axis.
    """
    figure, panels = _panels(generated.shape[1], channels)
    known = {"training": (training, TRAINING, 1.4), "generated": (generated, GENERATED, 1.0)}
    drawn = {label: one for label, one in known.items() if one[0] is not None}
    for m, axis in panels:
        for density, color, width in drawn.values():
            axis.semilogy(_positive(density[:, m]), color=color, lw=width)
        style(axis, "frequency (cycles per series)", "mean |x̃|²")
    legend(figure, panels[0][1].lines, list(drawn))
    return letter(figure)


def _panels(count: int, channels: Sequence[str]) -> tuple[Figure, list[tuple[int, Axes]]]:
    """Make a panel for each channel, or for some of many, under its name."""
    shown, named = chosen(count, PANELS), names(channels, count)
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.4 * columns + 0.6, 2.6 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(shown) :]:
        axis.set_visible(False)
    for m, axis in zip(shown, axes, strict=False):
        axis.set_title(named[m], fontsize=9)
    tell_chosen(figure, count, len(shown))
    return figure, list(zip(shown, axes, strict=False))


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
    figure, panels = _panels(generated.shape[2], channels)
    for m, axis in panels:
        for density, color in ((training, TRAINING), (generated, GENERATED)):
            _band(axis, density[:, :, m], color)
        style(axis, "frequency (cycles per series)", "|x̃|², median and 10 to 90 %")
    legend(figure, panels[0][1].lines, ("training", "generated"))
    return letter(figure)


def _band(axis: Axes, density: Array, color: str) -> None:
    """Draw the median and the 10 to 90 % band of densities ``(n, K)``."""
    low, middle, high = (_positive(q) for q in np.quantile(density, (0.1, 0.5, 0.9), axis=0))
    axis.fill_between(np.arange(len(middle)), low, high, color=color, alpha=0.2, lw=0)
    axis.semilogy(middle, color=color, lw=1.2)


def series_and_spectra(series: Array, density: Array, channels: Sequence[str] = (), count: int = 5) -> Figure:
    """Draw each channel of a data set: a few series in the 10 to 90 % band of all, and their spectral density.

    Args:
        series: Series ``(n, N, M)``; ``count`` of them, evenly spaced, are drawn.
        density: ``|x~_k|²`` of the same series, ``(n, K, M)``.
        channels: Names of the channels.
        count: Series to draw.
    """
    shown, named = chosen(series.shape[2], PANELS), names(channels, series.shape[2])
    some = np.linspace(0, len(series) - 1, count).astype(int)
    figure = Figure(figsize=(9, 1.9 * len(shown) + 0.6), layout="constrained")
    axes = figure.subplots(len(shown), 2, squeeze=False)
    for m, (left, right) in zip(shown, axes, strict=True):
        low, high = np.quantile(series[:, :, m], (0.1, 0.9), axis=0)
        left.fill_between(np.arange(len(low)), low, high, color=TRAINING, alpha=0.2, lw=0)
        left.plot(series[some, :, m].T, color=TRAINING, lw=0.7)
        _band(right, density[:, :, m], GENERATED)
        left.set_title(named[m], fontsize=9)
        for axis in (left, right):
            style(axis)
    axes[-1][0].set_xlabel("time step", fontsize=9)
    axes[-1][1].set_xlabel("frequency (cycles per series)", fontsize=9)
    axes[0][1].set_title("|x̃|², median and 10 to 90 %", fontsize=9)
    tell_chosen(figure, series.shape[2], len(shown))
    return letter(figure)
