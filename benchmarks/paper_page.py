"""The section of the page on what the E²-CRF paper claims, with its own figures beside."""

from __future__ import annotations

from typing import Any

from sections import Results, origin, table

ABLATIONS = {
    "fixed_schedule": ("fixed schedule", "1.32×, +15.1 %"),
    "no_feedback": ("no error feedback", "1.43×, +20.9 %"),
    "uniform_threshold": ("no energy weighting", "1.57×, +16.2 %"),
    "paper": ("full", "2.20×, +6.8 %"),
    "kv": ("full, keys and values alone (Algorithm 1)", ""),
    "naive": ("filled once", ""),
    "balanced": ("ours", ""),
}
"""Settings of the ablation, as the paper's Table 2 (ECG) calls them, and its speedup and change of SW."""
GRID = {
    "K=1 R=100": "1.77×",
    "K=1 R=150": "2.20×",
    "K=1 R=200": "1.92×",
    "K=1 R=500": "1.65×",
    "K=1 R=1000": "1.64×",
    "K=3 R=100": "1.77×",
    "K=3 R=150": "1.77×",
    "K=5 R=100": "1.77×",
    "K=5 R=150": "1.67×",
}
"""Speedups of its Table 3 (ECG)."""
CLAIMED = {
    "recomputed": ("tokens recomputed", "about 35%", "{:.0%}"),
    "hits_early": ("hits, first quarter of the steps", "40%", "{:.0%}"),
    "hits_late": ("hits, last quarter", "75%", "{:.0%}"),
    "hits_with_localisation": ("hits go with localisation in low frequencies (correlation)", "0.78", "{:.2f}"),
    "flops_fraction": ("work", "", "{:.0%}"),
    "error": ("distance to the uncached samples, relative", "", "{:.3f}"),
    "bound_secant": ("its bound by secants", "", "{:.3f}"),
    "bound_spectral": ("its bound by spectral norms", "", "{:.2g}"),
}
"""Of section 4 of the paper; the bounds are those of any cached trajectory (``claims.py``)."""


def paper_section(results: Results) -> list[str]:
    """Lay out what ``paper.py`` found."""
    content = results.load("paper")
    if not content:
        return []
    lines = ["## The claims of the E²-CRF paper", "", origin(content)]
    lines += [
        "A transformer over frequencies, in which tokens can be chosen, trained on heartbeats; 1,000 steps of "
        "Euler-Maruyama. The paper has 3.2 M parameters on A100s: speedups beside its own are not of the same work.",
    ]
    if "claims" in content:
        lines += _claims(content["claims"]["policies"])
    if "tables" in content:
        made: Any = content["tables"]
        rows = {row["name"]: row for row in made["ablation"]}
        shown = [[title, *_cells(rows[name]), paper] for name, (title, paper) in ABLATIONS.items() if name in rows]
        head = ["Table 2", "speedup", "relative L2", "SW", "hits", "work", "paper: speedup, SW"]
        lines += [f"{made['samples']} samples, one run of each setting.", *table(head, shown)]
        rows = {row["name"]: row for row in made["paper_grid"]}
        shown = [[name, *_cells(rows[name]), paper] for name, paper in GRID.items() if name in rows]
        lines += table(["Table 3", *head[1:-1], "paper: speedup"], shown)
    if "distances" in content:
        made = content["distances"]
        titles = {"paper": "as published", "real": "real rows"}
        shown = [
            [titles.get(row["name"], row["name"]), *(f"{row[k]:.4f}" for k in ("sw_time", "sw_frequency"))]
            for row in made["rows"]
        ]
        lines += [
            f"Table 1, {made['samples']} samples; the paper has 0.012 with and without its cache, of 10,000, which "
            "lie nearer to the training set by their number alone. As many real rows stand below.",
            *table(["Table 1", "SW in time", "SW in frequency"], shown),
        ]
    if (results.folder / f"{results.prefix}paper.png").is_file():
        lines += [f"![Features, hits, growth and bounds along a trajectory](results/{results.prefix}paper.png)", ""]
    return lines


def _claims(policies: dict[str, Any]) -> list[str]:
    rows = []
    for key, (title, claimed, form) in CLAIMED.items():
        cells = ["" if found[key] is None else form.format(found[key]) for found in policies.values()]
        rows.append([title, *cells, claimed])
    return table(["claim", *("as published" if name == "paper" else name for name in policies), "paper"], rows)


def _cells(row: dict[str, Any]) -> list[str]:
    change, hits, work = row["sw_time_change"], row["hit_rate"], row["flops_fraction"]
    return [f"{row['speedup']:.2f}×", f"{row['relative_l2']:.4f}", f"{change:+.1%}", f"{hits:.0%}", f"{work:.0%}"]
