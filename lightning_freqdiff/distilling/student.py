"""A model in training to lead where a teacher was, in a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.evaluation.fitting import distance
from lightning_freqdiff.sampling.solvers import Fitted, plan
from lightning_freqdiff.schedule import warmup_cosine

EXAMINED = 512
"""Lessons that say how errors are weighed."""
FLOOR = 0.01
"""Added to what the error along a direction was before, relative to the mean of all."""
WARMUP = 0.05
"""Share of the training over which the learning rate rises."""


@dataclass(frozen=True)
class Lessons:
    """Where a teacher was at the times of a student's steps.

    Attributes:
        times: The times, ``(n + 1,)``, float64.
        rows: Rows ``y = z / α`` along the principal directions, ``(n + 1, B, size)``.
        condition: What is known of the samples.
    """

    times: Tensor
    rows: Tensor
    condition: Condition

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.rows.shape[1]

    def take(self, index: Tensor | slice) -> Lessons:
        """Return some of the samples."""
        return replace(self, rows=self.rows[:, index], condition=self.condition.take(index))


class Student(LightningModule):
    """A score that is trained to lead where a teacher was.

    Args:
        score: The model, which is changed.
        lessons: Of a teacher.
        learning_rate: Peak learning rate of AdamW.
    """

    def __init__(self, score: Score, lessons: Lessons, learning_rate: float) -> None:
        super().__init__()
        self.score, self.lessons, self.learning_rate = score, lessons, learning_rate
        with torch.no_grad():
            before = torch.stack([error.square().mean(0) for error in self.errors(lessons.take(slice(EXAMINED)))])
        self.weight = 1 / (before + FLOOR * before.mean(1, keepdim=True)).clamp(min=torch.finfo(before.dtype).tiny)

    def errors(self, lessons: Lessons) -> Iterator[Tensor]:
        """Yield how far each step leads astray, ``(B, size)``, from wherever the steps before have led."""
        score, solver = self.score, Fitted()
        codec, steps = score.codec, plan(score.sde, lessons.times, score.noise_scale.device)
        state = solver.begin(codec, score.sde, steps, score.calibration)
        ask = partial(score, condition=lessons.condition)
        z = steps[0].now.alpha * codec.tokens_along(lessons.rows[0])
        for step, wanted in zip(steps, lessons.rows[1:], strict=True):
            z, state = solver.step(ask, z, step, codec.noise_scale, [], state)
            yield codec.along(z) / step.then.alpha - wanted
            z, state = z.detach(), state._replace(known=tuple(known.detach() for known in state.known))

    def training_step(self, index: Tensor, batch_idx: int) -> Tensor:
        """Return the error of all steps, 1 before training, at the lessons of some numbers ``(B,)``."""
        errors = torch.stack(list(self.errors(self.lessons.take(index))))
        loss = (errors.square().mean(1) * self.weight).mean()
        self.log("train_loss", loss, prog_bar=True, batch_size=len(index))
        return loss

    def validation_step(self, index: Tensor, batch_idx: int) -> None:
        """Log the distance to the teacher's samples, relative to their spread."""
        self.log("val_distance", self.distance(self.lessons.take(index)), prog_bar=True, batch_size=len(index))

    @torch.no_grad()
    def distance(self, lessons: Lessons) -> float:
        """Return the distance to the teacher's samples, relative to their spread."""
        *_, last = self.errors(lessons)
        return distance(lessons.rows[-1] + last, lessons.rows[-1])

    def configure_optimizers(self) -> Any:
        """Make AdamW with linear warm-up and cosine decay over the whole run, by steps or by the clock."""
        network = self.score.network.parameters()
        optimizer = torch.optim.AdamW(network, self.learning_rate, betas=(0.9, 0.99), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warmup_cosine(self.trainer, WARMUP))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
