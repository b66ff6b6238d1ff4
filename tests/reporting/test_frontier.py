"""The picture of a search: every trial, the frontier, what stands beside them."""

from typing import Any

import numpy as np
import pytest

from lightning_freqdiff.reporting.frontier import frontier


def trials(count: int, families: int = 3) -> list[dict]:
    rng = np.random.default_rng(count)
    found = []
    for number in range(count):
        ms = float(2 ** rng.uniform(0, 6))
        found.append(
            {
                "family": f"family {number % families}",
                "milliseconds": ms,
                "milliseconds_alone": 3 * ms if number >= count - 2 else None,
                "damage": float(rng.lognormal(0, 0.3) / ms**1.2),
                "standard_error": 0.01 if number % 2 else float("nan"),
                "fresh": number >= count - 2,
                "winner": number == count - 1,
            }
        )
    return found


UNCACHED = {"milliseconds": 80.0, "milliseconds_alone": 240.0}


@pytest.mark.parametrize(("count", "families"), [(5, 2), (100, 30)])
def test_every_trial_is_a_point_and_every_family_has_its_look(count, families):
    rows = trials(count, families)
    figure = frontier(rows, UNCACHED, "sw", 0.1, 16)
    left, right = figure.axes
    for axis, key in ((left, "milliseconds"), (right, "milliseconds_alone")):
        points = [line.get_xydata().tolist()[0] for line in axis.lines if line.get_linestyle() == "None"]
        marks = {(x, y) for x, y in points}
        assert marks == {(row[key], row["damage"]) for row in rows if row[key]}
    handles: Any = figure.legends[0].legend_handles[:families]
    looks = {(handle.get_color(), handle.get_marker()) for handle in handles}
    assert len(looks) == families
    labels = [text.get_text() for text in figure.legends[0].texts]
    assert labels[-2:] == ["frontier", "confirmed"]
    assert "batches of 16" in left.get_xlabel()


def test_the_frontier_is_what_nothing_is_below_and_faster():
    rows = trials(40)
    (line,) = (
        line for line in frontier(rows, UNCACHED, "sw", 0.1, 16).axes[0].lines if line.get_drawstyle() != "default"
    )
    corners = set(zip(line.get_xdata(), line.get_ydata(), strict=True))
    best = {
        (a["milliseconds"], a["damage"])
        for a in rows
        if not any(b["milliseconds"] < a["milliseconds"] and b["damage"] <= a["damage"] for b in rows)
    }
    assert corners == best


def test_what_was_not_timed_alone_has_one_panel_and_no_winner_no_ring():
    rows = [{**row, "winner": False} for row in trials(5)]
    figure = frontier(rows, {"milliseconds": 80.0, "milliseconds_alone": None}, "relative_l2", 0.1, 16)
    assert len(figure.axes) == 1
    assert [text.get_text() for text in figure.legends[0].texts][-1] == "frontier"
