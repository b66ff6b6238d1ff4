"""Studies of a model or of series from Python: compare, tune, evaluate, describe. Thin over ``evaluation/``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import torch
from rich.console import Console

from lightning_freqdiff.caching import CachePolicy
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation import describe as description
from lightning_freqdiff.evaluation import evaluate as evaluation
from lightning_freqdiff.evaluation.arithmetic import TrainerPrecision
from lightning_freqdiff.evaluation.bench import Bench
from lightning_freqdiff.evaluation.compare import Comparison
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.families import families
from lightning_freqdiff.evaluation.findings import Findings
from lightning_freqdiff.evaluation.judges import split
from lightning_freqdiff.evaluation.tune import Tuner
from lightning_freqdiff.given import (
    DATA,
    EVALUATE,
    SAMPLING,
    Cache,
    evaluate_settings,
    every,
    plugged_in,
    sampling_of,
    series_data,
)
from lightning_freqdiff.keywords import allot, spelt
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.running import MatmulPrecision, find_device, float32_products

if TYPE_CHECKING:
    from lightning_freqdiff.model import Model


def evaluate(generated: Any, reference: Any, holdout: Any = None, **settings: Any) -> Findings:
    """Measure generated series against real ones, whatever model made them.

    Args:
        generated: Series ``(n, N, M)`` or ``(n, N)``, a data frame, a file, a folder of ``predict``, or a data set.
        reference: Those that the model was trained on, in any of these forms; of a data set its training part.
        holdout: Real series that it was not trained on; if not given, the test part of a data set, or a part of the
            reference.
        **settings: ``metrics`` (names, by commas), ``protocol``, ``repetitions``, ``rows``, ``directions``, ``seed``;
            and those of ``ArrayData``, such as ``window``, for real series that are no data set.

    Returns:
        What was found: ``scores`` by name, each with ``value``, ``floor`` and ``ceiling``; ``memorization``;
        ``notes``.

    Raises:
        ValueError: For series of other shapes, NaN, unknown metrics.

    Examples:
        >>> import numpy as np
        >>> train, fresh, made = np.random.default_rng(0).normal(size=(3, 40, 8, 1))
        >>> found = evaluate(made + 3, train, fresh, metrics="sw")
        >>> found.scores["sliced_wasserstein"].floor < found.scores["sliced_wasserstein"].value
        True
    """
    parted = allot("evaluate", settings, evaluate=EVALUATE, data=DATA)
    with _roles("generated"):
        made, _ = every(generated, {}, differ=False)
    with _roles("reference"):
        real, channels = every(reference, parted["data"])
    with _roles("holdout"):
        if holdout is None and isinstance(reference, SeriesData):
            holdout = reference.reference_series(part="test")
        held = None if holdout is None else every(holdout, parted["data"])[0]
    with spelt():
        return evaluation.evaluate(made, real, held, evaluate_settings(parted["evaluate"]), channels)


def describe(series: Any, **settings: Any) -> dict[str, Any]:
    """Describe series before a model is trained on them, and warn where the frequency domain does not suit them.

    Args:
        series: What ``fit`` takes.
        **settings: Of ``ArrayData``.

    Examples:
        >>> import numpy as np
        >>> found = describe(np.random.default_rng(0).normal(size=(100, 16, 2)))
        >>> found["steps"], found["series"]
        (16, {'train': 90, 'val': 10, 'test': 10})
    """
    with spelt(**{"data.path": "series"}):
        return description.describe(series_data(series, allot("describe", settings, data=DATA)["data"]))


def compare(
    model: Model,
    caches: Sequence[Cache] | Mapping[str, Cache] = ("wiener",),
    *,
    metrics: str | Sequence[str] = (),
    repetitions: int = 1,
    data: Any = None,
    output: str | Path = "comparison",
    rounds: int = 3,
    solvers: bool = True,
    device: str = "auto",
    precision: TrainerPrecision = "32-true",
    matmul_precision: MatmulPrecision = "high",
    **settings: Any,
) -> list[dict[str, Any]]:
    """Compare caches, and solvers with fewer steps, on a model: speed against damage.

    Args:
        model: The model.
        caches: Names or paths of presets, or caches by a name of yours.
        metrics: Names of metrics of :func:`evaluate` to take as well, each with its floor and its ceiling.
        repetitions: How often those that train networks are taken, for a mean and its standard error.
        data: Training series to measure distances to; those that the model was just trained on if not given.
        output: Folder of the results, empty or new.
        rounds: How often everything is timed, in turn.
        solvers: Whether solvers with fewer steps take part.
        device: ``cpu``, ``cuda`` ...; ``auto`` takes a GPU if there is one.
        precision: Of all sampling.
        matmul_precision: What products of float32 numbers are made of.
        **settings: Of ``Sampling``.

    Returns:
        A row for each contender, as in ``compare.json``.
    """
    sampling = model.module.as_trained(sampling_of(allot("compare", settings, sampling=SAMPLING)["sampling"]))
    named = caches if isinstance(caches, Mapping) else {_name(cache): cache for cache in caches}
    with spelt(callbacks="caches"):
        contenders = [Contender(name, "cache", sampling, *plugged_in(cache)) for name, cache in named.items()]
        with _on(model.module, device, precision, matmul_precision) as module:
            known = _reference(model, data)
            given = sampling, Path(output), known, rounds, solvers, Console(), split(metrics), repetitions
            return Comparison(module, contenders, *given).run()


def tune(
    model: Model,
    tolerance: float,
    *,
    metric: str = "relative_l2",
    caches: Sequence[str] = (),
    confirm: int = 64,
    minutes: float | None = None,
    data: Any = None,
    device: str = "auto",
    precision: TrainerPrecision = "32-true",
    matmul_precision: MatmulPrecision = "high",
    **settings: Any,
) -> CachePolicy:
    """Find the fastest cache that keeps to a tolerance on a model; ``sample(cache=...)`` takes it.

    Args:
        model: The model.
        tolerance: Damage that is acceptable, 0.01 is one percent.
        metric: What the tolerance is about: relative L2 distance to the uncached samples; change of ``sw``; or change
            of a metric by a name of :func:`evaluate`, which has no bound.
        caches: Families to search; all if not given.
        confirm: Samples of fresh noise to confirm the winner on.
        minutes: Time that the search may take; as long as it takes if not given.
        data: Training series to measure distances to, for all but ``relative_l2``; as in :func:`compare`.
        device: As in :func:`compare`.
        precision: As in :func:`compare`.
        matmul_precision: As in :func:`compare`.
        **settings: Of ``Sampling``; 16 samples if not said otherwise.

    Raises:
        ValueError: Where no cache keeps to the tolerance and is faster than none.
    """
    given = {"num_samples": 16, **allot("tune", settings, sampling=SAMPLING)["sampling"]}
    known = {family.name: family for family in families()}
    if unknown := sorted(set(caches) - set(known)):
        raise ValueError(f"expected `caches` of {', '.join(known)}, got {unknown[0]!r}")
    with spelt(), _on(model.module, device, precision, matmul_precision) as module:
        reference = _reference(model, data)
        evaluator = None if reference is None else Evaluator(reference)
        sampling = module.as_trained(sampling_of(given))
        tuner = Tuner(Bench(module, sampling), tolerance, metric, evaluator, confirm, Console(), minutes)
        _, confirmed = tuner.run([known[name] for name in caches or known])
        if confirmed is None:
            raise ValueError(f"no cache was faster than none within `tolerance` {tolerance:g}: raise it")
        policy = confirmed.family.contender(confirmed.knob, sampling).policy
        assert policy is not None
        return policy


@contextmanager
def _on(module: ScoreModule, device: str, precision: str, matmul: MatmulPrecision) -> Iterator[ScoreModule]:
    """Put a model on a device, in a precision, and back where it was."""
    if precision not in get_args(TrainerPrecision):
        raise ValueError(f"expected `precision` as one of {', '.join(get_args(TrainerPrecision))}, got {precision!r}")
    before, there = module.device, find_device(device)
    low = torch.autocast(there.type, torch.bfloat16, enabled=precision == "bf16-mixed")
    try:
        with low, float32_products(matmul):
            yield module.to(there)
    finally:
        module.to(before)


def _reference(model: Model, data: Any) -> SeriesData | None:
    """Return the series to measure distances to, checked against the model."""
    known = model.data if data is None else series_data(data, {})
    if known is not None:
        known.expect_shape(model.module.layout.length, model.module.layout.channels)
    return known


def _name(cache: Cache) -> str:
    return Path(cache).stem if isinstance(cache, (str, Path)) else type(plugged_in(cache)[0]).__name__.lower()


@contextmanager
def _roles(role: str) -> Iterator[None]:
    """Let errors name the set where the reader names its path."""
    with spelt(**{"data.path": role}):
        yield
