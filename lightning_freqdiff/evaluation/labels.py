"""Labels of the sets of an evaluation, and what generated series are worth to a classifier of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.metrics import train_on_synthetic
from lightning_freqdiff.metrics.labelled import CLASSIFIER
from lightning_freqdiff.vocabulary import as_text

MOST_CLASSES = 100
"""With more, labels are taken for numbers that tell no classes."""


@dataclass(frozen=True)
class Labels:
    """Classes of series, numbered alike in all sets.

    Args:
        names: What the classes are called, in the order of their numbers.
        generated: Class of each generated series, ``(n,)``.
        train: Of each training series, ``(m,)``.
        held_out: Of each held-out series, ``(r,)``.
    """

    names: tuple[str, ...]
    generated: Tensor
    train: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, generated: np.ndarray, train: np.ndarray, held_out: np.ndarray) -> Labels:
        """Number labels, text or numbers; 3, 3.0 and "3" are one class.

        Examples:
            >>> labels = Labels.of(np.array([2.0, 1.0]), np.array(["1", "2", "x"]), np.array([1]))
            >>> labels.names, labels.generated.tolist(), labels.train.tolist()
            (('1', '2', 'x'), [1, 0], [0, 1, 2])
        """
        text = [as_text(given) for given in (generated, train, held_out)]
        names = np.unique(np.concatenate(text))
        if all(given.dtype.kind in "biuf" for given in (generated, train, held_out)):
            names = names[np.argsort(np.where(names == "", "nan", names).astype(float))]
        number = {str(name): i for i, name in enumerate(names)}
        return cls(tuple(number), *(torch.tensor([number[str(name)] for name in one]) for one in text))

    def _named(self, numbers: set[int]) -> str:
        return ", ".join(self.names[i] for i in sorted(numbers)[:5])

    def check(self) -> None:
        """Raise a ``ValueError`` unless a classifier can learn these classes from either set."""
        known = set(self.train.tolist())
        if not 2 <= len(known) <= MOST_CLASSES:
            raise ValueError(
                f"expected 2 to {MOST_CLASSES} classes in `reference`, got {len(known)}: mend `data.labels`"
            )
        for role, labels in (("generated", self.generated), ("holdout", self.held_out)):
            if unknown := set(labels.tolist()) - known:
                raise ValueError(
                    f"expected the classes of `reference`, got {self._named(unknown)} as well: leave them out of "
                    f"`{role}`, or mend `data.labels`"
                )


def classify(
    sets: Sequence[Tensor], labels: Labels, rows: int, repetitions: int = 1, seed: int = 0
) -> dict[str, float]:
    """Train a classifier on generated and another on as many real series, and test both on held-out ones.

    Args:
        sets: Generated, training and held-out series, ``(n, N, M)`` each.
        labels: Their classes.
        rows: Series of each set, at most.
        repetitions: How often the classifiers are trained, under as many seeds; the mean is returned.
        seed: The first seed, and which series are drawn.

    Raises:
        ValueError: On classes that cannot be learnt.
    """
    labels.check()
    drawn: dict[str, Tensor] = {}
    classes = {"generated": labels.generated, "train": labels.train, "test": labels.held_out}
    for stream, (x, (role, known)) in enumerate(zip(sets, classes.items(), strict=True)):
        some = torch.from_numpy(np.random.default_rng([seed, 7, stream]).permutation(len(x))[:rows])
        drawn |= {role: x[some], f"{role}_labels": known[some]}
    found = [train_on_synthetic(**drawn, settings=replace(CLASSIFIER, seed=seed + i)) for i in range(repetitions)]  # pyright: ignore
    return {name: float(np.mean([one[name] for one in found])) for name in found[0]}
