"""Gaussian data and mixtures of it, whose score is known exactly: the oracle of solvers and caches."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.logarithm import Logarithm


def units(noise_scale: Tensor, variance: Tensor | None = None) -> Any:
    """What sampling needs of a codec, where there are no series; unit variances, unless they are given."""
    variance = torch.ones_like(noise_scale) if variance is None else variance
    return SimpleNamespace(noise_scale=noise_scale, variance=variance, logarithm=Logarithm(0))


class GaussianScore(ScoreFunction):
    """Exact score of ``z_t`` when ``z_0 ~ N(0, covariance)`` in flattened token coordinates.

    ``covariance`` is ``(D, D)`` with ``D = K * F``; coordinates without noise are masked.
    """

    def __init__(self, sde: SDE, noise_scale: Tensor, covariance: Tensor) -> None:
        self.sde, self.scale, self.calls = sde, noise_scale.double().flatten(), 0
        self.covariance = covariance.double()
        self.trajectories: list[Trajectory] = []

    def start(self, trajectory: Trajectory) -> None:
        self.trajectories.append(trajectory)

    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        self.calls += 1
        t = t.double()
        total = self.sde.alpha(t) ** 2 * self.covariance + torch.diag((self.sde.sigma(t) * self.scale) ** 2)
        live = self.scale > 0
        inverse = torch.zeros_like(total)
        inverse[live.outer(live)] = torch.linalg.inv(total[live][:, live]).flatten()
        return -(z.double().flatten(1) @ inverse).reshape(z.shape).to(z.dtype)


class MixtureScore(ScoreFunction):
    """Exact score of a mixture of Gaussians in one live coordinate, the first of ``(1, 2)`` tokens.

    Along the probability-flow ODE of one coordinate, samples keep their order, and so their share of the distribution
    below them: :meth:`share` is what the exact flow keeps.
    """

    WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
    MEANS = torch.tensor([-1.2, 0.6], dtype=torch.float64)
    VARIANCES = torch.tensor([0.05, 0.2], dtype=torch.float64)

    def __init__(self, sde: SDE, noise_scale: Tensor) -> None:
        self.sde, self.scale = sde, float(noise_scale[0, 0])

    def _components(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, noise = self.sde.alpha(t.double()), self.sde.sigma(t.double()) * self.scale
        return alpha * self.MEANS, (alpha**2 * self.VARIANCES + noise**2).sqrt()

    def share(self, z: Tensor, t: Tensor) -> Tensor:
        """Return how much of the distribution at ``t`` lies below the tokens, ``(B,)``."""
        means, deviations = self._components(t)
        return (self.WEIGHTS * torch.special.ndtr((z[:, 0, :1].double() - means) / deviations)).sum(1)

    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        means, deviations = self._components(t)
        away = (z[:, 0, :1].double() - means) / deviations
        likely = (self.WEIGHTS.log() - deviations.log() - away**2 / 2).softmax(1)
        score = torch.zeros(z.shape, dtype=torch.float64)
        score[:, 0, 0] = -(likely * away / deviations).sum(1)
        return score.to(z.dtype)
