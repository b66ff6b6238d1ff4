"""SA-Solver: stochastic Adams steps, from the ODE to more noise than the reverse SDE has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from lightning_freqdiff.sampling.solvers.base import Level
from lightning_freqdiff.sampling.solvers.multistep import OnClean, Run, integrals, log_snr


@dataclass(frozen=True)
class SASolver(OnClean):
    """SA-Solver (Xue et al., arXiv 2309.05019, algorithm 1) with a constant ``τ``.

    The clean estimate is a polynomial in half log-SNR through the last calls: an Adams-Bashforth predictor, and an
    Adams-Moulton corrector once the call at the step's end is known, under the same noise. The last step is of first
    order, as in the published code.

    Args:
        order: Calls that a step is predicted from, 1 to 4; the corrector sees one more.
        tau: How much noise: 0 is the probability-flow ODE, 1 the reverse SDE.
        correct: Correct each step by the next one's network call.
    """

    HIGHEST: ClassVar[int] = 4
    order: int = 3
    tau: float = 1.0
    correct: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.tau < math.inf:
            raise ValueError(f"expected tau >= 0, got {self.tau}: set `sampling.solver.tau`")

    @property
    def noises_per_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One, unless the steps are deterministic."""
        return 1 if self.tau else 0

    def kept(self, now: Level, then: Level, run: Run) -> float:
        """Return ``(σ'/σ) e^(-τ²h)``."""
        return then.sigma / now.sigma * math.exp(-(self.tau**2) * (log_snr(then) - log_snr(now)))

    def fresh(self, now: Level, then: Level, run: Run) -> Tensor:
        """Return ``σ' √(1 - e^(-2τ²h)) Λ``."""
        return then.sigma * math.sqrt(-math.expm1(-2 * self.tau**2 * (log_snr(then) - log_snr(now)))) * run.scale

    def gains(self, points: Sequence[Level], now: Level, then: Level, run: Run) -> Sequence[Any]:
        """Integrate ``σ' (1 + τ²) e^(λ - τ²(λ' - λ))``."""
        square, end = self.tau**2, log_snr(then)
        return integrals(
            points, now, then, lambda at: then.sigma * (1 + square) * (at - square * (end - at)).exp()
        ).tolist()
