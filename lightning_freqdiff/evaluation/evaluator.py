"""What is measured and drawn of a set of samples, wherever it is shown afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from torchmetrics import Metric

from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.metrics import MarginalWasserstein, SlicedWasserstein, SpectralDensityDistance
from lightning_freqdiff.metrics.baselines import dummy_baseline, floor, self_baseline
from lightning_freqdiff.reporting import plots
from lightning_freqdiff.spectral import spectral_density

DRAWN = 2048
"""Series that spectra are drawn from, at most."""


@dataclass
class Evaluation:
    """Distances to the training set, beside what real series score, and figures.

    Args:
        scalars: Names and values, ready for a logger.
        rows: The same as a table: metric, samples, floor, self, dummy.
        figures: Names and figures.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    rows: list[tuple[str, float, float, float, float]] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)

    COLUMNS = ("metric", "samples", "floor (real)", "half against half", "mean series")


class Judge:
    """Measures samples against a training set; the baselines are worked out once.

    Args:
        data: The data set. Samples are compared with its training part; the floor is taken from the part that
            was not trained on.
        num_directions: Directions of the sliced Wasserstein distance.
        seed: Which directions, and which rows in the baselines.
        alone: Whether one rank measures by itself, having all samples; the others must not be waited for then.
    """

    def __init__(self, data: SeriesData, num_directions: int = 1000, seed: int = 0, alone: bool = False) -> None:
        self.data, self.seed = data, seed
        self.metrics = {
            "sw_time": SlicedWasserstein(num_directions, seed=seed, domain="time"),
            "sw_freq": SlicedWasserstein(num_directions, seed=seed, domain="freq"),
            "marginal": MarginalWasserstein(),
            "spectral": SpectralDensityDistance(),
        }
        if alone:
            for metric in self.metrics.values():
                _measure_alone(metric)
        self._baselines: dict[tuple[str, int], tuple[float, float, float]] = {}

    def measure(self, generated: Tensor, reference: Tensor | None) -> dict[str, dict[str, float]]:
        """Run every metric. Under DDP each rank brings its share, and the reference comes from one rank only.

        Args:
            generated: Samples of this rank, ``(n, N, M)``.
            reference: Training series, or ``None`` on all ranks but one.
        """
        results = {}
        for name, metric in self.metrics.items():
            metric.reset()
            metric.to(generated.device)
            metric.update(generated if len(generated) else None, reference)
            results[name] = {key: float(value) for key, value in metric.compute().items()}
        return results

    def baselines(self, name: str, count: int) -> tuple[float, float, float]:
        """Return floor, half against half, and mean series for one metric and a number of samples."""
        if (name, count) not in self._baselines:
            kind = self.metrics[name]

            def distance(a: Tensor, b: Tensor) -> float:
                metric = kind.clone()
                _measure_alone(metric)
                metric.reset()
                metric.update(a, b)
                return float(metric.compute()["mean"])

            train = self.data.reference_series()
            self._baselines[name, count] = (
                floor(train, count, distance, real=self.data.reference_series(part="test"), seed=self.seed),
                self_baseline(train, distance, seed=self.seed),
                dummy_baseline(train, distance),
            )
        return self._baselines[name, count]

    def judge(
        self, measured: dict[str, dict[str, float]], generated: np.ndarray, count: int, channels: Sequence[str]
    ) -> Evaluation:
        """Put figures and baselines beside what was measured. Called on one rank.

        Args:
            measured: Result of :meth:`measure`.
            generated: Some of the samples, ``(n, N, M)``, for the figures.
            count: Number of samples measured.
            channels: Names of the channels.
        """
        result = Evaluation()
        for name, values in measured.items():
            low, half, mean = self.baselines(name, count)
            result.rows.append((name, values["mean"], low, half, mean))
            result.scalars |= {f"{name}/{key}": value for key, value in values.items()}
            result.scalars |= {f"{name}/floor": low, f"{name}/self": half, f"{name}/dummy": mean}
        train = self.data.reference_series()
        result.figures["samples"] = plots.sample_gallery(generated[:6], train[:6].numpy(), channels)
        densities = [
            spectral_density(torch.as_tensor(np.array(x[:DRAWN]))).numpy() for x in (generated, train.numpy())
        ]
        result.figures["spectra"] = plots.spectra_with_bands(densities[0], densities[1], channels)
        return result


def _measure_alone(metric: Metric) -> None:
    """Keep a metric from waiting for other ranks."""
    metric.sync_on_compute = False
    metric.distributed_available_fn = _no_ranks


def _no_ranks() -> bool:
    return False


def cache_evaluation(reports: Sequence[dict[str, Any]]) -> Evaluation:
    """Return totals and curves of the caches that took part in a sampling."""
    result = Evaluation()
    for report in reports:
        if report.get("curves"):
            totals = {k: v for k, v in report.items() if isinstance(v, (int, float))}
            result.scalars |= {f"cache/{name}": float(value) for name, value in totals.items()}
            result.figures["cache"] = plots.cache_curves(report["curves"])
    return result
