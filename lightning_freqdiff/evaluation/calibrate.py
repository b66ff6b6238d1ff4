"""`calibrate`: watch uncached sampling, and fit what caches and few steps want to know about this network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.caching.integrating_factor import Frame
from lightning_freqdiff.caching.local_error import local_error
from lightning_freqdiff.caching.reuse import Stale, store
from lightning_freqdiff.caching.teacache import relative_change
from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.evaluation.features import FeatureStatistics
from lightning_freqdiff.evaluation.fitting import fit_steps
from lightning_freqdiff.evaluation.jumps import jump_costs
from lightning_freqdiff.evaluation.layers import skip_products
from lightning_freqdiff.evaluation.ranges import input_ranges
from lightning_freqdiff.evaluation.stretches import stretch_damage
from lightning_freqdiff.evaluation.teacher import expect_finite, teach
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Sampling, sample, time_grid
from lightning_freqdiff.sampling.grids import COSTS, TIMES, cheapest_path
from lightning_freqdiff.sampling.solvers import EulerMaruyama, plan

DEGREE = 4
RIDGE = 1e-3
LAGS = 50
"""The remainder's change is measured over a ``LAGS``-th of the trajectory."""
POINTS = 51
LEAST = 4
"""Measurements of the remainder's change that a rate is made of, at least."""
SHOWN = 4, 6, 8, 10
"""Steps for which it is told what damage a tuned grid does, and how far fitted steps lead astray."""


class Watcher(ScoreFunction):
    """Answers as the score does, and keeps the sums that the fits need.

    Args:
        score: The model.
        frame: Tables of the trajectory, if its steps are affine.
        statistics: Where what is kept of each step is added up, if anywhere.
    """

    def __init__(self, score: Score, frame: Frame | None, statistics: FeatureStatistics | None = None) -> None:
        self.score, self.frame, self.statistics = score, frame, statistics
        self.changes: list[Tensor] = []
        self.rates: list[tuple[float, float]] = []
        self.gram: list[Tensor] = []
        self.cross: list[Tensor] = []
        self.before: tuple[Tensor, Tensor] | None = None
        self.remainders: dict[int, Tensor] = {}
        self.index = 0

    def start(self, trajectory: Trajectory) -> None:
        """Forget the last batch's features, and keep its sums."""
        self.before, self.remainders, self.index = None, {}, 0
        self.lag = max(2, len(trajectory.times) // LAGS)
        if self.statistics is not None:
            self.statistics.start()

    def __call__(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Call the network block by block."""
        score, c = self.score, self.score.coefficients(t)
        h0, context = score.embed(z, t, c, condition)
        features = self._blocks(h0, context)
        eps = score.eps(score.network.head(features, context), z, c)
        now = (score.network.modulated(h0, context), features)
        if self.before is not None:
            pair = [relative_change(new, old) for new, old in zip(now, self.before, strict=True)]
            self.changes.append(torch.stack(pair))
        self.before = now
        if self.index % max(1, self.lag // 2) == 0:
            self._follow(store("wiener", score, eps, z, c, h0, features))
        if self.statistics is not None:
            kept = {kind: store(kind, score, eps, z, c, h0, features) for kind in get_args(Stale)}
            self.statistics.add(self.index, kept)
        self.index += 1
        return score.from_eps(eps, c)

    def _blocks(self, h: Tensor, context: Tensor | None) -> Tensor:
        network = self.score.network
        for i in range(len(network.layers)):
            out = network.in_chunks(partial(network.block, i), h, context)
            x = torch.nn.functional.pad(h.flatten(0, 1).double(), (0, 1), value=1.0)
            y = out.flatten(0, 1).double()
            if len(self.gram) <= i:
                self.gram.append(torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype, device=x.device))
                self.cross.append(torch.zeros(x.shape[1], y.shape[1], dtype=x.dtype, device=x.device))
            self.gram[i] += x.T @ x
            self.cross[i] += x.T @ y
            h = out
        return h

    def _follow(self, remainder: Tensor) -> None:
        """Note the local error that holding an earlier remainder up to now would have made."""
        self.remainders[self.index] = remainder
        then = self.index - 2 * max(1, self.lag // 2)
        if self.frame is not None and then in self.remainders:
            start = torch.tensor([then], device=remainder.device)
            moved = self.frame.product[self.index] * self.frame.risen(start, self.index).to(remainder)
            size = local_error(self.score, moved * (remainder - self.remainders.pop(then)))
            length = float(self.frame.times[then] - self.frame.times[self.index])
            middle = float(self.frame.times[then] + self.frame.times[self.index]) / 2
            self.rates.append((middle, float(size.square().mean().sqrt()) / length**1.5))


@torch.no_grad()
def calibrate(
    module: ScoreModule, sampling: Sampling, on_step: Callable[[int], None] | None = None
) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Sample uncached with Euler-Maruyama, and fit what caches want to know: see ``checkpoint.py``.

    Tuned grids (``jumps.py``) and the steps of the ``Fitted`` solver (``fitting.py``) are learnt from samples of a
    teacher's own (``teacher.py``).

    Args:
        module: The model.
        sampling: Number of samples, steps and seed.
        on_step: Called with the number of each step.

    Returns:
        What was fitted, by name (see ``checkpoint.py``), and how well: shares of variance explained,
        the damage of tuned grids relative to the norm of a typical series, and how far the samples of fitted
        steps are from the teacher's, relative to their spread.

    Raises:
        ValueError: For too few steps, or samples that are no numbers; nothing is to be learnt from them.
    """
    sampling = module.said(module.as_trained(replace(sampling, solver=EulerMaruyama(), grid="uniform")))
    score, sde = module.score, module.sde
    times = time_grid(sde, sampling.num_steps, sampling.grid)
    steps = plan(sde, times, score.noise_scale.device)
    frame = Frame.build(score, times[:-1], [EulerMaruyama().affine(step) for step in steps])
    watcher = Watcher(score, frame, statistics := FeatureStatistics(times[:-1]))
    for unit in sampling.units():
        expect_finite(sample(watcher, sde, score.codec, unit, sampling, on_step))
    changes = torch.cat(watcher.changes, dim=1).double().cpu().numpy() if watcher.changes else np.zeros((2, 0))
    few = changes.shape[1] <= DEGREE or (watcher.frame is not None and len(watcher.rates) < LEAST)
    if few:
        raise ValueError(f"expected steps enough to fit to, got {sampling.num_steps}: raise `sampling.num_steps`")
    fitted, fits = statistics.fitted()
    if np.ptp(changes[0]) > 0:
        polynomial = np.polyfit(changes[0], changes[1], DEGREE)
        left = changes[1] - np.polyval(polynomial, changes[0])
        fitted["teacache.polynomial"] = torch.from_numpy(polynomial)
        fits["teacache"] = float(1 - left.var() / max(changes[1].var(), 1e-300))
    for i, (gram, cross) in enumerate(zip(watcher.gram, watcher.cross, strict=True)):
        penalty = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        penalty[-1, -1] = 0
        identity = torch.eye(*cross.shape, dtype=cross.dtype, device=cross.device)
        # A block adds to its input, so what little the data say is filled up with the identity, not with nothing.
        solution = identity + torch.linalg.solve(gram + penalty, cross - gram @ identity)
        fitted[f"fastcache.weight.{i}"] = solution[:-1].T.float().contiguous()
        fitted[f"fastcache.bias.{i}"] = solution[-1].float()
    if watcher.rates:
        middle, rate = (np.array(column) for column in zip(*sorted(watcher.rates), strict=True))
        fitted["wiener.rate"] = torch.from_numpy(np.interp(np.linspace(0, 1, POINTS), middle, rate))
        fits["wiener_mean_rate"] = float(rate.mean())
    if frame is not None:
        fitted["wiener.damage"] = stretch_damage(score, frame, sampling)
    paths = teach(score, sampling, on_step)
    fitted |= skip_products(score, paths) | input_ranges(score, paths)
    fitted |= {TIMES: paths.times, COSTS: jump_costs(score, paths)}
    fits |= {f"grid_damage_{n}_steps": cheapest_path(fitted[COSTS], n)[1] for n in SHOWN}
    steps_of_its_own, distances = fit_steps(score, paths, sampling.batch_size)
    fits |= {f"fitted_distance_{n}_steps": distances[n] for n in SHOWN}
    fitted |= steps_of_its_own
    return fitted, fits
