"""`evaluate`: any two sets of series, every metric beside what fresh real series and a linear model score."""

from __future__ import annotations

import time
from collections.abc import Sequence

from torch import Tensor

from lightning_freqdiff.evaluation.findings import INTERRUPTED, NOT_ASKED, EvaluateSettings, Findings, Score
from lightning_freqdiff.evaluation.judges import NAMES, choose, higher_is_better
from lightning_freqdiff.evaluation.labels import classify
from lightning_freqdiff.evaluation.panel import Panel, Tell, quiet
from lightning_freqdiff.evaluation.sets import Sets
from lightning_freqdiff.metrics import Memorization, memorization


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


def measure(sets: Sets, settings: EvaluateSettings, tell: Tell = quiet) -> Findings:
    """Take every metric of the sets; ``tell`` is called with what comes next."""
    since = time.perf_counter()
    asked = choose(settings.metrics, sets.shape[0])
    notes = list(sets.warnings)
    panel = Panel(sets, settings, tell=tell)
    if "ceiling" not in panel.rows:
        notes.append("no ceiling: a covariance takes 2 training series at least")
    scores, complete = {name: Score(higher_is_better(name), note=NOT_ASKED) for name in NAMES}, True
    copied, labelled = _memorized(sets, notes, tell), None
    scores |= {name: Score(higher_is_better(name), note=INTERRUPTED) for name in asked}
    try:
        for name, score in panel.scores(sets.generated, asked, tell):
            scores[name] = score
        labelled = _labelled(sets, settings, notes, tell)
    except KeyboardInterrupt:
        complete = False
    counts = {"compared": panel.count, "reference": len(panel.judges.reference)}
    seconds = time.perf_counter() - since
    return Findings(sets, scores, labelled, copied, settings, counts, tuple(notes), seconds, complete)


def _labelled(sets: Sets, settings: EvaluateSettings, notes: list[str], tell: Tell) -> dict[str, float] | None:
    """Train on synthetic and test on real, where there are labels."""
    if sets.labels is None:
        return None
    tell("classifiers of labels")
    series = sets.generated, sets.train, sets.held_out
    try:
        return classify(series, sets.labels, settings.rows, settings.repetitions, settings.seed)
    except ValueError as error:
        notes.append(f"classifiers of labels left out: {error}")
    return None


def _memorized(sets: Sets, notes: list[str], tell: Tell) -> Memorization | None:
    tell("memorization")
    try:
        return memorization(sets.generated, sets.train, sets.held_out)
    except ValueError as error:
        text = str(error).replace("`train`", "`reference`").replace("`held_out`", "`holdout`")
        notes.append(f"memorization left out: {text}")
    return None
