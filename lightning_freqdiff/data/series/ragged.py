"""Series as a source holds them: of any lengths, and not yet cut, filled or split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lightning_freqdiff.data.series.breaks import Break
from lightning_freqdiff.data.series.series import mapped


@dataclass(frozen=True)
class Roles:
    """Names of the columns of a table, or of the arrays in a `.npz`, that hold no values.

    Attributes:
        id: What tells the series of a long table apart.
        time: Time stamps.
        labels: Labels of the series.
        groups: What series must share to stay on one side of the split.
        parts: `train`, `val` or `test`.
        static: What is known of each series.
        covariates: What is known at every step.
        calendar: What is known of the time stamps, such as the hour.
    """

    id: str | None = None
    time: str | None = None
    labels: str | None = None
    groups: str | None = None
    parts: str | None = None
    static: tuple[str, ...] = ()
    covariates: tuple[str, ...] = ()
    calendar: tuple[str, ...] = ()

    @property
    def per_series(self) -> tuple[str, ...]:
        """Names of what each series has one of."""
        single = (self.labels, self.groups, self.parts)
        return (*(name for name in single if name is not None), *self.static)

    def fields(self, columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """Return the fields of `Ragged` that columns `(n,)` of these names are."""
        single = {"y": self.labels, "groups": self.groups, "part": self.parts}
        found: dict[str, Any] = {what: columns[name] for what, name in single.items() if name is not None}
        return found | ({"static": {name: columns[name] for name in self.static}} if self.static else {})

    @property
    def settings(self) -> list[tuple[str, str]]:
        """Setting and name of each column that holds no values of the series."""
        single = {
            "id": self.id,
            "time": self.time,
            "labels": self.labels,
            "split_by": self.groups,
            "parts": self.parts,
        }
        return [
            *((setting, name) for setting, name in single.items() if name is not None),
            *(("static", name) for name in self.static),
        ]


@dataclass(frozen=True)
class Ragged:
    """Time series of `M` channels, of any lengths.

    Attributes:
        series: An array `(n, N, M)`, or `n` arrays `(N_i, M)`.
        channels: The `M` channel names.
        source: Where they come from.
        names: What each series is called in messages, such as its file; its number if not given.
        y: Labels `(n,)`, or None.
        groups: Labels of the groups `(n,)`, or None.
        part: Parts `(n,)`, or None.
        breaks: Breaks in time of each series, where time stamps tell of any.
        static: What is known of each series, columns `(n,)` by name.
        covariates: How many of the channels, the last, are no series but known at every step.
    """

    series: np.ndarray | list[np.ndarray]
    channels: tuple[str, ...]
    source: str
    names: Sequence[str] = ()
    y: np.ndarray | None = None
    groups: np.ndarray | None = None
    part: np.ndarray | None = None
    breaks: Sequence[Sequence[Break]] = ()
    static: Mapping[str, np.ndarray] = field(default_factory=dict)
    covariates: int = 0

    def __len__(self) -> int:
        return len(self.series)

    def name(self, i: int) -> str:
        """Return how to call a series: the only one needs no name."""
        if len(self) == 1:
            return "the series"
        return f"series {self.names[i]}" if self.names else f"series {i}"

    @property
    def stays(self) -> bool:
        """Whether the values are in a file that is mapped, and must not be copied whole."""
        return isinstance(self.series, np.ndarray) and mapped(self.series) is not None

    def take(self, index: np.ndarray) -> "Ragged":
        """Return the series of these numbers alone."""
        changes: dict[str, Any] = {
            "series": self.series[index] if isinstance(self.series, np.ndarray) else [self.series[i] for i in index],
            "names": [self.names[i] for i in index] if self.names else [str(i) for i in index],
            "breaks": [self.breaks[i] for i in index] if self.breaks else (),
            "static": {name: column[index] for name, column in self.static.items()},
        }
        for name in ("y", "groups", "part"):
            labels = getattr(self, name)
            changes[name] = None if labels is None else labels[index]
        return replace(self, **changes)

    def column(self, name: str, roles: Roles) -> np.ndarray:
        """Return what each series has one of, by the name of its column."""
        single = {roles.labels: self.y, roles.groups: self.groups, roles.parts: self.part}
        found = self.static.get(name, single.get(name))
        assert found is not None
        return found

    def check_labels(self) -> None:
        """Refuse names that are not one for each channel, and labels that are not one for each series."""
        channels = self.series[0].shape[-1] if len(self) else len(self.channels)
        if channels != len(self.channels):
            raise ValueError(
                f"{self.source}: expected one name for each of the {channels} channels, got {len(self.channels)}; "
                "mend `columns` in the file of `data.path`"
            )
        for labels, what in ((self.y, "labels"), (self.groups, "split_by"), (self.part, "parts")):
            if labels is not None and labels.shape != (len(self),):
                setting = "`y`" if what == "labels" else f"what `data.{what}` names"
                kind = {"labels": "label", "split_by": "group", "parts": "part"}[what]
                raise ValueError(
                    f"{self.source}: expected one {kind} for each of the {len(self)} series, got labels of shape "
                    f"{labels.shape}; mend {setting} in the file of `data.path`, or leave it out"
                )
        for name, column in self.static.items():
            if column.shape != (len(self),):
                raise ValueError(
                    f"{self.source}: expected one value of {name!r} for each of the {len(self)} series, got shape "
                    f"{column.shape}; mend what `data.static` names in the file of `data.path`, or leave it out"
                )
