"""Put right what a trained network gets wrong of the leading directions, by least squares over training series."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_freqdiff.condition import UNCONDITIONAL
from lightning_freqdiff.diffusion.correction import Correction
from lightning_freqdiff.diffusion.score import Score

FEWEST = 4
"""Series for each number that is fitted."""

CHUNK = 256
"""Series that are predicted at once."""


@torch.no_grad()
def refit(score: Score, series: Tensor, count: int, generator: torch.Generator) -> bool:
    """Measure the linear error of the leading directions at every level, and correct it in place.

    Args:
        score: A trained model.
        series: Training series ``(n, N, M)``, on any device.
        count: How many are drawn of them for each noise level.
        generator: Source of the draws and the noise, on the CPU.

    Returns:
        Whether it was done: not where the model has no correction, knows conditions, or would be measured on
        too few series.
    """
    correction = score.correction
    if correction is None or score.sizes != UNCONDITIONAL or count < FEWEST * (correction.offset.shape[1] + 1):
        return False
    correction.slope.zero_()
    correction.offset.zero_()
    found = []
    for level in correction.levels.tolist():
        drawn = series[torch.randint(len(series), (count,), generator=generator)]
        found.append(_measure(score, correction, drawn, level, generator))
    correction.slope.copy_(torch.stack([slope for slope, _ in found]))
    correction.offset.copy_(torch.stack([offset for _, offset in found]))
    return True


def _measure(
    score: Score, correction: Correction, series: Tensor, log_noise: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return slope ``(r, r)`` and offset ``(r,)`` of the error at one noise level."""
    device = score.noise_scale.device
    t = score.sde.time_at(torch.tensor(-log_noise, dtype=torch.float64)).float().to(device)
    c = score.coefficients(t)
    rows, errors = [], []
    for x in series.split(CHUNK):
        z0 = score.codec.encode(x.to(device))
        z = c.alpha * z0 + c.sigma * torch.randn(z0.shape, generator=generator).to(z0)
        denoised = (z + c.sigma.square() * score(z, t)) / c.alpha
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
