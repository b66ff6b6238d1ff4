"""The only sampling loop: from noise to tokens, one solver step after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.caching import CachedScore
from lightning_freqdiff.diffusion.score import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.networks.base import embed_at_once
from lightning_freqdiff.networks.kernels.cpu import cast_once
from lightning_freqdiff.sampling.noise import normal_stream
from lightning_freqdiff.sampling.solvers import EulerMaruyama, Grid, Solver, plan, time_grid


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
        grid: Placement of the steps: uniform in t, in log-SNR, or EDM's rho = 7.
        seed: Seed of the run. Sample i of a seed is the same for any batch size and number of devices.
        batch_size: Samples computed together.
    """

    num_samples: int = 64
    num_steps: int = 1000
    solver: Solver = field(default_factory=EulerMaruyama)
    grid: Grid = "uniform"
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        for name in ("num_samples", "num_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}: set `sampling.{name}`")
        if self.seed < 0:
            raise ValueError(f"expected seed >= 0, got {self.seed}: set `sampling.seed`")

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
    noise_scale: Tensor,
    unit: WorkUnit,
    sampling: Sampling,
    on_step: Callable[[int], None] | None = None,
) -> Tensor:
    """Draw the samples of a work unit.

    Args:
        score: Score function, cached or not.
        sde: Forward process.
        noise_scale: ``Λ``, ``(K, F)``; its device is where the work is done.
        unit: Which samples.
        sampling: Solver, steps and grid.
        on_step: Called with the number of each step once it is queued.

    Returns:
        Standardised tokens ``(count, K, F)`` at ``t = ε``.
    """
    times = time_grid(sde, sampling.num_steps, sampling.grid)
    with cast_once(), embed_at_once(times):
        return _run(score, sde, noise_scale, unit, sampling, times, on_step)


def _run(
    score: ScoreFunction,
    sde: SDE,
    noise_scale: Tensor,
    unit: WorkUnit,
    sampling: Sampling,
    times: Tensor,
    on_step: Callable[[int], None] | None,
) -> Tensor:
    solver, device = sampling.solver, noise_scale.device
    steps = plan(sde, times, device)
    shape = (unit.count, noise_scale.shape[0], noise_scale.shape[1])
    noise = normal_stream(unit.seed, unit.first, shape, device)
    score.start(Trajectory(solver.call_times(times), solver.calls_per_step, shape, unit.seed, unit.first))
    z, state = steps[0].now.sigma * noise_scale * next(noise), None
    if isinstance(score, CachedScore):
        affine = [row for step in steps if (row := solver.affine(step)) is not None]
        leapt = score.integrate(z, affine, noise, on_step) if len(affine) == len(steps) else None
        if leapt is not None:
            return leapt
    for i, step in enumerate(steps):
        drawn = list(islice(noise, solver.noises_per_step))
        z, state = solver.step(score, z, step, noise_scale, drawn, state)
        if on_step is not None:
            on_step(i)
    return z
