"""The only sampling loop: from noise to tokens, one solver step after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import InitVar, dataclass, field
from functools import partial
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.diffusion.score import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.classifier_free import ClassifierFree
from lightning_freqdiff.sampling.conditions import Conditions, Label, of_labels
from lightning_freqdiff.sampling.constraints import Constraint
from lightning_freqdiff.sampling.grids import Grid, time_grid
from lightning_freqdiff.sampling.guidance import Guidance, Guided
from lightning_freqdiff.sampling.noise import CONSTRAINT_STREAM, normal_stream
from lightning_freqdiff.sampling.solvers import EulerMaruyama, Solver, plan
from lightning_freqdiff.spectral import Codec


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
        return self.num_steps * self.solver.calls_per_step

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
) -> Tensor:
    """Draw the samples of a work unit.

    Args:
        score: Score function, cached or not.
        sde: Forward process.
        codec: Layout and units of the tokens; its device is where the work is done.
        unit: Which samples.
        sampling: Solver, steps and grid, and what is known of the samples.
        on_step: Called with the number of each step once it is queued.

    Returns:
        Standardised tokens ``(count, K, F)`` at ``t = ε``.
    """
    solver, scale = sampling.solver, codec.noise_scale
    times = time_grid(sde, sampling.num_steps, sampling.grid, score.calibration)
    steps = plan(sde, times, scale.device)
    shape = (unit.count, scale.shape[0], scale.shape[1])
    noise = normal_stream(unit.seed, unit.first, shape, scale.device)
    known = sampling.condition
    condition = NOTHING if known is None else known.rows(unit.first, unit.count).to(scale.device)
    calls, noisy = solver.call_times(times), solver.noises_per_step > 0
    trajectory = Trajectory(
        calls, solver.calls_per_step, shape, unit.seed, unit.first, condition=condition, noisy=noisy
    )
    z, constraint = steps[0].now.sigma * scale * next(noise), sampling.constraint
    guidance = None if sampling.guidance is None or not sampling.guidance.acts else sampling.guidance
    guided = None if guidance is None else Guided(score, guidance)
    score = guided or score
    with score.frozen():
        score.start(trajectory)
        affine = [row for step in steps if (row := solver.affine(step)) is not None]
        alone = len(affine) == len(steps) and guided is None and constraint is None
        controller = score.controller(affine) if alone else None
        if controller is not None:
            return controller(z, noise, on_step)
        ask = partial(score, condition=condition)
        more = normal_stream(unit.seed, unit.first, shape, scale.device, CONSTRAINT_STREAM)
        state = solver.begin(codec, sde)
        for i, step in enumerate(steps):
            drawn = list(islice(noise, solver.noises_per_step))
            z, state = solver.step(ask, z, step, scale, drawn, state)
            if constraint is not None:
                z = constraint.apply(z, step.then, condition, codec, next(more))
            if on_step is not None:
                on_step(i)
    if guided is not None:
        guided.expect_sane(solver.calls_per_step)
    return z
