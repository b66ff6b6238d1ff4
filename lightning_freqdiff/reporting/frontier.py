"""What a search has found: damage against time, every trial a point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_freqdiff.reporting.caches import plain_ticks
from lightning_freqdiff.reporting.channels import legible, letter
from lightning_freqdiff.reporting.plots import GENERATED, TRAINING, style

COLOURS, MARKERS = colormaps["tab10"].colors, "osD^vPX*"  # pyright: ignore[reportAttributeAccessIssue]
"""Colours, and marks once these have all been used."""
ROWS = 24
"""Families in a column of the legend."""
AXES = {"milliseconds": "milliseconds per series, in batches of {}", "milliseconds_alone": "milliseconds, one series"}


def frontier(
    trials: Sequence[Mapping[str, Any]],
    uncached: Mapping[str, float | None],
    metric: str,
    tolerance: float,
    batch_size: int,
) -> Figure:
    """Draw the damage of every trial against its time, and the frontier that nothing is below and faster.

    Args:
        trials: Dictionaries with ``family``, ``milliseconds``, ``milliseconds_alone`` (or ``None``), ``damage``,
            ``standard_error`` (NaN where it is not known), ``fresh`` (on noise that the search had not seen) and
            ``winner``.
        uncached: ``milliseconds`` and ``milliseconds_alone`` (or ``None``) of the uncached samples.
        metric: What the damage is measured by.
        tolerance: Damage that is acceptable.
        batch_size: Of the search.

    Returns:
        A figure; with a second panel where trials were timed alone.
    """
    places = [key for key in AXES if uncached.get(key) and any(row.get(key) for row in trials)]
    families = list(dict.fromkeys(row["family"] for row in trials))
    looks = {name: (COLOURS[i % 10], MARKERS[i // 10 % len(MARKERS)]) for i, name in enumerate(families)}
    columns = -(-len(families) // ROWS)
    wide, ratios = 6.2 + 3.8 * (len(places) - 1), [6.2, 3.8][: len(places)]
    figure = Figure(figsize=(wide + 1.7 * columns, 4.8), layout="constrained")
    axes = figure.subplots(1, len(places), squeeze=False, sharey=True, width_ratios=ratios)[0]
    for axis, key in zip(axes, places, strict=True):
        shown = [row for row in trials if row.get(key)]
        _points(axis, shown, key, looks)
        _frontier(axis, shown, key)
        base = uncached[key]
        axis.axvline(base, color=TRAINING, lw=1, ls=":")
        axis.axhline(tolerance, color="grey", lw=0.8, ls="--")
        axis.text(
            base, 0.99, "uncached ", transform=axis.get_xaxis_transform(), **_beside(8, TRAINING, "right", "top")
        )
        axis.text(0.01, tolerance, "tolerance", transform=axis.get_yaxis_transform(), **_beside(8, "grey", "left"))
        axis.set_xscale("log")
        plain_ticks(axis.xaxis, "{x:g}")
        style(axis, AXES[key].format(batch_size), f"damage: {metric}" if axis is axes[0] else "")
        if any(row["damage"] > 0 for row in trials):
            axis.set_yscale("log")
            plain_ticks(axis.yaxis, "{x:g}")
    handles = [Line2D([], [], color=c, marker=m, ls="", ms=5, label=legible(name)) for name, (c, m) in looks.items()]
    for label, face in (("in the search", "none"), ("on fresh noise", "grey")):
        handles += [Line2D([], [], color="grey", marker="o", ls="", ms=5, mfc=face, label=label)]
    handles += [Line2D([], [], color=TRAINING, lw=1, label="frontier")]
    if any(row["winner"] for row in trials):
        handles += [Line2D([], [], color=GENERATED, marker="o", ms=11, mfc="none", ls="", label="confirmed")]
    figure.legend(handles=handles, loc="outside right upper", fontsize=7, frameon=False, ncols=columns)
    return letter(figure)


def _beside(size: int, color: str, across: str, up: str = "bottom") -> dict[str, Any]:
    return {"fontsize": size, "color": color, "ha": across, "va": up}


def _points(axis: Axes, rows: Sequence[Mapping[str, Any]], key: str, looks: Mapping[str, tuple[Any, str]]) -> None:
    """Mark each trial, those on fresh noise filled and with their standard error, and the winner in a ring."""
    for row in rows:
        x, y, (color, marker) = row[key], row["damage"], looks[row["family"]]
        if y > 0:  # what a logarithmic axis can show
            error = row["standard_error"]
            if row["fresh"] and error == error:
                axis.plot([x, x], [max(y - error, y / 10), y + error], color=color, lw=1, alpha=0.7)
            face = color if row["fresh"] else "none"
            axis.plot(x, y, marker, color=color, mfc=face, ms=5, alpha=1 if row["fresh"] else 0.6)
        if row["winner"]:
            axis.plot(x, y, "o", ms=13, mfc="none", mec=GENERATED, mew=2)


def _frontier(axis: Axes, rows: Sequence[Mapping[str, Any]], key: str) -> None:
    """Join what nothing is both faster and better than."""
    least, steps = float("inf"), []
    for row in sorted(rows, key=lambda r: (r[key], r["damage"])):
        if 0 < row["damage"] < least:
            least = row["damage"]
            steps.append((row[key], least))
    if steps:
        axis.step(*zip(*steps, strict=True), where="post", color=TRAINING, lw=1, zorder=0)
