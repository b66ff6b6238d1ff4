"""What the paper of E²-CRF claims of features and errors, followed along the trajectories of a trained model.

With ``Φ_i`` the solver's step from the same noise, ``z`` the uncached trajectory and ``z̃`` the cached one, let
``e_i = ‖z̃_{i+1} - Φ_i(z̃_i)‖`` be what the cache gets wrong in a step. If ``L_i`` bounds how far ``Φ_i`` moves two
points apart, the error obeys ``E_{i+1} ≤ e_i + L_i E_i``, and so

    E_T ≤ Σ_i e_i Π_{j > i} L_j.

This is what a bound for a cached trajectory comes to, whatever it is called. It is worked out for two kinds of ``L``:
the *secant*, how far apart the step moves these two very points, with which it holds along this trajectory; and the
*spectral norm* of the step's Jacobian on the uncached trajectory, which is the local Lipschitz constant that a proof
has to go by. Distances are those of tokens over ``Λ``, in which noise is white.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.caching import CachedScore, CachePolicy
from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.noise import normal_stream
from lightning_freqdiff.sampling.solvers.base import plan

ROUNDS = 12
"""Of power iteration."""
NEAR = 1e-3
"""Distance of two points whose images tell what a step's Jacobian does, as a share of the noise."""


class Watched(ScoreFunction):
    """A model's own score, whose last features are kept: the cumulative residual ``z_L`` of the last block."""

    def __init__(self, score: Score) -> None:
        self.score, self.features = score, torch.zeros(())

    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Return the score of tokens ``(B, K, F)`` at time ``t``."""
        c = self.score.coefficients(t)
        h, context = self.score.embed(z, t, c, condition)
        self.features = self.score.network.blocks(h, context)
        return self.score.from_eps(self.score.eps(self.score.network.head(self.features, context), z, c), c)


class Course:
    """Noise, times and steps that all trajectories of a model have in common."""

    def __init__(self, score: Score, sampling: Sampling) -> None:
        self.score, self.sampling, self.solver = score, sampling, sampling.solver
        self.scale = score.noise_scale
        self.times = self.solver.times(score.sde, sampling.num_steps, sampling.grid, score.calibration)
        self.steps = plan(score.sde, self.times, self.scale.device)
        tokens, features = self.scale.shape
        self.shape = sampling.num_samples, tokens, features

    def noise(self) -> Iterator[Tensor]:
        """Return the noise of a trajectory, draw by draw, from its beginning."""
        return normal_stream(self.sampling.seed, 0, self.shape, self.scale.device)

    def trajectory(self) -> Trajectory:
        """Return what a score function is told beforehand."""
        return Trajectory(
            self.solver.call_times(self.times), self.solver.calls_per_step, self.shape, self.sampling.seed, 0
        )

    def distance(self, a: Tensor, b: Tensor) -> Tensor:
        """Return how far apart tokens are, ``(B,)``, over ``Λ``."""
        return self.score.codec.whiten(a - b).norm(dim=1)


@torch.no_grad()
def uncached(course: Course) -> tuple[list[Tensor], Tensor]:
    """Return tokens before every step and after the last, and by how much each token's features changed, ``(T, K)``.

    A change is the squared distance of ``z_L`` from that of the step before, over the squared size of all of it
    (equation 12, token by token), as a mean over samples; in the first step it is 0.
    """
    watched, noise = Watched(course.score), course.noise()
    z = course.steps[0].now.sigma * course.scale * next(noise)
    tokens, changes, before = [z], [], None
    for step in course.steps:
        z, _ = course.solver.step(watched, z, step, course.scale, list(islice(noise, 1)), None)
        now = watched.features
        moved = torch.zeros_like(now) if before is None else now - before
        changes.append((moved.square().sum(2) / now.square().sum((1, 2)).unsqueeze(1)).mean(0))
        tokens.append(z)
        before = now
    return tokens, torch.stack(changes)


@torch.no_grad()
def cached(course: Course, reference: list[Tensor], policy: CachePolicy) -> dict[str, Any]:
    """Follow a cached trajectory beside the uncached one.

    Returns:
        ``error`` after every step, what the cache got wrong in it (``local``), the growth of the distance in the
        step without a cache (``secant``), the bound that follows, and the ledger's curves; each ``(T,)``, as means
        over samples, and ``final``, each sample's.
    """
    score = CachedScore(course.score, policy, len(course.trajectory().times))
    score.start(course.trajectory())
    noise = course.noise()
    z = course.steps[0].now.sigma * course.scale * next(noise)
    bound = error = torch.zeros(len(z), device=z.device)
    rows: dict[str, list[Tensor]] = {"error": [], "local": [], "secant": [], "bound": []}
    for i, step in enumerate(course.steps):
        drawn = list(islice(noise, 1))
        exact, _ = course.solver.step(course.score, z, step, course.scale, drawn, None)
        z, _ = course.solver.step(score, z, step, course.scale, drawn, None)
        local, apart = course.distance(z, exact), course.distance(exact, reference[i + 1])
        secant = torch.where(error > 0, apart / error.clamp(min=1e-30), 1.0)
        bound, error = local + secant * bound, course.distance(z, reference[i + 1])
        for name, value in (("error", error), ("local", local), ("secant", secant), ("bound", bound)):
            rows[name].append(value)
    found = {name: torch.stack(values) for name, values in rows.items()}
    return {
        **{name: value.mean(1) for name, value in found.items()},
        "locals": found["local"],
        "final": {"error": error, "bound": bound},
        "curves": score.ledger.curves(),
        **score.ledger.totals(),
    }


@torch.no_grad()
def spectral_norms(course: Course, reference: list[Tensor], places: list[int]) -> Tensor:
    """Return the most that some steps stretch a small change of the uncached trajectory, ``(places, B)``.

    A step's Jacobian is the identity but for little, so that power iteration on it finds nothing: both ends of the
    spectrum of what is left are looked for, the second one from the first. It is symmetric where a score is one.
    """
    score = copy.deepcopy(course.score).double()
    live, unit = score.noise_scale > 0, torch.where(score.noise_scale > 0, score.noise_scale, 1.0)
    found = []
    for i in places:
        step, at = course.steps[i], torch.where(live, reference[i].double() / unit, 0.0)
        still, near = torch.zeros_like(at), NEAR * float(step.now.sigma)

        def after(rows: Tensor, step=step, still=still) -> Tensor:
            moved, _ = course.solver.step(score, rows * unit * live, step, score.noise_scale, [still], None)
            return torch.where(live, moved / unit, 0.0)

        def stretched(way: Tensor, at=at, near=near, after=after) -> Tensor:
            """Return ``(J - 1) v``."""
            return (after(at + near * way) - after(at - near * way)) / (2 * near) - way

        start = torch.randn(at.shape, generator=torch.Generator().manual_seed(i), dtype=at.dtype).to(at.device) * live
        first, way = _farthest(stretched, start)
        _, other = _farthest(lambda v, first=first, stretched=stretched: stretched(v) - first * v, start)
        sizes = [(one + stretched(one)).flatten(1).norm(dim=1) for one in (way, other)]
        found.append(torch.maximum(*sizes).float())
    return torch.stack(found)


def _farthest(map_: Callable[[Tensor], Tensor], way: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalue that is farthest from 0, ``(B, 1, 1)``, and its direction."""
    value = torch.zeros(len(way), 1, 1, dtype=way.dtype, device=way.device)
    for _ in range(ROUNDS):
        way = way / way.flatten(1).norm(dim=1).view(-1, 1, 1)
        image = map_(way)
        value, way = (image * way).sum((1, 2), keepdim=True), image
    return value, way / way.flatten(1).norm(dim=1).clamp(min=1e-300).view(-1, 1, 1)
