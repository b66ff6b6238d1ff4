"""Predictor-corrector: Euler-Maruyama steps, each followed by Langevin steps at the new noise level."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_freqdiff.sampling.solvers.base import Ask, Solver, Step
from lightning_freqdiff.sampling.solvers.euler_maruyama import EulerMaruyama


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """Euler-Maruyama with Langevin correction (Song et al., arXiv 2011.13456, algorithms 3 and 5).

    The step size follows the ratio of norms of noise and score of each sample by itself: the published code
    averages it over the batch, so that a sample depends on its neighbours.

    Args:
        corrector_steps: Langevin steps, and so extra network calls, after each predictor step.
        snr: Target ratio of score and noise in a Langevin step.
    """

    corrector_steps: int = 1
    snr: float = 0.16

    def __post_init__(self) -> None:
        if self.corrector_steps < 1 or not self.snr > 0:
            raise ValueError(
                f"expected corrector_steps >= 1 and snr > 0, got {self.corrector_steps} and {self.snr}: "
                "set `sampling.solver.corrector_steps`, `sampling.solver.snr`"
            )

    @property
    def calls_per_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One call for the predictor and one for each corrector."""
        return 1 + self.corrector_steps

    @property
    def noises_per_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As many as there are calls."""
        return 1 + self.corrector_steps

    def call_times(self, times: Tensor) -> Tensor:
        """The predictor asks at the start of a step, the correctors at its end."""
        return torch.stack([times[:-1]] + [times[1:]] * self.corrector_steps, dim=1).flatten()

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: None
    ) -> tuple[Tensor, None]:
        """Predict, then take ``z += δ Λ² s + √(2δ) Λ ξ`` with ``δ = 2 (snr ‖ξ‖ / ‖Λs‖)²``."""
        z, _ = EulerMaruyama().step(score, z, step, scale, noises[:1], None)
        for xi in noises[1:]:
            gradient = scale * score(z, step.then.t)
            xi = xi * (scale > 0)
            norms = torch.linalg.vector_norm(torch.stack([xi, gradient]), dim=(2, 3), keepdim=True)
            delta = 2 * (self.snr * norms[0] / norms[1].clamp(min=1e-12)).square()
            z = z + delta * scale * gradient
            if not step.last:
                z = z + (2 * delta).sqrt() * scale * xi
        return z, None
