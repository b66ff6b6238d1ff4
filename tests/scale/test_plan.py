"""The plan on paper: its table is what the script says, and the script's arithmetic is right where it is easy."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_the_table_is_what_the_script_says():
    made = subprocess.run([sys.executable, ROOT / "benchmarks/scale.py"], capture_output=True, text=True, check=True)
    assert made.stdout.strip() in (ROOT / "docs/scale.md").read_text()


@pytest.mark.parametrize(
    ("settings", "hours", "bound"),
    [
        ({}, 10 * 100 * 1.0 / 3600 + 1, "drawing"),
        ({"bandwidth": 10.0, "store": 80.0}, 1000 * 40 / 40 / 3600 + 1, "drawing"),
        ({"bandwidth": 1.0}, 1000 * 40 / 4 / 3600 + 1, "writing"),
        ({"store": 1.0}, 1000 * 40 / 3600 + 1, "writing"),
        ({"requests": 1e-3}, 2 * 10 / 1e-3 / 3600 + 1, "requests"),
    ],
)
def test_what_takes_longest_is_what_takes_the_time(settings, hours, bound):
    script = runpy.run_path(str(ROOT / "benchmarks/scale.py"))
    fleet = script["Fleet"]("four", 4, 1.0, 1.0, 3600.0)
    given = {"size": 40, "unit": 100, "stragglers": 0.0, "listing": 1e12, "bandwidth": 1e9, **settings}
    plan = script["Plan"](1000, 1.0 / 0.3, **given)  # ten units on four workers: three rounds, each of 333 s
    found, what = plan.hours(fleet)
    assert found == pytest.approx(hours, rel=1e-6)
    assert what in (bound, "starting")
