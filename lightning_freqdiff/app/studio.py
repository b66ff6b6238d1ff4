"""One model to play with: series from one noise, with every network call and through a cache, timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.caching import CachePolicy
from lightning_freqdiff.callbacks.presets import read_preset
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.keywords import concrete, make, spelt
from lightning_freqdiff.metrics.nearest import flat_rows, nearest_rows
from lightning_freqdiff.metrics.relative_l2 import relative_l2
from lightning_freqdiff.model import Model
from lightning_freqdiff.presets import shipped
from lightning_freqdiff.sampling import Same, Sampling, Solver

LIMITS = {"num_samples": (1, 64), "num_steps": (1, 2000), "seed": (0, 2**32 - 1)}
"""Least and greatest value of what a visitor may set: enough to see, and never more than a wait."""

Tell = Callable[[str, float], None]
"""Told what is being done, and the share of it that is done; what it raises ends the work."""


@dataclass(frozen=True)
class Pair:
    """The same series drawn twice.

    Args:
        cache: Name of the cache.
        uncached: With every network call.
        cached: Through the cache.
    """

    cache: str
    uncached: Run
    cached: Run

    @property
    def ratio(self) -> float:
        """How many times faster the cache was."""
        return self.uncached.seconds[0] / self.cached.seconds[0]

    @property
    def distance(self) -> dict[str, float]:
        """Relative L2 distance of the cached to the uncached series."""
        return relative_l2(series_of(self.cached), series_of(self.uncached))


@dataclass(frozen=True)
class Relatives:
    """The closest training series of some series.

    Args:
        series: Training series, ``(n, N, M)``.
        distances: To them, ``(n,)``: root mean squares over steps and channels, in training deviations.
        scale: Mean and deviation of each channel of the training series, ``(2, M)``.
    """

    series: Tensor
    distances: Tensor
    scale: Tensor


class Studio:
    """A model on its device, with the caches that it can be sampled through.

    Args:
        model: The model.
        data: Training series to hold samples against, if they are at hand; of the model's shape.

    Attributes:
        caches: Caches by the names of their presets, without those that need another network.
        solvers: Names of the solvers, the default first.
        classes: Classes that the model can be asked for; 0 for a model without labels.
        class_names: What they are called.
    """

    def __init__(self, model: Model, data: SeriesData | None = None) -> None:
        self.model, self.module = model, model.module
        self.train = None if data is None else data.reference_series()
        self.caches = {name: policy for name in shipped(["callbacks"]) if (policy := self._fitting(name))}
        default = type(Sampling().solver).__name__
        self.solvers = sorted({kind.__name__ for kind in concrete(Solver)}, key=lambda name: (name != default, name))
        self.classes = self.module.score.sizes.classes
        self.class_names = self.module.vocabulary.classes or tuple(map(str, range(self.classes)))

    def _fitting(self, name: str) -> CachePolicy | None:
        """Return the cache of a preset if there is one, and if this network can be sampled through it."""
        try:
            policy = read_preset(name)
            Bench(self.module, TRIAL).draw(Run(Contender(name, "cache", TRIAL, policy)))
        except ValueError:
            return None
        return policy

    def draw(self, given: Mapping[str, Any], cache: str, tell: Tell) -> Pair:
        """Draw series with every network call, and once more through a cache.

        Args:
            given: ``num_samples``, ``num_steps``, ``solver``, ``seed``, and ``label`` where one was chosen.
            cache: Name of the cache.
            tell: What is told how it goes.

        Raises:
            ValueError: For settings out of their limits, and for what solver or cache refuses.
        """
        for name, (least, most) in LIMITS.items():
            value = given[name]
            if not isinstance(value, int) or not least <= value <= most:
                got = "nothing" if value is None else format(value, ",")
                raise ValueError(f"expected `{name}` from {least:,} to {most:,}, got {got}")
        if cache not in self.caches:
            raise ValueError(f"expected `cache` as one of {', '.join(self.caches)}, got {cache!r}")
        plain = {name: value for name, value in given.items() if name != "label"}
        condition = None if given.get("label") is None else Same(label=given["label"])
        with spelt():
            sampling = make(Sampling, {**plain, "batch_size": LIMITS["num_samples"][1], "condition": condition})
            tell("Warming up", 0.0)
            # The first calls of a shape take longer, and the uncached run comes first.
            self._draw(Contender("warm-up", "uncached", make(Sampling, {**vars(sampling), "num_steps": 2})), tell)
            uncached = self._draw(Contender("every network call", "uncached", sampling), tell)
            cached = self._draw(Contender(f"through {cache}", "cache", sampling, self.caches[cache]), tell)
        return Pair(cache, uncached, cached)

    def _draw(self, contender: Contender, tell: Tell) -> Run:
        name, run = contender.name.capitalize(), Run(contender)
        Bench(self.module, contender.sampling, lambda share: tell(name, share), every=1).draw(run)
        if not bool(series_of(run).isfinite().all()):
            raise ValueError(f"expected numbers, got NaN or infinity {name.lower()}: set `num_steps` or `solver`")
        return run

    def relatives(self, series: Tensor) -> Relatives | None:
        """Find the closest training series of each of some series ``(n, N, M)``, where training series are known."""
        if self.train is None:
            return None
        made, real = flat_rows(series, self.train)
        distances, which = (found[:, 0] for found in nearest_rows(made, real, 1))
        scale = torch.stack([self.train.mean((0, 1)), self.train.std((0, 1), correction=0)])
        return Relatives(self.train[which], distances / math.sqrt(made.shape[1]), scale)


TRIAL = Sampling(num_samples=1, num_steps=2, batch_size=1)
"""A glance, to see whether a cache and a network go together."""


def series_of(run: Run) -> Tensor:
    """Return the series of a finished run on the CPU, ``(n, N, M)``."""
    assert run.series is not None
    return run.series.cpu()
