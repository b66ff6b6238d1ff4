"""What is known of a series before it is drawn: the one word for labels, covariates and observed values.

A condition goes with every batch, from the data set through loss, network, cache, guidance and solver. Where nothing
is known it is :data:`NOTHING`, and everything is as if there were no such thing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class ConditionSizes:
    """Which conditions a model is built for, and how large they are; all zero for a model without.

    Args:
        classes: Classes of the label, which counts from 0.
        static: Static covariates.
        covariates: Covariates at every step.
        observed: Whether values of the series themselves may be given.
    """

    classes: int = 0
    static: int = 0
    covariates: int = 0
    observed: bool = False

    def check(self, condition: Condition) -> None:
        """Refuse what a model of these sizes cannot be told; observed values may be a constraint's alone.

        Raises:
            ValueError: For a label out of range, or a part of another size than the model was built for.
        """
        label = condition.label
        if label is not None and len(label) and int(label.max()) >= self.classes:
            raise ValueError(
                f"expected labels below {self.classes}, the classes that the model was trained on, got "
                f"{int(label.max())}: set `sampling.label`, or train with `data.conditional` true"
            )
        for name in ("static", "covariates"):
            part, size = getattr(condition, name), getattr(self, name)
            if part is not None and part.shape[-1] != size:
                raise ValueError(
                    f"expected {size} {name} as the model was trained on, got {part.shape[-1]}: set "
                    "`sampling.condition`"
                )


UNCONDITIONAL = ConditionSizes()
"""A model that is told nothing."""


@dataclass(frozen=True)
class Condition:
    """What is known of each of ``B`` series; any part may be missing.

    Args:
        label: Class, ``(B,)``, int64; -1 where it is not known.
        static: Covariates that do not change in time, ``(B, S)``; NaN where one is not known.
        covariates: Covariates known at every step, ``(B, N, C)``; NaN where one is not known.
        observed: Values known beforehand, ``(B, N, M)``, in the data's units, or as they are learnt, which is what
            networks, guidance and constraints are told (``Codec.learnt``); anything where ``mask`` is 0.
        mask: 1 where a value is observed, else 0, ``(B, N, M)``.

    Raises:
        ValueError: For parts of different numbers of series, or observed values without their mask.

    Examples:
        >>> known = Condition(label=torch.tensor([3, 1, 4]))
        >>> known.take(torch.tensor([2])).label.tolist(), NOTHING.take(torch.tensor([2])) == NOTHING
        ([4], True)
    """

    label: Tensor | None = None
    static: Tensor | None = None
    covariates: Tensor | None = None
    observed: Tensor | None = None
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        counts = {name: len(part) for name, part in self.parts()}
        if len(set(counts.values())) > 1:
            raise ValueError(f"expected every part of a condition for the same series, got {counts}")
        if (self.observed is None) != (self.mask is None):
            given, lacks = ("mask", "observed") if self.observed is None else ("observed", "mask")
            raise ValueError(f"expected observed values and their mask together, got {given} without {lacks}")
        if self.observed is not None and self.mask is not None and self.observed.shape != self.mask.shape:
            raise ValueError(
                f"expected a mask of the shape of the observed values, {tuple(self.observed.shape)}, got "
                f"{tuple(self.mask.shape)}"
            )

    @property
    def sizes(self) -> ConditionSizes:
        """What a model must be built for to be told this; the classes are those met here."""
        return ConditionSizes(
            classes=0 if self.label is None else int(self.label.max()) + 1,
            static=0 if self.static is None else self.static.shape[-1],
            covariates=0 if self.covariates is None else self.covariates.shape[-1],
            observed=self.observed is not None,
        )

    def parts(self) -> Iterator[tuple[str, Tensor]]:
        """Yield name and tensor of the parts that are given."""
        for field in fields(self):
            if (part := getattr(self, field.name)) is not None:
                yield field.name, part

    def __bool__(self) -> bool:
        """Whether anything is known."""
        return any(True for _ in self.parts())

    @property
    def count(self) -> int | None:
        """Number of series, ``B``; ``None`` where nothing is known of any number of them."""
        return next((len(part) for _, part in self.parts()), None)

    def _each(self, change: Any) -> Condition:
        return replace(self, **{name: change(part) for name, part in self.parts()}) if self else self

    def measured(self, change: Callable[[Tensor], Tensor]) -> Condition:
        """Return the same with observed values in other units."""
        return self if self.observed is None else replace(self, observed=change(self.observed))

    def take(self, rows: Tensor | slice) -> Condition:
        """Return what is known of some of the series, by index; one may be taken more than once."""
        return self._each(lambda part: part[rows])

    def repeat(self, times: int) -> Condition:
        """Return what is known of all series, ``times`` times in a row, for one larger batch."""
        return self._each(lambda part: part.repeat(times, *[1] * (part.ndim - 1)))

    def without(self, *names: str, rows: Tensor | None = None) -> Condition:
        """Forget parts, of some series, or of all.

        Labels and covariates are kept as not known, so that one batch can hold both; observed values are dropped.

        Args:
            *names: Parts to forget.
            rows: Which series forget them, ``(B,)``, bool; all if not given.
        """
        changes: dict[str, Any] = dict.fromkeys(names)
        for name, part in self.parts():
            if name in names and name in UNKNOWN:
                nothing = torch.full_like(part, UNKNOWN[name])
                if rows is not None:
                    nothing = torch.where(rows.view(-1, *[1] * (part.ndim - 1)), nothing, part)
                changes[name] = nothing
        return replace(self, **changes)

    def thinned(self, share: float) -> Condition:
        """Forget label, static covariates and covariates of a random share of the series, each part by itself."""
        thinned = self
        for name, part in self.parts():
            if name in UNKNOWN and share:
                thinned = thinned.without(name, rows=torch.rand(len(part), device=part.device) < share)
        return thinned

    def followed_by(self, other: Condition) -> Condition:
        """Put the series of another condition, of the same parts, behind these."""
        mine, theirs = dict(self.parts()), dict(other.parts())
        if mine.keys() != theirs.keys():
            raise ValueError(f"expected two conditions of the same parts, got {sorted(mine)} and {sorted(theirs)}")
        return replace(self, **{name: torch.cat([part, theirs[name]]) for name, part in mine.items()})

    def fill(self, series: Tensor) -> Tensor:
        """Return series ``(B, N, M)`` with observed values in their places."""
        if self.observed is None or self.mask is None:
            return series
        return torch.where(self.mask > 0, self.observed.to(series), series)

    def to(self, *args: Any, **kwargs: Any) -> Condition:
        """Move to a device, as ``Tensor.to`` does; Lightning calls this for every batch."""
        return self._each(lambda part: part.to(*args, **kwargs))


UNKNOWN = {"label": -1, "static": math.nan, "covariates": math.nan}
"""What stands in a part where it is not known."""

NOTHING = Condition()
"""Nothing is known."""
