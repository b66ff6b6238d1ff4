"""What an evaluation is asked, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass

from lightning_freqdiff.evaluation.judges import choose
from lightning_freqdiff.evaluation.sets import Sets
from lightning_freqdiff.metrics import Memorization, Protocol
from lightning_freqdiff.metrics.protocol import check_protocol
from lightning_freqdiff.metrics.samples import check_count

NOT_ASKED, INTERRUPTED = "not asked for", "interrupted before its end"


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured, and at what cost.

    Args:
        metrics: Names, or ``default``: all but ``nearest_dtw``, and for series of more than 48 steps without
            ``discriminative`` and ``predictive``, which cost minutes of a core there.
        protocol: How scores that train networks are taken: ``project``, or ``timegan`` as tables in the field do.
        repetitions: How often networks are trained, each time under another seed; published tables have 5.
        rows: Series of each set at most; the cost of distances between all series goes with its square.
        directions: Of the sliced Wasserstein distance.
        seed: Which series are drawn and held out, directions, and networks.
    """

    metrics: tuple[str, ...] = ("default",)
    protocol: Protocol = "project"
    repetitions: int = 1
    rows: int = 5000
    directions: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        choose(self.metrics)
        check_protocol(self.protocol)
        for name in ("repetitions", "rows", "directions"):
            check_count(getattr(self, name), name)
        check_count(self.seed, "seed", least=0)


@dataclass(frozen=True)
class Score:
    """One metric: of generated series, of as many real ones (floor), of as many of a Gaussian (ceiling).

    What could not be measured is ``None``, and ``note`` says why. ``position`` tells where the value stands: 0 at the
    floor, 1 at the ceiling; none where the ceiling is not a tenth worse than the floor, so that the metric hardly
    sees what a linear model lacks.
    """

    higher_is_better: bool
    value: float | None = None
    floor: float | None = None
    ceiling: float | None = None
    position: float | None = None
    value_two_se: float | None = None
    floor_two_se: float | None = None
    ceiling_two_se: float | None = None
    value_max: float | None = None
    seconds: float | None = None
    note: str | None = None


@dataclass(frozen=True)
class Findings:
    """All that was found out.

    Args:
        sets: What was compared.
        scores: For every metric, also those that were not asked for.
        labelled: Accuracies of classifiers, as `train_on_synthetic` returns them; ``None`` where not all sets have
            labels.
        memorization: Of all generated series, against all training series; ``None`` where it could not be told.
        settings: As given.
        counts: Series of the equal sets, ``compared``, and of the ``reference`` that all were held against.
        notes: What to bear in mind.
        seconds: It took.
        complete: Whether it came to its end; after Ctrl-C what was measured is there.
    """

    sets: Sets
    scores: dict[str, Score]
    labelled: dict[str, float] | None
    memorization: Memorization | None
    settings: EvaluateSettings
    counts: dict[str, int]
    notes: tuple[str, ...]
    seconds: float
    complete: bool

    def __repr__(self) -> str:
        """Show what was measured, a metric a line; the series are not shown."""
        lines = [f"Findings of {self.counts['compared']:,} series each (fresh real ones; Gaussian):"]
        for name, score in self.scores.items():
            if score.value is not None:
                beside = ("-" if x is None else f"{x:.4g}" for x in (score.floor, score.ceiling))
                lines.append(f"  {name} {score.value:.4g} ({'; '.join(beside)})")
        if self.memorization is not None:
            lines.append(f"  copies of training series: {self.memorization.share_of_copies:.2%}")
        return "\n".join(lines)
