"""Constraints: what must hold of the tokens after every solver step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Self

from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.guidance import Guidance
from lightning_freqdiff.sampling.solvers import Level


class Constraint(ABC):
    """Moves tokens to where something holds, such as values that were observed.

    Attributes:
        keeps_limits: Whether what it does at the end leaves other values where they are.
    """

    keeps_limits: ClassVar[bool] = True

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Constraint | None:
        """Return what acts on a trajectory of these samples; ``None`` where there is nothing to do.

        What is returned may be a guidance, too, and then has the score as well as the tokens after each step.

        Args:
            codec: To series in the data's units and back.
            sde: Forward process.
            condition: What is known of the samples.
        """
        return self

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Return series ``(B, N, M)`` in the data's units with what must hold of them to the last digit."""
        return series

    def legs(self, num_steps: int) -> list[tuple[int, int]]:
        """Return the stretches of steps ``[start, stop)`` that are taken one after the other, by default one of all.

        One that starts before the last has stopped goes back in time: noise is added in between.
        """
        return [(0, num_steps)]

    @abstractmethod
    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        """Return the tokens to go on with, ``(B, K, F)``.

        Args:
            z: Standardised tokens at ``level``, ``(B, K, F)``.
            level: Time, ``α`` and ``σ`` that a step has just reached.
            condition: What is known of the samples.
            codec: To series in the data's units and back.
            noise: Standard normal numbers of these samples, not yet scaled by ``Λ``, ``(B, K, F)``.
        """


class Steering(Guidance, Constraint):
    """What acts on a trajectory that has begun by both: it hears the solver's calls, and what each step came to."""

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Self:
        """Return itself, for it was begun."""
        return self
