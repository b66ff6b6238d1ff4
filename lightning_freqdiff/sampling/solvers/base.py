"""What a solver is: one reverse-time step, knowing the score only as a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from lightning_freqdiff.diffusion.score import ScoreFunction
from lightning_freqdiff.diffusion.sde import SDE, T_MIN

Grid = Literal["uniform", "logsnr", "edm"]
EDM_RHO = 7.0


@dataclass(frozen=True)
class Level:
    """A time and its scalar coefficients, worked out in float64 and used as host numbers."""

    t: Tensor
    alpha: float
    sigma: float
    drift: float
    diffusion: float

    @property
    def ratio(self) -> float:
        """Noise-to-signal ratio ``σ/α``, the time variable of EDM."""
        return self.sigma / self.alpha


@dataclass(frozen=True)
class Step:
    """One solver step, from the level ``now`` down to the level ``then``.

    ``size`` is the positive time between them, and ``last`` marks the step that adds no noise.
    """

    now: Level
    then: Level
    size: float
    last: bool


class Solver(ABC):
    """A reverse-time integrator. It keeps nothing: what it must remember it returns as its state."""

    calls_per_step: int = 1
    noises_per_step: int = 0

    @abstractmethod
    def step(
        self, score: ScoreFunction, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: Any
    ) -> tuple[Tensor, Any]:
        """Take one step.

        Args:
            score: Score function.
            z: Tokens ``(B, K, F)`` at ``step.now``.
            step: Where from and where to.
            scale: ``Λ``, ``(K, F)``.
            noises: ``noises_per_step`` standard normal tensors ``(B, K, F)``, not yet scaled by ``Λ``.
            state: What the previous step returned, ``None`` at first.

        Returns:
            Tokens at ``step.then``, and the state for the next step.
        """

    def affine(self, step: Step) -> tuple[float, float, float] | None:
        """Return ``(a, b, c)`` where a step is ``z' = a z + b Λ ξ̂ + c Λ ξ``, or ``None`` where it is not so simple.

        What a cache needs in order to take many steps at once.
        """
        return None

    def call_times(self, times: Tensor) -> Tensor:
        """Return the time of every network call on a grid ``(T + 1,)``, in order: ``(T * calls_per_step,)``."""
        return times[:-1].repeat_interleave(self.calls_per_step)


def predict_noise(score: ScoreFunction, z: Tensor, level: Level, scale: Tensor) -> Tensor:
    """Ask for the noise prediction ``ξ̂ = -σΛ score``, ``(B, K, F)``."""
    return score(z, level.t) * (-level.sigma * scale)


def time_grid(sde: SDE, num_steps: int, grid: Grid = "uniform") -> Tensor:
    """Place ``num_steps + 1`` times from 1 down to ``ε``.

    Args:
        sde: Forward process.
        num_steps: Number of solver steps.
        grid: ``uniform`` in ``t``; ``logsnr``, uniform in ``log(α/σ)``; ``edm``, uniform in
            ``(σ/α)^{1/7}`` (Karras et al., arXiv 2206.00364, equation 5).

    Returns:
        Decreasing times, ``(num_steps + 1,)``, float64.
    """
    if num_steps < 1:
        raise ValueError(f"expected num_steps >= 1, got {num_steps}: set `sampling.num_steps`")
    if grid not in get_args(Grid):
        raise ValueError(f"expected a grid of {', '.join(get_args(Grid))}, got {grid!r}: set `sampling.grid`")
    ends = torch.tensor([1.0, T_MIN], dtype=torch.float64)
    fraction = torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)
    if grid == "uniform":
        times = ends[0] + fraction * (ends[1] - ends[0])
    else:
        high, low = sde.log_snr(ends)
        wanted = high + fraction * (low - high)
        if grid == "edm":
            start, end = (-high / EDM_RHO).exp(), (-low / EDM_RHO).exp()
            wanted = -EDM_RHO * (start + fraction * (end - start)).log()
        times = sde.time_at(wanted)
    times[0], times[-1] = ends
    return times


def plan(sde: SDE, times: Tensor, device: torch.device | str) -> list[Step]:
    """Work out every step of a time grid ``(T + 1,)`` once, before the loop."""
    on_device = times.to(device, torch.float32)
    columns = [on_device.unbind()] + [f(times).tolist() for f in (sde.alpha, sde.sigma, sde.drift, sde.diffusion)]
    levels = [Level(*row) for row in zip(*columns, strict=True)]
    sizes = (times[:-1] - times[1:]).tolist()
    return [
        Step(now, then, size, last=i == len(sizes) - 1)
        for i, (now, then, size) in enumerate(zip(levels[:-1], levels[1:], sizes, strict=True))
    ]
