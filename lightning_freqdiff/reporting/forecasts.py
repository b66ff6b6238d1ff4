"""Forecasts at a glance: are the intervals as wide as they should be, and how does the error grow?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from lightning_freqdiff.reporting.channels import legend, letter
from lightning_freqdiff.reporting.plots import GENERATED, style


def calibration(inside: Mapping[str, Mapping[float, float]], errors: Mapping[str, Sequence[float]]) -> Figure:
    """Draw, for each forecaster, the share of values within central intervals, and the error at each step.

    Args:
        inside: By forecaster, share of values within the interval of each level. On the diagonal is right, below it
            too narrow, above it too wide.
        errors: By forecaster, the error at each step of the horizon.

    Returns:
        A figure of two panels; the first forecaster's lines are broad.
    """
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="grey", lw=0.8, ls=":")
    lines = []
    for number, (name, shares) in enumerate(inside.items()):
        look = {"color": GENERATED, "lw": 2} if not number else {"color": f"C{number - 1}", "lw": 1}
        left.plot(list(shares), list(shares.values()), **look)
        right.plot(range(1, len(errors[name]) + 1), errors[name], **look)
        lines.append(left.lines[-1])
    style(left, "level of the interval", "share of values inside")
    style(right, "step of the horizon", "CRPS (training deviations)")
    left.set(xlim=(0, 1), ylim=(0, 1))
    right.set_ylim(bottom=0)
    legend(figure, lines, list(inside))
    return letter(figure)
