"""`compare`: every cache, and solvers with fewer steps, against the uncached sampler on one checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from lightning_freqdiff.checkpoint import as_settings
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.bench import Bench, Run, speedup
from lightning_freqdiff.evaluation.contenders import Contender, fewer_steps
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.findings import EvaluateSettings, Score
from lightning_freqdiff.files import replace_csv, replace_json, replacing
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import claim
from lightning_freqdiff.reporting.caches import trade_off
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.reporting.page import Page, size_of
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.spectral import Domain

MATCHED = 3
"""Numbers of network calls at which the solvers are run, at most: from few to many, as the caches made them."""

COLUMNS = {
    "name": "",
    "kind": "",
    "network_calls": "calls",
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


class Comparison:
    """Measures contenders in rounds, and leaves what is known on disk after every draw.

    Args:
        module: The model.
        caches: Caches to compare, from :func:`~lightning_freqdiff.callbacks.presets.read_presets`.
        sampling: Number of samples, batch size and seed; solver and steps of the uncached run.
        output: Folder of the results, empty or not there yet.
        data: Training set for the sliced Wasserstein distances, if any.
        rounds: How often everything is timed, in turn.
        solvers: Whether solvers with fewer steps take part.
        console: Where to report.
        metrics: Metrics to take as well, by the names of `evaluate`, each with its floor and its ceiling.
    """

    def __init__(
        self,
        module: ScoreModule,
        caches: list[Contender],
        sampling: Sampling,
        output: Path,
        data: SeriesData | None = None,
        rounds: int = 3,
        solvers: bool = True,
        console: Console | None = None,
        metrics: Sequence[str] = (),
    ) -> None:
        if rounds < 1:
            raise ValueError(f"expected rounds >= 1, got {rounds}: set `rounds`")
        self.named = EvaluateSettings(tuple(metrics)) if metrics else None
        if self.named and data is None:
            raise ValueError(f"expected a data set to take {metrics[0]} against: set `data`")
        claim(output, "output")
        self.module, self.sampling, self.output, self.rounds = module, sampling, output, rounds
        self.with_solvers, self.console = solvers, console or Console()
        self.evaluator = Evaluator(data) if data is not None else None
        uncached = Contender("uncached", "uncached", sampling)
        self.runs = [Run(contender) for contender in (uncached, *caches)]
        self.singles: dict[str, Run] = {}
        self.rows: dict[str, dict[str, Any]] = {}
        self.scores: dict[str, Score] = {}
        self.directions: dict[Domain, Tensor] = {}
        self.complete = False
        self._since, self._shown = time.perf_counter(), 0.0
        self.bench = Bench(module, sampling, self._tell)

    def run(self) -> list[dict[str, Any]]:
        """Measure everything; after Ctrl-C the results so far are on disk, as after every draw."""
        try:
            self._round()
            if self.with_solvers:
                self.runs += [Run(contender) for contender in self._matched()]
                self._round(self.runs[len(self.rows) :])
            self.singles = {run.contender.name: Run(self.bench.single(run.contender)) for run in self.runs}
            for number in range(self.rounds):
                if number:
                    self._round()
                for name, run in self.singles.items():
                    self.bench.draw(run)
                    self.rows[name] |= self._timing_single(name)
                self.write()
            self.complete = True
        finally:
            if self.rows:
                self.write()
                self.write_report()
                self.console.print(self.table())
                outcome = "results" if self.complete else "unfinished, so far"
                self.console.print(f"{outcome}: {self.output}", markup=False)
        return list(self.rows.values())

    def _round(self, runs: list[Run] | None = None) -> None:
        """Draw every run once, in turn."""
        for run in self.runs if runs is None else runs:
            self._label = run.contender.name
            self.bench.draw(run)
            first = run.contender.name not in self.rows
            self._measure(run)
            self.write()
            if first:
                self.console.print(self._line(run), highlight=False, markup=False)

    def _measure(self, run: Run) -> None:
        """Work out a run's row; what does not change from round to round is worked out once."""
        name, base = run.contender.name, self.runs[0]
        row = self.rows.setdefault(name, {})
        if not row:
            row |= {"name": name, "kind": run.contender.kind, "settings": _settings(run.contender)}
            row |= {k: v for k, v in run.totals.items() if k != "probe_error"} | {"memory_bytes": run.memory}
            assert run.series is not None
            assert base.series is not None
            same_noise = run.contender.kind != "solver"
            row |= relative_l2(run.series, base.series) if same_noise else {"relative_l2": math.nan}
            if self.evaluator is not None:
                distances = self.evaluator.distances(run.series)
                self.directions = self.directions or distances
                row |= self.evaluator.changes(distances, self.directions)
                row |= self._named(self.evaluator, run.series)
            if run is not base:
                run.series = None  # the uncached samples alone are needed again
        row |= {"seconds": sorted(run.seconds)[len(run.seconds) // 2], "seconds_all": list(run.seconds)}
        row |= speedup(run.seconds, base.seconds)

    def _named(self, evaluator: Evaluator, series: Tensor) -> dict[str, Any]:
        """Take the metrics that were asked for by name, where they can be taken."""
        if self.named is None:
            return {}
        found = evaluator.scores(series, self.named)
        for name, score in found.items():
            if score.value is None and name not in self.scores:
                self.console.print(f"{name} left out: {score.note}", highlight=False, soft_wrap=True)
        self.scores = self.scores or found
        return {name: score.value for name, score in found.items()}

    @property
    def columns(self) -> dict[str, str]:
        """Keys of a row that are shown, and their titles."""
        last = {"seconds": COLUMNS["seconds"]}
        named = {name: name for name, score in self.scores.items() if score.value is not None}
        return {key: title for key, title in COLUMNS.items() if key not in last} | named | last

    def _timing_single(self, name: str) -> dict[str, Any]:
        ours, base = self.singles[name].seconds, self.singles["uncached"].seconds
        timing = speedup(ours, base)
        return {"seconds_single": sorted(ours)[len(ours) // 2]} | {f"{k}_single": v for k, v in timing.items()}

    def _matched(self) -> list[Contender]:
        """Pick the numbers of network calls at which solvers are run."""
        made = sorted({round(run.totals["network_calls"]) for run in self.runs[1:]})
        made = [calls for calls in made if 2 <= calls <= self.sampling.num_steps // 3]  # beyond, little is gained
        chosen = {made[round(i * (len(made) - 1) / max(1, MATCHED - 1))] for i in range(MATCHED)} if made else set()
        return [contender for calls in sorted(chosen) for contender in fewer_steps(self.sampling, calls)]

    def _tell(self, share: float) -> None:
        """Say now and then how far a long draw is, where somebody watches."""
        now = time.perf_counter()
        if self.console.is_terminal and now - self._shown > 1:
            self._shown = now
            self.console.print(
                f"{self._label}: {share:.0%} of this draw, {self._left()}   ", end="\r", highlight=False
            )

    def _left(self) -> str:
        """Estimate the time left, from the draws made so far."""
        base = self.runs[0].seconds
        if not base:
            return "time left unknown yet"
        known = [run.seconds[0] for run in self.runs if run.seconds]
        unknown = len(self.runs) - len(known)
        guess = sum(known) + unknown * sum(known) / len(known)
        left = max(0.0, guess * self.rounds * 1.2 - (time.perf_counter() - self._since))
        return f"about {left / 60:.0f} min left" if left > 90 else f"about {left:.0f} s left"

    def _line(self, run: Run) -> str:
        row = self.rows[run.contender.name]
        parts = [
            f"{row['name']:<22}",
            f"{row['seconds']:8.2f} s",
            f"{row['speedup']:6.2f}x",
            f"{row['network_calls']:7.1f} calls",
        ]
        if row["relative_l2"] == row["relative_l2"]:
            parts.append(f"relative L2 {row['relative_l2']:.4f}")
        if "sw_time_change" in row:
            parts.append(f"SW {row['sw_time_change']:+.1%}")
        return "  ".join([*parts, self._left()])

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

    def write(self) -> None:
        """Replace ``compare.json`` and ``compare.csv``, each in one move."""
        facts = {
            "complete": self.complete,
            "checkpoint": self.module.checkpoint_hash,
            "machine": describe_hardware(self.module.score.noise_scale.device),
            "sampling": {**asdict(self.sampling), "solver": as_settings(self.sampling.solver)},
            "precision": "bf16-mixed" if torch.is_autocast_enabled(self.module.device.type) else "32-true",
            "compile": self.module.score.network.compiled,
            "rounds": self.rounds,
            **({"metrics": {name: bounds(score) for name, score in self.scores.items()}} if self.scores else {}),
            "runs": self.ordered(),
        }
        replace_json(self.output / "compare.json", facts)
        names = list(
            dict.fromkeys(k for row in self.rows.values() for k in row if k not in ("settings", "seconds_all"))
        )
        replace_csv(self.output / "compare.csv", names, self.ordered())

    def write_report(self) -> None:
        """Draw the trade-off and lay out the page."""
        rows = self.ordered()
        figure = trade_off(rows)
        with replacing(self.output / "trade-off.png") as file:
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
            f"training set, always with {self.sampling.num_samples:,} samples. Solvers with fewer steps follow "
            "another path, so that no relative L2 is given."
        )
        if self.scores:
            page.text(
                "Floor: what fresh real series score; ceiling: what a Gaussian with the training set's mean and "
                "covariance scores. With few samples, chance moves all of them."
            )
        page.figure(figure, "Speedup against damage, for every cache and solver")
        page.heading("Settings")
        page.settings({row["name"]: row["settings"] for row in rows})
        page.settings(describe_hardware(self.module.score.noise_scale.device))
        page.write(self.output / "report.html")


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
        case "network_calls":
            return f"{value:.1f}"
        case "seconds":
            return f"{value:.3g}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def bounds(score: Score) -> dict[str, Any]:
    """Return what the values of a metric stand between."""
    return {key: getattr(score, key) for key in ("higher_is_better", "floor", "ceiling", "note")}


def _settings(contender: Contender) -> dict[str, Any]:
    solver = as_settings(contender.sampling.solver)
    steps = {"num_steps": contender.sampling.num_steps, "grid": contender.sampling.grid, "solver": solver}
    if contender.policy is None:
        return steps
    written = as_settings(contender.policy)
    given = {k: v for k, v in written["init_args"].items() if v is not None and v != math.inf}
    return {**steps, "cache": {**written, "init_args": given}}
