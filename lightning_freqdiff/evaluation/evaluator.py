"""One way to measure a set of samples, whoever asks: callbacks, `compare`, `tune` and the benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.domains import spectral_density
from lightning_freqdiff.evaluation import evaluate
from lightning_freqdiff.evaluation.findings import EvaluateSettings, Findings, Score
from lightning_freqdiff.evaluation.judges import choose
from lightning_freqdiff.evaluation.panel import Panel
from lightning_freqdiff.evaluation.result import Evaluation, Measured
from lightning_freqdiff.evaluation.scores import DOMAINS, Measurement, make_metrics, score
from lightning_freqdiff.evaluation.sets import Sets
from lightning_freqdiff.metrics import SortedReference
from lightning_freqdiff.metrics.baselines import bootstrap_floor, dummy_baseline, floor, self_baseline
from lightning_freqdiff.metrics.influence import Influence, sliced_influence
from lightning_freqdiff.metrics.samples import Domain, coordinates
from lightning_freqdiff.metrics.sliced_wasserstein import sliced_distances, summarize
from lightning_freqdiff.reporting import plots

DIRECTIONS = 1000
DRAWN = 2048
"""Series that spectra are drawn from, at most."""


class Evaluator:
    """Measures samples against a training set.

    Args:
        reference: Training series, ``(m, N, M)`` in data units, or a data set: then its training part, and its test
            part for the floor.
        real: Series that were not trained on, ``(r, N, M)``, for the floor. Without them there is none, and a
            bootstrap of the training set is shown in its place, by that name.
        num_directions: Directions of the sliced Wasserstein distance.
        seed: Which directions, and which rows in the baselines.
        alone: Whether one rank measures by itself, having all samples; the others must not be waited for then.

    Examples:
        >>> train, real, samples = (torch.randn(n, 16, 1) for n in (500, 100, 200))
        >>> evaluator = Evaluator(train, real)
        >>> measured, floor = evaluator.measure(samples), evaluator.baselines(len(samples))["floor"]
        >>> measured.samples.count, measured.at_floor_count.count, floor.count
        (200, 100, 100)
    """

    def __init__(
        self,
        reference: Tensor | SeriesData,
        real: Tensor | None = None,
        num_directions: int = DIRECTIONS,
        seed: int = 0,
        alone: bool = False,
    ) -> None:
        self._reference, self._real = reference, real
        self.num_directions, self.seed, self.alone = num_directions, seed, alone
        self._metrics = make_metrics(num_directions, seed, alone)
        self._baselines: dict[int, dict[str, Measurement]] = {}
        self._panels: dict[tuple[int, EvaluateSettings, bool], Panel] = {}

    @property
    def reference(self) -> Tensor:
        """Training series, ``(m, N, M)``; a data set is asked each time, so that a large one is not held."""
        known = self._reference
        return known.reference_series() if isinstance(known, SeriesData) else known

    @property
    def real(self) -> Tensor | None:
        """Held-out series, ``(r, N, M)``, if any."""
        known, data = self._real, self._reference
        if known is None and isinstance(data, SeriesData):
            known = data.reference_series(part="test")
        return known if known is not None and len(known) else None

    @cached_property
    def held_out(self) -> int:
        """Number of held-out series."""
        return 0 if (real := self.real) is None else len(real)

    @cached_property
    def _sorted(self) -> dict[Domain, SortedReference]:
        train = self.reference
        return {
            domain: SortedReference.build(coordinates(train, domain), self.num_directions, self.seed)
            for domain in DOMAINS
        }

    def scores(self, generated: Tensor, settings: EvaluateSettings, equal: bool = True) -> dict[str, Score]:
        """Take any metrics by name, each beside its floor and its ceiling; those are worked out once for each count.

        Without held-out series, the floor is that of a part of the reference which is left out of it.

        Args:
            generated: All samples, ``(n, N, M)``, on one rank.
            settings: Which metrics, and how they are taken.
            equal: Whether no more samples are judged than there are held-out series; see `Panel`.
        """
        key = len(generated), settings, equal
        if key not in self._panels:
            self._panels[key] = Panel(self._sets(generated, settings), settings, equal)
        asked = choose(settings.metrics, generated.shape[1])
        return dict(self._panels[key].scores(generated.detach().cpu().float(), asked))

    def findings(self, generated: Tensor, settings: EvaluateSettings, channels: Sequence[str] = ()) -> Findings:
        """Find out what `evaluate` does: any metrics by name, and copies of training series."""
        return evaluate.measure(self._sets(generated, settings, channels), settings)

    def _sets(self, generated: Tensor, settings: EvaluateSettings, channels: Sequence[str] = ()) -> Sets:
        return Sets.of(generated, self.reference, self.real, channels, settings.seed)

    def distances(self, series: Tensor) -> dict[Domain, Tensor]:
        """Return the distance along each direction, in ``time`` and ``frequency``, each ``(num_directions,)``.

        For many sets against one reference, whose projections are sorted once.
        """
        directions = range(self.num_directions)
        return {
            domain: sliced_distances(coordinates(series, domain), reference, directions, seed=self.seed)
            for domain, reference in self._sorted.items()
        }

    def influence(self, series: Tensor) -> dict[Domain, Influence]:
        """Return the distances in ``time`` and ``frequency``, and what each series has to do with them."""
        directions = range(self.num_directions)
        return {
            domain: sliced_influence(coordinates(series, domain), reference, directions, seed=self.seed)
            for domain, reference in self._sorted.items()
        }

    @staticmethod
    def changes(ours: dict[Domain, Tensor], uncached: dict[Domain, Tensor]) -> dict[str, float]:
        """Return sliced Wasserstein distances, and their relative change with its error, direction by direction.

        Both come from :meth:`distances`; the same noise and the same directions make the change far more certain
        than either distance.
        """
        result = {}
        for domain, distances in ours.items():
            summary, base = summarize(distances), float(uncached[domain].mean())
            change = summarize((distances - uncached[domain]) / max(base, 1e-300))
            result |= {
                f"sw_{domain}": float(summary["mean"]),
                f"sw_{domain}_two_se": float(summary["two_se"]),
                f"sw_{domain}_change": float(change["mean"]),
                f"sw_{domain}_change_two_se": float(change["two_se"]),
            }
        return result

    def measure(self, generated: Tensor, numbers: Tensor | None = None, total: int | None = None) -> Measured:
        """Run every metric on all samples, and on as many as there are held-out series where those are fewer.

        Under DDP each rank brings its share, and rank zero the training series.

        Args:
            generated: Samples of this rank, ``(n, N, M)``.
            numbers: Which of all samples these are, ``(n,)``, so that the same ones are the first on any number of
                ranks; in order from 0 if not given.
            total: Number of samples over all ranks; ``n`` if not given.
        """
        total = len(generated) if total is None else total
        numbers = torch.arange(len(generated)) if numbers is None else numbers
        samples, count = self._score(generated, total), min(total, self.held_out)
        if count in (0, total):
            return Measured(samples, samples if count else None)
        return Measured(samples, self._score(generated[(numbers < count).to(generated.device)], count))

    def _score(self, generated: Tensor, count: int) -> Measurement:
        first = self.alone or not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
        return score(self._metrics, generated, self.reference if first else None, count)

    def baselines(self, count: int) -> dict[str, Measurement]:
        """Return what gives the distances of ``count`` samples their meaning; worked out once, on one rank.

        Returns:
            ``floor`` (held-out series, as many as there are samples or else all) or ``bootstrap`` where there are
            none, ``self`` (half against half) and ``dummy`` (the mean series), each with its own count.
        """
        if count not in self._baselines:
            metrics = make_metrics(self.num_directions, self.seed, alone=True)
            train, real, found = self.reference, self.real, {}

            def distance(generated: Tensor, reference: Tensor) -> Measurement:
                return score(metrics, generated, reference, len(generated))

            if real is None:
                found["bootstrap"] = bootstrap_floor(train, count, distance, self.seed)
            else:
                found["floor"], _ = floor(train, real, count, distance, self.seed)
            found["self"] = self_baseline(train, distance, self.seed)
            found["dummy"] = dummy_baseline(train, distance)
            self._baselines[count] = found
        return self._baselines[count]

    def evaluate(self, measured: Measured, generated: np.ndarray, channels: Sequence[str]) -> Evaluation:
        """Put baselines and figures beside what was measured. Called on one rank.

        Args:
            measured: Result of :meth:`measure`.
            generated: Some of the samples, ``(n, N, M)``, for the figures.
            channels: Names of the channels.
        """
        result = Evaluation.of(measured, self.baselines(measured.samples.count))
        train = self.reference.cpu()
        result.figures["samples"] = plots.sample_gallery(generated[:6], train[:6].numpy(), channels)
        densities = [
            spectral_density(torch.as_tensor(np.array(x[:DRAWN]))).numpy() for x in (generated, train.numpy())
        ]
        result.figures["spectra"] = plots.spectra_with_bands(densities[0], densities[1], channels)
        return result
