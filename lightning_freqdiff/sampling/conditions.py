"""What is known of each sample of a run, by its index."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lightning_freqdiff.components import as_settings
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.sampling.noise import Numbers
from lightning_freqdiff.vocabulary import Vocabulary


class Conditions(ABC):
    """Says what is known of samples. A sample's condition depends on its index alone, as its noise does.

    Attributes:
        count: Of how many samples something else is known; ``None`` where any number is as good.
        digest: What tells runs apart, where it is too much to write down; else ``None``.
    """

    count: int | None = None
    digest: str | None = None

    @abstractmethod
    def rows(self, first: int, count: int) -> Condition:
        """Return the condition of samples ``first ... first + count - 1``, on the CPU."""

    def numbers(self, first: int, count: int) -> Numbers:
        """Return the indices, in runs, under which these samples draw their noise: by default their own."""
        return [(first, count)]

    def settings(self) -> dict[str, Any]:
        """Return what identifies them, as plain values."""
        return as_settings(self) if self.digest is None else {"digest": self.digest}

    def said_in(self, vocabulary: Vocabulary) -> Conditions:
        """Return the same in the numbers of a model, where it is in the words of its data; here as it is."""
        return self


@dataclass(frozen=True)
class InTurn(Conditions):
    """The rows of a condition in turn, and from the first one again.

    Args:
        condition: In the model's numbers.
    """

    condition: Condition

    @property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """SHA-256 of all rows."""
        text = "".join(f"{name}{part.tolist()}" for name, part in self.condition.parts())
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self, first: int, count: int) -> Condition:
        """Take the rows of these samples."""
        return self.condition.take(torch.arange(first, first + count) % (self.condition.count or 1))


@dataclass(frozen=True)
class Same(Conditions):
    """The same for all samples.

    Args:
        label: Class of the samples, by its name in the training data or its number, from 0.
        static: Static covariates of the samples, in the order of their columns and in the data's units.
    """

    label: int | str | None = None
    static: list[float | str] | None = None

    def rows(self, first: int, count: int) -> Condition:
        """Repeat it, where it is in the model's numbers."""
        label = None if self.label is None else torch.full((count,), int(self.label))
        static = None if self.static is None else torch.tensor([float(v) for v in self.static]).repeat(count, 1)
        return Condition(label=label, static=static)

    def said_in(self, vocabulary: Vocabulary) -> Conditions:
        """Look class and categories up."""
        if not vocabulary and not isinstance(self.label, str):
            return self  # of a model that knows numbers alone
        if self.label is None and self.static is None:
            return self
        if self.static is not None and len(self.static) != len(vocabulary.static):
            raise ValueError(
                f"expected {len(vocabulary.static)} static as the model was trained on, got {len(self.static)}: set "
                "`sampling.condition`"
            )
        columns: dict[str, Any] = {} if self.label is None else {"label": [self.label]}
        columns |= {c.name: [v] for c, v in zip(vocabulary.static, self.static or (), strict=False)}
        return InTurn(vocabulary.encode(columns))


@dataclass(frozen=True)
class Listed(Conditions):
    """Something else for each sample: row ``i`` of all columns is about sample ``i``.

    Args:
        columns: By name: ``label``, by name or number, and static columns, a value for each sample; covariates,
            a list of ``N`` values for each.
    """

    columns: Mapping[str, Any]

    def __post_init__(self) -> None:
        counts = {name: len(column) for name, column in self.columns.items()}
        if len(set(counts.values())) != 1 or 0 in counts.values():
            raise ValueError(
                f"expected columns with a row for each sample, got {counts or 'none'}: set `sampling.condition`"
            )

    @property
    def count(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    @property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """SHA-256 of what is listed, to tell runs apart by."""
        arrays = {name: np.asarray(column) for name, column in sorted(self.columns.items())}
        text = "".join(f"{name}{array.shape}{array.tolist()}" for name, array in arrays.items())
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self, first: int, count: int) -> Condition:
        """Refuse: what is listed is in the words of the data."""
        raise ValueError(
            "expected a model that knows what its data were called, got one without: set `sampling.condition`"
        )

    def said_in(self, vocabulary: Vocabulary) -> Conditions:
        """Look all of it up."""
        return InTurn(vocabulary.encode(self.columns))


Label = int | str | list[int | str] | None
"""A class by its name or number, or one for each sample."""


def of_labels(label: int | str | list[int | str]) -> Conditions:
    """Return what is known where labels are given: one for all samples, or one for each."""
    return Listed({"label": list(label)}) if isinstance(label, (list, tuple)) else Same(label=label)
