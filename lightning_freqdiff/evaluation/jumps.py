"""What a jump over a stretch of sampling does to samples: what grids that fit the model are made of.

A grid of ``n`` steps is a way of ``n`` jumps from noise to data. A teacher of many steps goes it once, for some
hundred samples; what a jump from its time ``i`` to its time ``j`` would have done to them is known without a further
network call. Grids of few steps are then found by dynamic programming (``sampling/grids.py``), as in GITS
(Chen et al., "On the Trajectory Regularity of ODE-based Diffusion Sampling", arXiv 2405.11326). Two things differ:

- A jump is of second order, ``y_j = y_i + (r_j - r_i) Λ (eps_i + eps_j) / 2`` with ``y = z/α`` and ``r = σ/α``, as in
  the solvers that such grids are for. GITS jumps by Euler's method.
- Damage is what happens to the samples as a whole: the change of mean and deviation in every coordinate, in the
  data's units, as the linear part of the model carries it to the end. How far each sample is moved would count early
  jumps for too much: they decide which series comes out, and another one is as good.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor

from lightning_freqdiff.caching.local_error import local_error
from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import Score, ScoreFunction
from lightning_freqdiff.sampling import InTurn, Sampling, sample, time_grid
from lightning_freqdiff.sampling.grids import COSTS, TIMES
from lightning_freqdiff.sampling.solvers import DPMSolverPP

TEACHER = 60
"""Steps of the teacher."""
SAMPLES = 256
"""Samples that it draws; fewer, but ``LEAST``, where the paths of so many would hold more than ``NUMBERS``."""
NUMBERS = 2**26
LEAST = 32


class Recorder(ScoreFunction):
    """Answers as the score does, and keeps each question and its noise prediction.

    Args:
        score: The model.
    """

    def __init__(self, score: Score) -> None:
        self.score = score
        self.asked: list[Tensor] = []
        self.eps: list[Tensor] = []

    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Return the score of tokens ``(B, K, F)``."""
        answer = self.score(z, t, condition)
        self.asked.append(z)
        self.eps.append(-answer * self.score.coefficients(t).sigma)
        return answer

    def frozen(self) -> AbstractContextManager[None]:
        """Freeze the model."""
        return self.score.frozen()


def expect_finite(drawn: Tensor) -> None:
    """Refuse samples that are no numbers, before anything is fitted to them."""
    if not drawn.isfinite().all():
        raise ValueError(
            "expected finite samples to fit to, got NaN or infinity: set `ckpt_path` to a checkpoint whose "
            "weights are numbers, or raise `sampling.num_steps`"
        )


@torch.no_grad()
def learn_jumps(score: Score, sampling: Sampling, on_step: Callable[[int], None] | None = None) -> dict[str, Tensor]:
    """Let a teacher draw samples, and work out the damage of every jump along their paths.

    Args:
        score: The model.
        sampling: Seed, batch size and condition. The teacher's steps are its own, and so is the number of its samples
            unless a condition of one's own is known of no more than these.
        on_step: Called with the number of each step.

    Returns:
        What ``time_grid`` makes tuned grids of, by its name in a calibration (see ``checkpoint.py``).
    """
    count = max(LEAST, min(SAMPLES, NUMBERS // (TEACHER * score.noise_scale.numel())))
    sampling = replace(
        sampling,
        num_samples=count if isinstance(sampling.condition, InTurn | None) else sampling.num_samples,
        num_steps=TEACHER,
        solver=DPMSolverPP("ode"),
        grid="edm",
        guidance=None,
        constraint=None,
    )
    paths, answers = [], []
    for unit in sampling.units():
        recorder = Recorder(score)
        last = sample(recorder, score.sde, score.codec, unit, sampling, on_step)
        expect_finite(last)
        paths.append(torch.stack([*recorder.asked, last]))
        answers.append(torch.stack([*recorder.eps, recorder.eps[-1]]))  # the end is not asked about
    times = time_grid(score.sde, TEACHER, "edm")
    return {TIMES: times, COSTS: jump_costs(score, times, torch.cat(paths, 1), torch.cat(answers, 1))}


def jump_costs(score: Score, times: Tensor, path: Tensor, eps: Tensor) -> Tensor:
    """Return the damage of every jump, ``(T + 1, T + 1)``, relative to the norm of a typical series.

    Args:
        score: The model.
        times: Times of the path, ``(T + 1,)``, float64.
        path: Tokens at each of them, ``(T + 1, B, K, F)``.
        eps: Their noise predictions, of the same shape.
    """
    alpha, ratio = score.sde.alpha(times).tolist(), (score.sde.sigma(times) / score.sde.alpha(times)).tolist()
    deviation = score.codec.variance.double().sqrt()
    carry = [deviation / score.coefficients(t.to(deviation.device)).total.double().squeeze(0) for t in times]
    costs = torch.full((len(times), len(times)), torch.inf, dtype=torch.float64)
    for j in range(1, len(times)):
        there, slope = path[j].double(), score.noise_scale * eps[j].double()
        deviations = there.std(0, correction=0)
        for i in range(j):
            middle = (slope + score.noise_scale * eps[i].double()) / 2
            jumped = alpha[j] * (path[i].double() / alpha[i] + (ratio[j] - ratio[i]) * middle)
            moved = torch.stack([(jumped - there).mean(0), jumped.std(0, correction=0) - deviations])
            costs[i, j] = local_error(score, carry[j] * moved).norm()
    return costs
