"""One checkpoint, one noise: draw samples in several ways, timed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.caching import CachedScore
from lightning_freqdiff.evaluation.arithmetic import arithmetic
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Sampling


@dataclass
class Run:
    """What one contender did.

    Args:
        contender: Who.
        seconds: Times of all samples, one for each round.
        series: The samples, ``(n, N, M)``.
        totals: What its cache counted.
        memory: Bytes that its cache held.
    """

    contender: Contender
    seconds: list[float] = field(default_factory=list)
    series: Tensor | None = None
    totals: dict[str, float] = field(default_factory=dict)
    memory: int = 0


class Bench:
    """Draws the same samples in several ways.

    Args:
        module: The model.
        sampling: Number of samples, batch size, seed; solver and steps of the uncached run.
        on_step: Called with the share of the present draw that is done; what it raises ends the draw.
        every: Steps between two such calls.
    """

    def __init__(
        self,
        module: ScoreModule,
        sampling: Sampling,
        on_step: Callable[[float], None] | None = None,
        every: int = 50,
    ) -> None:
        self.module, self.sampling, self.on_step, self.every = module, sampling, on_step, every

    @torch.no_grad()
    def draw(self, run: Run) -> None:
        """Draw all samples once more, timed; the samples are those of every other time.

        Where the network is compiled, a first draw is not timed: it is the compiler's.
        """
        with arithmetic(self.module, run.contender.precision, run.contender.compiled):
            if self.module.score.network.compiled and not run.seconds:
                self._draw(run)
                run.seconds.clear()
            self._draw(run)

    def _draw(self, run: Run) -> None:
        module, sampling, policy = self.module, run.contender.sampling, run.contender.policy
        units = sampling.units()
        calls = sampling.num_calls
        score = module.score if policy is None else CachedScore(module.score, policy, calls)
        parts = []
        self._synchronize()
        since = time.perf_counter()
        for number, unit in enumerate(units):
            parts.append(module.draw(unit, sampling, score, self._watch(number, units, sampling)))
        self._synchronize()
        run.seconds.append(time.perf_counter() - since)
        run.series = torch.cat(parts)
        if isinstance(score, CachedScore):
            run.totals, run.memory = score.ledger.totals(), score.memory()
            run.totals["rounds"] = run.totals["network_calls"]
        else:
            run.totals = {"network_calls": float(calls), "flops_fraction": 1.0, "hit_rate": 0.0}
            run.totals["rounds"] = float(sampling.num_rounds)

    def _watch(self, number: int, units: list[Any], sampling: Sampling) -> Callable[[int], None] | None:
        if self.on_step is None:
            return None
        whole, tell = sampling.num_steps * len(units), self.on_step

        def step(i: int) -> None:
            if (i + 1) % self.every == 0:
                tell((number * sampling.num_steps + i + 1) / whole)

        return step

    def _synchronize(self) -> None:
        if self.module.score.noise_scale.device.type == "cuda":
            torch.cuda.synchronize()

    def single(self, contender: Contender) -> Contender:
        """Return the same contender for one sample, the first."""
        return replace(contender, sampling=replace(contender.sampling, num_samples=1, batch_size=1))


def speedup(seconds: list[float], base: list[float]) -> dict[str, float]:
    """Return the ratio of medians, and the least and greatest ratio of rounds timed one after the other."""
    ratios = [b / s for s, b in zip(seconds, base, strict=False)]
    return {"speedup": median(base) / median(seconds), "speedup_low": min(ratios), "speedup_high": max(ratios)}
