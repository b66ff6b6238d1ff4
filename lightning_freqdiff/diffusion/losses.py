"""Denoising score matching: what the network is trained on.

Vincent (2011); Song et al., arXiv 2011.13456, equation 7. With ``z_t = α z_0 + s ξ``, ``s = σΛ``, the score of the
perturbation kernel is ``-ξ/s``, so an error ``e`` in the noise prediction is an error ``-e/s`` in the score.
All losses are weighted squares of ``e``, averaged over the coordinates that carry noise:

| weighting | weight on ``e²`` | meaning |
|---|---|---|
| ``unit`` | ``(α²v + s²) / (α²v)`` | raw Wiener output of unit variance at every ``t`` (EDM) |
| ``edm`` | ``(α² + s²) / α²`` | the same of the whole series, whose mean variance is 1: EDM's to the letter |
| ``eps`` | 1 | plain noise prediction, ``λ = s²`` |
| ``likelihood`` | ``g²/σ²`` | likelihood weighting, ``λ = g²Λ²`` |
| ``fd`` | ``Λ⁻² / mean Λ⁻²`` | Crabbé et al., arXiv 2402.05933: score error over ``tr Σ⁻¹`` |

Where values are observed, an error counts after it went through the correction that sampling makes
(:class:`~lightning_freqdiff.sampling.GaussianPosterior`): ``(I - C_t Aᵀ (A C_t Aᵀ)⁻¹ A) e``, which is nothing at
observed values. So what is learnt is the part that the linear model does not say of the others. The system is solved
by some rounds of conjugate gradients: whatever linear map errors go through, the best prediction is the same. (To
weigh errors by a mask over time would not do: a unit of raw error is another size at each frequency, and over time
the sizes mix.)

Where values are missing, the error of the clean series is taken back to the time axis, set to 0 where nothing was
observed, and brought back and weighted as before: ``Σ w (P e)²`` with ``P`` that way there and back. With all values
observed ``P`` is the identity. Whatever is missing, the best prediction is the same, if gaps are there by chance and
filled as ``data/series/filling.py`` says: the gradient ``E[Pᵀ w P (D(z) - z_0)]`` is 0 where ``D(z) = E[z_0 | z]``. A
mask in time mixes frequencies, so that weights must not differ between them by much: those that do (``unit``, ``fd``)
give way to ``edm``.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Generator, Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.diffusion.score import LINEAR, Coefficients, Score
from lightning_freqdiff.diffusion.sde import SDE, T_MIN

Weighting = Literal["unit", "edm", "eps", "likelihood", "fd"]
TimeDensity = Literal["uniform", "lognormal"]
FLAT = ("edm", "eps", "likelihood")
"""Weightings that are the same, or nearly, at all frequencies."""

LOGNORMAL = -0.2, 1.8
"""Mean and deviation of ``log(σ/α)`` over log-normal training times."""


def time_quantiles(sde: SDE, density: TimeDensity, points: int = 2049) -> Tensor:
    """Tabulate the quantiles of the training times, ``(points,)``.

    Args:
        sde: Forward process.
        density: ``uniform`` on ``[ε, 1]`` as in the papers, or ``lognormal`` in ``σ/α`` as in EDM (Karras et al.,
            arXiv 2206.00364, section 5): it spends the steps where there is something to learn, as at the ends the
            best prediction is nearly linear. Its logarithm has mean -0.2 and deviation 1.8; EDM's -0.5 and 1.3 (moved
            to data of deviation 1) seldom visit the strong noise at which it is decided whether a sample becomes one
            of the rare series far from the rest, and these are then missing.
        points: Number of quantiles, evenly spaced from 0 to 1.
    """
    if density not in get_args(TimeDensity):
        raise ValueError(
            f"expected a time density of {', '.join(get_args(TimeDensity))}, got {density!r}: set `model.times`"
        )
    quantiles = torch.linspace(0, 1, points, dtype=torch.float64)
    if density == "uniform":
        return (T_MIN + (1 - T_MIN) * quantiles).float()
    mean, deviation = LOGNORMAL
    ends = -sde.log_snr(torch.tensor([T_MIN, 1.0], dtype=torch.float64))
    low, high = torch.special.ndtr((ends - mean) / deviation)  # truncated to the times there are
    return sde.time_at(-mean - deviation * torch.special.ndtri(low + quantiles * (high - low))).float()


def stratified_times(quantiles: Tensor, count: int, generator: Generator | None = None) -> Tensor:
    """Draw ``count`` times, one from each of ``count`` equally likely parts of their range, in random order.

    Same expectation as independent draws, smaller variance of the loss, no cost. The order is drawn, too, so that
    every time is uniform over the whole range whatever its place: a series that keeps its place in the batch, as in
    validation, would otherwise only ever meet one part.

    Args:
        quantiles: Table of :func:`time_quantiles`; its device is that of the result.
        count: Number of times.
        generator: Source of randomness, on the CPU.
    """
    part = torch.randperm(count, generator=generator)
    within = torch.rand(count, generator=generator, dtype=torch.float32)  # the same times in every precision
    place = (part + within) / count * (len(quantiles) - 1)
    below = place.long().clamp(max=len(quantiles) - 2)
    share = (place - below).to(quantiles)
    return torch.lerp(quantiles[below], quantiles[below + 1], share)


def score_matching_loss(
    score: Score,
    z0: Tensor,
    noise: Tensor,
    t: Tensor,
    weighting: Weighting = "unit",
    condition: Condition = NOTHING,
    seen: Tensor | None = None,
) -> Tensor:
    """Return the denoising score matching loss, a scalar.

    Args:
        score: The model.
        z0: Clean, standardised tokens, ``(B, K, F)``.
        noise: Standard normal noise, ``(B, K, F)``.
        t: Times in ``[ε, 1]``, ``(B,)``.
        weighting: One of the weightings above.
        condition: What is known of the series.
        seen: 1 where a value of the series was observed, else 0, ``(B, N, M)``; ``None`` where all were.

    Raises:
        ValueError: For an unknown weighting.
    """
    c = score.coefficients(t)
    zt = c.alpha * z0 + c.sigma * noise
    h, context = score.embed(zt, t, c, condition)
    raw = score.network.head(score.network.blocks(h, context), context).to(z0.dtype)
    target, unit_error = score.target(z0, noise, c)
    if score.kept(c) is None:
        error = score.meant(raw) - target
    else:  # of what is kept of it, and the linear model's part
        error = score.in_raw(score.eps(raw, zt, c) - noise, unit_error)
    error = _unobserved(score, error, unit_error, c, condition)
    return _mean_square(score, error, unit_error, t, c, weighting, seen)


def linear_loss(
    score: Score,
    z0: Tensor,
    noise: Tensor,
    t: Tensor,
    weighting: Weighting = "unit",
    condition: Condition = NOTHING,
    seen: Tensor | None = None,
) -> Tensor:
    """Return the same loss of the linear model that takes the data for Gaussian, a scalar.

    Args:
        score: The model, of which no more is used than its units.
        z0: Clean, standardised tokens, ``(B, K, F)``.
        noise: Standard normal noise, ``(B, K, F)``.
        t: Times in ``[ε, 1]``, ``(B,)``.
        weighting: One of the weightings above.
        condition: What is known of the series, of which the model uses observed values alone.
        seen: As of :func:`score_matching_loss`.
    """
    c = score.coefficients(t)
    match score.parametrization:
        case "wiener":  # a raw output of 0 is the filter
            target, unit_error = score.target(z0, noise, c)
            error = -target
        case "steps":
            _, unit_error = score.target(z0, noise, c)
            error = score.in_raw(score.linear_eps(c.alpha * z0 + c.sigma * noise, c) - noise, unit_error)
        case _:
            error = score.wiener_eps(c.alpha * z0 + c.sigma * noise, c) - noise
            unit_error = torch.ones_like(error)
    error = _unobserved(score, error, unit_error, c, condition)
    return _mean_square(score, error, unit_error, t, c, weighting, seen)


def _unobserved(score: Score, error: Tensor, unit_error: Tensor, c: Coefficients, condition: Condition) -> Tensor:
    """Return what is left of an error once observed values have had their say, ``(B, K, F)``."""
    if condition.mask is None or not score.sizes.observed:
        return error
    known = gaussian_of(score.codec).known(condition.mask)
    # An error of eps is one of the clean rows but for a factor that all coordinates share, which does not matter.
    eps = score.in_eps(error, unit_error)
    alpha, level = (x.flatten(1).to(known.gaussian.dtype) for x in (c.alpha, c.level))
    rows = eps.flatten(1)
    told = rows - known.open(rows, lambda block: block.left(alpha, level))
    return error - score.in_raw(told.view_as(eps), unit_error)  # the very error where nothing is known


def _mean_square(
    score: Score,
    error: Tensor,
    unit_error: Tensor,
    t: Tensor,
    c: Coefficients,
    weighting: Weighting,
    seen: Tensor | None = None,
) -> Tensor:
    """Return the weighted mean square of an error, given that of ``eps`` which a unit of it makes."""
    carries = (score.noise_scale > 0).to(error.dtype)
    if seen is not None:
        weights = weight(score, weighting if weighting in FLAT else "edm", t, c)
        squares = weights * observed_error(score.codec, score.in_eps(error, unit_error), seen).square() * carries
        return squares.sum() / (carries.sum() * seen.sum() / seen[0].numel()).clamp(min=1)
    if weighting == "unit" and score.parametrization in LINEAR:
        # Written out, the weight and the error of eps cancel: the loss is the plain square of the raw error.
        if score.codec.step_variance is not None:
            varies = (score.codec.step_variance > 0).to(error.dtype)
            return (error.square() * varies).sum() / (varies.sum().clamp(min=1) * len(error))
        carries = carries * score.codec.active
        return (error.square() * carries).sum() / (carries.sum().clamp(min=1) * len(error))
    squares = weight(score, weighting, t, c) * score.in_eps(error, unit_error).square()
    return (squares * carries).sum() / (carries.sum() * len(error))


def observed_error(codec: Codec, error: Tensor, seen: Tensor) -> Tensor:
    """Return an error in ``eps`` without what it says of values that were not observed, ``(B, K, F)``.

    Args:
        codec: Layout and units of the tokens.
        error: In ``eps``, ``(B, K, F)``; that of the clean series is ``-(σ/α) Λ`` times it.
        seen: 1 where a value was observed, else 0, ``(B, N, M)``.
    """
    unit, live = codec.noise_scale * codec.scale, codec.noise_scale > 0
    series = codec.layout.decode(error.float() * unit) * seen
    return torch.where(live, codec.layout.encode(series) / torch.where(live, unit, 1.0), 0.0).to(error)


def weight(score: Score, weighting: Weighting, t: Tensor, c: Coefficients) -> Tensor:
    """Return the weight on the squared error of the noise prediction, broadcastable to ``(B, K, F)``."""
    match weighting:
        case "unit":
            spread = torch.where(c.spread > 0, c.spread, c.total)
            return (c.total / spread).square()
        case "edm":
            return 1 + (c.sigma / c.alpha).square()
        case "eps":
            return torch.ones_like(c.total)
        case "likelihood":
            t = t.reshape(-1, 1, 1)
            return (score.sde.diffusion(t) / score.sde.sigma(t)).square().expand_as(c.total)
        case "fd":
            inverse = torch.where(score.noise_scale > 0, score.noise_scale, torch.inf).square().reciprocal()
            return (inverse * (score.noise_scale > 0).sum() / inverse.sum()).expand_as(c.total)
    raise ValueError(
        f"expected a weighting of {', '.join(get_args(Weighting))}, got {weighting!r}: set `model.weighting`"
    )
