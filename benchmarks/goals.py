"""What was to be reached, and what was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sections import Results, table

MISSING = "not measured"


@dataclass
class Value:
    """What was measured.

    Args:
        number: The value.
        note: What must be said with it.
        counts: Whether it was got under the goal's own terms.
    """

    number: float
    note: str = ""
    counts: bool = True


@dataclass
class Bar:
    """A goal.

    Args:
        what: What is measured.
        least: The goal on two cores, and on one H100.
        value: Returns what was measured, if anything was.
        percent: Whether it is a share.
    """

    what: str
    least: tuple[float, float]
    value: Callable[[Results], Value | None]
    percent: bool = False

    def show(self, number: float) -> str:
        """Format a value."""
        return f"{number:.0%}" if self.percent else f"{number:.3g}×"

    def cell(self, results: Results, least: float) -> str:
        """Say what was reached, and whether it is enough."""
        found = self.value(results)
        if found is None:
            return MISSING
        verdict = (
            "reached" if found.counts and found.number >= least else "missed" if found.counts else "does not count"
        )
        return "; ".join(part for part in (self.show(found.number), found.note, f"**{verdict}**") if part)


def uncached(batch: int) -> Callable[[Results], Value | None]:
    """Compare steps of the uncached engine with the reference design's at the papers' size, each at its best."""

    def value(results: Results) -> Value | None:
        if results.load("peers").get("paper_size") and (rows := results.peer(batch, "uncached")):
            return Value(rows[0]["over_reference"]["ratio"])
        rows = [row for row in results.load("engine").get("rows", []) if row["batch"] == batch]
        return Value(rows[0]["best_ratio"], "float32, compiled where that is faster") if rows else None

    return value


def largest(results: Results) -> int:
    """Return the largest batch of the comparison, where damage is measured as well."""
    return max((int(b) for b in results.load("peers").get("batches", {})), default=0)


def cache(kinds: tuple[str, ...], sw: float, relative: float, base: str) -> Callable[[Results], Value | None]:
    """Return the speedup of the fastest cache of some kinds whose damage is within bounds, or say that none is."""

    def value(results: Results) -> Value | None:
        rows = [row for row in results.peer(largest(results), *kinds) if row[base]]
        if not rows:
            return None
        kept = [row for row in rows if within(row, sw, relative)]
        best = max(kept or rows, key=lambda row: row[base]["ratio"])
        content, known = results.load("peers"), "sw_time_change" in best
        notes = [best["name"], f"batch {largest(results)}"] + ([] if content["paper_size"] else ["small network"])
        steps = content["settings"]["steps"]
        notes += [f"only {steps} steps"] * (steps < 1000) + ["SW not measured"] * (not known)
        notes += ["damage out of bounds"] * (not kept) + ["briefly trained"] * bool(content["trained_here"])
        fair = bool(kept) and known and steps >= 1000 and not content["trained_here"]
        return Value(best[base]["ratio"], ", ".join(notes), fair)

    return value


def within(row: dict[str, Any], sw: float, relative: float) -> bool:
    """Tell whether a row's damage is within bounds, as far as it was measured."""
    changes = [row[key] for d in ("time", "frequency") if (key := f"sw_{d}_change") in row]
    return row.get("relative_l2", float("inf")) < relative and all(abs(change) <= sw for change in changes)


def training(results: Results) -> Value | None:
    """Return the training throughput over the reference design's at the same precision: the best way measured."""
    content = results.load("training")
    rows = [row for row in content.get("rows", []) if "over_reference" in row]
    best = max(rows, key=lambda row: row["over_reference"]["ratio"], default=None)
    paper = bool(rows) and content["settings"]["preset"] == "paper"
    return Value(best["over_reference"]["ratio"], best["name"], paper) if best else None


def peak(results: Results) -> Value | None:
    """Return the share of the peak that was reached at batch 1,024 in float32."""
    content = results.load("limits")
    rows = [row for row in content.get("calls", []) if row["batch"] == 1024]
    paper = bool(rows) and content["settings"]["preset"] == "paper"
    return Value(rows[0]["share_of_peak"]["float32"], counts=paper) if rows else None


def against_pot(results: Results) -> Value | None:
    """Return the speedup over the faster of POT's two forms."""
    content = results.load("metrics")
    if "cases" in content:
        case = content["cases"][0]
        return Value(min(case["speedup_over_pot_numpy"], case["speedup_over_pot_torch"]))
    if "over_NumPy" in content:
        return Value(min(content[f"over_{name}"]["ratio"] for name in ("NumPy", "PyTorch")))
    return None


BARS = [
    Bar("uncached, paper size, batch 64, over the reference design", (4, 5), uncached(64)),
    Bar("uncached, paper size, batch 1, over the reference design", (2.5, 8), uncached(1)),
    Bar(
        "E²-CRF, SW within 2 %, over ours uncached",
        (2.2, 2.2),
        cache(("E2-CRF balanced",), 0.02, float("inf"), "over_uncached"),
    ),
    Bar(
        "best cache, SW within 1 %, relative L2 below 0.03, over ours uncached",
        (20, 20),
        cache(("cache", "best"), 0.01, 0.03, "over_uncached"),
    ),
    Bar(
        "everything together, over the reference design",
        (80, 100),
        cache(("cache", "best"), 0.01, 0.03, "over_reference"),
    ),
    Bar("training, series per second, over the reference design", (2, 3), training),
    Bar("share of the matrix-product peak, uncached, batch 1,024", (0.6, 0.35), peak, percent=True),
    Bar("sliced Wasserstein, 10,000 samples, 1,000 directions, over POT", (5, 50), against_pot),
]


def bars(cpu: Results, gpu: Results) -> list[str]:
    """Show what was to be reached, and what was."""
    rows = []
    for bar in BARS:
        cells = [
            cell
            for r, least in zip((cpu, gpu), bar.least, strict=True)
            for cell in (f"≥ {bar.show(least)}", bar.cell(r, least))
        ]
        rows.append([bar.what, *cells])
    return ["## Goals", *table(["", "two cores", "measured", "one H100", "measured"], rows)]
