"""What `calibrate` learns of features for caches: magnitudes, directions, and how features go together in time."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.caching.l2p import learnt_weights
from lightning_freqdiff.caching.reuse import Stale

POINTS = 100
"""Times along a trajectory at which features are compared with one another, about."""
MOST = 16
"""Samples whose features are kept for that while a trajectory lasts."""
RIDGES = tuple(10.0**power for power in range(-8, 3))
REACH = 4
"""Points ahead that penalties are tried on, from three as far apart."""


class FeatureStatistics:
    """Sums over uncached trajectories, a few of the first samples giving what is kept of them at some times.

    Args:
        times: Times of the steps, decreasing, ``(T,)``.
    """

    def __init__(self, times: Tensor) -> None:
        self.times = times.double().cpu().numpy()
        self.stride = max(1, len(times) // POINTS)
        self.moments: dict[str, Tensor] = {}
        self.ratios = np.zeros((2, len(times)))
        self.grams: dict[str, list[Tensor]] = {kind: [] for kind in get_args(Stale)}
        self.kept: dict[str, list[Tensor]] = {}
        self.before: Tensor | None = None

    def start(self) -> None:
        """Add up the trajectory that has ended, and begin another."""
        for kind, kept in self.kept.items():
            stacked = torch.stack(kept, dim=1).flatten(2).double()
            self.grams[kind].extend(stacked @ stacked.mT)
        self.kept, self.before = {}, None

    def add(self, index: int, kept: dict[str, Tensor]) -> None:
        """Take note of what is kept of a step, by its kind; see ``caching/reuse.py``."""
        size = kept["residual"].double().norm(dim=-1)
        if self.before is not None:
            ratio = size / self.before.clamp(min=torch.finfo(torch.float32).tiny)
            self.ratios[:, index] += float(ratio.sum()), ratio.numel()
        self.before = size
        for kind, value in kept.items():
            rows = value.flatten(0, 1).double()
            self.moments[kind] = self.moments.get(kind, 0) + rows.T @ rows
        left = MOST - len(self.grams["features"])
        if left > 0 and index % self.stride == 0:
            for kind, value in kept.items():
                self.kept.setdefault(kind, []).append(value[:left].cpu())

    def fitted(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return what was learnt, by name, and the share of what holding misses that learnt weights explain."""
        self.start()
        total, count = self.ratios
        steps = np.log(np.where(count > 0, np.maximum(total, 1e-30) / np.maximum(count, 1), 1.0))
        grid = np.linspace(0, 1, POINTS + 1)
        profile = np.interp(grid, self.times[::-1], steps.cumsum()[::-1])
        known = self.times[:: self.stride][::-1].copy()
        fitted = {"magcache.log_magnitude": torch.from_numpy(profile), "l2p.times": torch.from_numpy(known)}
        fits = {}
        for kind, grams in self.grams.items():
            each = torch.stack(grams).flip(1, 2).cpu().numpy()
            fitted[f"moments.{kind}"] = self.moments[kind].cpu()
            fitted[f"l2p.gram.{kind}"] = torch.from_numpy(each.mean(0))
            ridge, explained = best_ridge(each)
            fitted[f"l2p.ridge.{kind}"] = torch.tensor(ridge, dtype=torch.float64)
            if kind == "features":
                fits["l2p"] = explained
        return fitted, fits


def best_ridge(grams: np.ndarray) -> tuple[float, float]:
    """Return the penalty that does best on samples left out, and the share that it takes off the error of holding.

    Args:
        grams: Products of each sample's features with one another, in the order of time, ``(n, T, T)``.
    """
    halves = [grams[::2].mean(0), (grams[1::2] if len(grams) > 1 else grams).mean(0)]
    errors = np.zeros(len(RIDGES) + 1)
    for ours, other in (halves, halves[::-1]):
        for at in range(len(ours) - 3 * REACH):
            chosen = at + REACH * np.arange(4)
            seen, left = (gram[np.ix_(chosen, chosen)] for gram in (ours, other))
            hold = np.array([-1.0, 1.0, 0.0, 0.0])
            tried = [hold, *(np.array([-1.0, *learnt_weights(seen, ridge)]) for ridge in RIDGES)]
            errors += [w @ left @ w for w in tried]
    best = 1 + int(errors[1:].argmin())
    return RIDGES[best - 1], float(1 - errors[best] / max(errors[0], 1e-300))
