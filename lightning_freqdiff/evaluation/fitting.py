"""The steps of :class:`~lightning_freqdiff.sampling.solvers.Fitted`, learnt from a teacher's paths.

Where they are is decided first (``placing.py``). The weights are then fitted step by step on what the steps before
really led to, with a call of the network each, so that a step mends what the last ones spoilt. They are shrunk to
those of DPM-Solver++ of second order, and the last step is left as it is there, the clean estimate: fitted, it leaves
a ripple. A regression explains less than all, so that samples differ too little; at the end the directions that hold
nearly all variance are stretched to the teacher's deviations.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.evaluation.placing import best_places, positive, step_costs
from lightning_freqdiff.evaluation.teacher import Paths
from lightning_freqdiff.sampling.solvers.fitted import HISTORY, named, weigh

COUNTS = range(2, 13)
"""Numbers of steps that are learnt."""
LEADING = 512
"""Directions that decide where steps are, at most: those with most variance."""
RIDGE = 1e-2
"""Added to the size of every regressor, relative to it: what is hardly seen leaves the weights as they are."""
HELD = 0.99
"""Share of the variance that is held by the directions which are stretched at the end."""


@torch.no_grad()
def fit_steps(
    score: Score, paths: Paths, batch_size: int = 64, counts: Iterable[int] | None = None
) -> tuple[dict[str, Tensor], dict[int, float]]:
    """Learn times and weights for some numbers of steps.

    Args:
        score: The model.
        paths: What a teacher did.
        batch_size: Samples that the network is asked for at once.
        counts: The numbers of steps; ``COUNTS`` if not given.

    Returns:
        What the solver works with, by its name in a calibration; and for each number of steps the distance to the
        teacher's samples, relative to their spread.
    """
    codec, sde = score.codec, score.sde
    alpha, sigma = sde.alpha(paths.times), sde.sigma(paths.times)
    rows = torch.stack([codec.along(z) / a for z, a in zip(paths.tokens, alpha.tolist(), strict=True)])
    scaled = (
        codec.along(z - s * codec.noise_scale * eps) / a
        for z, eps, a, s in zip(paths.tokens, paths.eps, alpha.tolist(), sigma.tolist(), strict=True)
    )
    clean, ratio = torch.stack(list(scaled)), sigma / alpha
    leading = codec.power.argsort(descending=True)[:LEADING]
    costs = step_costs(rows[..., leading], clean[..., leading], ratio, codec.power[leading])
    fitted, distances = {}, {}
    for count in COUNTS if counts is None else counts:
        places = best_places(*costs, count)
        times = paths.times[places]
        weights, distances[count] = fit_weights(score, times, rows[places], paths.condition, batch_size)
        fitted |= dict(zip(named(count), (times, weights), strict=True))
    return fitted, distances


@torch.no_grad()
def fit_weights(
    score: Score, times: Tensor, rows: Tensor, condition: Condition, batch_size: int
) -> tuple[Tensor, float]:
    """Fit the weights of the steps between some times, one step after another.

    Args:
        score: The model.
        times: Where the steps are, ``(n + 1,)``.
        rows: The teacher's ``y`` there, ``(n + 1, B, size)``.
        condition: What is known of its samples.
        batch_size: Samples that the network is asked for at once.

    Returns:
        Weights ``(n, 2 + HISTORY, size)``, and the distance at the end relative to the samples' spread.
    """
    ratio = (score.sde.sigma(times) / score.sde.alpha(times)).tolist()
    y, known, found = rows[0], [], []
    for number, wanted in enumerate(rows[1:]):
        clean = torch.cat(list(_clean(score, condition, y, times[number], batch_size)))
        known = [clean, *known][:HISTORY]
        last = number == len(rows) - 2
        weights = _second_order(ratio[: number + 2], 1 if last else len(known), y.shape[1]).to(y)
        if not last:
            weights = weights + _fit(y, known, wanted - weigh(weights, y, known))
        y = weigh(weights, y, known)
        found.append(weights)
    stretch, offset = _stretch(y, rows[-1])
    y, found[-1] = stretch * y + offset, found[-1] * stretch
    found[-1][1] += offset
    return torch.stack(found), distance(y, rows[-1])


def distance(y: Tensor, wanted: Tensor) -> float:
    """Return how far rows ``(B, n)`` are from those that are wanted, relative to the spread of these."""
    return float((y - wanted).norm() / (wanted - wanted.mean(0)).norm())


def _clean(score: Score, condition: Condition, y: Tensor, time: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield the clean estimates of rows, batch by batch."""
    t = time.to(y.device, torch.float32)
    alpha, sigma = float(score.sde.alpha(time)), float(score.sde.sigma(time))
    for start in range(0, len(y), batch_size):
        part = slice(start, start + batch_size)
        z = alpha * score.codec.tokens_along(y[part])
        lifted = (sigma * score.noise_scale).square() * score(z, t, condition.take(part))
        yield score.codec.along(z + lifted) / alpha


def _second_order(ratio: list[float], calls: int, size: int) -> Tensor:
    """Return the weights of DPM-Solver++(2M) for the step to the last of some ratios, ``(2 + HISTORY, size)``."""
    weights = torch.zeros(2 + HISTORY, size, dtype=torch.float64)
    now, then = ratio[-2:]
    weights[0], weights[2] = then / now, 1 - then / now
    if calls > 1:
        extrapolated = (1 - then / now) * math.log(now / then) / math.log(ratio[-3] / now) / 2
        weights[2] += extrapolated
        weights[3] -= extrapolated
    return weights


def _fit(y: Tensor, known: list[Tensor], wanted: Tensor) -> Tensor:
    """Regress what is wanted on differences of what is there, and return the weights, ``(2 + HISTORY, n)``."""
    differences = [y - known[0], known[0], *(a - b for a, b in zip(known[:-1], known[1:], strict=True))]
    x = torch.stack(differences, -1).permute(1, 0, 2).double()  # (n, B, features)
    gram = x.mT @ x
    gram = gram + torch.diag_embed(positive(RIDGE * gram.diagonal(dim1=1, dim2=2)))
    slopes = torch.linalg.solve(gram, x.mT @ wanted.T.double().unsqueeze(2)).squeeze(2).T.to(y)
    weights = y.new_zeros(2 + HISTORY, y.shape[1])
    weights[0], weights[2] = slopes[0], slopes[1] - slopes[0]
    for place, slope in enumerate(slopes[2:], start=2):
        weights[place] += slope
        weights[place + 1] -= slope
    return weights


def _stretch(y: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and offset that give leading directions the mean and deviation that are wanted, ``(n,)`` each."""
    spread, variance = y.std(0), wanted.var(0)
    held = variance.sort(descending=True).values.cumsum(0)
    least = variance.sort(descending=True).values[int((held < HELD * held[-1]).sum())]
    leads = (variance >= least) & (spread > 0)
    stretch = torch.where(leads, variance.sqrt() / torch.where(leads, spread, 1.0), 1.0)
    return stretch, torch.where(leads, wanted.mean(0) - stretch * y.mean(0), 0.0)
