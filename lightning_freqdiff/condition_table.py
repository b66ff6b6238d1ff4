"""Conditions from a table: a row for each sample, or, for covariates, a row for each step of each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.data.readers.layout import as_times, complete, rows_of_series
from lightning_freqdiff.data.readers.sources import GIVEN
from lightning_freqdiff.data.readers.table import Frame, csv_columns, csv_header, frame_columns, parquet_columns
from lightning_freqdiff.data.series.calendar import calendar_columns
from lightning_freqdiff.data.series.ragged import Roles
from lightning_freqdiff.sampling import Conditions, InTurn
from lightning_freqdiff.vocabulary import Vocabulary

KINDS = (".csv", ".parquet")


@dataclass(frozen=True)
class Table(Conditions):
    """What a table says of each sample, in the words and units of the training data.

    Args:
        path: A `.csv` with a header, or a `.parquet`. Columns are called as in the training data, the label also
            `label`. Row ``i`` is about sample ``i``, unless there is a column of `id` or `time`.
        id: Column that tells the samples apart, where each has a row for each step (`sample` or `id` need not be
            named where `step` or `time` is there, too).
        time: Column of the time stamps, as a calendar needs them; without an `id`, the table is about all samples.
    """

    path: str
    id: str | None = None
    time: str | None = None

    def __post_init__(self) -> None:
        if self.path != GIVEN:
            self._take(_read(Path(self.path).expanduser()))

    @classmethod
    def of(cls, values: Any, id: str | None = None, time: str | None = None) -> Table:
        """Take a table of pandas, polars or pyarrow, a mapping of columns, or a path."""
        if isinstance(values, (str, Path)):
            return cls(str(values), id, time)
        table = cls(GIVEN, id, time)
        table._take(frame_columns(values, GIVEN))
        return table

    def _take(self, frame: Frame) -> None:
        roles = complete(Roles(self.id, self.time), frame)
        for setting, name in roles.settings:
            if name not in frame:
                raise ValueError(
                    f"{self.path}: expected a column {name!r}, got {', '.join(map(repr, frame))}: set "
                    f"`sampling.condition.{setting}`"
                )
        object.__setattr__(self, "_frame", frame)
        object.__setattr__(self, "_roles", roles)
        if not len(next(iter(frame.values()))):
            raise ValueError(f"{self.path}: expected a table with rows, got none: set `sampling.condition`")

    @property
    def frame(self) -> Frame:
        """The columns."""
        return self.__dict__["_frame"]

    @property
    def roles(self) -> Roles:
        """Which column is what."""
        return self.__dict__["_roles"]

    @property
    def count(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Samples that the table is about; ``None`` where it is about all."""
        if self.roles.id is not None:
            return len(np.unique(self.frame[self.roles.id]))
        return None if self.roles.time is not None else len(next(iter(self.frame.values())))

    @property
    def digest(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """SHA-256 of the columns, to tell runs apart by."""
        text = "".join(f"{name}{column.tolist()}" for name, column in sorted(self.frame.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def rows(self, first: int, count: int) -> Condition:
        """Refuse: the table is in the words of the data."""
        raise ValueError(
            f"{self.path}: expected a model that knows what its data were called, got one without: set "
            "`sampling.condition`"
        )

    def said_in(self, vocabulary: Vocabulary) -> Conditions:
        """Look all of it up."""
        told = {name: column for name, column in self.frame.items() if name not in (self.roles.id, self.roles.time)}
        known = [one.name for one in (*vocabulary.static, *vocabulary.covariates)]
        unknown = [name for name in told if name not in ("label", vocabulary.label, *known)]
        if self.roles.id is None and unknown:
            words = ", ".join([*([vocabulary.label] if vocabulary.classes else []), *known]) or "nothing"
            raise ValueError(
                f"{self.path}: expected columns of {words}, which the model was trained with, got {unknown[0]!r}: "
                "if it tells the samples apart, set `sampling.condition.id`; if it holds time stamps, "
                "`sampling.condition.time`"
            )
        if self.roles.id is None and self.roles.time is None:
            return InTurn(vocabulary.encode(told))
        parts = rows_of_series(self.frame, self.roles, self.path)
        if len({len(rows) for rows in parts}) > 1:
            raise ValueError(
                f"{self.path}: expected as many steps of each sample, got {min(map(len, parts))} to "
                f"{max(map(len, parts))}: set `sampling.condition`"
            )
        grid, steps = np.stack(parts), {one.name for one in vocabulary.covariates}  # rows of each sample, (n, N)
        return InTurn(
            vocabulary.encode(
                {
                    name: column[grid] if name in steps else column[grid[:, 0]]
                    for name, column in {**told, **self._calendar(vocabulary)}.items()
                }
            )
        )

    def _calendar(self, vocabulary: Vocabulary) -> Frame:
        """Return what the time stamps tell, as far as the model wants to know it."""
        if not vocabulary.calendar:
            return {}
        if self.roles.time is None:
            raise ValueError(
                f"{self.path}: expected time stamps, which the model was trained with, got none: set "
                "`sampling.condition.time`"
            )
        times = as_times(self.frame[self.roles.time], self.roles.time, self.path)
        return calendar_columns(times, vocabulary.calendar)


def _read(path: Path) -> Frame:
    if not path.is_file() or path.suffix.lower() not in KINDS:
        raise ValueError(f"expected a .csv or .parquet of conditions, got {path}: set `sampling.condition.path`")
    if path.suffix.lower() == ".parquet":
        return parquet_columns(path)
    names = csv_header(path)
    if names is None:
        raise ValueError(f"{path}: expected a header with the names of the columns, got numbers: write one")
    return csv_columns(path, names, gaps=True)
