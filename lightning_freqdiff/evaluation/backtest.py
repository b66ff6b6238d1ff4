"""`backtest`: forecasts from many origins against what came, beside forecasts that need no network."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.evaluation.origins import Rolling
from lightning_freqdiff.evaluation.panel import Tell, quiet
from lightning_freqdiff.metrics import Coverage, EnergyScore, QuantileLoss, crps, median_error

LEVELS = (0.5, 0.8, 0.95)
"""Central intervals whose coverage is told."""
CURVE = tuple(round(0.1 * i, 1) for i in range(1, 10))
"""Those of the calibration curve."""
TOGETHER = 4096
"""Series that are drawn together, about."""
NUMBERS = 2**23
"""Numbers that are scored together, at most."""
SHOWN = 6
"""Origins whose forecasts are kept for pictures."""

Forecaster = Callable[[Rolling, Sequence[int]], Tensor]
"""Draws forecasts ``(B, S, H, M)`` of origins by their numbers, in the data's units."""


@dataclass
class Backtest:
    """What forecasts scored.

    Args:
        rolling: Origins.
        num_samples: Draws of each forecast.
        season: Steps of a season, if there is one.
        rows: By the name of a forecaster, what it scored.
        fans: The first forecaster's draws at a few origins, ``(B, S, H, M)``, and which.
        notes: What to bear in mind.
    """

    rolling: Rolling
    num_samples: int
    season: int | None = None
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    fans: tuple[Sequence[int], Tensor] | None = None
    notes: list[str] = field(default_factory=list)

    def add(self, name: str, forecaster: Forecaster, tell: Tell = quiet) -> None:
        """Draw the forecasts of all origins, and score them."""
        since, scoring = time.perf_counter(), Scoring(self.rolling, self.season)
        rolling, count = self.rolling, len(self.rolling.origins)
        drawn = self.num_samples * rolling.horizon * len(rolling.channels)
        size = max(1, min(TOGETHER // self.num_samples, NUMBERS // drawn))
        shown = np.linspace(0, count - 1, min(count, SHOWN)).round().astype(int).tolist()
        kept = []
        for first in range(0, count, size):
            which = range(first, min(first + size, count))
            tell(f"{name}: origin {first + 1} of {count}")
            samples = forecaster(rolling, which)
            scoring.update(samples, which)
            kept += [samples[i - first] for i in shown if i in which]
        self.rows[name] = {**scoring.compute(), "seconds": time.perf_counter() - since}
        if self.fans is None:
            self.fans = shown, torch.stack(kept)


class Scoring:
    """Scores of forecasts, added up over origins.

    Distances are in training deviations of each channel; the weighted quantile losses in the data's units, over the
    sum of the sizes of what came, as GluonTS defines them (Alexandrov et al., JMLR 21 (2020)), over CSDI's quantiles.

    Args:
        rolling: Origins.
        season: Steps of a season, for the mean absolute scaled error.
    """

    def __init__(self, rolling: Rolling, season: int | None = None) -> None:
        self.rolling, self.season = rolling, season
        self.unit = torch.from_numpy(rolling.deviation).float()
        self.metrics = {
            "energy_score": EnergyScore(),
            "weighted_quantile_loss": QuantileLoss(),
            "weighted_quantile_loss_sum": QuantileLoss(),
            "coverage": Coverage((*LEVELS, *CURVE)),
        }
        self.scores: list[Tensor] = []
        self.errors: list[Tensor] = []
        self.scaled: list[Tensor] = []

    def update(self, samples: Tensor, which: Sequence[int]) -> None:
        """Add draws ``(B, S, H, M)`` of forecasts from some origins."""
        target = torch.from_numpy(self.rolling.targets(which))
        seen = target.isfinite()
        target, mask = target.nan_to_num(), seen.float()
        ours = samples / self.unit, target / self.unit
        for name in ("energy_score", "coverage"):
            self.metrics[name].update(*ours, mask)
        self.metrics["weighted_quantile_loss"].update(samples, target, mask)
        summed = samples.sum(3, keepdim=True), target.sum(2, keepdim=True), mask.amin(2, keepdim=True)
        self.metrics["weighted_quantile_loss_sum"].update(*summed)
        self.scores.append(torch.where(seen, crps(*ours), torch.nan))
        self.errors.append(torch.where(seen, median_error(*ours), torch.nan))
        if self.season is not None:
            pasts = self.rolling.pasts(which)
            scale = torch.from_numpy(np.stack([seasonal_error(one, self.season) for one in pasts])) / self.unit
            self.scaled.append(self.errors[-1].nanmean(1) / torch.where(scale > 0, scale, torch.nan))

    def compute(self) -> dict[str, Any]:
        """Return all scores as plain numbers."""
        found = {name: metric.compute() for name, metric in self.metrics.items() if name != "coverage"}
        inside = self.metrics["coverage"].compute().tolist()
        scores, errors = torch.cat(self.scores), torch.cat(self.errors)
        each = scores.nanmean((1, 2))
        each = each[each.isfinite()]
        result: dict[str, Any] = {"crps": float(scores.nanmean())}
        result["crps_two_se"] = float(2 * each.std() / len(each) ** 0.5) if len(each) > 1 else None
        result |= {name: float(value) for name, value in found.items()}
        result["mae"] = float(errors.nanmean())
        if self.season is not None:
            result["mase"] = float(torch.cat(self.scaled).nanmean())
        result |= {f"coverage_{round(100 * level)}": share for level, share in zip(LEVELS, inside, strict=False)}
        result["calibration"] = dict(zip(map(str, CURVE), inside[len(LEVELS) :], strict=True))
        result["crps_by_step"] = scores.nanmean((0, 2)).tolist()
        by_channel = scores.nanmean((0, 1)).tolist()
        result["crps_by_channel"] = dict(zip(self.rolling.channels, by_channel, strict=True))
        return result


def seasonal_error(past: np.ndarray, season: int) -> np.ndarray:
    """Return the mean absolute change ``(M,)`` from one season of a series ``(T, M)`` to the next.

    As GluonTS, of a series that is no longer than a season, the change from step to step.

    Examples:
        >>> seasonal_error(np.array([[0.0], [5.0], [1.0], [4.0]]), 2)
        array([1.])
    """
    lag = season if season < len(past) else 1
    changes = np.abs(past[lag:].astype(np.float64) - past[: len(past) - lag])
    seen = np.isfinite(changes)
    return np.where(seen, changes, 0).sum(0) / seen.sum(0).clip(1)
