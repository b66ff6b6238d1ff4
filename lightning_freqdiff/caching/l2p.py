"""L2P: forecast features by weights on the last calls that were learnt for each step (arXiv 2604.26365)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from lightning_freqdiff.caching.forecast import Forecaster, ForecastState
from lightning_freqdiff.caching.learnt import require_learnt
from lightning_freqdiff.caching.presets import Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory


def at_times(times: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the shares of known times that make up others by linear interpolation, ``(n, T)``.

    Args:
        times: Where to, ``(n,)``; those outside are taken to the nearest known.
        known: Increasing, ``(T,)``.
    """
    return np.stack([np.interp(times, known, row) for row in np.eye(len(known))], axis=1)


def learnt_weights(gram: np.ndarray, ridge: float) -> np.ndarray:
    """Return the weights of past features that come nearest to the present ones, by ridge regression.

    Args:
        gram: Mean products of features with one another: first the present, then the calls, newest first.
        ridge: Penalty on how far the weights are from repeating the last call, as a share of its mean square.
    """
    past, last = gram[1:, 1:], np.eye(len(gram) - 1)[0]
    penalty = ridge * max(past[0, 0], 1e-300) * np.eye(len(past))
    return last + np.linalg.lstsq(past + penalty, gram[1:, 0] - past @ last, rcond=None)[0]


@dataclass(frozen=True)
class L2P(Forecaster):
    """Forecast ``Σ w_j F_j`` over the last calls, ``w`` the least-squares weights of this model at this time.

    The paper learns the weights of every step by gradient descent, for one schedule. Here ``calibrate`` learns how
    features at all times go together, their mean products; from that the weights for any calls at any times follow
    at once, by ridge regression, with the penalty that ``calibrate`` found best on samples left out.

    Args:
        preset: ``short`` (tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        interval: Steps from one network call to the next, after the warm-up.
        warmup: Network calls made in a row at first.
        history: Network calls that a forecast is made of.
        ridge: Penalty; from the calibration if not given.
        stale: What is forecast; published are the features.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {"interval": 5, "warmup": 3, "history": 3, "stale": "features"}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        "short": {},
        "long": {"interval": 20, "warmup": 1, "stale": "wiener"},
    }
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "interval": (1, math.inf),
        "warmup": (1, math.inf),
        "history": (1, math.inf),
        "ridge": (0, math.inf),
    }
    preset: Length = "auto"
    interval: int | None = None
    warmup: int | None = None
    history: int | None = None
    ridge: float | None = None
    stale: Stale | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> ForecastState:
        """Start with no history, and with what was learnt."""
        state = super().begin(score, trajectory)
        s = state.settings
        names = ("times", f"gram.{s.stale}", f"ridge.{s.stale}")
        times, gram, ridge = (require_learnt(score, f"l2p.{name}", "L2P").double().cpu().numpy() for name in names)
        s.ridge = float(ridge) if s.ridge is None else s.ridge
        state.fit = times, gram
        return state

    def learn(self, state: ForecastState, kept: Tensor, t: float) -> None:
        """Keep the last calls, newest first."""
        state.terms = [kept, *state.terms][: state.settings.history]

    def weights(self, state: ForecastState, t: float) -> list[float]:
        """Weigh them by what was learnt of these times."""
        known, gram = state.fit
        shares = at_times(np.array([t, *state.times[: -len(state.terms) - 1 : -1]]), known)
        return learnt_weights(shares @ gram @ shares.T, state.settings.ridge).tolist()
