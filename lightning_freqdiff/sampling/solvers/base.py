"""What a solver is: one reverse-time step, knowing the score only as a function."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score_function import Affine, ScoreFunction
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.grids import Grid, time_grid


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


Ask = Callable[[Tensor, Tensor], Tensor]
"""The score of tokens ``(B, K, F)`` at a time, a scalar, with all that is known of the samples."""


class Solver(ABC):
    """A reverse-time integrator. It keeps nothing: what it must remember it returns as its state.

    Attributes:
        calibrated: Whether it works with what ``calibrate`` fitted to the model.
    """

    calibrated: ClassVar[bool] = False
    calls_per_step: int = 1
    noises_per_step: int = 0

    def times(self, sde: SDE, num_steps: int, grid: Grid, calibration: Mapping[str, Tensor]) -> Tensor:
        """Return the times ``(num_steps + 1,)`` that the steps are between, float64; see ``grids.py``.

        Args:
            sde: Forward process.
            num_steps: How many steps.
            grid: Which of the grids, for solvers that have none of their own.
            calibration: What ``calibrate`` fitted to the model.
        """
        return time_grid(sde, num_steps, grid, calibration)

    def begin(self, codec: Codec, sde: SDE, steps: Sequence[Step], calibration: Mapping[str, Tensor]) -> Any:
        """Return the state for the first step: what a solver has to know beside tokens and score.

        Args:
            codec: Units of the tokens, such as ``noise_scale`` and ``variance`` of each coordinate.
            sde: Forward process.
            steps: All that will be taken.
            calibration: What ``calibrate`` fitted to the model.
        """
        return None

    @abstractmethod
    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: Any
    ) -> tuple[Tensor, Any]:
        """Take one step.

        Args:
            score: The score at a time; knows the condition, cache and guidance of the run.
            z: Tokens ``(B, K, F)`` at ``step.now``.
            step: Where from and where to.
            scale: ``Λ``, ``(K, F)``.
            noises: ``noises_per_step`` standard normal tensors ``(B, K, F)``, not yet scaled by ``Λ``.
            state: What :meth:`begin` returned, then what the previous step did.

        Returns:
            Tokens at ``step.then``, and the state for the next step.
        """

    def calls(self, num_steps: int) -> int:
        """Return how many calls of the network a sample takes in so many steps."""
        return num_steps * self.calls_per_step

    def rounds(self, num_steps: int) -> int:
        """Return how many of them there are one after the other."""
        return self.calls(num_steps)

    def affine(self, step: Step) -> Affine | None:
        """Return ``(a, b, c)`` where a step is ``z' = a z + b Λ eps + c Λ ξ``, or ``None`` where it is not so simple.

        What a cache needs in order to take many steps at once.
        """
        return None

    def call_times(self, times: Tensor) -> Tensor:
        """Return the time of every network call on a grid ``(T + 1,)``, in order: ``(T * calls_per_step,)``."""
        return times[:-1].repeat_interleave(self.calls_per_step)


class ParallelSolver(Solver):
    """A solver that runs whole trajectories, several calls at once.

    Attributes:
        over_ranks: Whether processes share out the calls of the same samples.
    """

    over_ranks: bool = False

    @abstractmethod
    def at_once(
        self,
        score: ScoreFunction,
        z: Tensor,
        steps: Sequence[Step],
        scale: Tensor,
        condition: Condition,
        on_step: Callable[[int], None] | None = None,
    ) -> Tensor:
        """Run a whole trajectory.

        Args:
            score: The model, to be asked about as many rows as it takes, at times of their own.
            z: Tokens ``(B, K, F)`` at the start.
            steps: All steps.
            scale: ``Λ``, ``(K, F)``.
            condition: What is known of the samples.
            on_step: Called with the number of each round of calls.

        Returns:
            Tokens at the end.
        """


def predict_eps(score: Ask, z: Tensor, level: Level, scale: Tensor) -> Tensor:
    """Ask for the noise prediction ``eps = -σΛ score``, ``(B, K, F)``."""
    return score(z, level.t) * (-level.sigma * scale)


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
