"""The only sampling loop: from noise to tokens, one solver step after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.classifier_free import ClassifierFree
from lightning_freqdiff.sampling.conditions import Conditions, Label, of_labels
from lightning_freqdiff.sampling.constraints import Constraint
from lightning_freqdiff.sampling.grids import Grid
from lightning_freqdiff.sampling.guidance import Guidance, Guided, Together
from lightning_freqdiff.sampling.noise import CONSTRAINT_STREAM, Numbers, normal_stream
from lightning_freqdiff.sampling.solvers import EulerMaruyama, Level, ParallelSolver, Solver, plan


class WorkUnit(NamedTuple):
    """Samples ``first ... first + count - 1`` of a seed: the unit in which sampling is shared out."""

    seed: int
    first: int
    count: int  # pyright: ignore[reportIncompatibleMethodOverride]


@dataclass(frozen=True)
class Sampling:
    """How many samples to draw, and how.

    Args:
        num_samples: Samples in all; exactly this many are returned.
        num_steps: Solver steps.
        solver: Reverse-time solver.
        grid: Placement of the steps: uniform in t, in log-SNR, EDM's rho = 7, or tuned to the model by calibrate.
        seed: Seed of the run. Sample i of a seed is the same for any batch size and number of devices.
        batch_size: Samples computed together.
        condition: What is known of each sample, for models that were trained with conditions.
        guidance: What is done to the score before the solver sees it.
        constraint: What must hold after every step.
        limits: Whether values that training series meet exactly and never pass, such as 0, are met by samples, too;
            rules of a constraint come first, and have none beside them.
        label: Class to draw, by its name in the training data or its number; or a list of them, one a sample.
        guidance_scale: How far to go towards the class, and away from what is drawn without one; 1 is no guidance.
    """

    num_samples: int = 64
    num_steps: int = 1000
    solver: Solver = field(default_factory=EulerMaruyama)
    grid: Grid = "uniform"
    seed: int = 0
    batch_size: int = 64
    condition: Conditions | None = None
    guidance: Guidance | None = None
    constraint: Constraint | None = None
    limits: bool = True
    label: InitVar[Label] = None
    guidance_scale: InitVar[float | None] = None

    def __post_init__(self, label: Label, guidance_scale: float | None) -> None:
        for name in ("num_samples", "num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}: set `sampling.{name}`")
        if self.seed < 0:
            raise ValueError(f"expected seed >= 0, got {self.seed}: set `sampling.seed`")
        # The short ways to say what is said most often.
        short_ways = ("label", label, "condition"), ("guidance_scale", guidance_scale, "guidance")
        for short, given, long in short_ways:
            if given is not None and getattr(self, long) is not None:
                raise ValueError(f"expected `sampling.{short}` or `sampling.{long}`, got both: leave one of them out")
        if label is not None:
            object.__setattr__(self, "condition", of_labels(label))
        if guidance_scale is not None:
            object.__setattr__(self, "guidance", ClassifierFree(guidance_scale))

    @property
    def num_calls(self) -> int:
        """Network calls in a trajectory, where nothing is skipped."""
        return sum(self.solver.calls(stop - start) for start, stop in self._legs())

    @property
    def num_rounds(self) -> int:
        """Network calls one after the other."""
        return sum(self.solver.rounds(stop - start) for start, stop in self._legs())

    def _legs(self) -> list[tuple[int, int]]:
        return [(0, self.num_steps)] if self.constraint is None else self.constraint.legs(self.num_steps)

    def known(self, unit: WorkUnit) -> tuple[Condition, Numbers]:
        """Return what is known of the samples of a unit, on the CPU, and the indices that they draw noise under."""
        if self.condition is None:
            return NOTHING, [(unit.first, unit.count)]
        return self.condition.rows(unit.first, unit.count), self.condition.numbers(unit.first, unit.count)

    def finish(self, series: Tensor, unit: WorkUnit) -> Tensor:
        """Return the series of a unit, ``(count, N, M)``, with what must hold of them to the last digit."""
        if self.guidance is None and self.constraint is None:
            return series
        condition = self.known(unit)[0].to(series.device)
        for one in (self.guidance, self.constraint):
            series = series if one is None else one.finish(series, condition)
        return series

    @property
    def limited(self) -> bool:
        """Whether samples are put to limits that series meet: not after a constraint that would move them again."""
        return self.limits and (self.constraint is None or self.constraint.keeps_limits)

    @property
    def calibrated(self) -> bool:
        """Whether samples depend on what ``calibrate`` fitted to the model, with or without a cache."""
        return self.solver.calibrated or self.grid == "tuned"

    def units(self, ranges: Iterable[tuple[int, int]] | None = None) -> list[WorkUnit]:
        """Cut index ranges ``[start, stop)``, by default all samples, into units of ``batch_size``."""
        return [
            WorkUnit(self.seed, first, min(self.batch_size, stop - first))
            for start, stop in ([(0, self.num_samples)] if ranges is None else ranges)
            for first in range(start, stop, self.batch_size)
        ]


@torch.no_grad()
def sample(
    score: ScoreFunction,
    sde: SDE,
    codec: Codec,
    unit: WorkUnit,
    sampling: Sampling,
    on_step: Callable[[int], None] | None = None,
    times: Tensor | None = None,
) -> Tensor:
    """Draw the samples of a work unit.

    Args:
        score: Score function, cached or not.
        sde: Forward process.
        codec: Layout and units of the tokens; its device is where the work is done.
        unit: Which samples.
        sampling: Solver, steps and grid, and what is known of the samples.
        on_step: Called with the number of each step once it is queued.
        times: Times that the steps are between, ``(T + 1,)``, float64; if not given, as the sampling has it.

    Returns:
        Standardised tokens ``(count, K, F)`` at ``t = ε``.
    """
    solver, scale = sampling.solver, codec.noise_scale
    calibration = score.calibration
    if times is None:
        times = solver.times(sde, sampling.num_steps, sampling.grid, calibration)
    steps = plan(sde, times, scale.device)
    shape = (unit.count, scale.shape[0], scale.shape[1])
    condition, numbers = sampling.known(unit)
    condition = condition.to(scale.device).measured(codec.logarithm)
    noise = normal_stream(unit.seed, numbers, shape, scale.device)
    z = steps[0].now.sigma * scale * next(noise)
    guides, constraint = _begun(sampling, codec, sde, condition)
    legs = [(0, len(steps))] if constraint is None else constraint.legs(len(steps))
    calls = torch.cat([solver.call_times(times[start : stop + 1]) for start, stop in legs])
    noisy = solver.noises_per_step > 0
    trajectory = Trajectory(calls, solver.calls_per_step, shape, unit.seed, numbers, condition=condition, noisy=noisy)
    guided: list[Guided] = []
    for guide in guides:
        score = Guided(score, guide)
        guided.append(score)
    with score.frozen():
        score.start(trajectory)
        affine = [row for step in steps if (row := solver.affine(step)) is not None]
        alone = len(affine) == len(steps) and not guides and constraint is None
        controller = score.controller(affine) if alone else None
        if controller is not None:
            return controller(z, noise, on_step)
        if isinstance(solver, ParallelSolver):
            if score.stepwise or constraint is not None:
                raise ValueError(
                    f"expected {type(solver).__name__} without a cache, guidance or a constraint, which go step by "
                    "step: set `sampling.solver` to another, or leave them out"
                )
            return solver.at_once(score, z, steps, scale, condition, on_step)
        ask = partial(score, condition=condition)
        more = normal_stream(unit.seed, numbers, shape, scale.device, CONSTRAINT_STREAM)
        at = 0
        for start, stop in legs:
            if start < at:
                z = _noised(z, steps[at - 1].then, steps[start].now, scale * next(more))
            state = solver.begin(codec, sde, steps, calibration)
            for i in range(start, stop):
                drawn = list(islice(noise, solver.noises_per_step))
                z, state = solver.step(ask, z, steps[i], scale, drawn, state)
                if constraint is not None:
                    z = constraint.apply(z, steps[i].then, condition, codec, next(more))
                if on_step is not None:
                    on_step(i)
            at = stop
    for one in guided:
        one.expect_sane(z, solver.calls_per_step)
    return z


def _begun(
    sampling: Sampling, codec: Codec, sde: SDE, condition: Condition
) -> tuple[list[Guidance], Constraint | None]:
    """Return what is done to the score, from inside out, and what is done to tokens after a step."""
    guidance, constraint = sampling.guidance, sampling.constraint
    guidance = guidance and (guidance.begin(codec, sde, condition) if guidance.acts else None)
    constraint = constraint and constraint.begin(codec, sde, condition)
    several = guidance.of if isinstance(guidance, Together) else (guidance,)
    return [one for one in (*several, constraint) if isinstance(one, Guidance)], constraint


def _noised(z: Tensor, now: Level, earlier: Level, noise: Tensor) -> Tensor:
    """Return tokens ``(B, K, F)`` taken back to a noisier level of their trajectory."""
    kept = earlier.alpha / now.alpha
    return kept * z + (earlier.sigma**2 - (kept * now.sigma) ** 2) ** 0.5 * noise
