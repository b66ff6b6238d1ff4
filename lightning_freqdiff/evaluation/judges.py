"""Every metric that an evaluation knows, by name, and one way to take them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from lightning_freqdiff.evaluation.scores import make_metrics, score
from lightning_freqdiff.metrics import (
    Protocol,
    autocorrelation_difference,
    context_embedding,
    correlational_score,
    discriminative_score,
    fit_context_encoder,
    frechet_distance,
    histogram_difference,
    maximum_mean_discrepancy,
    moment_difference,
    nearest_euclidean,
    nearest_warping,
    prdc,
    predictive_score,
    repeated,
)
from lightning_freqdiff.metrics.samples import check_least

Figures = dict[str, dict[str, float]]
"""For every metric ``mean``, and ``two_se`` and ``max`` where they are known."""

DISTANCES = {
    "sliced_wasserstein": "sw_time",
    "sliced_wasserstein_frequency": "sw_frequency",
    "marginal_wasserstein": "marginal",
    "spectral_density": "spectral",
}
"""What is measured as everywhere in this package, by the names it has there."""
NEIGHBOURS = ("precision", "recall", "density", "coverage")
LEARNT = ("discriminative", "predictive", "context_fid")
"""What trains networks, and so depends on a seed."""
PLAIN: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "histogram": histogram_difference,
    "autocorrelation": autocorrelation_difference,
    "skewness": partial(moment_difference, order=3),
    "kurtosis": partial(moment_difference, order=4),
    "mmd": maximum_mean_discrepancy,
    "nearest_euclidean": nearest_euclidean,
}
NAMES = (*DISTANCES, *LEARNT, "correlational", *PLAIN, "nearest_dtw", *NEIGHBOURS)
"""All metrics, in the order of a report."""

SHORT = {
    "all": NAMES,
    "sw": ("sliced_wasserstein", "sliced_wasserstein_frequency"),
    "marginal": ("marginal_wasserstein",),
    "spectral": ("spectral_density",),
    "dtw": ("nearest_dtw",),
    "euclidean": ("nearest_euclidean",),
    "prdc": NEIGHBOURS,
}
"""Shorter words for some of them; ``default`` depends on the series."""
SLOW = (*LEARNT, "nearest_dtw")
"""What takes longest, and is done last."""
LONG = 48
"""Steps from which on recurrent judges take more than a minute each, and are not in the default."""


def higher_is_better(name: str) -> bool:
    """Say which way a metric points."""
    return name in NEIGHBOURS


def split(given: str | Sequence[str]) -> tuple[str, ...]:
    """Return words that were given apart, or in one string with commas.

    Examples:
        >>> split("sw, mmd"), split(["sw,mmd", "dtw"])
        (('sw', 'mmd'), ('sw', 'mmd', 'dtw'))
    """
    text = given if isinstance(given, str) else ",".join(given)
    return tuple(word.strip() for word in text.split(",") if word.strip())


def choose(words: Sequence[str], length: int = 0) -> tuple[str, ...]:
    """Return the metrics asked for, in the order of a report.

    Args:
        words: Names, or ``all``, ``default``, ``sw``, ``marginal``, ``spectral``, ``euclidean``, ``dtw``, ``prdc``.
        length: Steps of the series, on which the default depends.

    Raises:
        ValueError: On an unknown word, or none.

    Examples:
        >>> choose(["prdc", "mmd"])
        ('mmd', 'precision', 'recall', 'density', 'coverage')
    """
    left_out = ("nearest_dtw", *(("discriminative", "predictive") if length > LONG else ()))
    known = {**{name: (name,) for name in NAMES}, **SHORT, "default": tuple(n for n in NAMES if n not in left_out)}
    unknown = [word for word in words if word not in known]
    if unknown or not words:
        what = repr(unknown[0]) if unknown else "none"
        raise ValueError(f"expected metrics of {', '.join((*NAMES, *SHORT, 'default'))}, got {what}: set `metrics`")
    asked = {name for word in words for name in known[word]}
    return tuple(name for name in NAMES if name in asked)


class Judges:
    """Take the metrics of series against one reference.

    Args:
        reference: Real series, ``(m, N, M)``, in random order.
        protocol: How scores that train networks are taken, and the correlational score: ``project`` or ``timegan``.
        repetitions: How often networks are trained, under as many seeds.
        directions: Of the sliced Wasserstein distance.
        seed: The first seed.
    """

    def __init__(self, reference: Tensor, protocol: Protocol, repetitions: int, directions: int, seed: int) -> None:
        self.reference, self.repetitions, self.seed = reference, repetitions, seed
        self.protocol: Protocol = protocol
        self._distances = make_metrics(directions, seed, alone=True)
        self._encoders: dict[int, Any] = {}
        self._embedded: dict[tuple[int, int], Tensor] = {}

    @staticmethod
    def together(name: str) -> tuple[str, ...]:
        """Return the metrics that one measurement gives."""
        return next((group for group in (tuple(DISTANCES), NEIGHBOURS) if name in group), (name,))

    def take(self, name: str, x: Tensor) -> Figures:
        """Take a metric of series ``(n, N, M)``, and those that come with it.

        Raises:
            ValueError: Where the series, or the reference, do not allow it.
        """
        if name in DISTANCES:
            found = score(self._distances, x, self.reference, len(x)).values
            return {ours: found[theirs] for ours, theirs in DISTANCES.items()}
        if name in NEIGHBOURS:
            return {key: {"mean": float(value)} for key, value in prdc(x, self.reference).items()}
        if name in LEARNT:
            return {name: self._repeated(lambda seed: self._learnt(name, x, seed))}
        if name == "correlational":
            return {name: {"mean": float(correlational_score(x, self.reference, self.protocol))}}
        if name == "nearest_dtw":
            return {name: _floats(nearest_warping(x, self.reference, seed=self.seed))}
        return {name: _floats(PLAIN[name](x, self.reference))}

    def _repeated(self, score: Callable[[int], Tensor]) -> dict[str, float]:
        if self.repetitions == 1:
            return {"mean": float(score(self.seed))}
        return repeated(score, self.repetitions, self.seed)

    def _learnt(self, name: str, x: Tensor, seed: int) -> Tensor:
        # The published protocol wants as many real series as generated ones.
        real = self.reference[: len(x)] if self.protocol == "timegan" else self.reference
        if name == "context_fid":
            return self._context_fid(x, real, seed)
        learnt = discriminative_score if name == "discriminative" else predictive_score
        return learnt(x, real, protocol=self.protocol, seed=seed)

    def _context_fid(self, x: Tensor, real: Tensor, seed: int) -> Tensor:
        """Train the encoder, and embed the real series, once."""
        for rows, role in ((x, "generated"), (real, "reference")):
            check_least(rows, role, 2)
        if seed not in self._encoders:
            self._encoders[seed] = fit_context_encoder(real, protocol=self.protocol, seed=seed)
        encoder, known = self._encoders[seed], (seed, len(real))
        if known not in self._embedded:
            self._embedded[known] = context_embedding(real, real, encoder, self.protocol)
        return frechet_distance(context_embedding(x, real, encoder, self.protocol), self._embedded[known])


def _floats(found: Tensor | dict[str, Tensor]) -> dict[str, float]:
    return {k: float(v) for k, v in found.items()} if isinstance(found, dict) else {"mean": float(found)}
