"""Learning-to-Cache: leave out the layers that a learnt router says may repeat their past (arXiv 2406.01733)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.learnt import require_learnt
from lightning_freqdiff.caching.presets import Acts, Length
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory

SWEEPS = 100
PARTLY: Acts = ("with an interval above 1", lambda s: s.interval > 1)


def router(products: np.ndarray, penalty: float) -> np.ndarray:
    """Return how much of each layer is to be computed, ``β`` in [0, 1], where the loss is least.

    With a share ``s = 1 - β`` of the past in each layer the loss is ``sᵀ D s + λ Σ β``, which is convex: its minimum
    in the box is found one coordinate after the other, from computing everything.

    Args:
        products: ``D``, mean products of what the output changes by where a layer repeats its past, ``(L, L)``.
        penalty: ``λ``.
    """
    past = np.zeros(len(products))
    for _ in range(SWEEPS):
        for i, row in enumerate(products):
            gain = penalty / 2 - row @ past + row[i] * past[i]
            past[i] = min(1.0, max(0.0, gain) / row[i]) if row[i] > 0 else float(gain > 0)
    return 1 - past


class Known:
    """What ``calibrate`` learnt of layers: where along a trajectory, over which gaps, and what repeating them does.

    Args:
        score: The model.
    """

    def __init__(self, score: Score) -> None:
        names = "times", "places", "gaps", "products"
        found = [require_learnt(score, f"l2c.{name}", "L2C").double().cpu().numpy() for name in names]
        self.times, self.places, self.gaps, self.products = found

    def between(self, then: float, now: float) -> np.ndarray:
        """Return the products where layers at time ``now`` repeat what they added at ``then``.

        They are those of the nearest gap and place; what a layer adds drifts away in proportion to the gap.
        """
        place, before = (np.interp(-t, -self.times, np.arange(len(self.times))) for t in (now, then))
        gap = max(place - before, 1e-6)
        nearest = int(np.abs(np.log(self.gaps / gap)).argmin())
        products = self.products[nearest, int(np.abs(self.places - place).argmin())]
        return products * (gap / self.gaps[nearest]) ** 2


@dataclass
class LayerState:
    """What is remembered.

    Args:
        settings: Every setting of the policy, for this trajectory.
        known: What was learnt.
        added: What each layer added to its input at the last full call, each ``(B, K, d)``.
        time: Time of that call.
        skipped: Calls since then.
    """

    settings: SimpleNamespace
    known: Known
    added: list[Tensor] = field(default_factory=list)
    time: float = 0.0
    skipped: int = 0


@dataclass(frozen=True)
class L2C(CachePolicy):
    """Compute all layers at every other step; between, those that a router asks for, while the others add the past.

    The router weighs what a layer that repeats its past does to the output against what it costs: ``mean squared
    error + λ Σ β``, and a layer runs where ``β > θ``. It is the same for all samples, so that nothing is looked at
    while sampling. The paper finds it by gradient descent, for one schedule and one ``λ``. Here ``calibrate``
    measures what repeating each layer does, and how these errors add up; from that the router for any ``λ`` and any
    steps follows at once, to second order in what is repeated. A U-Net is one layer.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one full call to the next; 2 is published.
        penalty: ``λ``, in mean squared error of the noise prediction; published are 1e-6 to 5e-6. 0 computes all.
        threshold: ``θ``.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"interval": 2, "penalty": 5e-6, "threshold": 0.1}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"interval": 20, "penalty": 1e-4}}
    ACTS: ClassVar[dict[str, Acts]] = dict.fromkeys(("penalty", "threshold"), PARTLY)
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "interval": (1, math.inf),
        "penalty": (0, math.inf),
        "threshold": (0, 1 - 1e-9),
    }
    preset: Length = "auto"
    interval: int | None = None
    penalty: float | None = None
    threshold: float | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> LayerState:
        """Start with nothing cached, and with what was learnt."""
        return LayerState(self.settings_for(len(trajectory.times) // trajectory.calls_per_step), Known(score))

    def evaluate(self, score: Score, z: Tensor, call: Call, state: LayerState) -> tuple[Outcome, LayerState]:
        """Run all layers, or those that the router asks for."""
        network, c, s = score.network, score.coefficients(call.t), state.settings
        h, context = score.embed(z, call.t, c, call.condition)
        full = not state.added or call.last or state.skipped + 1 >= s.interval
        layers = len(network.layers)
        asked = [True] * layers
        if not full:
            products = state.known.between(state.time, call.time)
            asked = (router(products, s.penalty) > s.threshold).tolist()
        added = []
        for i, run in enumerate(asked):
            out = network.in_chunks(partial(network.block, i), h, context) if run else h + state.added[i]
            if full:
                added.append(out - h)
            h = out
        if full:
            state.added, state.time, state.skipped = added, call.time, 0
        else:
            state.skipped += 1
        share = torch.full((len(z),), sum(asked) / layers, device=z.device)
        eps = score.eps(network.head(h, context), z, c)
        return Outcome(eps, share * z.shape[1], share), state
