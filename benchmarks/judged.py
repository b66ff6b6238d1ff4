"""How samples are measured: set by set, beside fresh rows and the linear model, and by the judges of the field."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.findings import EvaluateSettings
from lightning_freqdiff.metrics import sample_gaussian

WINDOW = 24
"""Windows of this length are measured by the published protocol, against the whole set."""

FEWEST_FRESH = 100
"""With fewer fresh rows there is no floor for scores that train networks."""


def flat_tails(x: Tensor) -> float:
    """Return the share of series whose last 10 steps lie within 0.02 of each other."""
    return float((x[:, -10:].amax(1) - x[:, -10:].amin(1) < 0.02).all(-1).float().mean())


def scores(generated: Tensor, data: SeriesData, repetitions: int) -> dict[str, Any]:
    """Ask the field's judges of samples, of fresh real rows and of the linear model.

    Windows are judged as published, all of them and against the whole set; all else at equal counts. The predictive
    score is left to windows, for which it is published.
    """
    train_rows, fresh = data.reference_series(), data.reference_series(part="test")
    window = train_rows.shape[1] == WINDOW
    whole = torch.cat([train_rows, fresh]) if window and fresh is not None else train_rows
    # Where there are few fresh rows, a part of the others stands for them, and leaves the reference.
    real = fresh if fresh is not None and len(fresh) >= FEWEST_FRESH else None
    names = ("discriminative", "context_fid", *(("predictive",) if window else ()))
    names += ("correlational",) if train_rows.shape[2] > 1 else ()
    settings = EvaluateSettings(names, "timegan" if window else "project", repetitions)
    found: dict[str, Any] = {"protocol": settings.protocol}
    for name, score in Evaluator(whole, real).scores(generated, settings, equal=not window).items():
        for kind, value in (("", score.value), ("_floor", score.floor), ("_ceiling", score.ceiling)):
            found |= {name + kind: value}
        found |= {f"{name}_two_se": score.value_two_se, f"{name}_floor_two_se": score.floor_two_se}
        print(f"  {name} {score.value} ({score.floor} to {score.ceiling}, {score.seconds:.0f} s)", flush=True)
    return found


def distances(data: SeriesData, generated: Tensor, count: int, directions: int, seed: int) -> dict[str, Any]:
    """Measure samples set by set, beside as many sets of fresh rows and of the linear model's samples.

    One set of a thousand heartbeats lies up to a third nearer or farther than another from the same model, and starts
    of the same seed carry that luck from model to model: what counts is the mean over sets.

    Args:
        data: Data set.
        generated: All samples.
        count: Samples of a set; fewer where fewer fresh rows are there.
        directions: Of the sliced Wasserstein distance.
        seed: Of the order of fresh rows, and of the linear model.
    """
    train_rows, fresh = data.reference_series(), data.reference_series(part="test")
    assert fresh is not None
    count = min(count, len(fresh))
    evaluator = Evaluator(data, num_directions=directions)

    def of(series: Tensor) -> dict[str, Any]:
        sets = [evaluator.measure(part).samples for part in series.split(count) if len(part) == count]
        found: dict[str, Any] = {"count": count, "sets": len(sets)}
        for name in sets[0].values:
            values = np.array([one.values[name]["mean"] for one in sets])
            error = 2 * values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else None
            found |= {name: float(values.mean()), f"{name}_two_se": None if error is None else float(error)}
        return found

    order = torch.randperm(len(fresh), generator=torch.Generator().manual_seed(seed))
    ours, floor = of(generated), of(fresh[order])
    ceiling = of(sample_gaussian(train_rows, count * ours["sets"], seed))
    return {**ours, "floor": floor, "ceiling": ceiling, "over_floor": ours["sw_time"] / floor["sw_time"]}


def at_large(data: SeriesData, generated: Tensor, directions: int, seed: int) -> dict[str, Any]:
    """Measure as many samples as papers do, of which there are no fresh rows: against one half of all real rows.

    The other half, which the model has seen as much of, is the floor.
    """
    parts = [data.reference_series(part=part) for part in ("train", "val", "test")]
    rows = torch.cat([part for part in parts if part is not None])
    rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))]
    count = min(len(generated), len(rows) // 2)
    reference, floor = rows[:count], rows[count : 2 * count]
    sets = {"samples": generated[:count], "floor": floor, "gaussian": sample_gaussian(reference, count, seed)}
    distances = Evaluator(reference, num_directions=directions)
    found = {name: distances.distances(series) for name, series in sets.items()}
    return {
        "count": count,
        **{f"{name}_{domain}": float(d.mean()) for name, both in found.items() for domain, d in both.items()},
    }
