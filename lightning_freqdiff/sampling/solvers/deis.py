"""DEIS: exponential integration of the noise prediction as a polynomial in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lightning_freqdiff.sampling.solvers.base import Level
from lightning_freqdiff.sampling.solvers.multistep import Multistep, Run, integrals


@dataclass(frozen=True)
class DEIS(Multistep):
    """tAB-DEIS (Zhang and Chen, arXiv 2204.13902, equations 14 and 15), for any SDE.

    In ``y = z/α`` and ``r = σ/α`` the probability-flow ODE is ``dy = Λ eps dr``; ``eps`` is a polynomial in ``t``
    through the last calls. The published code calls the order one less than here: its tAB3 is ``order`` 4.

    Args:
        order: Calls that a step is predicted from, 1 (DDIM) to 4.
    """

    HIGHEST: ClassVar[int] = 4
    order: int = 3

    def read(self, eps: Tensor, z: Tensor, now: Level, run: Run) -> Tensor:
        """Return ``Λ eps``."""
        return run.scale * eps

    def kept(self, now: Level, then: Level, run: Run) -> float:
        """Return ``α'/α``."""
        return then.alpha / now.alpha

    def gains(self, points: Sequence[Level], now: Level, then: Level, run: Run) -> list[float]:
        """Integrate ``α' dr = -α' r dλ`` over polynomials in ``t``."""
        return integrals(points, now, then, lambda at: -then.alpha * (-at).exp(), run.sde.time_at).tolist()
