"""The sections of the page on `compare` and `fewer_steps.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sections import table

from lightning_freqdiff.evaluation import outcome

SEARCHED = (
    "Settings found by one search for all, `tune --tolerance 0.03 --keep_all true` (`wiener-fast` and `naive` are "
    "the presets)."
)
COLUMNS = {key: title for key, title in outcome.COLUMNS.items() if key not in ("kind", "seconds")}


def comparisons_section(folder: Path) -> list[str]:
    """Lay out every `compare-*` folder: caches, each at its best setting of one search, and their figure."""
    lines = []
    for path in sorted(folder.glob("compare-*/compare.json")):
        content = json.loads(path.read_text())
        sampling, machine = content["sampling"], content["machine"]
        kept = [row for row in content["runs"] if row["kind"] != "solver"]
        lines += [
            f"## Caches on {path.parent.name.removeprefix('compare-')}",
            "",
            f"{sampling['num_samples']} samples in one batch, {sampling['num_steps']} steps, medians of "
            f"{content['rounds']} rounds in turn, {machine['threads']} thread(s) of {machine['processor']}. "
            f"Other jobs shared the machine. {content.get('note', SEARCHED)} Relative L2 is to the "
            "uncached samples from the same noise, SW is the change against theirs. Solvers with fewer "
            "steps are in the file.",
            "",
        ]
        rows = [[outcome.cell(row, key) for key in COLUMNS] for row in kept]
        lines += table(list(COLUMNS.values()), rows)
        lines += [f"![Speedup against damage](results/{path.parent.name}/trade-off.png)", ""]
    return lines


def fewer_steps_section(folder: Path) -> list[str]:
    """Lay out every `fewer-steps-*.json`: the Wiener cache and the solvers at equal network calls."""
    lines = []
    for path in sorted(folder.glob("fewer-steps-*.json")):
        content = json.loads(path.read_text())
        calls = sorted({round(row["calls"]) for row in content["rows"]}, reverse=True)
        names = list(dict.fromkeys(row["name"] for row in content["rows"]))
        found: dict[Any, float] = {(row["name"], round(row["calls"])): row["sw_time"] for row in content["rows"]}
        error = max(row["two_se_samples"] for row in content["rows"])
        lines += [
            f"## Fewer steps instead of a cache, on {content['data']}",
            "",
            f"Sliced Wasserstein distance (time) of {content['samples']} samples to the training set; floor of "
            f"{content['floor']['count']} real series {content['floor']['sw_time']:.4g}. Halves of a set of samples "
            f"differ by up to {error:.2g}.",
            "",
        ]
        rows = [[name, *(f"{found[name, c]:.4g}" if (name, c) in found else "" for c in calls)] for name in names]
        lines += table(["network calls", *map(str, calls)], rows)
        lines += [f"![SW against network calls](results/{path.stem}.png)", ""]
    return lines
