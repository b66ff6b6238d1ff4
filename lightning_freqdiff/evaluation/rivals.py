"""Forecasts that a model has to beat: the season before, and ridge regression, each with Gaussian errors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.evaluation.origins import Rolling

MOST_PAIRS = 4096
"""Pairs of past and future that are learnt from, at most."""
HELD_BACK = 0.2
"""Of these, the last ones, on which errors are measured."""

Point = Callable[[np.ndarray], np.ndarray]
"""From the last steps ``(B, L, M)``, NaN where nothing is known, to the steps that come, ``(B, H, M)``."""


@dataclass(frozen=True)
class WithErrors:
    """A point forecast with Gaussian errors, independent from step to step and channel to channel.

    Args:
        point: The forecast.
        deviation: Root mean square of its errors on training series at each step of the horizon, ``(H, M)``.
        lags: Steps of the past that it sees.
        num_samples: Draws of each forecast.
        seed: Of the draws.
    """

    point: Point
    deviation: np.ndarray
    lags: int
    num_samples: int
    seed: int = 0

    def __call__(self, rolling: Rolling, which: Sequence[int]) -> Tensor:
        """Draw forecasts of some origins, ``(B, S, H, M)``."""
        past = rolling.windows(which, self.lags + rolling.horizon)[:, : self.lags].numpy()
        middle = self.point(past)
        shape = (self.num_samples, *middle.shape[1:])
        noise = np.stack([np.random.default_rng([self.seed, 5, i]).standard_normal(shape) for i in which])
        return torch.from_numpy(middle[:, None] + self.deviation * noise).float()


def pairs(training: Sequence[np.ndarray], lags: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """Return pasts ``(n, L, M)`` and what came after them ``(n, H, M)``, evenly spaced over training series.

    Raises:
        ValueError: Where no training series is as long.
    """
    size = lags + horizon
    places = [(i, first) for i, one in enumerate(training) for first in range(len(one) - size + 1)]
    if len(places) < 2:
        raise ValueError(f"expected training series of {size} steps, got {max(map(len, training), default=0)}")
    chosen = np.linspace(0, len(places) - 1, min(len(places), MOST_PAIRS)).round().astype(int)
    whole = np.stack([training[i][first : first + size] for i, first in (places[j] for j in chosen)])
    return whole[:, :lags], whole[:, lags:]


def seasonal_naive(
    training: Sequence[np.ndarray], lags: int, horizon: int, season: int, num_samples: int, seed: int = 0
) -> WithErrors:
    """Return the forecast of the season before, again and again; of the last value, for a season of 1."""

    def point(past: np.ndarray) -> np.ndarray:
        known = _filled(past)
        back = min(season, known.shape[1])
        return known[:, known.shape[1] - back :][:, np.arange(horizon) % back]

    past, future = pairs(training, lags, horizon)
    return WithErrors(point, _deviation(point(past), future), lags, num_samples, seed)


def ridge(training: Sequence[np.ndarray], lags: int, horizon: int, num_samples: int, seed: int = 0) -> WithErrors:
    """Return ridge regression of all steps to come on the past, channel by channel.

    Differences from the last value are regressed on each other, as in NLinear (Zeng et al., arXiv 2205.13504), which
    is hard to beat; the penalty is chosen by leaving out one pair at a time.

    Raises:
        ValueError: Where there is too little to learn from.
        ImportError: Without scikit-learn.
    """
    from sklearn.linear_model import RidgeCV

    past, future = pairs(training, lags, horizon)
    unit = np.maximum(np.nanstd(past.astype(np.float64), axis=(0, 1)), 1e-12)

    def learnt(count: int) -> Point:
        models = []
        x, y, _ = _differences(past[:count] / unit, future[:count] / unit)
        for m in range(x.shape[2]):
            told = np.isfinite(y[:, :, m]).all(1)
            if told.sum() < 2:
                raise ValueError("expected 2 futures without a gap to regress on, got less")
            models.append(RidgeCV(np.logspace(-2, 4, 7)).fit(x[told, :, m], y[told, :, m]))

        def point(past: np.ndarray) -> np.ndarray:
            x, _, last = _differences(past / unit)
            steps = [one.predict(x[:, :, m]).reshape(len(x), horizon) for m, one in enumerate(models)]
            return (np.stack(steps, axis=2) + last) * unit

        return point

    held_back = max(1, round(HELD_BACK * len(past)))
    errors = _deviation(learnt(max(1, len(past) - held_back))(past[-held_back:]), future[-held_back:])
    return WithErrors(learnt(len(past)), errors, lags, num_samples, seed)


def _deviation(forecast: np.ndarray, future: np.ndarray) -> np.ndarray:
    """Return the root mean square of errors ``(n, H, M)``, ``(H, M)``."""
    squares = np.square(forecast.astype(np.float64) - future)
    seen = np.isfinite(squares)
    return np.sqrt(np.where(seen, squares, 0).sum(0) / seen.sum(0).clip(1))


def _differences(past: np.ndarray, future: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return past and future less the last value, and that, ``(n, 1, M)``."""
    past = _filled(past)
    last = past[:, -1:]
    return past - last, past if future is None else future - last, last


def _filled(past: np.ndarray) -> np.ndarray:
    """Return series ``(n, L, M)`` with the last known value in gaps, the first one before it, and 0 without any."""
    steps = np.arange(past.shape[1])[None, :, None]
    seen = np.isfinite(past)
    first = np.where(seen.any(1, keepdims=True), seen.argmax(1, keepdims=True), 0)
    place = np.maximum(np.maximum.accumulate(np.where(seen, steps, -1), axis=1), first)
    return np.nan_to_num(np.take_along_axis(past.astype(np.float64), place, axis=1))
