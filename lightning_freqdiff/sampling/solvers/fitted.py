"""A linear multistep method whose coefficients are fitted to the model itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.grids import Grid
from lightning_freqdiff.sampling.solvers.base import Ask, Solver, Step, predict_eps

HISTORY = 3
"""Clean estimates that a step is made of, at most: its own, and those of the steps before."""
PREFIX = "steps."


def named(num_steps: int) -> tuple[str, str]:
    """Return the names of times and weights of so many steps in a calibration."""
    return f"{PREFIX}{num_steps}.times", f"{PREFIX}{num_steps}.weights"


def weigh(weights: Tensor, rows: Tensor, known: Sequence[Tensor]) -> Tensor:
    """Return ``a y + c + Σ b D``; ``a``, ``c`` and every ``b`` are the rows of ``weights``, ``(2 + HISTORY, n)``."""
    kept, offset, *shares = weights
    return kept * rows + offset + sum(share * value for share, value in zip(shares, known, strict=False))


class State(NamedTuple):
    """Where a run is.

    Args:
        codec: Units and directions of the tokens.
        weights: Of every step, ``(2 + HISTORY, n)`` each, with the step.
        known: Clean estimates of the steps before along the directions, ``(B, n)`` each, the latest first.
    """

    codec: Codec
    weights: list[tuple[Step, Tensor]]
    known: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Fitted(Solver):
    """Few steps along the ODE, at times and with coefficients that ``calibrate`` learnt from this checkpoint.

    Along each principal direction of the series, with ``y = z/α`` over ``Λ`` and the clean estimates ``D`` of the
    last calls, a step is

        y' = a y + b₀ D₀ + b₁ D₁ + b₂ D₂ + c,

    the general form of a linear multistep method (Shaul et al., "Bespoke Non-Stationary Solvers", arXiv 2403.01329,
    section 3), whose numbers are learnt there by gradients for all coordinates alike, and here by least squares for
    each direction: see ``evaluation/fitting.py``. They are those of one model and one number of steps; the grid is
    the solver's own, whatever ``sampling.grid`` says.
    """

    calibrated: ClassVar[bool] = True

    def times(self, sde: SDE, num_steps: int, grid: Grid, calibration: Mapping[str, Tensor]) -> Tensor:
        """Return the times that were learnt for so many steps.

        Raises:
            ValueError: Where there are none.
        """
        times, _ = named(num_steps)
        if times not in calibration:
            learnt = sorted(int(name.split(".")[1]) for name in calibration if name.startswith(PREFIX))
            raise ValueError(
                "expected a model whose steps were learnt, got one without: run calibrate on its checkpoint, or set "
                "`sampling.solver`"
                if not learnt
                else f"expected {learnt[0]} to {learnt[-1]} steps, which were learnt, got {num_steps}: set "
                "`sampling.num_steps`"
            )
        return calibration[times]

    def begin(self, codec: Codec, sde: SDE, steps: Sequence[Step], calibration: Mapping[str, Tensor]) -> State:
        """Take up the weights."""
        weights = calibration[named(len(steps))[1]].to(codec.noise_scale)
        return State(codec, list(zip(steps, weights, strict=True)))

    def step(
        self, score: Ask, z: Tensor, step: Step, scale: Tensor, noises: list[Tensor], state: State
    ) -> tuple[Tensor, State]:
        """Weigh the tokens and the last clean estimates."""
        codec, now = state.codec, step.now
        rows = codec.along(z) / now.alpha
        clean = codec.along(z - now.sigma * scale * predict_eps(score, z, now, scale)) / now.alpha
        known = (clean, *state.known[: HISTORY - 1])
        weights = next(weights for of, weights in state.weights if of is step)
        # Where a run begins in the middle, the estimate stands for those that there would be.
        moved = weigh(weights.to(rows), rows, [*known, *[known[-1]] * (HISTORY - len(known))])
        return step.then.alpha * codec.tokens_along(moved), state._replace(known=known)
