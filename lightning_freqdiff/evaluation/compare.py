"""`compare`: every cache, and solvers with fewer steps, against the uncached sampler on one checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from lightning_freqdiff.components import as_settings
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.bench import Bench, Run, speedup
from lightning_freqdiff.evaluation.contenders import FEW, PARALLEL, Contender, at_once, fewer_steps
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.findings import EvaluateSettings
from lightning_freqdiff.evaluation.outcome import Outcome
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.metrics.samples import Domain
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import claim
from lightning_freqdiff.sampling.loop import Sampling

MATCHED = 3
"""Numbers of network calls, beside ``FEW``, at which solvers are run, at most: from few to many, as the caches made
them."""


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
        repetitions: How often those that train networks are taken, for a mean and its standard error.
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
        repetitions: int = 1,
    ) -> None:
        if rounds < 1:
            raise ValueError(f"expected rounds >= 1, got {rounds}: set `rounds`")
        self.named = EvaluateSettings(tuple(metrics), repetitions=repetitions) if metrics else None
        if self.named and data is None:
            raise ValueError(f"expected a data set to take {metrics[0]} against: set `data`")
        claim(output, "output")
        self.module, self.sampling, self.output, self.rounds = module, sampling, output, rounds
        self.with_solvers, self.console = solvers, console or Console()
        self.evaluator = Evaluator(data) if data is not None else None
        uncached = Contender("uncached", "uncached", sampling)
        self.runs = [Run(contender) for contender in (uncached, *caches)]
        self.singles: dict[str, Run] = {}
        self.outcome = Outcome(module, sampling, rounds)
        self.directions: dict[Domain, Tensor] = {}
        self._since, self._shown = time.perf_counter(), 0.0
        self.bench = Bench(module, sampling, self._tell)

    def run(self) -> list[dict[str, Any]]:
        """Measure everything; after Ctrl-C the results so far are on disk, as after every draw."""
        try:
            self._round()
            if self.with_solvers:
                self.runs += [Run(contender) for contender in self._matched()]
                self._round(self.runs[len(self.outcome.rows) :])
            self.singles = {run.contender.name: Run(self.bench.single(run.contender)) for run in self.runs}
            for number in range(self.rounds):
                if number:
                    self._round()
                for name, run in self.singles.items():
                    self.bench.draw(run)
                    self.outcome.rows[name] |= self._timing_single(name)
                self.outcome.write(self.output)
            self.outcome.complete = True
        finally:
            if self.outcome.rows:
                self.outcome.write(self.output)
                self.outcome.write_report(self.output)
                self.console.print(self.outcome.table())
                found = "results" if self.outcome.complete else "unfinished, so far"
                self.console.print(f"{found}: {self.output}", markup=False)
        return list(self.outcome.rows.values())

    def _round(self, runs: list[Run] | None = None) -> None:
        """Draw every run once, in turn."""
        for run in self.runs if runs is None else runs:
            self._label = run.contender.name
            self.bench.draw(run)
            first = run.contender.name not in self.outcome.rows
            self._measure(run)
            self.outcome.write(self.output)
            if first:
                self.console.print(self._line(run), highlight=False, markup=False)

    def _measure(self, run: Run) -> None:
        """Work out a run's row; what does not change from round to round is worked out once."""
        name, base = run.contender.name, self.runs[0]
        row = self.outcome.rows.setdefault(name, {})
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
            if score.value is None and name not in self.outcome.scores:
                self.console.print(f"{name} left out: {score.note}", highlight=False, soft_wrap=True)
        self.outcome.scores = self.outcome.scores or found
        errors = {f"{name}_two_se": score.value_two_se for name, score in found.items() if score.value_two_se}
        return {name: score.value for name, score in found.items()} | errors

    def _timing_single(self, name: str) -> dict[str, Any]:
        ours, base = self.singles[name].seconds, self.singles["uncached"].seconds
        timing = speedup(ours, base)
        return {"seconds_single": sorted(ours)[len(ours) // 2]} | {f"{k}_single": v for k, v in timing.items()}

    def _matched(self) -> list[Contender]:
        """Pick the numbers of network calls at which solvers are run."""
        made = sorted({round(run.totals["network_calls"]) for run in self.runs[1:]})
        made = [calls for calls in made if 2 <= calls <= self.sampling.num_steps // 3]  # beyond, little is gained
        chosen = {made[round(i * (len(made) - 1) / max(1, MATCHED - 1))] for i in range(MATCHED)} if made else set()
        chosen |= {calls for calls in FEW if calls <= self.sampling.num_steps // 3}
        learnt = self.module.score.calibration
        few = [contender for calls in sorted(chosen) for contender in fewer_steps(self.sampling, calls, learnt)]
        alone = self.sampling.guidance is None and self.sampling.constraint is None
        return [*few, *([at_once(self.sampling)] if alone and self.sampling.num_steps >= 3 * PARALLEL else [])]

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
        row = self.outcome.rows[run.contender.name]
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


def _settings(contender: Contender) -> dict[str, Any]:
    solver = as_settings(contender.sampling.solver)
    steps = {"num_steps": contender.sampling.num_steps, "grid": contender.sampling.grid, "solver": solver}
    if contender.policy is None:
        return steps
    written = as_settings(contender.policy)
    given = {k: v for k, v in written["init_args"].items() if v is not None and v != math.inf}
    return {**steps, "cache": {**written, "init_args": given}}
