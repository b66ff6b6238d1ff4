"""Pictures of the same series drawn in two ways, made for narrow screens as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_freqdiff.reporting.channels import letter, names
from lightning_freqdiff.reporting.plots import TRAINING, Array, style

UNCACHED, CACHED = "#0f766e", "#c2410c"
COLUMNS = 2
"""Panels side by side: as many as a telephone has room for."""
LINES = 4
"""Channels that are drawn, at most."""


def twins(
    first: Array, second: Array, channels: Sequence[str] = (), scale: Array | None = None
) -> tuple[Figure, Figure]:
    """Draw series, and the same series drawn in another way, as two figures with the same axes.

    Args:
        first: Series ``(n, N, M)``.
        second: The same in another way, ``(n, N, M)``.
        channels: Names of the channels.
        scale: Mean and deviation of each channel, ``(2, M)``, by which several are brought to one axis; those of
            ``first`` if not given.
    """
    if first.shape[2] > 1:
        mean, deviation = (first.mean((0, 1)), first.std((0, 1))) if scale is None else scale
        first, second = ((x - mean) / np.where(deviation > 0, deviation, 1.0) for x in (first, second))
    first, second = first[:, :, :LINES], second[:, :, :LINES]
    both = np.concatenate([first, second], axis=1)
    low, high = both.min((1, 2)), both.max((1, 2))
    margin = 0.05 * np.where(high > low, high - low, 1.0)
    limits = np.stack([low - margin, high + margin], axis=1)
    return _grid(first, limits, channels, UNCACHED), _grid(second, limits, channels, CACHED)


def _grid(series: Array, limits: Array, channels: Sequence[str], color: str) -> Figure:
    columns = min(COLUMNS, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(2.9 * columns, 1.55 * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    for axis in axes[len(series) :]:
        axis.set_visible(False)
    several, known = series.shape[2] > 1, names(channels, series.shape[2])
    for axis, one, limit in zip(axes, series, limits, strict=False):
        style(axis)
        axis.set_ylim(*limit)
        for m in range(one.shape[1]):
            axis.plot(one[:, m], lw=1.1, color=f"C{m}" if several else color, label=known[m] if several else None)
    if several:
        axes[0].legend(fontsize=6, frameon=False, ncols=2)
    figure.supxlabel("time step" + (" (channels standardised)" if several else ""), fontsize=8)
    return letter(figure)


def spectra(densities: Mapping[str, Array], channels: Sequence[str] = ()) -> Figure:
    """Draw mean spectral densities over one another, a panel for each channel.

    Args:
        densities: By what they are of, means of ``|x~_k|²``, ``(K, M)``: the broad line first, two thin ones.
        channels: Names of the channels; the first ``LINES`` are drawn.
    """
    looks = [(TRAINING, 2.6, 0.45), (UNCACHED, 1.5, 1.0), (CACHED, 1.1, 1.0)][-len(densities) :]
    count = min(LINES, next(iter(densities.values())).shape[1])
    columns = min(COLUMNS, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(6.2, 2.5 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[count:]:
        axis.set_visible(False)
    titles = names(channels, count)
    for m, axis in enumerate(axes[:count]):
        for (name, density), (color, width, alpha) in zip(densities.items(), looks, strict=True):
            known = np.where(density[:, m] > 0, density[:, m], np.nan)  # zero has no place on a logarithmic axis
            axis.semilogy(known, color=color, lw=width, alpha=alpha, label=name)
        style(axis, "frequency (cycles per series)", "mean |x̃|²")
        if count > 1:
            axis.set_title(titles[m], fontsize=9)
    axes[0].legend(fontsize=8, frameon=False)
    return letter(figure)
