"""Every metric of an evaluation, run at once, under DDP or alone."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from torch import Tensor
from torchmetrics import Metric

from lightning_freqdiff.metrics import MarginalWasserstein, SlicedWasserstein, SpectralDensityDistance
from lightning_freqdiff.metrics.samples import Domain

DOMAINS: tuple[Domain, ...] = ("time", "frequency")


@dataclass(frozen=True)
class Measurement:
    """What one set of series scored.

    Args:
        count: Number of series. Distances are biased by it: figures of different counts do not compare.
        values: For every metric ``mean``, ``two_se`` and ``max``, in the metric's units.
    """

    count: int
    values: dict[str, dict[str, float]]


def make_metrics(num_directions: int, seed: int, alone: bool) -> dict[str, Metric]:
    """Return the metrics by name.

    Args:
        num_directions: Directions of the sliced Wasserstein distance.
        seed: Which directions.
        alone: Whether no other rank is waited for.
    """
    metrics: dict[str, Metric] = {
        **{f"sw_{domain}": SlicedWasserstein(num_directions, seed=seed, domain=domain) for domain in DOMAINS},
        "marginal": MarginalWasserstein(),
        "spectral": SpectralDensityDistance(),
    }
    if alone:
        for metric in metrics.values():
            metric.sync_on_compute = False
            metric.distributed_available_fn = _no_ranks
    return metrics


def score(metrics: dict[str, Metric], generated: Tensor, reference: Tensor | None, count: int) -> Measurement:
    """Run every metric on the samples of this rank, ``(n, N, M)`` with ``n`` from 0.

    Args:
        metrics: By name.
        generated: Samples of this rank.
        reference: Training series, ``(m, N, M)``, or ``None`` on all ranks but one.
        count: Number of samples over all ranks.
    """
    given, values = generated if len(generated) else None, {}
    for name, metric in metrics.items():
        metric.to(generated.device)
        metric.reset()
        if given is not None or reference is not None:
            metric.update(given, None if reference is None else reference.to(generated.device))
        with warnings.catch_warnings():  # a rank may have nothing to bring
            warnings.filterwarnings("ignore", message=".*was called before the ``update`` method.*")
            values[name] = {key: float(value) for key, value in metric.compute().items()}
        metric.reset()  # or the series would be held until the next time
    return Measurement(count, values)


def _no_ranks() -> bool:
    return False
