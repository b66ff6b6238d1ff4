"""Samples that keep to observed values, from any checkpoint, at no further network call.

Both need no gradient through the network and see its score as it is, so that caches lie in between as always.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.conditional import Block, Known, gaussian_of
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.constraints import Constraint
from lightning_freqdiff.sampling.guidance import Guidance
from lightning_freqdiff.sampling.solvers import Level


def known_values(codec: Codec, condition: Condition) -> Known | None:
    """Return how the values are known that were observed of these samples; ``None`` where there are none.

    Raises:
        ValueError: For values of another shape than the model's series.
    """
    if condition.mask is None or not bool((condition.mask > 0).any()):
        return None
    shape = codec.layout.length, codec.layout.channels
    if tuple(condition.mask.shape[1:]) != shape:
        raise ValueError(
            f"expected observed values of (N, M) = {shape} as the model was trained on, got "
            f"{tuple(condition.mask.shape[1:])}: set `sampling.condition`"
        )
    return gaussian_of(codec).known(condition.mask)


class Estimate(NamedTuple):
    """What a network takes for the clean series, at a noise level.

    Attributes:
        rows: The estimates as whitened rows, ``(B, n)``.
        noisy: The noisy series that they are of, the same.
        alpha: ``α``, ``(1, 1)``.
        sigma: ``σ``, the same.
        believed: How far the network is to be believed, see :meth:`ScoreFunction.believed`.
    """

    rows: Tensor
    noisy: Tensor
    alpha: Tensor
    sigma: Tensor
    believed: Tensor | None


class OnEstimate(Guidance):
    """Guidance that moves what the network takes for the clean series.

    With ``z = α z₀ + σΛ ξ`` a score stands for the estimate ``z₀ = (z + σ²Λ² s) / α``, and an estimate that is moved
    by ``Λ δ`` for a score that is moved by ``α δ / (σ² Λ)``.

    Args:
        codec: To series in the data's units and back.
        sde: Forward process.
    """

    def __init__(self, codec: Codec, sde: SDE) -> None:
        self.codec, self.sde, self.dtype = codec, sde, gaussian_of(codec).dtype

    @abstractmethod
    def move(self, estimate: Estimate, condition: Condition) -> Tensor:
        """Return ``δ``, ``(B, n)``."""

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Return the score of the estimate that was moved."""
        found, scale = score(z, t, condition), self.codec.noise_scale
        alpha, sigma = (f(t).to(self.dtype).view(1, 1) for f in (self.sde.alpha, self.sde.sigma))
        noisy = self.codec.whiten(z)
        rows = (noisy + sigma.square() * self.codec.whiten(scale.square() * found)) / alpha
        moved = self.move(Estimate(rows, noisy, alpha, sigma, score.believed(t)), condition)
        moved = (alpha / sigma.square() * moved).view_as(z).to(z)
        live = scale > 0
        return found + torch.where(live, moved / torch.where(live, scale, 1.0), 0.0)


@dataclass(frozen=True)
class GaussianPosterior(Guidance):
    """Move the network's clean estimate to observed values as the linear model of the training series would.

    What is not known yet of a series at a noise level has, in the linear model, the covariance
    ``C_t = Q diag(p σ² / (α² p + σ²)) Qᵀ`` over the principal directions of the training series. With it, the
    network's estimate ``r`` of the clean rows becomes ``r + C_t Aᵀ (A C_t Aᵀ)⁻¹ (y - A r)`` for observed values
    ``y = A r``. It agrees with these at every step; what is not observed follows as far as it goes together with what
    is, given the present noisy series; and where data are Gaussian it is the conditional law exactly. ΠGDM (Song et
    al., "Pseudoinverse-guided diffusion models for inverse problems" (ICLR 2023)) has a multiple of the identity in
    the place of ``C_t``, and a gradient through the network in that of ``Q``. A network that was trained with
    ``model.observe`` is told the values as well.

    Known values may leave so little open that the error of a network is larger than that. At the end of `fit`
    (``Refit``) the truth was regressed on what network and linear model make of known values, direction by direction
    and level by level; of their difference so much is kept as was found to be worth it.
    """

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Guidance | None:
        """Find out who shares a mask."""
        known = known_values(codec, condition)
        return None if known is None else _Posterior(codec, sde, known)

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Put the observed values in their places."""
        return condition.fill(series)

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Follow the score as it is: without a trajectory that was begun, nothing is known."""
        return score(z, t, condition)


class _Posterior(OnEstimate):
    """The guidance of a trajectory whose observed values are known."""

    def __init__(self, codec: Codec, sde: SDE, known: Known) -> None:
        super().__init__(codec, sde)
        self.known = known

    def move(self, estimate: Estimate, condition: Condition) -> Tensor:
        """Move by the linear model's gain at this noise level, and by what it is believed more than the network."""
        assert condition.observed is not None
        observed, (rows, noisy, alpha, sigma, believed) = condition.observed, estimate

        def left(block: Block) -> Tensor:
            return block.left(alpha, sigma)

        factors, gaussian = self.known.factors(left), self.known.gaussian

        def moved(rows: Tensor) -> Tensor:
            return self.known.move(self.known.lack(rows, observed), left, factors)

        step = moved(rows)
        if believed is None:
            return step
        linear = gaussian.scaled(noisy, lambda block: block.clean(alpha, sigma))
        linear = linear + moved(linear)
        # Directions of a block have the numbers of its coordinates.
        kept = gaussian.scaled(rows + step - linear, lambda block: believed[block.coordinates].to(self.dtype))
        both = linear + kept
        return both + moved(both) - rows


@dataclass(frozen=True)
class Replacement(Constraint):
    """After each step, put observed values, at the noise level reached, in the place of those drawn.

    RePaint (Lugmayr et al., arXiv 2201.09865, equation 8), for noise of any colour: what is put in place is
    ``α (y - μ) + σ A ξ``, whose noise goes together over time as that of the diffusion does, and the other numbers go
    with it to the nearest row in the noise's metric, so that pure noise stays pure noise.

    The estimate of what is not observed hardly sees what is. Time travel lets it: each stretch of ``jump`` steps is
    taken ``resamplings`` times, with noise added in between (their algorithm 1), at as many times the calls.

    Args:
        resamplings: How often each stretch is taken; 1 is no time travel. RePaint has 10.
        jump: Steps of a stretch. RePaint has 10, of 250.
    """

    resamplings: int = 1
    jump: int = 10

    def __post_init__(self) -> None:
        for name in ("resamplings", "jump"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} >= 1, got {getattr(self, name)}: set `sampling.constraint.{name}`")

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Constraint | None:
        """Find out who shares a mask, and solve what does not change."""
        known = known_values(codec, condition)
        return None if known is None else _Replacing(known, self)

    def legs(self, num_steps: int) -> list[tuple[int, int]]:
        """Take each stretch as often as it is to be."""
        stretches = [(start, min(start + self.jump, num_steps)) for start in range(0, num_steps, self.jump)]
        travels = [leg for leg in stretches for _ in range(self.resamplings)]
        return travels if self.resamplings > 1 else [(0, num_steps)]

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Put the observed values in their places."""
        return condition.fill(series)

    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        """Leave tokens as they are: without a trajectory that was begun, nothing is known."""
        return z


class _Replacing(Constraint):
    """The constraint of a trajectory whose observed values are known."""

    def __init__(self, known: Known, settings: Replacement) -> None:
        self.known, self.factors, self.settings = known, known.factors(_white), settings

    def legs(self, num_steps: int) -> list[tuple[int, int]]:
        """Travel as was set."""
        return self.settings.legs(num_steps)

    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        """Go to the nearest row that has the observed values in it, at their level."""
        assert condition.observed is not None
        gaussian, rows = self.known.gaussian, codec.whiten(z)
        clean = condition.observed.flatten(1).to(gaussian.dtype) - gaussian.mean
        fresh = gaussian.series(noise.flatten(1) * (codec.noise_scale > 0).flatten())
        wanted = level.alpha * clean + level.sigma * fresh - gaussian.series(rows)
        moved = self.known.move(self.known.seen(wanted), _white, self.factors)
        return z + moved.view_as(z).to(z) * codec.noise_scale


def _white(block: Block) -> Tensor:
    return torch.ones_like(block.power).unsqueeze(0)
