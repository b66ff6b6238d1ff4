"""iPNDM: Adams-Bashforth's own weights on the noise prediction, and a DDIM step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lightning_freqdiff.sampling.solvers.base import Level
from lightning_freqdiff.sampling.solvers.multistep import OnNoise, Run

ADAMS_BASHFORTH = ((1.0,), (3 / 2, -1 / 2), (23 / 12, -16 / 12, 5 / 12), (55 / 24, -59 / 24, 37 / 24, -9 / 24))


@dataclass(frozen=True)
class IPNDM(OnNoise):
    """iPNDM (Zhang and Chen, arXiv 2204.13902, appendix): PNDM (Liu et al., arXiv 2202.09778) without Runge-Kutta.

    The weights are those of even steps, whatever the grid. The first steps have fewer calls behind.

    Args:
        order: Calls that a step is predicted from, 1 (DDIM) to 4.
    """

    HIGHEST: ClassVar[int] = 4
    order: int = 4

    def gains(self, points: Sequence[Level], now: Level, then: Level, run: Run) -> list[float]:
        """Return the weights of a DDIM step with the noise that Adams-Bashforth extrapolates."""
        change = then.alpha * (then.ratio - now.ratio)
        return [change * weight for weight in ADAMS_BASHFORTH[len(points) - 1]]
