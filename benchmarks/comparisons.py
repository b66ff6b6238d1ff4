"""The sections of the page on `compare` and `fewer_steps.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sections import table

from lightning_freqdiff.evaluation import outcome

COLUMNS = {key: title for key, title in outcome.COLUMNS.items() if key not in ("kind", "seconds")}


def comparisons_section(folder: Path) -> list[str]:
    """Lay out every `compare-*` folder: caches, each at its best setting of one search, and their figure."""
    lines = []
    for path in sorted(folder.glob("compare-*/compare.json")):
        content = json.loads(path.read_text())
        sampling, machine = content["sampling"], content["machine"]
        one = sampling["batch_size"] >= sampling["num_samples"]
        kept = [row for row in content["runs"] if row["kind"] != "solver"]
        lines += [
            f"## Caches on {path.parent.name.removeprefix('compare-')}",
            "",
            f"{sampling['num_samples']} samples in {'one batch' if one else 'batches'}, "
            f"{sampling['num_steps']} steps, medians of "
            f"{content['rounds']} rounds in turn, {machine['threads']} thread(s) of {machine['processor']}. "
            f"Other jobs shared the machine. {content['note']} Relative L2 is to the "
            "uncached samples from the same noise, SW is the change against theirs. Solvers with fewer "
            "steps are in the file.",
            "",
        ]
        columns = {key: title for key, title in COLUMNS.items() if any(outcome.cell(row, key) for row in kept)}
        lines += table(list(columns.values()), [[outcome.cell(row, key) for key in columns] for row in kept])
        lines += [f"![Speedup against damage](results/{path.parent.name}/trade-off.png)", ""]
    return lines


def fewer_steps_section(folder: Path) -> list[str]:
    """Lay out every `fewer-steps-*.json`: solvers with few calls, each on the grid that suits it best."""
    lines = []
    for path in sorted(folder.glob("fewer-steps-*.json")):
        content = json.loads(path.read_text())
        rows = {name: [row for row in content["rows"] if row["name"] == name] for name in _names(content["rows"])}
        solved = rows.pop("solved")[0]
        long = rows.pop("thousand", [])
        calls = sorted({row["calls"] for found in rows.values() for row in found})
        lines += [
            f"## Few steps on {content['set']}",
            "",
            f"Sliced Wasserstein distance (time) of {content['samples']} samples to the training set, over that of "
            f"the ODE solved with {solved['calls']} calls from the same noise; mean of {len(content['seeds'])} "
            "seeds, each solver at its best grid. Behind the slash the share of series that end in a flat tail "
            f"({solved['flat_tails']:.1%} where the ODE is solved). Steps and grids were learnt in "
            f"{content['learnt_in_seconds']:.0f} s beside other jobs.",
            "",
        ]
        cells = [[name, *(_best(found, c) for c in calls)] for name, found in rows.items()]
        lines += table(["network calls", *map(str, calls)], cells)
        lines += [f"{row['calls']:,} steps of Euler-Maruyama, of other samples: {_cell(row)}." for row in long]
        lines += [_told_apart(content["rows"], content["real"])] if "discriminative" in solved else []
        picture = path.with_suffix(".png")
        lines += ["", *([f"![SW against network calls](results/{picture.name})", ""] if picture.is_file() else [])]
    return lines


def _told_apart(rows: list[dict[str, Any]], real: dict[str, float]) -> str:
    """Return how well a network tells samples from training series, beside fresh real ones."""

    def said(row: dict[str, Any]) -> str:
        return f"{row['discriminative']:.3f} ± {row['discriminative_two_se']:.3f}"

    named = [f"{row['name']} with {row['calls']} calls {said(row)}" for row in rows]
    return "\nTold from training series (discriminative score): " + "; ".join([f"real {said(real)}", *named]) + "."


def _names(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["name"] for row in rows))


def _best(rows: list[dict[str, Any]], calls: int) -> str:
    found = [row for row in rows if row["calls"] == calls]
    if not found:
        return ""
    best = min(found, key=lambda row: row["over_solved"])
    return _cell(best) + ("" if best["name"] == "Fitted" else f" {best['grid']}")


def _cell(row: dict[str, Any]) -> str:
    error = row.get("over_solved_two_se")
    return f"{row['over_solved']:.3f}" + (f" ± {error:.3f}" if error else "") + f" / {row['flat_tails']:.1%}"
