"""What `compare` found: rows for a terminal, JSON, CSV and a page."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from lightning_freqdiff.components import as_settings
from lightning_freqdiff.evaluation.findings import Score
from lightning_freqdiff.files import replace_csv, replace_json, replacing
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.reporting.caches import trade_off
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.reporting.page import Page, size_of
from lightning_freqdiff.sampling.loop import Sampling

COLUMNS = {
    "name": "",
    "kind": "",
    "network_calls": "calls",
    "rounds": "rounds",
    "speedup": "speedup",
    "speedup_single": "batch 1",
    "relative_l2": "relative L2",
    "relative_l2_median": "median",
    "sw_time_change": "SW time",
    "sw_frequency_change": "SW frequency",
    "hit_rate": "hits",
    "flops_fraction": "FLOPs",
    "seconds": "seconds",
}


@dataclass
class Outcome:
    """Rows of measurements, and what they are of.

    Args:
        module: The model.
        sampling: Number of samples, batch size and seed; solver and steps of the uncached run.
        rounds: How often everything is timed.
        rows: By name, what was measured of every contender.
        scores: Metrics that were taken by name, with floor and ceiling.
        complete: Whether nothing is missing.
    """

    module: ScoreModule
    sampling: Sampling
    rounds: int
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    complete: bool = False

    @property
    def columns(self) -> dict[str, str]:
        """Keys of a row that are shown, and their titles."""
        last = {"seconds": COLUMNS["seconds"]}
        named = {name: name for name, score in self.scores.items() if score.value is not None}
        return {key: title for key, title in COLUMNS.items() if key not in last} | named | last

    def table(self) -> Table:
        """Lay out the rows for a terminal, fastest last in each kind."""
        table = Table(box=None, header_style="bold")
        for title in self.columns.values():
            table.add_column(title, justify="left" if not title else "right")
        for row in [*self.ordered(), *self._bounds()]:
            table.add_row(*(escape(cell(row, key)) for key in self.columns))
        return table

    def _bounds(self) -> list[dict[str, Any]]:
        """Return what real series and a Gaussian score in the metrics asked for by name."""
        titles = {"floor": "floor: fresh real series", "ceiling": "ceiling: Gaussian"}
        found = {k: {name: getattr(score, k) for name, score in self.scores.items()} for k in titles}
        return [{"name": titles[kind], **values} for kind, values in found.items() if values]

    def ordered(self) -> list[dict[str, Any]]:
        """Return the rows: uncached, caches, solvers, each by network calls."""
        kinds = ("uncached", "cache", "solver")
        return sorted(self.rows.values(), key=lambda r: (kinds.index(r["kind"]), -r["network_calls"]))

    def write(self, output: Path) -> None:
        """Replace ``compare.json`` and ``compare.csv``, each in one move."""
        facts = {
            "complete": self.complete,
            "checkpoint": self.module.checkpoint_hash,
            "machine": describe_hardware(self.module.score.noise_scale.device),
            "sampling": {
                **asdict(replace(self.sampling, condition=None)),
                "solver": as_settings(self.sampling.solver),
                "condition": None if self.sampling.condition is None else self.sampling.condition.settings(),
            },
            "precision": "bf16-mixed" if torch.is_autocast_enabled(self.module.device.type) else "32-true",
            "compile": self.module.score.network.compiled,
            "rounds": self.rounds,
            **({"metrics": {name: bounds(score) for name, score in self.scores.items()}} if self.scores else {}),
            "runs": self.ordered(),
        }
        replace_json(output / "compare.json", facts)
        names = list(
            dict.fromkeys(k for row in self.rows.values() for k in row if k not in ("settings", "seconds_all"))
        )
        replace_csv(output / "compare.csv", names, self.ordered())

    def write_report(self, output: Path) -> None:
        """Draw the trade-off and lay out the page."""
        rows = self.ordered()
        figure = trade_off(rows)
        with replacing(output / "trade-off.png") as file:
            figure.savefig(file, format="png", dpi=130)
        layout = self.module.layout
        page = Page(f"Caches on series of {size_of(layout.length, layout.channels)}")
        page.text(
            f"{self.sampling.num_samples} samples in batches of {self.sampling.batch_size}, "
            f"{self.sampling.num_steps} steps of {type(self.sampling.solver).__name__}; caches and the uncached run "
            f"share their noise. Median of {self.rounds} timings in turn"
            + ("." if self.complete else ", UNFINISHED.")
        )
        shown = [[cell(row, key) for key in self.columns] for row in [*rows, *self._bounds()]]
        page.table(list(self.columns.values()), shown)
        page.text(
            "Speedup: wall clock of the uncached run over that of the row. Relative L2: distance to the uncached "
            "samples, over all and in the median series. SW: change of the sliced Wasserstein distance to the "
            f"training set, always with {self.sampling.num_samples:,} samples. Rounds: calls one after the other; "
            "Chords makes several at once, which costs more in all. Solvers with fewer steps follow "
            "another path, so that no relative L2 is given."
        )
        if self.scores:
            page.text(
                "After ±: twice the standard error over directions, coordinates, channels or repetitions. "
                "Floor: what fresh real series score; ceiling: what a Gaussian with the training set's mean and "
                "covariance scores. With few samples, chance moves all of them."
            )
        page.figure(figure, "Speedup against damage, for every cache and solver")
        page.heading("Settings")
        page.settings({row["name"]: row["settings"] for row in rows})
        page.settings(describe_hardware(self.module.score.noise_scale.device))
        page.write(output / "report.html")


def cell(row: dict[str, Any], key: str) -> str:
    """Format one value of a row."""
    value = row.get(key)
    if value is None or value != value:
        return ""
    match key:
        case "speedup" | "speedup_single":
            return f"{value:.2f}x"
        case "sw_time_change" | "sw_frequency_change":
            return f"{value:+.1%}"
        case "hit_rate" | "flops_fraction":
            return f"{value:.1%}"
        case "network_calls" | "rounds":
            return f"{value:.1f}"
        case "seconds":
            return f"{value:.3g}"
    if key not in COLUMNS and (error := row.get(f"{key}_two_se")):
        return f"{value:.4f} ± {error:.4f}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def bounds(score: Score) -> dict[str, Any]:
    """Return what the values of a metric stand between."""
    return {key: getattr(score, key) for key in ("higher_is_better", "floor", "ceiling", "note")}
