"""Samples that keep to observed values by gradients through the network: each call costs two or three.

What is asked must be the network itself: through a cache, which answers many calls from memory, no gradient goes.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.conditional import Block, Known
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.sampling.constraints import Constraint, Steering
from lightning_freqdiff.sampling.guidance import Guidance
from lightning_freqdiff.sampling.observed import Replacement, known_values
from lightning_freqdiff.sampling.solvers import Level


def _expect_network(score: ScoreFunction) -> None:
    """Refuse a cache, whose answers are no function of what was asked."""
    if not score.differentiable:
        raise ValueError(
            "expected a network that gradients go through, got a cache in between: leave the cache out of "
            "`trainer.callbacks`, or set `sampling.guidance` GaussianPosterior, which caches see through"
        )


class _Through:
    """A look at the clean estimate, and what of the noisy tokens a change of it is worth.

    Args:
        codec: To series in the data's units and back.
        sde: Forward process.
        known: How values are known.
    """

    def __init__(self, codec: Codec, sde: SDE, known: Known) -> None:
        self.codec, self.sde, self.known = codec, sde, known

    def look(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> tuple[Tensor, Tensor, Tensor]:
        """Return the score, what the estimate lacks ``(B, N * M)``, and the gradient of that :meth:`worth`."""
        _expect_network(score)
        # Lightning predicts in inference mode, whose tensors no gradient goes through; copies are like any other.
        with torch.inference_mode(False), torch.enable_grad():
            z, t, condition = z.clone().requires_grad_(), t.clone(), condition.repeat(1)
            found, scale = score(z, t, condition), self.codec.noise_scale
            alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
            series = self.codec.learnt((z + (sigma * scale).square() * found) / alpha)
            with torch.no_grad():
                assert condition.observed is not None
                lack = self.known.seen((condition.observed - series).flatten(1))
                worth = self.worth(lack, alpha, sigma).to(series)
            (gradient,) = torch.autograd.grad(series, z, worth.view_as(series))
        return found.detach(), lack, torch.where(scale > 0, gradient, 0.0)

    def worth(self, lack: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """Return the slope over the series ``(B, N * M)`` of what is gained: by default, of half the square lacking.

        In units of each channel's deviation.
        """
        return lack / self.unit.square()

    @property
    def unit(self) -> Tensor:
        """Deviation of each number of a series in training, the same for all steps of a channel, ``(N * M,)``."""
        layout, codec = self.codec.layout, self.codec
        live = codec.noise_scale > 0
        power = torch.where(live, codec.deviation / torch.where(live, codec.noise_scale, 1.0), 0.0).square()
        channels = power.sum(0).unflatten(0, (-1, layout.channels)).sum(0) / layout.length
        return channels.sqrt().clamp(min=1e-12).repeat(layout.length)


@dataclass(frozen=True)
class Reconstruction(Guidance):
    """Add to the score what the observed values say of the noisy series, by the gradient through the network.

    DPS (Chung et al., arXiv 2209.14687) in the form of ΠGDM (Song et al., ICLR 2023): with the estimate ``x̂(z)``,
    what is observed has the law ``N(A x̂, A C_t Aᵀ)``, and ``∇ log p(y | z) = (∂x̂/∂z)ᵀ Aᵀ (A C_t Aᵀ)⁻¹ (y - A x̂)``.
    ``C_t`` is that of the linear model, as in ``GaussianPosterior``, which needs no gradient for it. Where that has
    next to nothing left, a network's gradient may be many times as large, and a trajectory that is asked to undo
    there what it cannot is blown up: so no direction is taken for surer than a share of what is left of all.

    Args:
        weight: Share of it that is added.
        doubt: That share, over the mean variance that is left. At 0 it is exact where data are Gaussian.
    """

    weight: float = 1.0
    doubt: float = 0.3

    def __post_init__(self) -> None:
        if self.doubt < 0:
            raise ValueError(f"expected a doubt of 0 or more, got {self.doubt}: set `sampling.guidance.doubt`")

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Guidance | None:
        """Find out who shares a mask."""
        known = known_values(codec, condition)
        return None if known is None else _Reconstructing(codec, sde, known, self)

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Put the observed values in their places."""
        return condition.fill(series)

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Follow the score as it is: without a trajectory that was begun, nothing is known."""
        return score(z, t, condition)


class _Reconstructing(_Through, Guidance):
    strength = "guidance.weight"

    def __init__(self, codec: Codec, sde: SDE, known: Known, settings: Reconstruction) -> None:
        super().__init__(codec, sde, known)
        self.settings = settings

    def worth(self, lack: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        alpha, sigma = (x.to(self.known.gaussian.dtype).view(1, 1) for x in (alpha, sigma))

        def spread(block: Block) -> Tensor:
            left = block.left(alpha, sigma)
            return left + self.settings.doubt * left.mean(1, keepdim=True)

        return self.known.weigh(lack.to(alpha), spread)

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        found, _, gradient = self.look(score, z, t, condition)
        return found + self.settings.weight * gradient


class _AfterStep(Constraint):
    """What moves tokens after each step by gradients, with observed values put in at the end."""

    def finish(self, series: Tensor, condition: Condition) -> Tensor:
        """Put the observed values in their places."""
        return condition.fill(series)

    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        """Leave tokens as they are: without a trajectory that was begun, nothing is known."""
        return z


class _Stepping(_Through, Steering):
    """A trajectory's part of :class:`_AfterStep`: it hears the calls of the solver, whose score it leaves alone."""

    @abstractmethod
    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Remember what is needed after the step."""


@dataclass(frozen=True)
class ManifoldConstrained(_AfterStep):
    """After each step, go against the gradient of what the estimate lacked, then put observed values in place.

    MCG (Chung et al., arXiv 2206.00941, algorithm 1): the step along ``∇ ‖W (y - A x̂)‖²`` is taken at the tokens that
    the solver came from, and is ``weight`` over the norm of what is lacking. It moves what is not observed alone, as
    the rest is then replaced (``Replacement``).

    Args:
        weight: Length of the step; 0 is plain replacement.
    """

    weight: float = 0.1

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Constraint | None:
        """Find out who shares a mask."""
        known = known_values(codec, condition)
        replacing = Replacement().begin(codec, sde, condition)
        return None if known is None or replacing is None else _Manifold(codec, sde, known, replacing, self.weight)


class _Manifold(_Stepping):
    strength = "constraint.weight"

    def __init__(self, codec: Codec, sde: SDE, known: Known, replacing: Constraint, weight: float) -> None:
        super().__init__(codec, sde, known)
        self.replacing, self.weight = replacing, weight

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        found, lack, gradient = self.look(score, z, t, condition)
        norm = (lack / self.unit).norm(dim=1).clamp(min=1e-12).view(-1, 1, 1)
        self.step = 2 * self.weight / norm * gradient
        return found

    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        moved = z + codec.noise_scale.square() * self.step
        return self.replacing.apply(moved, level, condition, codec, noise)


@dataclass(frozen=True)
class TrustSampling(_AfterStep):
    """After each step, go some way down the gradient of what the estimate lacks, for as long as it can be trusted.

    Trust sampling (Huang et al., arXiv 2411.10932): ``z ← z - w ∇L / ‖∇L‖`` up to ``J`` times at the level reached,
    while the noise that the network sees in ``z`` is no more than there should be, ``‖ε̂‖ ≤ ε_max``. The paper does so
    before a step's noise is added; here solvers add their own, and it is done after. It is made for some 200 steps,
    and calls the network up to ``1 + J`` times in each.

    Args:
        weight: Length ``w`` of each move, in white coordinates.
        moves: Moves after a step at most, ``J``.
        trust: ``ε_max`` over the square root of the coordinates, which is the norm of pure noise.
    """

    weight: float = 1.0
    moves: int = 4
    trust: float = 1.0

    def begin(self, codec: Codec, sde: SDE, condition: Condition) -> Constraint | None:
        """Find out who shares a mask."""
        known = known_values(codec, condition)
        return None if known is None else _Trusting(codec, sde, known, self)


class _Trusting(_Stepping):
    strength = "constraint.weight"

    def __init__(self, codec: Codec, sde: SDE, known: Known, settings: TrustSampling) -> None:
        super().__init__(codec, sde, known)
        self.settings = settings

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        _expect_network(score)
        self.score = score
        with torch.inference_mode(False), torch.no_grad():  # what a network keeps is for the gradients, too
            return score(z.clone(), t.clone(), condition.repeat(1))

    def apply(self, z: Tensor, level: Level, condition: Condition, codec: Codec, noise: Tensor) -> Tensor:
        scale = codec.noise_scale
        most = self.settings.trust * float((scale > 0).sum()) ** 0.5
        for _ in range(self.settings.moves):
            found, _, gradient = self.look(self.score, z, level.t, condition)
            seen = (level.sigma * scale * found).flatten(1).norm(dim=1)
            step = scale * gradient  # in white coordinates
            length = step.flatten(1).norm(dim=1).clamp(min=1e-12)
            share = torch.where(seen <= most, self.settings.weight / length, 0.0).view(-1, 1, 1)
            z = z + share * step * scale
        return z
