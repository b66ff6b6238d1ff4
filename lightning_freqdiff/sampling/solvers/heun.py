"""Heun's method on the probability-flow ODE: EDM's deterministic sampler."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_freqdiff.sampling.solvers.base import Ask, Solver, Step, predict_eps


@dataclass(frozen=True)
class Heun(Solver):
    """Heun: second order, two network calls a step (Karras et al., arXiv 2206.00364, algorithm 1).

    In the variables ``y = z/α`` and ``r = σ/α`` the probability-flow ODE of every SDE here is
    ``dy/dr = Λ eps``, which is what is integrated.
    """

    calls_per_step = 2

    def call_times(self, times: Tensor) -> Tensor:
        """The first call is at the start of a step, the second at its end."""
        return torch.stack([times[:-1], times[1:]], dim=1).flatten()

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: None
    ) -> tuple[Tensor, None]:
        """Average the slopes at both ends of the step."""
        now, then = step.now, step.then
        y, change = z / now.alpha, then.ratio - now.ratio
        slope = scale * predict_eps(score, z, now, scale)
        ahead = then.alpha * (y + change * slope)
        slope = 0.5 * (slope + scale * predict_eps(score, ahead, then, scale))
        return then.alpha * (y + change * slope), None
