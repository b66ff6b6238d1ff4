"""What multistep solvers share: a polynomial through the last calls, integrated exactly against a weight.

Along a step from a level with noise-to-signal ratio ``r = e^-λ`` to a later one, every one of them writes

    z' = k z + ∫ w(λ) p(λ) dλ + noise

with a form of its own: what the call is read as (the noise, the clean series, the Wiener remainder), what weight that
gives ``w``, and in which variable ``p`` is a polynomial. Where a solver corrects, it takes back what a step has added
once the call at its end is known, and adds the integral of the polynomial through that one as well: UniC (Zhao et
al., arXiv 2302.04867, algorithm 1), which costs no call, since the one at the step's end is made in any case.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.solvers.base import Ask, Level, Solver, Step, predict_eps

NODES, NODE_WEIGHTS = (torch.from_numpy(x) for x in np.polynomial.legendre.leggauss(16))
"""Gauss-Legendre quadrature on [-1, 1]; the weights here are smooth over a step."""


class Run(NamedTuple):
    """What a run works in, and what was found at its last calls.

    Args:
        sde: Forward process.
        scale: ``Λ``, ``(K, F)``.
        variance: Variance ``v`` of the clean coordinates, ``(K, F)``.
        levels: Levels of the last calls, the latest first.
        known: What those calls were read as, ``(B, K, F)`` each.
        moved: What the last step added beside ``k z`` and noise, ``(B, K, F)``.
    """

    sde: SDE
    scale: Tensor
    variance: Tensor
    levels: tuple[Level, ...] = ()
    known: tuple[Tensor, ...] = ()
    moved: Tensor | None = None


class Multistep(Solver):
    """A predictor through the last ``order`` calls; if it corrects, a corrector through one more."""

    HIGHEST: ClassVar[int]
    CAREFUL_END: ClassVar[bool] = False
    """Whether the last step is of first order."""

    order: Any
    """Calls that a step is predicted from, an int; ``None`` where :attr:`reach` decides."""
    correct: bool = False

    def __post_init__(self) -> None:
        if self.order is not None and not 1 <= self.order <= self.HIGHEST:
            raise ValueError(f"expected order 1 to {self.HIGHEST}, got {self.order}: set `sampling.solver.order`")

    @property
    def reach(self) -> int:
        """Calls that a step is predicted from, where there are so many."""
        return self.order or 1

    @abstractmethod
    def read(self, eps: Tensor, z: Tensor, now: Level, run: Run) -> Tensor:
        """Turn the noise prediction of tokens ``(B, K, F)`` at ``now`` into what is extrapolated."""

    @abstractmethod
    def kept(self, now: Level, then: Level, run: Run) -> Any:
        """Return ``k``, a number or ``(K, F)``."""

    @abstractmethod
    def gains(self, points: Sequence[Level], now: Level, then: Level, run: Run) -> Sequence[Any]:
        """Return what a 1 at each point adds over a step, numbers or ``(points, K, F)``."""

    def fresh(self, now: Level, then: Level, run: Run) -> Any:
        """Return the deviation of the noise that a step adds, a number or ``(K, F)``: none along an ODE."""
        return 0.0

    def begin(self, codec: Codec, sde: SDE, steps: Sequence[Step], calibration: Mapping[str, Tensor]) -> Run:
        """Start with no calls behind."""
        return Run(sde, codec.noise_scale, codec.variance)

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: Run
    ) -> tuple[Tensor, Run]:
        """Correct the step before, then predict this one."""
        run, now, then = state, step.now, step.then
        value = self.read(predict_eps(score, z, now, scale), z, now, run)
        levels, known = (now, *run.levels[: self.reach]), (value, *run.known[: self.reach])
        if self.correct and run.moved is not None:
            z = z + _weighed(self.gains(levels, run.levels[0], now, run), known) - run.moved
        order = 1 if step.last and self.CAREFUL_END else self.reach
        moved = _weighed(self.gains(levels[:order], now, then, run), known)
        new = self.kept(now, then, run) * z + moved
        if self.noises_per_step and not step.last:
            new = new + self.fresh(now, then, run) * noises[0]
        return new, run._replace(levels=levels, known=known, moved=moved)


class OnNoise(Multistep):
    """Extrapolates the noise along the probability-flow ODE: in ``y = z/α`` and ``r = σ/α``, ``dy = Λ eps dr``."""

    def read(self, eps: Tensor, z: Tensor, now: Level, run: Run) -> Tensor:
        """Return ``Λ eps``."""
        return run.scale * eps

    def kept(self, now: Level, then: Level, run: Run) -> float:
        """Return ``α'/α``."""
        return then.alpha / now.alpha


class OnClean(Multistep):
    """Extrapolates the estimate of the clean tokens; the last step is of first order."""

    CAREFUL_END: ClassVar[bool] = True

    def read(self, eps: Tensor, z: Tensor, now: Level, run: Run) -> Tensor:
        """Return the clean estimate."""
        return (z - now.sigma * run.scale * eps) / now.alpha


def log_snr(level: Level) -> float:
    """Return ``λ = log(α/σ)``."""
    return -math.log(level.ratio)


def integrals(
    points: Sequence[Level],
    now: Level,
    then: Level,
    weight: Callable[[Tensor], Tensor],
    variable: Callable[[Tensor], Tensor] = lambda x: x,
) -> Tensor:
    """Integrate a weight times each Lagrange polynomial of some points over a step.

    Args:
        points: Levels at one of which a polynomial is 1, and 0 at the others.
        now: Where the step begins.
        then: Where it ends.
        weight: Weight at ``λ``, ``(nodes,)``, as ``(nodes, ...)``.
        variable: In which the polynomials are such, as a function of ``λ``, ``(n,)``.

    Returns:
        Shape ``(points, ...)``.
    """
    start, stop = log_snr(now), log_snr(then)
    at = start + (stop - start) / 2 * (NODES + 1)
    known = torch.tensor([log_snr(p) for p in points], dtype=torch.float64)
    x, roots = variable(torch.cat([at, known])).split([len(at), len(points)])
    basis = torch.stack([_lagrange(x, roots, j) for j in range(len(points))])
    weights = weight(at)
    return torch.tensordot((basis * NODE_WEIGHTS * (stop - start) / 2).to(weights), weights, 1)


def _lagrange(x: Tensor, roots: Tensor, j: int) -> Tensor:
    """Return the polynomial that is 1 at root ``j`` and 0 at the others, at ``x``, ``(n,)``."""
    others = torch.cat([roots[:j], roots[j + 1 :]])
    return ((x.unsqueeze(1) - others) / (roots[j] - others)).prod(1)


def _weighed(gains: Sequence[Any], known: Sequence[Tensor]) -> Tensor:
    return sum((g * u for g, u in zip(gains, known, strict=False)), torch.zeros_like(known[0]))
