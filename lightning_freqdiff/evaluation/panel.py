"""Named metrics of generated series, each beside what fresh real series and a linear model score."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from lightning_freqdiff.evaluation.findings import EvaluateSettings, Score
from lightning_freqdiff.evaluation.judges import SLOW, Figures, Judges, higher_is_better
from lightning_freqdiff.evaluation.sets import Sets, draw_generated
from lightning_freqdiff.metrics import sample_gaussian

KINDS = {"value": "generated series", "floor": "held-out series", "ceiling": "Gaussian"}
"""What each metric is taken of."""
SEEN = 0.1
"""Share of the floor by which the ceiling must be worse for positions between them to mean something."""
Tell = Callable[[str], None]


def quiet(_: str) -> None:
    """Tell nobody."""


class Panel:
    """Judges, and what they say of real series and of a Gaussian, which they are asked once.

    Args:
        sets: Real series, and how many were generated.
        settings: What is measured.
        equal: Whether no more generated series are judged than there are held-out ones: only figures of equal counts
            compare. Otherwise all are, as in published tables, and the floor is that of fewer.
        tell: Called with what comes next.
    """

    def __init__(self, sets: Sets, settings: EvaluateSettings, equal: bool = True, tell: Tell = quiet) -> None:
        compared, held, train = sets.equal(settings.rows, settings.seed)
        self.count = len(compared) if equal else min(len(sets.generated), settings.rows)
        self.seed, self.few = settings.seed, len(sets.held_out) < len(sets.generated)
        self.judges = Judges(train, settings.protocol, settings.repetitions, settings.directions, settings.seed)
        self.rows = {"floor": held}
        if len(sets.train) > 1:
            tell("Gaussian of the training set")
            self.rows["ceiling"] = sample_gaussian(sets.train, self.count, settings.seed)
        self._known: dict[tuple[str, str], Figures | str] = {}

    def scores(self, generated: Tensor, asked: Sequence[str], tell: Tell = quiet) -> Iterator[tuple[str, Score]]:
        """Yield metrics of series ``(n, N, M)`` with their names as they are taken, the slowest last."""
        rows = {"value": draw_generated(generated, self.count, self.seed), **self.rows}
        done: set[str] = set()
        for name in sorted(asked, key=SLOW.__contains__):
            if name in done:
                continue
            since = time.perf_counter()
            found = {kind: self._take(kind, name, x, tell) for kind, x in rows.items()}
            seconds = time.perf_counter() - since
            for other in Judges.together(name):
                if other in asked:
                    done.add(other)
                    yield other, _score(other, found, seconds)

    def _take(self, kind: str, name: str, x: Tensor, tell: Tell) -> Figures | str:
        """Take a metric, or say why it cannot be taken."""
        key = kind, Judges.together(name)[0]
        if key in self._known:
            return self._known[key]
        tell(f"{name}: {KINDS[kind]}")
        try:
            found: Figures | str = self.judges.take(name, x)
        except ValueError as error:
            # Which set is the one that lacks series.
            found = str(error).replace("`generated`", "`holdout`") if self.few else str(error)
        if kind != "value":
            self._known[key] = found
        return found


def _score(name: str, found: dict[str, Figures | str], seconds: float) -> Score:
    """Put together what is known of a metric."""
    figures = {kind: one[name] for kind, one in found.items() if isinstance(one, dict)}
    values: dict[str, Any] = {kind: one["mean"] for kind, one in figures.items()}
    errors = {f"{kind}_two_se": one.get("two_se") for kind, one in figures.items()}
    better = higher_is_better(name)
    return Score(
        better,
        **values,
        **errors,
        position=_position(better, **values),
        value_max=figures.get("value", {}).get("max"),
        seconds=seconds,
        note=next((one for one in found.values() if isinstance(one, str)), None),
    )


def _position(
    better: bool, value: float | None = None, floor: float | None = None, ceiling: float | None = None
) -> float | None:
    if value is None or floor is None or ceiling is None:
        return None
    apart = floor - ceiling if better else ceiling - floor
    return (value - floor) / (ceiling - floor) if apart > SEEN * abs(floor) else None
