"""Pictures of what generated series share with real ones: their channels' correlations, their closest relatives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_freqdiff.reporting.channels import LINES, chosen, legend, letter, names, tell_chosen
from lightning_freqdiff.reporting.plots import GENERATED, TRAINING, Array, style

NAMED = 16
"""Channels whose names fit beside a matrix."""


def correlation_matrices(generated: Array, real: Array, channels: Sequence[str] = ()) -> Figure:
    """Draw the correlations between channels of real and of generated series, and their difference.

    Args:
        generated: Correlations ``(M, M)``.
        real: The same of real series.
        channels: Names of the channels.
    """
    figure = Figure(figsize=(12.5, 4.2), layout="constrained")
    axes, count = figure.subplots(1, 3), len(real)
    panels = (("real", real), ("generated", generated), ("generated less real", generated - real))
    for axis, (title, matrix) in zip(axes, panels, strict=True):
        axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=7, length=0)
        if len(channels) == count <= NAMED:
            named = names(channels, count)
            axis.set_xticks(range(count), named, rotation=45, ha="right", rotation_mode="anchor")
            axis.set_yticks(range(count), named if axis is axes[0] else [""] * count)
        if count <= NAMED // 2:
            for i, j in np.ndindex(count, count):
                value = round(float(matrix[i, j]), 2) + 0.0  # no -0.00
                color = "white" if abs(value) > 0.6 else "black"
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    figure.colorbar(axes[0].images[0], ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    return letter(figure)


def nearest_series(
    generated: Array,
    training: Array,
    titles: Sequence[str],
    channels: Sequence[str] = (),
    scale: Array | None = None,
    columns: int = 4,
) -> Figure:
    """Draw generated series over the training series that they are closest to.

    Args:
        generated: Series ``(n, N, M)``.
        training: The closest training series of each, ``(n, N, M)``.
        titles: What stands above each.
        channels: Names of the channels.
        scale: Mean and deviation of each channel, ``(2, M)``, by which several are brought to one axis.
        columns: Panels side by side, at most.
    """
    columns = min(columns, len(generated))
    rows = -(-len(generated) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.3 * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True).flatten()
    count, several = generated.shape[2], generated.shape[2] > 1
    shown, named = chosen(count, LINES), names(channels, count)
    if several and scale is not None:
        generated, training = ((x - scale[0]) / np.where(scale[1] > 0, scale[1], 1.0) for x in (generated, training))
    for axis in axes[len(generated) :]:
        axis.set_visible(False)
    for axis, ours, theirs, title in zip(axes, generated, training, titles, strict=False):
        for place, m in enumerate(shown):
            axis.plot(theirs[:, m], lw=2.2, alpha=0.45, color=f"C{place}" if several else TRAINING)
            axis.plot(ours[:, m], lw=1, color=f"C{place}" if several else GENERATED)
        style(axis)
        axis.set_title(title, fontsize=8)
    if several:
        legend(figure, axes[0].lines[1::2], [named[m] for m in shown])
    tell_chosen(figure, count, len(shown))
    return letter(figure)
