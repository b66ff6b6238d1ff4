"""Guidance: from one score to another, between cache and solver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE

BEYOND = 1e6
"""Training deviations that no series of any data has."""


class Guidance(ABC):
    """Asks a score function in its own way, such as with and without a label.

    Attributes:
        copies: How often each sample is in the batch that the inner score function is asked for, all samples in a row
            before they come again. A cache decides for each row, and so need not know.
        interval: Diffusion times between which it is asked; at others the plain score is followed.
        acts: Whether it changes anything; if not, all is as without it.
        strength: Setting of sampling to lower where series grow beyond all bounds; ``None`` where they cannot.
    """

    copies: int = 1
    interval: tuple[float, float] = (0.0, 1.0)
    acts: bool = True
    strength: ClassVar[str | None] = None

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Guidance | None:
        """Return what guides a trajectory of these samples; ``None`` where there is nothing to do.

        Args:
            codec: To series in the data's units and back.
            sde: Forward process.
            condition: What is known of the samples.
        """
        return self

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Return series ``(B, N, M)`` in the data's units with what must hold of them to the last digit."""
        return series

    @abstractmethod
    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the score to be followed, ``(B, K, F)``.

        Args:
            score: The model's score, through a cache or not; to be asked once, for ``copies * B`` samples.
            z: Tokens, ``(B, K, F)``.
            t: Time, a scalar.
            condition: What is known of the samples.
        """


@dataclass(frozen=True)
class Together(Guidance):
    """Several, from the innermost, which asks the model, to the outermost, which the solver asks.

    Args:
        of: Which.
    """

    of: tuple[Guidance, ...]

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Guidance | None:
        """Begin each."""
        begun = (one.begin(codec, sde, condition) for one in self.of if one.acts)
        return Together(tuple(one for one in begun if one is not None))

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Let each have its word, the outermost the last."""
        for one in self.of:
            series = one.finish(series, condition)
        return series

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Follow the score as it is: the loop asks each by itself."""
        return score(z, t, condition)


class Guided(ScoreFunction):
    """A score function under guidance.

    Args:
        score: What is asked.
        guidance: How.
    """

    stepwise = True

    def __init__(self, score: ScoreFunction, guidance: Guidance) -> None:
        self.score, self.guidance = score, guidance
        self._times: Iterator[float] = iter(())
        self._sane: list[Tensor] = []
        self.differentiable = score.differentiable

    def believed(self, t: Tensor) -> Tensor | None:
        """Return what the score that is guided does."""
        return self.score.believed(t)

    def start(self, trajectory: Trajectory) -> None:
        """Announce the larger batch."""
        copies, (batch, *token) = self.guidance.copies, trajectory.shape
        self._times, self._sane = iter(trajectory.times.tolist()), []
        self.score.start(
            replace(
                trajectory,
                shape=(copies * batch, *token),
                condition=trajectory.condition.repeat(copies),
                copies=copies * trajectory.copies,
            )
        )

    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Return the guided score, within the interval of times in which there is guidance."""
        low, high = self.guidance.interval
        if low <= next(self._times) <= high:
            answer = self.guidance.guide(self.score, z, t, condition)
        elif self.score.fixed and (copies := self.guidance.copies) > 1:
            # What remembers rows from call to call must meet all of them at each.
            answer = self.score(z.repeat(copies, 1, 1), t, condition.repeat(copies))[: len(z)]
        else:
            answer = self.score(z, t, condition)
        if self.guidance.strength is not None:
            # NaN is not below anything; read once, at the end, so that a GPU is not waited for.
            self._sane.append((z.abs().amax() < BEYOND) & answer.isfinite().all())
        return answer

    def expect_sane(self, z: Tensor, calls_per_step: int) -> None:
        """Say at which step a trajectory that has come to its end at ``z`` was blown up, if it was.

        Raises:
            ValueError: With that step, and what to lower.
        """
        if self.guidance.strength is None:
            return
        sane = torch.stack([*self._sane, z.isfinite().all()])
        if not sane.all():
            steps = (len(sane) - 1) // calls_per_step
            step = min(int(sane.logical_not().int().argmax()) // calls_per_step, steps - 1)
            raise ValueError(
                "expected series as large as the data's under guidance, got NaN, or a million times as much, from "
                f"step {step} of {steps} on: lower `sampling.{self.guidance.strength}`, or raise `sampling.num_steps`"
            )

    def frozen(self) -> AbstractContextManager[None]:
        """Freeze what is guided."""
        return self.score.frozen()


def both(score: ScoreFunction, z: Tensor, t: Tensor, first: Condition, second: Condition) -> tuple[Tensor, Tensor]:
    """Ask for the same tokens under two conditions, as one batch of twice the size."""
    a, b = score(torch.cat([z, z]), t, first.followed_by(second)).chunk(2)
    return a, b
