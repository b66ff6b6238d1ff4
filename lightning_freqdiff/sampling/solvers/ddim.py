"""DDIM: exact for a constant noise prediction, from deterministic to ancestral."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lightning_freqdiff.diffusion.score_function import Affine
from lightning_freqdiff.sampling.solvers.base import Ask, Solver, Step, predict_eps


@dataclass(frozen=True)
class DDIM(Solver):
    """Denoising diffusion implicit models (Song et al., arXiv 2010.02502, equation 12), for any SDE.

    Args:
        eta: Share of fresh noise: 0 is deterministic (first order on the probability-flow ODE), 1 ancestral.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"expected eta in [0, 1], got {self.eta}: set `sampling.solver.eta`")

    @property
    def noises_per_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One, unless the steps are deterministic."""
        return 1 if self.eta else 0

    def affine(self, step: Step) -> Affine:
        """Return the coefficients of :meth:`step`."""
        now, then = step.now, step.then
        fresh = 0.0 if step.last else self.eta * then.sigma * math.sqrt(1 - (then.ratio / now.ratio) ** 2)
        shrink = then.alpha / now.alpha
        return shrink, math.sqrt(then.sigma**2 - fresh**2) - shrink * now.sigma, fresh

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: None
    ) -> tuple[Tensor, None]:
        """Step ``z' = α' ẑ_0 + √(σ'² - c²) Λ eps + c Λ ξ``, with ``c = η`` times the posterior deviation."""
        now, then = step.now, step.then
        fresh = 0.0 if step.last else self.eta * then.sigma * math.sqrt(1 - (then.ratio / now.ratio) ** 2)
        eps = scale * predict_eps(score, z, now, scale)
        kept = math.sqrt(then.sigma**2 - fresh**2)
        new = (then.alpha / now.alpha) * (z - now.sigma * eps) + kept * eps
        if fresh:
            new = new + fresh * scale * noises[0]
        return new, None
