"""A teacher: trajectories of many steps, of which few steps are learnt."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.sampling import InTurn, Sampling, sample, time_grid
from lightning_freqdiff.sampling.solvers import DPMSolverPP

STEPS = 60
SAMPLES = 256
"""Samples that it draws; fewer, but ``LEAST``, where the paths of so many would hold more than ``NUMBERS``."""
NUMBERS = 2**26
LEAST = 32
BETWEEN = 14
"""Steps of a teacher who is asked for few times alone."""
APART = 0.1
"""They are left out where they are nearer than so much, in log-SNR, to a time that is asked for."""


class Paths(NamedTuple):
    """What a teacher did.

    Args:
        times: Times of the steps, ``(T + 1,)``, float64.
        tokens: Tokens at each of them, ``(T + 1, B, K, F)``.
        eps: Noise predictions of these, the last of them once more for the end, which is not asked about.
        condition: What is known of the samples.
    """

    times: Tensor
    tokens: Tensor
    eps: Tensor
    condition: Condition


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


def solved(sampling: Sampling) -> Sampling:
    """Return how the probability-flow ODE is solved to the end, all else as given."""
    return replace(sampling, num_steps=STEPS, solver=DPMSolverPP("ode"), grid="edm")


@torch.no_grad()
def teach(score: Score, sampling: Sampling, on_step: Callable[[int], None] | None = None) -> Paths:
    """Draw samples in many steps, and keep their paths.

    Args:
        score: The model.
        sampling: Seed, batch size and condition. The steps are the teacher's own, and so is the number of samples
            unless a condition of one's own is known of no more than these.
        on_step: Called with the number of each step.
    """
    count = max(LEAST, min(SAMPLES, NUMBERS // (STEPS * score.noise_scale.numel())))
    known = sampling.condition
    sampling = replace(
        solved(sampling),
        num_samples=count if isinstance(known, InTurn | None) else sampling.num_samples,
        guidance=None,
        constraint=None,
    )
    paths, answers = [], []
    for unit in sampling.units():
        recorder = Recorder(score)
        last = sample(recorder, score.sde, score.codec, unit, sampling, on_step)
        expect_finite(last)
        paths.append(torch.stack([*recorder.asked, last]))
        answers.append(torch.stack([*recorder.eps, recorder.eps[-1]]))
    condition = NOTHING if known is None else known.rows(0, sampling.num_samples).to(score.noise_scale.device)
    return Paths(time_grid(score.sde, STEPS, "edm"), torch.cat(paths, 1), torch.cat(answers, 1), condition)


@torch.no_grad()
def lessons(
    score: Score, sampling: Sampling, times: Tensor, on_step: Callable[[int], None] | None = None
) -> tuple[Tensor, Condition]:
    """Draw samples in steps that go through some times, ``BETWEEN`` of them and more, and keep where they were then.

    Args:
        score: The model.
        sampling: Seed, number of samples, batch size and condition; the steps are the teacher's own.
        times: Decreasing times, ``(n + 1,)``, float64.
        on_step: Called with the number of each step.

    Returns:
        Rows ``y = z / α`` along the principal directions at those times, ``(n + 1, B, size)``, and what is known of
        the samples.
    """
    own = time_grid(score.sde, BETWEEN, "edm")
    apart = (score.sde.log_snr(own).unsqueeze(1) - score.sde.log_snr(times)).abs().amin(1) > APART
    through = torch.cat([own[apart], times]).sort(descending=True).values
    places = torch.searchsorted(-through, -times).tolist()
    sampling = replace(sampling, solver=DPMSolverPP("ode"), guidance=None, constraint=None)
    kept, alpha = [], score.sde.alpha(times).tolist()
    for unit in sampling.units():
        recorder = Recorder(score)
        last = sample(recorder, score.sde, score.codec, unit, sampling, on_step, through)
        expect_finite(last)
        met = [*recorder.asked, last]
        kept.append(torch.stack([score.codec.along(met[i]) / a for i, a in zip(places, alpha, strict=True)]))
    known, device = sampling.condition, score.noise_scale.device
    condition = NOTHING if known is None else known.rows(0, sampling.num_samples).to(device)
    return torch.cat(kept, 1), condition
