"""`tune`: from the damage that a user accepts to the fastest cache, or solver of few steps, that does no more."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from lightning_freqdiff.evaluation import trials
from lightning_freqdiff.evaluation.arithmetic import Precision
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.damage import Yardstick
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.families import Family
from lightning_freqdiff.evaluation.pace import Pace
from lightning_freqdiff.evaluation.trials import Trial
from lightning_freqdiff.reporting.hardware import describe_hardware
from lightning_freqdiff.sampling.loop import Sampling

SEARCHES = 6
"""Settings tried for each family, by bisection of the knob's logarithm."""
TIGHTER = 0.8
"""Factor on the knob where fresh noise does not confirm what the search found."""
TRIES, CONFIRMATIONS = 2, 4
"""Settings tried for each on the way of the race, and at its end."""
PROBED = 20
"""Steps that an arithmetic is timed on."""
GAIN = 1.1
"""How much faster another arithmetic has to make the uncached samples to be searched."""


class Tuner:
    """Searches on a few samples, and lets the best race on fresh noise until one is confirmed.

    The race is successive halving (Jamieson and Talwalkar, arXiv 1502.07943): of all that keep to the tolerance the
    faster half goes on, to twice as many samples. What is over the tolerance is tightened before it is dropped, so
    that luck in the search decides nothing.

    Args:
        bench: Draws samples; its sampling is that of the search.
        tolerance: Damage that is acceptable.
        metric: ``relative_l2`` distance to the uncached samples; relative change of ``sw``, in time or frequency,
            whichever is larger; or relative change of a metric by a name of `evaluate`.
        evaluator: Measures against the training set; needed for all but ``relative_l2``.
        confirm: Samples of fresh noise that a winner has to prove itself on.
        console: Where to report.
        minutes: Time that the search may take, if it may not take as long as it takes.
        also: Precisions, compiled or not, that are searched beside the one that is set, where they are faster.

    Attributes:
        trials: All that was measured, in order.
    """

    def __init__(
        self,
        bench: Bench,
        tolerance: float,
        metric: str = "relative_l2",
        evaluator: Evaluator | None = None,
        confirm: int = 64,
        console: Console | None = None,
        minutes: float | None = None,
        also: tuple[tuple[Precision | None, bool], ...] = (),
    ) -> None:
        if not tolerance > 0:
            raise ValueError(f"expected a tolerance above 0, got {tolerance}: set `tolerance`")
        self.yardstick = Yardstick(bench, metric, evaluator)
        self.bench, self.tolerance, self.metric, self.also = bench, tolerance, metric, also
        self.fresh = replace(bench.sampling, seed=bench.sampling.seed + 1, num_samples=confirm)
        self.console = console or Console()
        self.pace = Pace(self.console, minutes)
        self.trials: list[Trial] = []
        self.alone: float | None = None
        self.drift: float | None = None

    def run(self, wanted: list[Family]) -> tuple[list[Trial], Trial | None]:
        """Return every family's fastest setting within the tolerance, and the fastest that is confirmed, if any."""
        uncached = self.yardstick.uncached(self.bench.sampling)
        reserve = 2 * uncached.seconds * self.fresh.num_samples / len(uncached.series)
        if self.pace.over(reserve):
            raise ValueError(
                f"expected time enough to confirm on {self.fresh.num_samples} samples, about "
                f"{(self.pace.passed + reserve) / 60:.1f} minutes, got {self.pace.minutes:g}: raise `minutes`, or "
                "lower `confirm`"
            )
        best, left = [], list(self._comparable(wanted))
        self.pace.expect(SEARCHES * len(left))
        while left and not self.pace.over(reserve):
            family = left.pop(0)
            if (trial := self._search_where_it_fits(family, alone=len(wanted) == 1)) is not None:
                best.append(trial)
        if left:
            self._print(f"time is up: {', '.join(family.label for family in left)} were not searched")
        runners = [trial for trial in best if trial.seconds < uncached.seconds]
        confirmed = self.race(self._in_other_precisions(runners)) if runners else None
        return best, confirmed

    def _comparable(self, wanted: list[Family]) -> list[Family]:
        """Leave out solvers whose very ODE is farther from the uncached samples than may be."""
        quiet = [f for f in wanted if _without_noise(f.contender(f.low, self.bench.sampling))]
        if self.metric != "sw" or not quiet:
            return wanted
        found = self.yardstick.drift(self.bench.sampling)
        self.drift = found.value
        self._print(
            f"the ODE itself, solved to the end, is {found.value:.1%} (± {2 * found.error:.1%}) from uncached"
        )
        if 2 * found.value - found.upper <= self.tolerance:
            return wanted
        self._print("solvers without noise are left out: they would follow it")
        return [family for family in wanted if family not in quiet]

    def _search_where_it_fits(self, family: Family, alone: bool) -> Trial | None:
        """Search a family; among others, one that this model cannot use is left out with a line that says why."""
        try:
            return self.search(family)
        except ValueError as error:
            if alone:
                raise
            self._print(f"{family.label:<24} is left out: {str(error).partition(':')[0]}")
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
        self._say(family.label, best)
        return best

    def race(self, runners: list[Trial]) -> Trial | None:
        """Halve those that keep to the tolerance on fresh noise, and return the fastest that is confirmed at the end.

        Args:
            runners: Where they start from, measured on as many samples each.
        """
        self.yardstick.uncached(self.fresh)
        counts = [self.fresh.num_samples]
        while len(runners) > 1 and counts[0] // 2 >= self.bench.sampling.num_samples:
            counts.insert(0, counts[0] // 2)
        self.pace.expect(2 * len(runners) * len(counts))
        for count in counts:
            held: list[Trial] = []
            for trial in sorted(runners, key=lambda t: t.seconds / t.count):
                if held and self.pace.over():
                    break
                found = self.confirm(trial) if count == counts[-1] else self._tighten(trial, count, TRIES)
                held += [] if found is None else [found]
            held.sort(key=lambda t: t.seconds)
            runners = held if count == counts[-1] else held[: max(1, (len(held) + 1) // 2)]
        faster = [trial for trial in runners if self.speedup(trial, fresh=True) > 1]
        self._time_alone(faster)
        return faster[0] if faster else None

    def confirm(self, trial: Trial) -> Trial | None:
        """Measure a setting on fresh noise, tightening it until the bound of its damage keeps to the tolerance."""
        found = self._tighten(trial, self.fresh.num_samples, CONFIRMATIONS, sure=True)
        if found is None:
            self._print(f"{trial.family.label:<24} is not confirmed on fresh noise")
        else:
            self._say(f"{trial.family.label}, fresh noise", found)
        return found

    def _tighten(self, trial: Trial, count: int, tries: int, sure: bool = False) -> Trial | None:
        """Measure on some of the fresh noise, and tighten until the damage, or its bound, keeps to the tolerance."""
        knob = trial.knob
        for _ in range(tries):
            fresh = self.measure(trial.family, knob, replace(self.fresh, num_samples=count))
            if (fresh.upper if sure else fresh.value) <= self.tolerance:
                return fresh
            knob = float(f"{knob * TIGHTER:.3g}")
        return None

    def measure(self, family: Family, knob: float, sampling: Sampling) -> Trial:
        """Draw with one setting, and measure it against what has the same noise."""
        run = Run(family.contender(knob, sampling))
        self.yardstick.expect(run.contender)
        self.bench.draw(run)
        assert run.series is not None
        damage = self.yardstick.measure(run.contender, run.series)
        found = run.seconds[0], sampling.num_samples, run.totals["network_calls"]
        trial = Trial(family, knob, *found, damage, sampling.seed != self.bench.sampling.seed)
        self.trials.append(trial)
        self.pace.step(family.label)
        return trial

    def _in_other_precisions(self, runners: list[Trial]) -> list[Trial]:
        """Let each run in every arithmetic that is faster here, too."""
        few = replace(self.bench.sampling, num_steps=min(PROBED, self.bench.sampling.num_steps))

        def seconds(*arithmetic: Any) -> float:
            run = Run(Contender("probe", "uncached", few, None, *arithmetic))
            for _ in range(3):
                self.bench.draw(run)
            return min(run.seconds)

        found = list(runners)
        for precision, compiled in self.also:
            gain = seconds(None, False) / seconds(precision, compiled)
            name = " ".join(part for part in (precision, "compiled" * compiled) if part)
            self._print(f"{name:<24} {gain:.2f} times as fast" + ("" if gain >= GAIN else ": left out"))
            if gain >= GAIN:
                found += [
                    replace(one, family=replace(one.family, precision=precision, compiled=compiled))
                    for one in runners
                ]
        return found

    def _time_alone(self, finalists: list[Trial]) -> None:
        """Time those at the end, and no cache at all, on one sample by itself."""
        if not finalists or self.pace.over():
            return
        known = replace(self.bench.sampling, num_samples=1, batch_size=1)
        base = Run(Contender("uncached", "uncached", known))
        self.bench.draw(base)
        self.alone = base.seconds[0]
        for trial in finalists:
            run = Run(trial.family.contender(trial.knob, known))
            self.bench.draw(run)
            trial.alone = run.seconds[0]

    def speedup(self, trial: Trial, fresh: bool) -> float:
        """Return the speedup of a trial over the uncached run of its noise, a sample each."""
        base = self.yardstick.uncached(self.fresh if fresh else self.bench.sampling)
        return base.seconds / len(base.series) / (trial.seconds / trial.count)

    def damage(self, trial: Trial) -> str:
        """Say what damage a setting does, with its bound where there is one."""
        bound = trial.damage.error == trial.damage.error
        return f"{trial.value:.4f}" + (f" (95 % below {trial.upper:.4f})" if bound else "")

    def against(self, trial: Trial) -> str:
        """Say what the damage is relative to."""
        ode = self.metric == "sw" and _without_noise(trial.family.contender(trial.knob, self.bench.sampling))
        if not ode:
            return "the uncached samples"
        apart = "" if self.drift is None else f", which is {self.drift:.1%} from the uncached samples"
        return f"the same ODE solved to the end{apart}"

    def write(self, preset: Path, winner: Trial | None) -> None:
        """Write all trials and their picture beside a preset; nothing where nothing was measured."""
        sampling, module = self.bench.sampling, self.bench.module
        if not self.trials:
            return
        base = self.yardstick.uncached(sampling)
        facts = {
            "metric": self.metric,
            "tolerance": self.tolerance,
            "checkpoint": module.checkpoint_hash,
            "machine": describe_hardware(module.score.noise_scale.device),
            "num_steps": sampling.num_steps,
            "batch_size": min(sampling.batch_size, sampling.num_samples),
            "drift": self.drift,
            "uncached": {
                "milliseconds": 1000 * base.seconds / len(base.series),
                "milliseconds_alone": None if self.alone is None else 1000 * self.alone,
            },
        }
        trials.write(preset, facts, self.trials, winner, sampling)

    def _say(self, name: str, trial: Trial | None) -> None:
        if trial is None:
            self._print(f"{name:<24} nothing within {self.tolerance:g}")
        else:
            found = f"{trial.calls:7.1f} calls  {trial.seconds:7.2f} s  {self.metric} {self.damage(trial)}"
            self._print(f"{name:<24} {found}")

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False)


def _without_noise(contender: Contender) -> bool:
    return contender.kind == "solver" and not contender.sampling.solver.noises_per_step
