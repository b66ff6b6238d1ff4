"""Put right what a trained network gets wrong, by least squares over training series."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.diffusion.correction import Correction
from lightning_freqdiff.diffusion.losses import observed_error
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.masks import draw_masks

FEWEST = 4
"""Series for each number that is fitted."""

CHUNK = 256
"""Series that are predicted at once."""

FEWEST_HELD_OUT = 10
"""Held-out series, of which the error of a slope can be told."""

HARM = 0.01
"""Of the linear model's squared error: what a network may add to it, and be kept as it is."""

MOST_KEPT = 1024
"""Of them and their noise, draws at each level."""

MOST_MASKED = 512
"""Series of which values are told, at most: each has a system of its own to be solved."""


@torch.no_grad()
def refit(
    score: Score,
    series: Tensor,
    count: int,
    generator: torch.Generator,
    known: Condition = NOTHING,
    dropout: float = 0.0,
    held_out: Tensor | None = None,
    held_known: Condition = NOTHING,
    held_seen: Tensor | None = None,
) -> bool:
    """Measure the linear error of the leading directions at every level, and correct it in place.

    Under conditions, too, the error of a perfect prediction goes with no noisy series, on average over them: so one
    correction is fitted under all, as the network was trained. That of a model which is told values of
    the series themselves differs too much with how many, from all of it to none, and is left alone.

    Then it is measured on held-out series how much of the network's difference from the linear model is worth keeping
    under each noise: less than all of it only where it is beyond doubt that some of it does harm. And on training
    series, how much is worth keeping where values are known: the truth is regressed on both, direction by direction,
    over masks as training draws them.

    Args:
        score: A trained model.
        series: Training series ``(n, N, M)``, on any device.
        count: How many are drawn of them for each noise level.
        generator: Source of the draws and the noise, on the CPU.
        known: What is known of each of the series, in the model's numbers.
        dropout: Share of the series of which each part is forgotten, as in training.
        held_out: Series that were not trained on; if not given, the network is kept as it is.
        held_known: What is known of them.
        held_seen: 1 where a value of them was observed, else 0, ``(m, N, M)``; ``None`` where all were. What stands
            in a gap was drawn from a linear model, which would be found right about it.

    Returns:
        Whether it was done: not where the model has no correction, or there are too few series.
    """
    correction = score.correction
    if correction is None or count < FEWEST * (correction.offset.shape[1] + 1):
        return False
    correction.forget()

    def some(number: int) -> tuple[Tensor, Condition]:
        rows = torch.randint(len(series), (number,), generator=generator)
        return series[rows], known.take(rows).thinned(dropout) if known else NOTHING

    levels = correction.levels.tolist()
    if not score.sizes.observed:
        found = [_measure(score, correction, *some(count), level, generator) for level in levels]
        correction.slope.copy_(torch.stack([slope for slope, _ in found]))
        correction.offset.copy_(torch.stack([offset for _, offset in found]))
        if held_out is not None and len(held_out) >= FEWEST_HELD_OUT:
            given, asked = (held_out, held_known, held_seen), min(count, MOST_KEPT)
            here = [_kept(score, *given, asked, level, generator) for level in levels]
            correction.keep(torch.tensor(here))
    trust = [_trust(score, *some(min(count, MOST_MASKED)), level, generator) for level in levels]
    correction.trust.copy_(torch.stack(trust))
    return True


def _measure(
    score: Score,
    correction: Correction,
    series: Tensor,
    told: Condition,
    log_noise: float,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Return slope ``(r, r)`` and offset ``(r,)`` of the error at one noise level."""
    device = score.noise_scale.device
    t = score.sde.time_at(torch.tensor(-log_noise, dtype=torch.float64)).float().to(device)
    c = score.coefficients(t)
    rows, errors = [], []
    for first in range(0, len(series), CHUNK):
        here = slice(first, first + CHUNK)
        z0, condition = score.codec.encode(series[here].to(device)), told.take(here).to(device)
        z = c.alpha * z0 + c.sigma * torch.randn(z0.shape, generator=generator).to(z0)
        denoised = (z + c.sigma.square() * score(z, t, condition)) / c.alpha
        errors.append(correction.along(z0) - correction.along(denoised))
        rows.append(correction.along(z / c.alpha))
    known, wrong = torch.cat(rows).double(), torch.cat(errors).double()
    known = torch.cat([known, known.new_ones(len(known), 1)], dim=1)
    inverse = torch.linalg.pinv(known.T @ known, hermitian=True)  # some directions may hold nothing
    fitted = inverse @ (known.T @ wrong)
    left = (wrong - known @ fitted).square().sum(0) / (len(known) - known.shape[1])
    chance = inverse.diagonal().unsqueeze(1) * left  # squared standard errors
    fitted = fitted * (1 - chance / fitted.square().clamp(min=1e-300)).clamp(min=0)  # James and Stein, one by one
    return fitted[:-1].T.float(), fitted[-1].float()


def _kept(
    score: Score,
    series: Tensor,
    told: Condition,
    seen: Tensor | None,
    count: int,
    log_noise: float,
    generator: torch.Generator,
) -> float:
    """Return the share of its difference from the linear model that is worth keeping at one noise level.

    It is the slope of the truth on that difference, both less the linear prediction. Draws of one series go together,
    so the slope's error is that over series.
    """
    device = score.noise_scale.device
    t = score.sde.time_at(torch.tensor(-log_noise, dtype=torch.float64)).float().to(device)
    c = score.coefficients(t)
    # Every one as often as any other, and where there are more than draws not the first, which may be of one kind.
    numbers = torch.randperm(len(series), generator=generator).repeat(-(-count // len(series)))[:count]
    sums = torch.zeros(3, len(series), dtype=torch.float64)
    for rows in numbers.split(CHUNK):
        z0, condition = score.codec.encode(series[rows].to(device)), told.take(rows).to(device)
        noise = torch.randn(z0.shape, generator=generator).to(z0) * (score.noise_scale > 0)
        z = c.alpha * z0 + c.sigma * noise
        linear, eps = score.linear_eps(z, c), -c.sigma * score(z, t, condition)
        differs, wrong = eps - linear, noise - linear
        if seen is not None:
            there = seen[rows].to(device)
            differs, wrong = (observed_error(score.codec, x, there) for x in (differs, wrong))
        differs, wrong = differs.double(), wrong.double()
        products = (wrong * differs, differs.square(), wrong.square())
        sums.index_add_(1, rows, torch.stack([x.sum((1, 2)) for x in products]).cpu())
    both, own, whole = sums
    if own.sum() == 0:
        return 1.0
    share = both.sum() / own.sum()
    chance = (both - share * own).square().sum().sqrt() / own.sum()
    harm = (1 - share).square() * own.sum() / whole.sum()
    return float(share.clamp(0, 1)) if share + 2 * chance < 1 and harm > HARM else 1.0


def _trust(score: Score, series: Tensor, told: Condition, log_noise: float, generator: torch.Generator) -> Tensor:
    """Return the share of its difference from the linear model that a network is believed, ``(n,)``."""
    codec, device, gaussian = score.codec, score.noise_scale.device, gaussian_of(score.codec)
    directions = codec.directions
    assert directions is not None
    t = score.sde.time_at(torch.tensor(-log_noise, dtype=torch.float64)).float().to(device)
    c = score.coefficients(t)
    alpha, level = (x.flatten(1).to(gaussian.dtype) for x in (c.alpha, c.level))
    both, own = torch.zeros(2, gaussian.size, dtype=gaussian.dtype, device=device)
    for first in range(0, len(series), CHUNK):
        here = slice(first, first + CHUNK)
        x, condition = series[here].to(device), told.take(here).to(device)
        mask = draw_masks(x.shape, 1.0, generator).to(x)
        known = gaussian.known(mask)
        if score.sizes.observed:
            condition = replace(condition, observed=codec.logarithm(x), mask=mask)
        z0 = codec.encode(x)
        z = c.alpha * z0 + c.sigma * torch.randn(z0.shape, generator=generator).to(z0)
        denoised = (z + c.sigma.square() * score(z, t, condition)) / c.alpha
        linear = gaussian.scaled(codec.whiten(z), lambda block: block.clean(alpha, level)).to(z)
        wrong, differs = (
            known.open(codec.whiten(tokens) - linear, lambda block: block.left(alpha, level))
            for tokens in (z0, denoised)
        )
        wrong, differs = (directions.along(rows).to(gaussian.dtype) for rows in (wrong, differs))
        both, own = both + (wrong * differs).sum(0), own + differs.square().sum(0)
    return (both / own.clamp(min=1e-300)).clamp(0, 1).float()
