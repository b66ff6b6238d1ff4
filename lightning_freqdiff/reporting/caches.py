"""Figures of caches: what they did along the trajectory, and what they gain and cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from lightning_freqdiff.reporting.channels import legible, letter
from lightning_freqdiff.reporting.plots import GENERATED, TRAINING, style

CURVES = {"hit_rate": "hit rate", "intensity": "event intensity", "probe_error": "error of what was reused (rms)"}
"""Curves that are drawn, and what stands beside them."""
MARKERS = {"cache": "o", "solver": "x"}


def cache_curves(curves: dict[str, list[float]]) -> Figure:
    """Draw hit rate, event intensity and error of a cache against the solver's call, those that were measured.

    Args:
        curves: Means over samples for every call, as a cache reports them; NaN where nothing was measured.
    """
    values = {name: np.asarray(curves[name], dtype=float) for name in CURVES}
    measured = [name for name, one in values.items() if np.isfinite(one).any()] or ["hit_rate"]
    figure = Figure(figsize=(1 + 3.4 * len(measured), 2.8), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(measured), squeeze=False)[0], measured, strict=True):
        known = np.flatnonzero(np.isfinite(values[name]))
        axis.plot(known, values[name][known], color=GENERATED, lw=0.9, marker="." if len(known) == 1 else "")
        style(axis, "call of the solver", CURVES[name])
        axis.set_xlim(-0.02 * len(values[name]), 1.02 * len(values[name]))
        if name == "hit_rate":
            axis.set_ylim(-0.03, 1.03)
        elif (values[name][known] > 0).any():
            axis.set_yscale("log")
            plain_ticks(axis.yaxis, "{x:g}")
    return figure


def plain_ticks(axis: Axis, form: str) -> None:
    """Mark a logarithmic axis at 1, 2 and 5, in plain numbers."""
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(form)
    axis.set_minor_formatter(NullFormatter())


def trade_off(rows: Sequence[dict[str, Any]]) -> Figure:
    """Draw what each way to sample gains and what it costs.

    Args:
        rows: Dictionaries with ``name``, ``kind`` (``cache`` or ``solver``; others are left out), ``speedup``,
            ``relative_l2`` and, where it was measured, ``sw_time_change``.

    Returns:
        A figure: relative L2 distance and, where it was measured, change of the sliced Wasserstein distance, against
        speedup.
    """
    shown = [row for row in rows if row["kind"] in MARKERS]
    measured = any("sw_time_change" in row for row in shown)
    figure = Figure(figsize=(11 if measured else 6, 4), layout="constrained")
    axes = figure.subplots(1, 2 if measured else 1, squeeze=False)[0]
    _against_speedup(axes[0], shown, "relative_l2", 1)
    style(axes[0], "speedup over uncached", "relative L2 to the uncached samples")
    if any((row.get("relative_l2") or 0) > 0 for row in shown):
        axes[0].set_yscale("log")
        plain_ticks(axes[0].yaxis, "{x:g}")
    if measured:
        _against_speedup(axes[1], shown, "sw_time_change", 100)
        axes[1].axhline(0, color=TRAINING, lw=0.6)
        axes[1].set_yscale("symlog", linthresh=5)
        axes[1].yaxis.set_major_formatter("{x:.2g}")
        style(axes[1], "speedup over uncached", "change of SW to the training set, %")
    return letter(figure)


def _against_speedup(axis: Axes, rows: Sequence[dict[str, Any]], key: str, scale: float) -> None:
    """Mark each row at its speedup and one of its figures, under its name."""
    for i, row in enumerate(rows):
        value = row.get(key)
        if value is None or value != value:
            continue
        cache = row["kind"] == "cache"
        color = f"C{i % 10}" if cache else "grey"
        axis.plot(row["speedup"], scale * value, MARKERS[row["kind"]], color=color, ms=6 if cache else 4)
        place = {"xytext": (4, 3), "textcoords": "offset points", "color": color, "fontsize": 7 if cache else 5}
        axis.annotate(legible(row["name"]), (row["speedup"], scale * value), **place)
    axis.set_xscale("log")
    plain_ticks(axis.xaxis, "{x:g}×")
