"""`tune`: from the damage that a user accepts to the fastest cache, or solver of few steps, that does no more."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.families import Family
from lightning_freqdiff.evaluation.findings import EvaluateSettings
from lightning_freqdiff.evaluation.judges import NAMES
from lightning_freqdiff.evaluation.scores import DOMAINS
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.sampling.loop import Sampling

OWN = ("relative_l2", "sw")
"""Damage that has a bound; that by a metric of `evaluate` has none."""
SEARCHES = 6
"""Settings tried for each family, by bisection of the knob's logarithm."""
TIGHTER = 0.8
"""Factor on the knob where fresh noise does not confirm what the search found."""
CONFIRMATIONS = 4
PARTS = 4
"""Parts of a set of samples, between which chance is seen."""


@dataclass
class Trial:
    """One setting of a family, measured: seconds, network calls, and the damage with its upper bound.

    Where no bound is known, ``upper`` is the damage itself.
    """

    family: Family
    knob: float
    seconds: float
    calls: float
    value: float
    upper: float


class Tuner:
    """Searches on a few samples and confirms on fresh noise.

    Args:
        bench: Draws samples; its sampling is that of the search.
        tolerance: Damage that is acceptable.
        metric: ``relative_l2`` distance to the uncached samples; relative change of ``sw``, in time or frequency,
            whichever is larger; or relative change of a metric by a name of `evaluate`, which has no bound.
        evaluator: Measures against the training set; needed for all but ``relative_l2``.
        confirm: Samples of fresh noise that a winner has to prove itself on.
        console: Where to report.
    """

    def __init__(
        self,
        bench: Bench,
        tolerance: float,
        metric: str = "relative_l2",
        evaluator: Evaluator | None = None,
        confirm: int = 64,
        console: Console | None = None,
    ) -> None:
        if not tolerance > 0:
            raise ValueError(f"expected a tolerance above 0, got {tolerance}: set `tolerance`")
        if metric not in (*OWN, *NAMES):
            raise ValueError(f"expected one of {', '.join((*OWN, *NAMES))}, got {metric!r}: set `metric`")
        if metric != "relative_l2" and evaluator is None:
            raise ValueError(f"expected a data set to measure {metric} against: set `data`")
        self.bench, self.tolerance, self.metric, self.evaluator = bench, tolerance, metric, evaluator
        self.fresh = replace(bench.sampling, seed=bench.sampling.seed + 1, num_samples=confirm)
        self.console = console or Console()
        self.references: dict[int, tuple[Run, Any]] = {}
        self.trials: list[Trial] = []

    def run(self, wanted: list[Family]) -> tuple[list[Trial], Trial | None]:
        """Return every family's fastest setting within the tolerance, and the fastest that is confirmed, if any."""
        best = [trial for family in wanted if (trial := self._search_where_it_fits(family, wanted)) is not None]
        for trial in sorted(best, key=lambda t: t.seconds):
            if trial.seconds >= self._reference(self.bench.sampling)[0].seconds[0]:
                continue  # slower than no cache at all
            confirmed = self.confirm(trial)
            if confirmed is not None and self.speedup(confirmed, fresh=True) > 1:
                return best, confirmed
        return best, None

    def _search_where_it_fits(self, family: Family, wanted: list[Family]) -> Trial | None:
        """Search a family; among others, one that this model cannot use is left out with a line that says why."""
        try:
            return self.search(family)
        except ValueError as error:
            if len(wanted) == 1:
                raise
            self.console.print(f"{family.name:<24} is left out: {str(error).partition(':')[0]}", highlight=False)
            return None

    def search(self, family: Family) -> Trial | None:
        """Return the fastest setting of a family that keeps to the tolerance on the search's noise."""
        low, high, best = math.log(family.low), math.log(family.high), None
        for _ in range(SEARCHES):
            knob = float(f"{math.exp((low + high) / 2):.3g}")
            trial = self.measure(family, knob, self.bench.sampling)
            if trial.value <= self.tolerance:
                low = math.log(trial.knob)
                best = trial if best is None or trial.seconds < best.seconds else best
            else:
                high = math.log(trial.knob)
        self._say(family.name, best)
        return best

    def confirm(self, trial: Trial) -> Trial | None:
        """Measure a setting on fresh noise, tightening it until the bound of its damage keeps to the tolerance."""
        knob = trial.knob
        for _ in range(CONFIRMATIONS):
            fresh = self.measure(trial.family, knob, self.fresh)
            if fresh.upper <= self.tolerance:
                self._say(f"{trial.family.name}, fresh noise", fresh)
                return fresh
            knob = float(f"{knob * TIGHTER:.3g}")
        self.console.print(f"{trial.family.name:<24} is not confirmed on fresh noise", highlight=False)
        return None

    def measure(self, family: Family, knob: float, sampling: Sampling) -> Trial:
        """Draw with one setting, and measure it against the uncached samples of the same noise."""
        contender = family.contender(knob, sampling)
        if contender.kind == "solver" and self.metric == "relative_l2":
            raise ValueError("its samples are others than the uncached ones: set `metric` sw, or that of `evaluate`")
        reference, known = self._reference(sampling)
        run = Run(contender)
        self.bench.draw(run)
        assert run.series is not None
        assert reference.series is not None
        if self.metric == "relative_l2":
            found = relative_l2(run.series, reference.series)
            value, upper = found["relative_l2"], found["relative_l2_upper"]
        elif self.metric == "sw":
            value, upper = self._change(run.series, reference.series, known, paired=contender.kind == "cache")
        else:
            value = upper = abs(self._named(run.series) - known) / max(abs(known), 1e-300)
        trial = Trial(family, knob, run.seconds[0], run.totals["network_calls"], value, upper)
        if sampling is self.bench.sampling:
            self.trials.append(trial)
        return trial

    def _change(self, series: Tensor, uncached: Tensor, known: Any, paired: bool) -> tuple[float, float]:
        """Return the relative change of the sliced Wasserstein distance, and its upper bound.

        Samples of the same noise share its luck. Of others chance is a part of the change: what it is by itself is
        seen between parts of the samples.
        """
        assert self.evaluator is not None
        changed = self.evaluator.changes(self.evaluator.distances(series), known)
        value = max(abs(changed[f"sw_{d}_change"]) for d in DOMAINS)
        if paired or len(series) < 2 * PARTS:
            return value, max(abs(changed[f"sw_{d}_change"]) + changed[f"sw_{d}_change_two_se"] for d in DOMAINS)
        upper = 0.0
        for d in DOMAINS:
            ours, theirs = (
                torch.stack([self.evaluator.distances(part)[d].mean() for part in one.chunk(PARTS)])
                for one in (series, uncached)
            )
            two_se = float(2 * (ours - theirs).std() / PARTS**0.5 / known[d].mean())
            upper = max(upper, abs(changed[f"sw_{d}_change"]) + two_se)
        return value, upper

    def _reference(self, sampling: Sampling) -> tuple[Run, Any]:
        """Return the uncached samples of a seed, drawn once."""
        if sampling.seed not in self.references:
            run = Run(Contender("uncached", "uncached", sampling))
            self.bench.draw(run)
            assert run.series is not None
            known: Any = None
            if self.evaluator is not None:
                known = self.evaluator.distances(run.series) if self.metric in OWN else self._named(run.series)
            self.references[sampling.seed] = (run, known)
        return self.references[sampling.seed]

    def _named(self, series: Tensor) -> float:
        """Take the metric that was asked for by name."""
        assert self.evaluator is not None
        score = self.evaluator.scores(series, EvaluateSettings((self.metric,)))[self.metric]
        if score.value is None:
            raise ValueError(f"{self.metric}: {score.note}; set `metric` to another, or `sampling.num_samples`")
        return score.value

    def speedup(self, trial: Trial, fresh: bool) -> float:
        """Return the speedup of a trial over the uncached run of its noise."""
        base = self._reference(self.fresh if fresh else self.bench.sampling)[0]
        return base.seconds[0] / trial.seconds

    def _say(self, name: str, trial: Trial | None) -> None:
        if trial is None:
            self.console.print(f"{name:<24} nothing within {self.tolerance:g}", highlight=False)
        else:
            self.console.print(
                f"{name:<24} {trial.calls:7.1f} calls  {trial.seconds:7.2f} s  {self.metric} {self.damage(trial)}",
                highlight=False,
            )

    def damage(self, trial: Trial) -> str:
        """Say what damage a setting does, with its bound where there is one."""
        return f"{trial.value:.4f}" + (f" (95 % below {trial.upper:.4f})" if self.metric in OWN else "")


def as_yaml(contender: Contender, comment: list[str]) -> str:
    """Write a cache, or a solver with its steps, as a preset ready to be plugged in."""
    lines = [f"# {line}" for line in comment]
    if contender.policy is None:
        sampling = contender.sampling
        lines += ["sampling:", *_component("  solver", sampling.solver)]
        return "\n".join([*lines, f"  grid: {sampling.grid}", f"  num_steps: {sampling.num_steps}"]) + "\n"
    lines += ["trainer:", "  callbacks+:", "    - class_path: CacheCallback", "      init_args:"]
    return "\n".join([*lines, *_component("        policy", contender.policy)]) + "\n"


def _component(place: str, component: Any) -> list[str]:
    """Write a dataclass under a key as its name, and what is set otherwise than by default."""
    indent = " " * (len(place) - len(place.lstrip()) + 2)
    defaults, settings = type(component)(), {f.name: getattr(component, f.name) for f in fields(component)}
    changed = {k: v for k, v in settings.items() if v is not None and v != getattr(defaults, k)}
    lines = [f"{place}:", f"{indent}class_path: {type(component).__name__}"]
    lines += [f"{indent}init_args:"] if changed else []
    for name, value in changed.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        lines.append(f"{indent}  {name}: {float(f'{value:.4g}') if isinstance(value, float) else shown}")
    return lines
