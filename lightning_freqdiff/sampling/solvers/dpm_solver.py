"""DPM-Solver++(2M): second order from one network call a step, for the ODE and the SDE."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from lightning_freqdiff.sampling.solvers.base import Ask, Solver, Step, predict_eps


@dataclass(frozen=True)
class DPMSolverPP(Solver):
    """Multistep DPM-Solver++ (Lu et al., arXiv 2211.01095, algorithm 2 and appendix for the SDE).

    The clean estimate is extrapolated linearly in half log-SNR from this step and the one before. The first
    and the last step are of first order: there is no step before the first, and on a grid uniform in ``t``
    the last is so much longer in log-SNR than the one before that extrapolating it would overshoot.

    Args:
        kind: ``ode`` is deterministic, ``sde`` adds fresh noise.
    """

    kind: Literal["ode", "sde"] = "ode"

    def __post_init__(self) -> None:
        if self.kind not in ("ode", "sde"):
            raise ValueError(f"expected kind ode or sde, got {self.kind!r}: set `sampling.solver.kind`")

    @property
    def noises_per_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One for the SDE, none for the ODE."""
        return 1 if self.kind == "sde" else 0

    def step(
        self,
        score: Ask,
        z: Tensor,
        step: Step,
        scale: Tensor,
        noises: list[Tensor],
        state: tuple[Tensor, float] | None,
    ) -> tuple[Tensor, tuple[Tensor, float]]:
        """Integrate the linear part exactly and the clean estimate as a line in half log-SNR."""
        now, then = step.now, step.then
        h = math.log(now.ratio / then.ratio)
        clean = (z - now.sigma * scale * predict_eps(score, z, now, scale)) / now.alpha
        line = clean
        if state is not None and not step.last:
            before, h_before = state
            line = clean + (0.5 * h / h_before) * (clean - before)
        if self.kind == "ode":
            new = (then.sigma / now.sigma) * z - then.alpha * math.expm1(-h) * line
        else:
            new = (then.sigma / now.sigma * math.exp(-h)) * z - then.alpha * math.expm1(-2 * h) * line
            if not step.last:
                new = new + then.sigma * math.sqrt(-math.expm1(-2 * h)) * scale * noises[0]
        return new, (clean, h)
