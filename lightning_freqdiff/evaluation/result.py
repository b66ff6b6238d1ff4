"""What is shown of a set of samples, wherever: scalars, one table, figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from lightning_freqdiff.evaluation.findings import Score
from lightning_freqdiff.evaluation.scores import Measurement
from lightning_freqdiff.reporting.caches import cache_curves

TITLES = {
    "floor": "floor, real series",
    "bootstrap": "bootstrap of the training set",
    "self": "half against half",
    "dummy": "mean series",
}


@dataclass(frozen=True)
class Measured:
    """What samples scored.

    Args:
        samples: All of them.
        at_floor_count: As many as the floor is taken at, the first ones; ``None`` without held-out series.
    """

    samples: Measurement
    at_floor_count: Measurement | None


@dataclass
class Evaluation:
    """Distances to the training set, beside what real series score, and figures.

    Args:
        scalars: Names and values, ready for a logger; those of counts begin with ``count/``.
        columns: Head of the table, each figure with the number of series it was taken at.
        rows: A line for every metric.
        figures: Names and figures.
    """

    scalars: dict[str, float] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    rows: list[tuple[str | float, ...]] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)

    @classmethod
    def of(cls, measured: Measured, baselines: dict[str, Measurement]) -> Evaluation:
        """Put what was measured beside the baselines, by name: ``floor`` or ``bootstrap``, ``self``, ``dummy``."""
        samples, fewer = measured.samples, measured.at_floor_count
        compared = [samples] if fewer is None or fewer.count == samples.count else [samples, fewer]
        result = cls()
        result.scalars["count/samples"] = float(samples.count)
        result.scalars |= {f"count/{kind}": float(found.count) for kind, found in baselines.items()}
        result.columns = (
            "metric",
            *(f"samples ({found.count:,})" for found in compared),
            *(f"{TITLES[kind]} ({found.count:,})" for kind, found in baselines.items()),
        )
        for name, values in samples.values.items():
            cells = [found.values[name]["mean"] for found in (*compared, *baselines.values())]
            result.rows.append((name, *cells))
            result.scalars |= {f"{name}/{key}": value for key, value in values.items()}
            if fewer is not None:
                result.scalars[f"{name}/mean_at_floor_count"] = fewer.values[name]["mean"]
            result.scalars |= {f"{name}/{kind}": found.values[name]["mean"] for kind, found in baselines.items()}
        return result

    def add(self, scores: dict[str, Score]) -> None:
        """Add metrics that were asked for by name: each with its value, its floor and its ceiling."""
        for name, score in scores.items():
            found = {key: getattr(score, key) for key in ("value", "floor", "ceiling", "position")}
            self.scalars |= {f"{name}/{key}": value for key, value in found.items() if value is not None}


def cache_evaluation(reports: Sequence[dict[str, Any]]) -> Evaluation:
    """Return totals and curves of the caches that took part in a sampling."""
    result = Evaluation()
    for report in reports:
        if report.get("curves"):
            totals = {k: v for k, v in report.items() if isinstance(v, (int, float))}
            result.scalars |= {f"cache/{name}": float(value) for name, value in totals.items()}
            result.figures["cache"] = cache_curves(report["curves"])
    return result
