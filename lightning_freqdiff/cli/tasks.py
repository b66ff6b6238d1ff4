"""What `predict` fills in: the gaps of series, or what comes after them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from jsonargparse import ArgumentParser

from lightning_freqdiff.data import ArrayData, SeriesData
from lightning_freqdiff.imputing import Asked, keeping
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Given, Sampling

Task = Literal["impute", "forecast"]


def add_task(parser: ArgumentParser) -> None:
    """Add what is to be done with a data set that is given."""
    parser.add_argument(
        "--task",
        type=Task | None,
        default=None,
        help="What to do with the series of --data: impute fills their gaps, forecast draws what comes after them; "
        "num_samples of each, one series after the other, and quantiles beside. Without, series are drawn freely.",
    )
    parser.add_argument("--horizon", type=int | None, default=None, help="Steps to forecast.")


def for_task(module: ScoreModule, data: SeriesData | None, config: Any) -> Sampling:
    """Return the sampling of a task: so many samples of each series, given what is known of it.

    Raises:
        ValueError: For a task without series or without a horizon, and a horizon without a task.
    """
    sampling, task, horizon = module.sampling, config.get("task"), config.get("horizon")
    if task != "forecast" and horizon is not None:
        raise ValueError(f"expected a horizon for a forecast alone, got {horizon}: set `task` forecast")
    if task is None:
        return sampling
    if config.get("metrics"):
        raise ValueError(f"expected no metrics where the task is to {task}, for these are of series drawn freely")
    if not isinstance(data, ArrayData):
        got = "none" if data is None else type(data).__name__
        raise ValueError(f"expected series to {task} in a file, got {got}: set `data` ArrayData and `data.path`")
    if task == "forecast" and horizon is None:
        raise ValueError("expected the steps to forecast, got none: set `horizon`")
    asked = Asked.of(data, module)
    length = module.layout.length
    values = asked.whole(length) if horizon is None else asked.before(horizon, length)
    told = asked.told(length, horizon or 0)
    told = None if told is None else module.vocabulary.at_steps(told)
    beside = sampling.condition
    beside = asked.conditions(range(len(values)), sampling.num_samples) if beside is None else beside
    given = Given(values, sampling.num_samples, covariates=told, beside=beside)
    guidance = sampling.guidance
    if sampling.constraint is None:
        guidance = keeping(guidance)
    return replace(sampling, num_samples=len(values) * given.num_samples, condition=given, guidance=guidance)
