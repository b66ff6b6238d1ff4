"""`tune`: from the damage that a user accepts to the fastest cache that does no more."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from torch import Tensor

from lightning_freqdiff.caching import (
    DMD,
    E2CRF,
    L2P,
    AdaCorrection,
    CachePolicy,
    DeepCache,
    FastCache,
    FirstBlock,
    FoCa,
    FreqCa,
    MagCache,
    PrediT,
    SpectralCache,
    Spectrum,
    SVDCache,
    TaylorSeer,
    TeaCache,
    ToMe,
    Wiener,
)
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.evaluator import Evaluator
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


@dataclass(frozen=True)
class Family:
    """A cache with one knob: the higher, the faster and the worse.

    Args:
        name: How its preset is called.
        make: Makes the cache from the knob.
        low: Least knob tried.
        high: Greatest.
    """

    name: str
    make: Callable[[float], CachePolicy]
    low: float
    high: float


def families() -> list[Family]:
    """Return the caches that are searched, each with its knob."""
    found = [
        Family("wiener", lambda k: Wiener(tolerance=k), 1e-3, 0.5),
        Family("wiener-clock", lambda k: Wiener(tolerance=k, memory=1.0), 1e-3, 0.5),
        Family("e2crf", lambda k: E2CRF(R=round(10 * k), tau_safe=round(0.02 * k, 6)), 0.2, 20),
        Family("fixed", lambda k: E2CRF(preset="fixed_schedule", R=round(k)), 2, 200),
        Family("teacache", lambda k: TeaCache(tau=k), 1e-3, 10),
        Family("firstblock", lambda k: FirstBlock(tau=k), 1e-3, 3),
        Family("fastcache", lambda k: FastCache(cap=k), 1e-7, 1),
        Family("spectrum", lambda k: Spectrum(window=k, growth=0.0, history=8, ridge=1e-4), 2, 100),
    ]
    found.append(Family("tome", lambda k: ToMe(ratio=k), 1e-2, 0.5))
    found.append(Family("deepcache", lambda k: DeepCache(interval=round(k)), 2, 100))
    for forecaster in (FoCa, FreqCa, DMD, SVDCache, L2P, AdaCorrection):
        found.append(Family(forecaster.__name__.lower(), lambda k, f=forecaster: f(interval=round(k)), 2, 100))
    found.append(Family("magcache", lambda k: MagCache(tau=k, skips=1000, retention=0.0), 1e-3, 10))
    found.append(Family("predit", lambda k: PrediT(tau=k, skips=1000), 1e-2, 10))
    for order in (0, 1, 2):
        found.append(Family(f"taylorseer-{order}", lambda k, o=order: TaylorSeer(interval=round(k), order=o), 2, 100))
    for bands in ("channel", "frequency"):
        found.append(
            Family(f"spectralcache-{bands}", lambda k, b=bands: SpectralCache(tau=k, c_max=1000, bands=b), 1e-3, 10)  # type: ignore[misc]
        )
    return found


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
        reference, known = self._reference(sampling)
        run = Run(Contender(family.name, "cache", sampling, family.make(knob)))
        self.bench.draw(run)
        assert run.series is not None
        assert reference.series is not None
        if self.metric == "relative_l2":
            found = relative_l2(run.series, reference.series)
            value, upper = found["relative_l2"], found["relative_l2_upper"]
        elif self.metric == "sw":
            assert self.evaluator is not None
            changed = self.evaluator.changes(self.evaluator.distances(run.series), known)
            value = max(abs(changed[f"sw_{d}_change"]) for d in DOMAINS)
            upper = max(abs(changed[f"sw_{d}_change"]) + changed[f"sw_{d}_change_two_se"] for d in DOMAINS)
        else:
            value = upper = abs(self._named(run.series) - known) / max(abs(known), 1e-300)
        return Trial(family, knob, run.seconds[0], run.totals["network_calls"], value, upper)

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


def as_yaml(policy: CachePolicy, comment: list[str]) -> str:
    """Write a cache as a preset, ready to be plugged in."""
    settings = {k: v for k, v in vars(policy).items() if v is not None and not k.startswith("_") and k != "settings"}
    defaults = type(policy)()
    changed = {k: v for k, v in settings.items() if v != getattr(defaults, k)}
    lines = [*(f"# {line}" for line in comment), "trainer:", "  callbacks+:", "    - class_path: CacheCallback"]
    lines += ["      init_args:", "        policy:", f"          class_path: {type(policy).__name__}"]
    if changed:
        lines += ["          init_args:"]
        lines += [f"            {k}: {float(f'{v:.4g}') if isinstance(v, float) else v}" for k, v in changed.items()]
    return "\n".join(lines) + "\n"
