"""`evaluate`: any two sets of series, every metric beside what fresh real series and a linear model score."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lightning_freqdiff.evaluation.findings import INTERRUPTED, NOT_ASKED, EvaluateSettings, Findings, Score
from lightning_freqdiff.evaluation.judges import NAMES, SLOW, Figures, Judges, choose, higher_is_better
from lightning_freqdiff.evaluation.sets import Sets
from lightning_freqdiff.metrics import Memorization, memorization, sample_gaussian

KINDS = {"value": "generated series", "floor": "held-out series", "ceiling": "Gaussian"}
"""What each metric is taken of."""
SEEN = 0.1
"""Share of the floor by which the ceiling must be worse for positions between them to mean something."""
Tell = Callable[[str], None]


@dataclass
class _Taken:
    """Figures of one measurement as they come in."""

    figures: dict[str, Figures] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def score(self, name: str) -> Score:
        """Put together what is known of a metric."""
        found = {kind: self.figures[kind][name] for kind in KINDS if kind in self.figures}
        values: dict[str, Any] = {kind: one["mean"] for kind, one in found.items()}
        errors = {f"{kind}_two_se": one.get("two_se") for kind, one in found.items()}
        better = higher_is_better(name)
        return Score(
            better,
            **values,
            **errors,
            position=_position(better, **values),
            value_max=found.get("value", {}).get("max"),
            seconds=self.seconds,
            note=next(iter(self.notes.values()), None),
        )


def evaluate(
    generated: Tensor,
    reference: Tensor,
    holdout: Tensor | None = None,
    settings: EvaluateSettings | None = None,
    channels: Sequence[str] = (),
) -> Findings:
    """Measure generated series against real ones, whatever model made them.

    Args:
        generated: Series ``(n, N, M)``.
        reference: What the model was trained on, ``(m, N, M)``.
        holdout: Real series that it was not trained on, ``(r, N, M)``; a part of the reference if not given.
        settings: What is measured.
        channels: Names of the channels.

    Raises:
        ValueError: On unequal shapes, NaN, no series. A metric that the series do not allow is left out with a note.

    Examples:
        >>> import torch
        >>> train, fresh, made = torch.randn(3, 40, 8, 1, generator=torch.Generator().manual_seed(0))
        >>> found = evaluate(made + 3, train, fresh, EvaluateSettings(("sw",)))
        >>> sw = found.scores["sliced_wasserstein"]
        >>> sw.floor < sw.value, found.counts
        (True, {'compared': 40, 'reference': 40})
    """
    settings = settings or EvaluateSettings()
    return measure(Sets.of(generated, reference, holdout, channels, settings.seed), settings)


def measure(sets: Sets, settings: EvaluateSettings, tell: Tell = lambda _: None) -> Findings:
    """Take every metric of the sets; ``tell`` is called with what comes next."""
    since = time.perf_counter()
    asked = choose(settings.metrics, sets.shape[0])
    generated, held, train = sets.equal(settings.rows, settings.seed)
    rows = {"value": generated, "floor": held}
    notes = list(sets.warnings)
    if len(sets.train) > 1:
        tell("Gaussian of the training set")
        rows["ceiling"] = sample_gaussian(sets.train, len(generated), settings.seed)
    else:
        notes.append("no ceiling: a covariance takes 2 training series at least")
    judges = Judges(train, settings.protocol, settings.repetitions, settings.directions, settings.seed)
    scores, complete = {name: Score(higher_is_better(name), note=NOT_ASKED) for name in NAMES}, True
    copied = _memorized(sets, notes, tell)
    scores |= {name: Score(higher_is_better(name), note=INTERRUPTED) for name in asked}
    try:
        for name in sorted(asked, key=SLOW.__contains__):
            if scores[name].note == INTERRUPTED:
                taken = _take(judges, name, rows, tell)
                if len(sets.held_out) < len(sets.generated):  # which set is the one that lacks series
                    taken.notes = {k: text.replace("`generated`", "`holdout`") for k, text in taken.notes.items()}
                scores |= {other: taken.score(other) for other in judges.together(name) if other in asked}
    except KeyboardInterrupt:
        complete = False
    counts = {"compared": len(generated), "reference": len(train)}
    return Findings(sets, scores, copied, settings, counts, tuple(notes), time.perf_counter() - since, complete)


def _memorized(sets: Sets, notes: list[str], tell: Tell) -> Memorization | None:
    tell("memorization")
    try:
        return memorization(sets.generated, sets.train, sets.held_out)
    except ValueError as error:
        text = str(error).replace("`train`", "`reference`").replace("`held_out`", "`holdout`")
        notes.append(f"memorization left out: {text}")
    return None


def _take(judges: Judges, name: str, rows: dict[str, Tensor], tell: Tell) -> _Taken:
    taken, since = _Taken(), time.perf_counter()
    for kind, x in rows.items():
        tell(f"{name}: {KINDS[kind]}")
        try:
            taken.figures[kind] = judges.take(name, x)
        except ValueError as error:
            taken.notes[kind] = str(error)
    taken.seconds = time.perf_counter() - since
    return taken


def _position(
    better: bool, value: float | None = None, floor: float | None = None, ceiling: float | None = None
) -> float | None:
    if value is None or floor is None or ceiling is None:
        return None
    apart = floor - ceiling if better else ceiling - floor
    return (value - floor) / (ceiling - floor) if apart > SEEN * abs(floor) else None
