"""Exponential integrator with the Wiener filter as its linear part: one jump from grid time to grid time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from lightning_freqdiff.sampling.solvers.base import Ask, Level, Step, predict_eps
from lightning_freqdiff.sampling.solvers.multistep import Multistep, Run, integrals


@dataclass(frozen=True)
class ExponentialWiener(Multistep):
    """Integrate the Wiener filter exactly, and its remainder ``u`` as a polynomial in log-SNR through the last calls.

    With ``s = σΛ`` and ``n² = α²v + s²``, the variance of a noisy coordinate, the reverse SDE is linear but for
    ``u``, which it weighs evenly in ``q = s/n``; the probability-flow ODE weighs it evenly in ``θ = arcsin q``:

        SDE:  z' = (α/α')(n'/n)² z + (n'²/(α'√v)) ∫ 2u dq + noise of variance (n'/n)² (s² - (α/α')² s'²)
        ODE:  z'/n' = z/n + ∫ u dθ

    Both are exact for Gaussian data with independent coordinates, in a single step, whatever the colour of the noise,
    where the last step is of the same form. On a good model that form is wrong at the end: what a coordinate is has
    long been decided by the others, and of its noise, which the Wiener filter turns into the spread that is still
    open, it keeps a ripple of a hundredth. So the last step goes to the clean estimate instead.

    The polynomial is not in ``θ``: where a coordinate drowns in noise, ``θ`` has hardly begun to move while the step
    to come is several times the last, and an extrapolation goes too far; in log-SNR steps are of like size. A
    remainder that is only held lags behind, and samples lose variance.

    Args:
        kind: ``sde`` adds fresh noise, ``ode`` is deterministic.
        correct: Correct each step by the next one's network call, to one order more along the ODE.
        order: Calls that a step is predicted from, 1 to 4, fewer at the start and 1 at the end; by default 2 along
            the ODE, and 1 along the SDE, whose fresh noise an extrapolation would carry on.
        end: What the last step goes to: the ``clean`` estimate, or on along the ``wiener`` filter.
    """

    HIGHEST: ClassVar[int] = 4
    CAREFUL_END: ClassVar[bool] = True
    kind: Literal["sde", "ode"] = "sde"
    correct: bool = True
    order: int | None = None
    end: Literal["clean", "wiener"] = "clean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.kind not in ("ode", "sde"):
            raise ValueError(f"expected kind ode or sde, got {self.kind!r}: set `sampling.solver.kind`")
        if self.end not in ("clean", "wiener"):
            raise ValueError(f"expected an end clean or wiener, got {self.end!r}: set `sampling.solver.end`")

    @property
    def noises_per_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """One for the SDE, none for the ODE."""
        return 1 if self.kind == "sde" else 0

    @property
    def reach(self) -> int:
        """As set, or what measures best."""
        return self.order or (2 if self.kind == "ode" else 1)

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: Run
    ) -> tuple[Tensor, Run]:
        """Correct the step before, then predict this one, or end it."""
        if not step.last or self.end == "wiener":
            return super().step(score, z, step, scale, noises, state)
        now, then = step.now, step.then
        clean = (z - now.sigma * scale * predict_eps(score, z, now, scale)) / now.alpha
        share = then.sigma / now.sigma
        return share * z + (then.alpha - share * now.alpha) * torch.where(state.variance > 0, clean, 0.0), state

    def read(self, eps: Tensor, z: Tensor, now: Level, run: Run) -> Tensor:
        """Return ``√v u``, 0 where nothing varies."""
        n, s = _total(now, run), now.sigma * run.scale
        return torch.where(run.variance > 0, (s / n.square() * z - eps) * n / now.alpha, 0.0)

    def kept(self, now: Level, then: Level, run: Run) -> Tensor:
        """Return what the Wiener filter leaves of ``z``."""
        ratio = _total(then, run) / _total(now, run)
        return ratio if self.kind == "ode" else now.alpha / then.alpha * ratio.square()

    def fresh(self, now: Level, then: Level, run: Run) -> Tensor:
        """Return the deviation of the posterior."""
        shrink = (now.alpha * then.sigma) / (then.alpha * now.sigma)
        return _total(then, run) / _total(now, run) * now.sigma * run.scale * (1 - shrink**2) ** 0.5

    def gains(self, points: Sequence[Level], now: Level, then: Level, run: Run) -> Sequence[Tensor]:
        """Integrate over ``θ`` or ``q``, of which ``-dθ = rΛ√v/m² dλ`` and ``dq = (√v/m) dθ`` with ``m = n/α``."""
        end = _total(then, run)

        def weight(at: Tensor) -> Tensor:
            noise = torch.exp(-at).to(run.scale).reshape(-1, 1, 1) * run.scale
            m = _positive((run.variance + noise.square()).sqrt())
            if self.kind == "ode":
                return end * noise / m.square()
            return 2 * end.square() / then.alpha * noise / m.pow(3)

        return integrals(points, now, then, weight).unbind()


def _total(level: Level, run: Run) -> Tensor:
    """Return ``n``, or 1 where it is 0."""
    return _positive((level.alpha**2 * run.variance + (level.sigma * run.scale).square()).sqrt())


def _positive(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 1.0)
