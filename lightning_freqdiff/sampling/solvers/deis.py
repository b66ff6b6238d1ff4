"""DEIS: exponential integration of the noise prediction as a polynomial in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lightning_freqdiff.sampling.solvers.base import Level
from lightning_freqdiff.sampling.solvers.multistep import OnNoise, Run, integrals


@dataclass(frozen=True)
class DEIS(OnNoise):
    """tAB-DEIS (Zhang and Chen, arXiv 2204.13902, equations 14 and 15), for any SDE.

    ``eps`` is a polynomial in ``t`` through the last calls. The published code calls the order one less than here:
    its tAB3 is ``order`` 4.

    Args:
        order: Calls that a step is predicted from, 1 (DDIM) to 4.
    """

    HIGHEST: ClassVar[int] = 4
    order: int = 3

    def gains(self, points: Sequence[Level], now: Level, then: Level, run: Run) -> list[float]:
        """Integrate ``α' dr = -α' r dλ`` over polynomials in ``t``."""
        return integrals(points, now, then, lambda at: -then.alpha * (-at).exp(), run.sde.time_at).tolist()
