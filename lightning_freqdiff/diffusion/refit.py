"""Put right what a trained network gets wrong of the leading directions, by least squares over training series."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.correction import Correction
from lightning_freqdiff.diffusion.score import Score

FEWEST = 4
"""Series for each number that is fitted."""

CHUNK = 256
"""Series that are predicted at once."""


@torch.no_grad()
def refit(
    score: Score,
    series: Tensor,
    count: int,
    generator: torch.Generator,
    known: Condition = NOTHING,
    dropout: float = 0.0,
) -> bool:
    """Measure the linear error of the leading directions at every level, and correct it in place.

    Under conditions, too, the error of a perfect prediction goes with no noisy series, on average over them: so one
    correction is fitted under all, as the network was trained. That of a model which is told values of
    the series themselves differs too much with how many, from all of it to none, and is left alone.

    Args:
        score: A trained model.
        series: Training series ``(n, N, M)``, on any device.
        count: How many are drawn of them for each noise level.
        generator: Source of the draws and the noise, on the CPU.
        known: What is known of each of the series, in the model's numbers.
        dropout: Share of the series of which each part is forgotten, as in training.

    Returns:
        Whether it was done: not where the model has no correction, is told values, or there are too few series.
    """
    correction = score.correction
    if correction is None or score.sizes.observed or count < FEWEST * (correction.offset.shape[1] + 1):
        return False
    correction.slope.zero_()
    correction.offset.zero_()
    found = []
    for level in correction.levels.tolist():
        rows = torch.randint(len(series), (count,), generator=generator)
        told = known.take(rows).thinned(dropout) if known else NOTHING
        found.append(_measure(score, correction, series[rows], told, level, generator))
    correction.slope.copy_(torch.stack([slope for slope, _ in found]))
    correction.offset.copy_(torch.stack([offset for _, offset in found]))
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
