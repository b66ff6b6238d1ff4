"""What a way to sample does to samples: the measures that `tune` searches by, each with its bound."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from torch import Tensor

from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.findings import EvaluateSettings, Score
from lightning_freqdiff.evaluation.judges import LEARNT, NAMES
from lightning_freqdiff.evaluation.scores import DOMAINS
from lightning_freqdiff.evaluation.teacher import solved
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.metrics.influence import Influence, relative_change
from lightning_freqdiff.metrics.protocol import student_quantile
from lightning_freqdiff.metrics.samples import Domain
from lightning_freqdiff.sampling.loop import Sampling

OWN = ("relative_l2", "sw")
"""Damage whose bound is over the luck of samples; that of others is over the seeds of networks at most."""
REPETITIONS = 3
"""Seeds of a metric that trains networks, from which its error is known."""


class Damage(NamedTuple):
    """Damage done to samples.

    Args:
        value: How much.
        error: Its standard error; NaN where it is not known.
        upper: What it is below with 95 % certainty; the value itself where the error is not known.
    """

    value: float
    error: float
    upper: float


@dataclass(frozen=True, eq=False)
class Sample:
    """Samples that others are held against.

    Args:
        name: Which: those without a cache, or those of the ODE.
        seed: Of their noise.
        series: ``(n, N, M)``.
        seconds: They took, all together.
    """

    name: str
    seed: int
    series: Tensor
    seconds: float


class Yardstick:
    """Measures samples against those without a cache, drawn once for each seed.

    A solver without noise is held against the same ODE solved to the end, where ``sw`` is asked for: its samples are
    nearly the same series, so that shared luck leaves their difference. How far that ODE itself is from the uncached
    samples is a property of the model, which :meth:`drift` tells.

    Args:
        bench: Draws samples.
        metric: ``relative_l2``, ``sw``, or a metric by its name in `evaluate`.
        evaluator: Measures against the training set; needed for all but ``relative_l2``.
    """

    def __init__(self, bench: Bench, metric: str, evaluator: Evaluator | None = None) -> None:
        if metric not in (*OWN, *NAMES):
            raise ValueError(f"expected one of {', '.join((*OWN, *NAMES))}, got {metric!r}: set `metric`")
        if metric != "relative_l2" and evaluator is None:
            raise ValueError(f"expected a data set to measure {metric} against: set `data`")
        self.bench, self.metric, self.evaluator = bench, metric, evaluator
        self.known: dict[tuple[str, int], Sample] = {}
        self.score = cache(self._score)
        self.influence = cache(self._influence)

    def uncached(self, sampling: Sampling) -> Sample:
        """Return the uncached samples of a seed, drawn once; at least as many as are asked for."""
        return self._drawn("uncached", sampling, Contender("uncached", "uncached", self._as_asked(sampling)))

    def of_ode(self, sampling: Sampling) -> Sample:
        """Return the samples of the probability-flow ODE, solved to the end from the same noise."""
        return self._drawn("ode", sampling, Contender("ode", "solver", solved(self._as_asked(sampling))))

    def expect(self, contender: Contender) -> None:
        """Refuse a solver whose samples are others, where the distance to the uncached ones is asked for.

        Raises:
            ValueError: Unless both follow the ODE, or another metric is asked for.
        """
        noisy = contender.sampling.solver.noises_per_step or self.bench.sampling.solver.noises_per_step
        if self.metric == "relative_l2" and contender.kind == "solver" and noisy:
            raise ValueError("its samples are others than the uncached ones: set `metric` sw, or that of `evaluate`")

    def measure(self, contender: Contender, series: Tensor) -> Damage:
        """Measure samples ``(n, N, M)`` against as many of the same seed.

        Raises:
            ValueError: For a metric that cannot be taken.
        """
        sampling = contender.sampling
        if self.metric == "relative_l2":
            found = relative_l2(series, self.uncached(sampling).series[: len(series)])
            return Damage(found["relative_l2"], found["relative_l2_two_se"] / 2, found["relative_l2_upper"])
        if self.metric == "sw":
            own_ode = contender.kind == "solver" and not sampling.solver.noises_per_step
            return self.change(series, self.of_ode(sampling) if own_ode else self.uncached(sampling))
        ours, known = self._named(series), self.score(self.uncached(sampling), len(series))
        scale = max(abs(known.value or 0.0), 1e-300)
        value = abs((ours.value or 0.0) - (known.value or 0.0)) / scale
        if self.metric not in LEARNT:  # whose errors are over channels or steps
            return Damage(value, math.nan, value)
        error = math.hypot(ours.value_two_se or 0.0, known.value_two_se or 0.0) / 2 / scale
        return Damage(value, error, value + _quantile(REPETITIONS) * error)

    def change(self, series: Tensor, base: Sample) -> Damage:
        """Return the relative change of the sliced Wasserstein distance to the training set, up or down.

        In time or in frequency, whichever is larger.
        """
        assert self.evaluator is not None
        ours, known = self.evaluator.influence(series), self.influence(base, len(series))
        found = [relative_change(ours[domain], known[domain]) for domain in DOMAINS]
        value, error = max((abs(change), error) for change, error in found)
        quantile = _quantile(len(series))
        return Damage(value, error, max(abs(change) + quantile * error for change, error in found))

    def drift(self, sampling: Sampling) -> Damage:
        """Return the change from the uncached samples to those of the ODE solved to the end.

        Other samples, so that luck is a part of it and its error wide.
        """
        ours, base = self.of_ode(sampling), self.uncached(sampling)
        return self.change(ours.series[: sampling.num_samples], base)

    def _as_asked(self, sampling: Sampling) -> Sampling:
        """Return how the uncached samples are drawn, so many and of this seed."""
        return replace(self.bench.sampling, num_samples=sampling.num_samples, seed=sampling.seed)

    def _drawn(self, name: str, sampling: Sampling, contender: Contender) -> Sample:
        key = name, sampling.seed
        if key not in self.known or len(self.known[key].series) < sampling.num_samples:
            run = Run(contender)
            self.bench.draw(run)
            assert run.series is not None
            self.known[key] = Sample(name, sampling.seed, run.series, run.seconds[0])
        return self.known[key]

    def _influence(self, base: Sample, count: int) -> dict[Domain, Influence]:
        assert self.evaluator is not None
        return self.evaluator.influence(base.series[:count])

    def _score(self, base: Sample, count: int) -> Score:
        return self._named(base.series[:count])

    def _named(self, series: Tensor) -> Score:
        """Take the metric that was asked for by name."""
        assert self.evaluator is not None
        repetitions = REPETITIONS if self.metric in LEARNT else 1
        score = self.evaluator.scores(series, EvaluateSettings((self.metric,), repetitions=repetitions))[self.metric]
        if score.value is None:
            raise ValueError(f"{self.metric}: {score.note}; set `metric` to another, or `sampling.num_samples`")
        return score


def _quantile(count: int) -> float:
    """Return how many standard errors of a mean over so many draws it is below with 95 % certainty."""
    return student_quantile(max(1, count - 1), within=0.9)
