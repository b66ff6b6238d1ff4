"""Guidance: from one score to another, between cache and solver."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.spectral import Codec


class Guidance(ABC):
    """Asks a score function in its own way, such as with and without a label.

    Attributes:
        copies: How often each sample is in the batch that the inner score function is asked for, all samples in a row
            before they come again. A cache decides for each row, and so need not know.
    """

    copies: int = 1
    strength: ClassVar[str | None] = None
    """Setting of sampling to lower where a step leaves no finite numbers; ``None`` where no step is looked at."""

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


class Guided(ScoreFunction):
    """A score function under guidance.

    Args:
        score: What is asked.
        guidance: How.
    """

    def __init__(self, score: ScoreFunction, guidance: Guidance) -> None:
        self.score, self.guidance = score, guidance
        self.differentiable = score.differentiable

    def start(self, trajectory: Trajectory) -> None:
        """Announce the larger batch."""
        copies, (batch, *token) = self.guidance.copies, trajectory.shape
        self.score.start(
            replace(
                trajectory,
                shape=(copies * batch, *token),
                condition=trajectory.condition.repeat(copies),
                copies=copies * trajectory.copies,
            )
        )

    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Return the guided score."""
        return self.guidance.guide(self.score, z, t, condition)

    def frozen(self) -> AbstractContextManager[None]:
        """Freeze what is guided."""
        return self.score.frozen()


def both(score: ScoreFunction, z: Tensor, t: Tensor, first: Condition, second: Condition) -> tuple[Tensor, Tensor]:
    """Ask for the same tokens under two conditions, as one batch of twice the size."""
    a, b = score(torch.cat([z, z]), t, first.followed_by(second)).chunk(2)
    return a, b
