"""The mechanism that every cache shares: a policy between the solver and the network, and a ledger of what it did."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.caching.presets import Presets
from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Affine, Controller, ScoreFunction, Trajectory


@dataclass(frozen=True)
class Call:
    """One question of the solver.

    Args:
        step: Number of the solver step, from 0.
        t: Time of the call, a scalar on the device.
        last: Whether this is the last step.
        time: Time of the call as a host number, in double precision.
        condition: What is known of the samples.
    """

    step: int
    t: Tensor
    last: bool
    time: float
    condition: Condition = NOTHING


class Outcome(NamedTuple):
    """What a policy answers, and what it cost. Tensors without a value for a sample hold NaN there, or are ``None``.

    Attributes:
        eps: Noise prediction, ``(B, K, F)``.
        tokens: Tokens that were recomputed, ``(B,)``.
        work: Share of a full network call's FLOPs, ``(B,)``.
        error: Estimate of the mean squared error in the ``eps`` of the tokens that were reused, ``(B,)``.
        intensity: Event intensity, where the network was called, ``(B,)``.
        called: Whether the network ran, ``(B,)``; if not given, where tokens were recomputed.
    """

    eps: Tensor
    tokens: Tensor
    work: Tensor
    error: Tensor | None = None
    intensity: Tensor | None = None
    called: Tensor | None = None

    @classmethod
    def whole(cls, eps: Tensor, called: Tensor | float, error: Tensor | None = None, looked: float = 0.0) -> Outcome:
        """Make that of samples for which the whole network was called, or none of it, after a look at some."""
        called = eps.new_zeros(len(eps)) + called
        return cls(eps, called * eps.shape[1], called + looked, error)


Integrate = Callable[[Trajectory, "Ledger", Tensor, Iterator[Tensor], "Callable[[int], None] | None"], Tensor]
"""A :data:`~lightning_freqdiff.diffusion.score.Controller` that is told the trajectory and the ledger to note in."""


class CachePolicy(Presets, ABC):
    """When to run how much of the network. Settings only: what changes is in the state it is given and returns."""

    @abstractmethod
    def begin(self, score: Score, trajectory: Trajectory) -> Any:
        """Return the state for a new trajectory, one for each call position of a step."""

    @abstractmethod
    def evaluate(self, score: Score, z: Tensor, call: Call, state: Any) -> tuple[Outcome, Any]:
        """Answer a call for tokens ``z``, ``(B, K, F)``, and return the state for the next."""

    def integrator(self, score: Score, times: Tensor, steps: list[Affine]) -> Integrate | None:
        """Make what runs whole trajectories of these affine steps, for policies that can take many at once.

        Args:
            score: The model.
            times: Times of the steps, ``(T,)``, float64.
            steps: Their coefficients, see ``Solver.affine``.

        Returns:
            The function that does it, or ``None`` where trajectories must be run step by step.
        """
        return None


STATISTICS = (
    "samples",
    "called",
    "tokens",
    "work",
    "intensity",
    "intensity_count",
    "error",
    "error_square",
    "error_count",
)


@dataclass
class Ledger:
    """Sums over samples for every call of a trajectory, kept on the device until they are asked for.

    Args:
        calls: Calls in a trajectory.
        tokens: Tokens of a series, ``K``.
        device: Where the sums are kept.
        memory: Bytes that a cache held which keeps no state between calls.
    """

    calls: int
    tokens: int
    device: torch.device
    memory: int = 0
    sums: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.sums = torch.zeros(self.calls, len(STATISTICS), dtype=torch.float64, device=self.device)

    def add(self, index: int, outcome: Outcome) -> None:
        """Add what happened in call number ``index``."""
        unknown = torch.full_like(outcome.work, torch.nan)
        intensity, error = (unknown if x is None else x for x in (outcome.intensity, outcome.error))
        measured, estimated = ~intensity.isnan(), ~error.isnan()
        intensity, error = intensity.nan_to_num(), error.nan_to_num()
        columns = (
            torch.ones_like(outcome.tokens),
            outcome.tokens > 0 if outcome.called is None else outcome.called,
            outcome.tokens,
            outcome.work,
            intensity,
            measured,
            error,
            error.square(),
            estimated,
        )
        self.sums[index] += torch.stack([column.double() for column in columns], dim=1).sum(0)

    def skip(self, indices: list[int], samples: int) -> None:
        """Note that calls of these numbers were skipped for all samples."""
        self.sums[indices, 0] += samples

    def curves(self) -> dict[str, list[float]]:
        """Return the means over samples for every call; NaN where nothing was measured."""
        sums = dict(zip(STATISTICS, self.sums.cpu().unbind(1), strict=True))
        count = sums["samples"]
        error = sums["error"] / sums["error_count"]
        variance = (sums["error_square"] / sums["error_count"] - error.square()).clamp(min=0)
        curves = {
            "called": sums["called"] / count,
            "recomputed": sums["tokens"] / count / self.tokens,
            "hit_rate": 1 - sums["tokens"] / count / self.tokens,
            "work": sums["work"] / count,
            "intensity": sums["intensity"] / sums["intensity_count"],
            "probe_error": error.sqrt(),
            # Two standard errors of the mean square, carried over to its root.
            "probe_error_two_se": (variance / sums["error_count"]).sqrt() / error.sqrt().clamp(min=1e-12),
        }
        return {name: values.tolist() for name, values in curves.items()}

    def totals(self) -> dict[str, float]:
        """Return the means over samples and calls; ``network_calls`` is per sample."""
        sums = dict(zip(STATISTICS, self.sums.sum(0).tolist(), strict=True))
        count = sums["samples"] or 1.0
        return {
            "network_calls": self.calls * sums["called"] / count,
            "calls_skipped": self.calls * (1 - sums["called"] / count),
            "hit_rate": 1 - sums["tokens"] / count / self.tokens,
            "flops_fraction": sums["work"] / count,
            "probe_error": (sums["error"] / sums["error_count"]) ** 0.5 if sums["error_count"] else float("nan"),
        }


class CachedScore(ScoreFunction):
    """A score function whose network is asked through a policy.

    Args:
        score: The model's own score.
        policy: When to run how much of it.
        calls: Calls in a trajectory, which the ledger is made for.
    """

    fixed = True
    differentiable = False
    stepwise = True

    def __init__(self, score: Score, policy: CachePolicy, calls: int) -> None:
        self.score, self.policy, self.calibration = score, policy, score.calibration
        self.ledger = Ledger(calls, *score.noise_scale.shape[:1], device=score.noise_scale.device)
        self._trajectory: Trajectory | None = None
        self._states: list[Any] = []
        self._index = 0
        self._integrator: tuple[list[Affine], Integrate | None] | None = None

    def start(self, trajectory: Trajectory) -> None:
        """Drop everything and begin anew, with one state for each call position of a step."""
        if bool((trajectory.times.diff() > 0).any()):
            raise ValueError(
                "expected a trajectory from noise to data, got one that goes back in time, where no cache can "
                "follow: leave the cache out of `trainer.callbacks`, or set `sampling.constraint.resamplings` 1"
            )
        if len(trajectory.times) != self.ledger.calls:
            raise ValueError(
                f"expected a trajectory of {self.ledger.calls} network calls, got {len(trajectory.times)}: attach "
                "the cache anew after changing `sampling.num_steps` or `sampling.solver`"
            )
        self.score.start(trajectory)
        self._trajectory, self._index = trajectory, 0
        self._states = [self.policy.begin(self.score, trajectory) for _ in range(trajectory.calls_per_step)]

    @torch.no_grad()
    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Answer through the policy."""
        trajectory = self._trajectory
        if trajectory is None or tuple(z.shape) != trajectory.shape or self._index >= len(trajectory.times):
            raise ValueError(
                f"expected calls on tokens of shape {trajectory and trajectory.shape} within the trajectory that was "
                f"started, got {tuple(z.shape)} at call {self._index}: call start() first"
            )
        per_step, times = trajectory.calls_per_step, trajectory.times
        step, position = divmod(self._index, per_step)
        call = Call(step, t, self._index + per_step >= len(times), float(times[self._index]), condition)
        outcome, self._states[position] = self.policy.evaluate(self.score, z, call, self._states[position])
        self.ledger.add(self._index, outcome)
        self._index += 1
        return self.score.from_eps(outcome.eps, self.score.coefficients(t))

    def believed(self, t: Tensor) -> Tensor | None:
        """Return what the model's own score does."""
        return self.score.believed(t)

    def controller(self, steps: list[Affine]) -> Controller | None:
        """Return what takes many steps at once, where the policy can."""
        trajectory = self._trajectory
        assert trajectory is not None
        if self._integrator is None or self._integrator[0] != steps:  # the same for all batches of a run
            self._integrator = (steps, self.policy.integrator(self.score, trajectory.times, steps))
        integrate = self._integrator[1]
        return None if integrate is None else partial(integrate, trajectory, self.ledger)

    def frozen(self) -> AbstractContextManager[None]:
        """Freeze the model."""
        return self.score.frozen()

    def memory(self) -> int:
        """Return the bytes that the present states hold, or that a run as a whole held."""
        return max(self.ledger.memory, sum(bytes_of(state) for state in self._states))


def bytes_of(value: Any) -> int:
    """Count the bytes of the tensors in a state."""
    if isinstance(value, Tensor):
        return value.element_size() * value.nelement()
    if isinstance(value, (list, tuple)):
        return sum(bytes_of(entry) for entry in value)
    if isinstance(value, dict):
        return bytes_of(list(value.values()))
    return sum(bytes_of(entry) for entry in vars(value).values()) if hasattr(value, "__dict__") else 0
