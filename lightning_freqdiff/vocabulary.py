"""What conditions are called in the data, and the numbers that a model knows them by.

A model is told classes by their number, categories as ones and zeros, and quantities in units of their training
deviation. The vocabulary goes with the checkpoint, so that who samples may speak of ``"V"`` and of 63 years.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.condition import Condition, ConditionSizes

MOST_CLASSES = 1000
"""With more, labels are taken for numbers that tell no classes."""

FEW = 8
"""Names that an error lists."""


@dataclass(frozen=True)
class Column:
    """A static column or a covariate.

    Args:
        name: How it is called.
        categories: What it may hold, each a one among zeros; none for a quantity.
        mean: Of a quantity over the training series.
        scale: Its deviation over them.
    """

    name: str
    categories: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0

    @classmethod
    def of(cls, name: str, values: np.ndarray, training: np.ndarray | slice = slice(None)) -> Column:
        """Learn what a column ``(n, ...)`` holds: categories where it is text, quantities where it is numbers.

        Args:
            name: How it is called.
            values: What it holds.
            training: Rows of the training part, over which quantities are standardised.
        """
        if values.dtype.kind not in "fiu":
            text = as_text(values)
            return cls(name, tuple(np.unique(text[text != ""]).tolist()))
        known = values[training].astype(float)
        known = known[np.isfinite(known)]
        deviation = float(known.std()) if known.size else 0.0
        return cls(name, (), float(known.mean()) if known.size else 0.0, deviation or 1.0)

    @property
    def width(self) -> int:
        """How many numbers it becomes."""
        return len(self.categories) or 1

    def encode(self, values: np.ndarray) -> Tensor:
        """Return the numbers ``(..., width)`` of values ``(...)``; NaN where a value is not known."""
        if not self.categories:
            try:
                numbers = np.asarray(values, float)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"expected numbers of {self.name!r}, got {_first_text(values)!r}: set `sampling.condition`"
                ) from error
            return torch.from_numpy((numbers - self.mean) / self.scale).float().unsqueeze(-1)
        places = _places(as_text(np.asarray(values)), self.categories, f"{self.name!r}", "sampling.condition")
        ones = torch.nn.functional.one_hot(places.clamp(min=0), len(self.categories)).float()
        return ones.masked_fill((places < 0).unsqueeze(-1), torch.nan)


@dataclass(frozen=True)
class Vocabulary:
    """Names and units of all that a model is told.

    Args:
        classes: Names of the classes of the label, in the order of their numbers.
        static: Columns that each series has one value of.
        covariates: Columns that are known at every step.
        calendar: What is told of time stamps, such as the hour; its columns are the last of the covariates.
        label: What the column of the labels was called.
    """

    classes: tuple[str, ...] = ()
    static: tuple[Column, ...] = ()
    covariates: tuple[Column, ...] = ()
    calendar: tuple[str, ...] = ()
    label: str = "label"

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.classes or self.static or self.covariates)

    @property
    def sizes(self) -> ConditionSizes:
        """What a model must be built for."""
        return ConditionSizes(len(self.classes), sum(one.width for one in self.static), len(self.covariates))

    def number(self, labels: Any) -> Tensor:
        """Return the numbers ``(n,)`` of classes, by name or, where none is called so, by number; -1 if not known.

        Raises:
            ValueError: For a class that the model never saw.

        Examples:
            >>> Vocabulary(("N", "V")).number(["V", 0, -1]).tolist()
            [1, 0, -1]
        """
        if not self.classes:
            raise ValueError(
                "expected a model that was trained with labels, got one without: leave `sampling.label` out, or "
                "train with `data.labels` and `data.conditional` true"
            )
        text = as_text(np.asarray(labels).reshape(-1))
        names = {one: self._name(one) for one in np.unique(text).tolist()}
        text = np.array([names[one] for one in text.tolist()], str)
        return _places(text, self.classes, "a class that the model was trained on,", "sampling.label")

    def _name(self, text: str) -> str:
        """Return the name of a class that is given by its name or its number; nothing for one that is not known."""
        if text in self.classes:
            return text
        if text.isdecimal() and int(text) < len(self.classes):
            return self.classes[int(text)]
        return "" if text == UNKNOWN else text

    def encode(self, columns: Mapping[str, Any]) -> Condition:
        """Return what is known of series, in the model's numbers.

        Args:
            columns: By name: labels, also as ``label``, and static columns, each ``(n,)``; covariates, each
                ``(n, N)``. What is missing is not known.

        Raises:
            ValueError: For columns that the model knows nothing of, and values that it never saw.
        """
        columns = {"label" if name == self.label else name: column for name, column in columns.items()}
        known = [one.name for one in (*self.static, *self.covariates)]
        if unknown := [name for name in columns if name not in ("label", *known)]:
            told = ", ".join([*([self.label] if self.classes else []), *known]) or "nothing"
            raise ValueError(
                f"expected columns of {told}, which the model was trained with, got {unknown[0]!r}: set "
                "`sampling.condition`"
            )
        label = self.number(columns["label"]) if "label" in columns else None
        return Condition(label, _side_by_side(self.static, columns), _side_by_side(self.covariates, columns))

    def at_steps(self, values: Tensor) -> Tensor:
        """Return covariates ``(..., C)``, given in the data's units, in the model's."""
        if not self.covariates:
            return values  # of a model that knows numbers alone
        units = torch.tensor([(one.mean, one.scale) for one in self.covariates], dtype=torch.float64)
        return ((values - units[:, 0]) / units[:, 1]).float()

    def as_dict(self) -> dict[str, Any]:
        """Write it as plain values, for a checkpoint."""
        parts = {name: [_plain(one) for one in part] for name, part in vars(self).items() if part and name != "label"}
        return {**parts, "label": self.label}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> Vocabulary:
        """Read what :meth:`as_dict` wrote."""
        columns = {
            name: tuple(Column(**{**one, "categories": tuple(one["categories"])}) for one in given.get(name, ()))
            for name in ("static", "covariates")
        }
        classes, calendar = (tuple(given.get(name, ())) for name in ("classes", "calendar"))
        return cls(classes=classes, calendar=calendar, **columns, label=given.get("label", "label"))


@dataclass(frozen=True)
class Examples:
    """What was known of some training series, in the model's numbers: to draw as the data are, without the data.

    Args:
        parts: Lists by the names of a condition's parts.
    """

    parts: dict[str, list[Any]] = field(default_factory=dict)

    @classmethod
    def of(cls, condition: Condition, most: int = 256, numbers: int = 2**14) -> Examples:
        """Keep the first rows, at most ``most`` of them, and ``numbers`` numbers."""
        each = sum(part[0].numel() for _, part in condition.parts())
        kept = condition.take(slice(0, max(1, min(most, numbers // max(1, each)))))
        return cls({name: part.tolist() for name, part in kept.parts()})

    @property
    def condition(self) -> Condition:
        """What is known of them."""
        kinds = {"label": torch.int64}
        return Condition(**{k: torch.tensor(v, dtype=kinds.get(k, torch.float32)) for k, v in self.parts.items()})


def classes_of(labels: np.ndarray, source: str) -> tuple[str, ...]:
    """Return the names of the classes of labels ``(n,)``, numbers in their order.

    Labels that are missing, empty, or -1 beside two classes that count from 0 are not known.

    Raises:
        ValueError: For numbers that tell no classes, and a single class.
    """
    if labels.dtype.kind == "f" and ((off := labels[labels != np.round(labels)]) == off).any():
        number = next(float(one) for one in off if one == one)
        raise ValueError(
            f"{source}: expected classes in `data.labels`, got numbers that are not whole, such as {number:.6g}: "
            "name the column in `data.static`, or set `data.conditional` false"
        )
    text = as_text(labels)
    names = np.unique(text[text != ""])
    if labels.dtype.kind in "biuf":
        names = names[np.argsort(names.astype(float))] if labels.dtype.kind != "b" else names
        if len(names) > 2 and names[0] == UNKNOWN:
            names = names[1:]
    if not 2 <= len(names) <= MOST_CLASSES:
        raise ValueError(
            f"{source}: expected 2 to {MOST_CLASSES} classes in `data.labels`, got {len(names)}: name the column in "
            "`data.static` if it tells quantities, or set `data.conditional` false"
        )
    return tuple(names.tolist())


UNKNOWN = "-1"
"""A label that is not known."""


def as_text(values: np.ndarray) -> np.ndarray:
    """Write values as text: whole numbers without a point, so that 3, 3.0 and "3" are one; missing ones as nothing.

    Examples:
        >>> as_text(np.array([1.0, np.nan])).tolist(), as_text(np.array([2, None, " V "], object)).tolist()
        (['1', ''], ['2', '', 'V'])
    """
    if values.dtype.kind == "O":
        return np.array(["" if one is None else str(as_text(np.asarray([one]))[0]) for one in values.flat], str)
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        whole = (values == np.round(values)) & (np.abs(values) < 2**53)
        text = np.where(whole, np.where(whole, values, 0).astype(np.int64).astype(str), values.astype(str))
        return np.where(missing, "", text)
    text = np.char.strip(values.astype(str))
    return np.where(np.isin(np.char.lower(text), ("nan", "none", "na")), "", text)


def _places(text: np.ndarray, names: Sequence[str], what: str, setting: str) -> Tensor:
    """Return where each text ``(...)`` stands among names; -1 where there is none."""
    place = {name: i for i, name in enumerate(names)} | {"": -1}
    found, inverse = np.unique(text, return_inverse=True)
    if unknown := [one for one in found.tolist() if one not in place]:
        few = ", ".join(names[:FEW]) + (", ..." if len(names) > FEW else "")
        raise ValueError(f"expected {what} one of {few}, got {unknown[0]!r}: set `{setting}`")
    places = np.array([place[one] for one in found.tolist()], np.int64)
    return torch.from_numpy(places[inverse].reshape(text.shape))


def _side_by_side(columns: Sequence[Column], given: Mapping[str, Any]) -> Tensor | None:
    """Return the numbers of columns ``(n, ..., width)`` side by side; NaN for those that are not given."""
    found = {one.name: one.encode(np.asarray(given[one.name])) for one in columns if one.name in given}
    if not found:
        return None
    shape = next(iter(found.values())).shape[:-1]
    missing = (torch.full((*shape, one.width), torch.nan) for one in columns)
    return torch.cat([found.get(one.name, nan) for one, nan in zip(columns, missing, strict=True)], dim=-1)


def _plain(one: Column | str) -> Any:
    return {**asdict(one), "categories": list(one.categories)} if isinstance(one, Column) else one


def _first_text(values: Any) -> str:
    for one in np.ravel(np.asarray(values, object)):
        try:
            float(one)
        except (TypeError, ValueError):
            return str(one)
    return str(values)
