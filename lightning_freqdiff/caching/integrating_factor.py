"""The Wiener frame: coordinates in which a whole stretch of sampling steps is one sum.

A solver step ``z' = a z + b Λ eps + c Λ ξ`` with ``eps = s z / (α²v + s²) - k u``, ``k = α √(v / (α²v + s²))``, is
linear in ``z`` as long as the remainder ``u`` is given: ``z' = A z + D u + N ξ``, coordinate by coordinate. With
``P_i = A_0 ... A_{i-1}`` and ``y = z / P`` it becomes ``y' = y + (D / P') u + (N / P') ξ``: nothing is left of
the steps between two network calls but the sum of their noise, weighted once for all, and the integral of ``u``,
which for a constant or a straight line in ``t`` is a difference of two table entries.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Affine

SMALLEST_FACTOR = 1e-6
SMALLEST_PRODUCT = 1e-20


@dataclass(frozen=True)
class Frame:
    """The Wiener frame of a trajectory of ``T`` steps: the integrating factor ``P`` and the sums over it, as tables.

    Args:
        times: Times of the calls, ``(T,)``, float64, on the CPU.
        product: ``P``, ``(T + 1, K, F)``.
        noise: Weights ``N / P'`` of the noise, ``(T, K, F)``.
        constant: ``Σ_{j<i} D_j / P_{j+1}``, what a remainder of 1 adds to ``y``, ``(T + 1, K, F)``, float64.
        line: The same for a remainder of ``t``.
        noisy: Whether any step adds noise.
    """

    times: Tensor
    product: Tensor
    noise: Tensor
    constant: Tensor
    line: Tensor
    noisy: bool

    @classmethod
    def build(cls, score: Score, times: Tensor, steps: list[Affine]) -> Frame | None:
        """Make the tables, or return ``None`` where a step nearly erases a coordinate and could not be undone.

        Args:
            score: The model.
            times: Times of the calls, ``(T,)``, float64.
            steps: Coefficients ``(a, b, c)`` of every step.
        """
        device = score.noise_scale.device
        t = times.to(device)
        scale, variance = score.noise_scale.double(), score.codec.variance.double()
        alpha, sigma = (f(t).reshape(-1, 1, 1) for f in (score.sde.alpha, score.sde.sigma))
        a, b, c = torch.tensor(steps, dtype=torch.float64, device=device).T.reshape(3, -1, 1, 1)
        noise = sigma * scale
        square = alpha.square() * variance + noise.square()
        square = torch.where(square > 0, square, 1.0)
        factor = a + b * scale * noise / square
        drive = -b * scale * alpha * (variance / square).sqrt()
        product = torch.cat([torch.ones_like(factor[:1]), factor.cumprod(0)])
        if float(factor.abs().min()) < SMALLEST_FACTOR or float(product.abs().min()) < SMALLEST_PRODUCT:
            return None
        weight = drive / product[1:]

        def running(x: Tensor) -> Tensor:
            return torch.cat([torch.zeros_like(x[:1]), x.cumsum(0)])

        return cls(
            times=times,
            product=product.float(),
            noise=(c * scale / product[1:]).float(),
            constant=running(weight),
            line=running(weight * t.reshape(-1, 1, 1)),
            noisy=bool((c != 0).any()),
        )

    def held(self, start: Tensor | int, stop: int) -> Tensor:
        """Return what a remainder of 1 from call ``start`` up to ``stop`` adds to ``y``, ``(..., K, F)``."""
        return self.constant[stop] - self.constant[start]

    def risen(self, start: Tensor, stop: int) -> Tensor:
        """Return what a remainder that rises from 0 at call ``start`` to 1 at call ``stop`` adds, ``(n, K, F)``."""
        since = self.times.to(self.line.device)[start].reshape(-1, 1, 1)
        total = self.line[stop] - self.line[start] - since * self.held(start, stop)
        return total / (self.times[stop] - since)
