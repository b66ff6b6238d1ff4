"""What a solver asks: the score of noisy tokens along a trajectory, whoever answers.

A model answers (:class:`~lightning_freqdiff.diffusion.score.Score`), a cache in its place, guidance around either.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition


@dataclass(frozen=True)
class Trajectory:
    """What a sampling run is about to ask of a score function.

    Args:
        times: The time of every network call, in order, ``(calls,)``, float64, on the CPU.
        calls_per_step: Network calls that one solver step makes.
        shape: Shape of the tokens, ``(B, K, F)``.
        seed: Seed of the run.
        first: Index of the batch's first sample, or runs of indices.
        condition: What is known of the samples.
        copies: How often each sample is in the batch, the whole of it in a row, as guidance may have it.
        noisy: Whether the solver's steps add noise.
    """

    times: Tensor
    calls_per_step: int
    shape: tuple[int, int, int]
    seed: int
    first: int | Sequence[tuple[int, int]]
    condition: Condition = NOTHING
    copies: int = 1
    noisy: bool = True


Affine = tuple[float, float, float]
"""Coefficients ``(a, b, c)`` of a solver step ``z' = a z + b Λ eps + c Λ ξ``."""

Controller = Callable[[Tensor, Iterator[Tensor], "Callable[[int], None] | None"], Tensor]
"""Runs a whole trajectory in place of the loop: from tokens ``(B, K, F)`` at its start to those at its end, given a
draw of noise for each step (if any step adds noise), and what to call with the number of each step."""


class ScoreFunction(ABC):
    """Anything a solver can ask for ``∇ log p_t(z)``.

    Attributes:
        calibration: What ``calibrate`` fitted to the network behind it, by name; see ``checkpoint.py``.
        fixed: Whether every call of a trajectory must be about the very rows that were announced.
        differentiable: Whether gradients go through it.
        stepwise: Whether it has to be asked at the times that were announced, one after the other.
    """

    calibration: Mapping[str, Tensor] = MappingProxyType({})
    fixed: bool = False
    differentiable: bool = True
    stepwise: bool = False

    def start(self, trajectory: Trajectory) -> None:  # noqa: B027 (most score functions remember nothing)
        """Be told that a new trajectory begins; what was remembered of the last one is dropped."""

    @abstractmethod
    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Return the score of tokens ``(B, K, F)`` at time ``t``, a scalar or ``(B,)``; same shape out."""

    def controller(self, steps: list[Affine]) -> Controller | None:
        """Return what runs the trajectory that was started, where all its steps are affine and it can be done.

        Asked only where nothing else has to act at every step. ``None``: the loop goes step by step.
        """
        return None

    def believed(self, t: Tensor) -> Tensor | None:
        """Return how far to believe it where values are known, ``(n,)``: :class:`Correction`; ``None``: all of it."""
        return None

    def frozen(self) -> AbstractContextManager[None]:
        """Let what is derived of weights be kept inside a ``with`` block, in which they do not change."""
        return nullcontext()
