"""Euler-Maruyama on the reverse-time SDE: the papers' sampler."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from lightning_freqdiff.diffusion.score_function import Affine
from lightning_freqdiff.sampling.solvers.base import Ask, Solver, Step


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """Euler-Maruyama: first order, one network call a step (Song et al., arXiv 2011.13456, appendix D)."""

    noises_per_step = 1

    def affine(self, step: Step) -> Affine:
        """Return the coefficients of :meth:`step`."""
        now, size = step.now, step.size
        fresh = 0.0 if step.last else now.diffusion * math.sqrt(size)
        return 1 - now.drift * size, -(now.diffusion**2) * size / now.sigma, fresh

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: None
    ) -> tuple[Tensor, None]:
        """Step ``z' = z - f z Δ + g² Λ² s Δ + g Λ √Δ ξ``, without the noise on the last step."""
        now, size = step.now, step.size
        new = (1 - now.drift * size) * z + (now.diffusion**2 * size) * scale.square() * score(z, now.t)
        if not step.last:
            new = new + (now.diffusion * math.sqrt(size)) * scale * noises[0]
        return new, None
