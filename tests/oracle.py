"""Gaussian data, whose score is known exactly: the oracle of solvers and caches."""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE


def units(noise_scale: Tensor) -> Any:
    """What sampling needs of a codec, where there are no series."""
    return SimpleNamespace(noise_scale=noise_scale)


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
