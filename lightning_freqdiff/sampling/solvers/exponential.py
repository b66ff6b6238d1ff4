"""Exponential integrator with the Wiener filter as its linear part: one jump from grid time to grid time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_freqdiff.sampling.solvers.base import Ask, Level, Solver, Step, predict_eps


@dataclass(frozen=True)
class ExponentialWiener(Solver):
    """Integrate the Wiener filter exactly, and the remainder ``u`` by the trapezoidal rule.

    In coordinates of unit variance, with ``n² = α² + s²`` and ``s = σΛ``, the reverse SDE is linear but for
    ``u``, which it weighs evenly in ``q = s/n``; the probability-flow ODE weighs it evenly in ``θ = arcsin q``:

        SDE:  z' = (α/α')(n'/n)² z + (n'²/α') ∫ 2u dq + noise of variance (n'/n)² (s² - (α/α')² s'²)
        ODE:  z'/n' = z/n + ∫ u dθ

    Both are exact for Gaussian data of unit variance and independent coordinates, in a single step. ``u`` is held
    over a step, and the step is corrected at the next one, when its other end is known (as by UniC, arXiv
    2302.04867, without a further network call). It is what the Wiener cache does, on a grid that is given.

    Args:
        kind: ``sde`` adds fresh noise, ``ode`` is deterministic.
        correct: Correct each step by the next one's network call: second order instead of first, along the ODE.
    """

    kind: Literal["sde", "ode"] = "sde"
    correct: bool = True

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
        state: tuple[Tensor, Level] | None,
    ) -> tuple[Tensor, tuple[Tensor, Level]]:
        """Correct the step before, then jump."""
        now, then = step.now, step.then
        (s, n), (s_then, n_then) = _scales(now, scale), _scales(then, scale)
        u = (s * z / n.square() - predict_eps(score, z, now, scale)) * n / now.alpha
        if state is not None and self.correct:
            before, level = state
            z = z + 0.5 * self._gain(level, now, scale) * (u - before)
        if self.kind == "ode":
            new = n_then / n * z
        else:
            shrink = now.alpha / then.alpha
            new = shrink * (n_then / n).square() * z
            if not step.last:
                variance = (n_then / n).square() * (s.square() - (shrink * s_then).square())
                new = new + variance.clamp(min=0).sqrt() * noises[0]
        return new + self._gain(now, then, scale) * u, (u, now)

    def _gain(self, now: Level, then: Level, scale: Tensor) -> Tensor:
        """Return what a remainder of 1 adds over a step, ``(K, F)``."""
        (s, n), (s_then, n_then) = _scales(now, scale), _scales(then, scale)
        if self.kind == "ode":
            return n_then * (torch.asin(s / n) - torch.asin(s_then / n_then))
        return 2 * n_then.square() / then.alpha * (s / n - s_then / n_then)


def _scales(level: Level, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return the deviation of the noise, and that of the noisy coordinate."""
    s = level.sigma * scale
    return s, (level.alpha**2 + s.square()).sqrt()
