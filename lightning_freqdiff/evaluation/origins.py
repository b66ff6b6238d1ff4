"""Where forecasts of real series begin, and what may be known there: nothing of what is forecast is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.condition import NOTHING, Condition
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.data.series.dataset import Batch
from lightning_freqdiff.data.series.ragged import Ragged
from lightning_freqdiff.data.series.windows import Stretch, starts

WHOLE = "series are trained on or tested on as a whole; of each that is tested on, the last steps are forecast"
IN_TIME = (
    "each series is cut in time, first what is trained on; what is forecast lies in the {part} part after it, and "
    "the steps before are known, whatever part they are in"
)


class Origin(NamedTuple):
    """A forecast begins at ``step`` of a series, and may look back to ``since``."""

    series: int
    since: int
    step: int


@dataclass(frozen=True)
class Rolling:
    """Origins of forecasts over real series.

    Args:
        series: Values ``(T_i, M)`` in the data's units, NaN where there is none.
        training: Stretches of values ``(T, M)`` that were trained on, and nothing of which is forecast.
        origins: Where forecasts begin.
        horizon: Steps of each.
        channels: Names of the ``M`` channels.
        split: In words, what was trained on and what is forecast.
        known: What is known of each series as a whole, in the model's numbers.
        covariates: What is known at each step of the series, ``(T_i, C)``, in the model's numbers.
    """

    series: Sequence[np.ndarray]
    training: Sequence[np.ndarray]
    origins: Sequence[Origin]
    horizon: int
    channels: tuple[str, ...]
    split: str
    known: Condition = NOTHING
    covariates: Sequence[Tensor] = ()

    @classmethod
    def of(cls, data: SeriesData, horizon: int, stride: int | None = None, most: int | None = None) -> Rolling:
        """Place origins in the test part of a data set; in its validation part, where it has no other.

        Args:
            data: Windows of long series, which are cut in time; or series that are on one side of a split each.
            horizon: Steps to forecast.
            stride: Steps from one origin to the next; the horizon if not given, so that nothing is forecast twice.
            most: Origins, evenly spaced over all; all if not given.

        Raises:
            ValueError: Where no series is long enough, and where groups of long series are split.
        """
        for name, value in (("horizon", horizon), ("stride", stride), ("origins", most)):
            if value is not None and value < 1:
                raise ValueError(f"expected {name} >= 1, got {value}: set `{name}`")
        data.prepare_data()
        long = data.long_series()
        found = cls._whole(data, horizon) if long is None else cls._in_time(data, *long, horizon, stride or horizon)
        if not found.origins:
            steps = max(map(len, found.series), default=0)
            raise ValueError(
                f"expected {horizon} steps to forecast in the part that is not trained on, got none in series of "
                f"{steps} steps: lower `horizon`, or raise `data.test_fraction`"
            )
        count = len(found.origins)
        chosen = np.linspace(0, count - 1, min(count, most or count)).round().astype(int)
        return cls(**{**vars(found), "origins": [found.origins[i] for i in chosen]})

    @classmethod
    def _in_time(cls, data: SeriesData, ragged: Ragged, pieces: list[Stretch], horizon: int, stride: int) -> Rolling:
        parts = {piece.part for piece in pieces}
        if "" in parts:
            raise ValueError(
                "expected long series that are cut in time, got groups of them that are split: leave `data.split_by` "
                "out, or name the part of each by `data.parts`"
            )
        own, words = len(ragged.channels) - ragged.covariates, data.vocabulary
        values = [np.asarray(one, np.float32) for one in ragged.series]
        part = "test" if "test" in parts else "val"
        origins = []
        for piece in pieces:
            if piece.part == part:
                edges = [0, *(one.step for one in (ragged.breaks[piece.series] if ragged.breaks else ()))]
                since = max(edge for edge in edges if edge <= piece.first)
                for step in starts(piece.last - piece.first, horizon, stride):
                    origins.append(Origin(piece.series, since, piece.first + int(step)))
        told = {"label": ragged.y} if words.classes and ragged.y is not None else {}
        return cls(
            [one[:, :own] for one in values],
            [values[p.series][p.first : p.last, :own] for p in pieces if p.part == "train"],
            [one for one in origins if one.step > one.since],
            horizon,
            ragged.channels[:own],
            IN_TIME.format(part="validation" if part == "val" else part),
            words.encode({**told, **ragged.static}),
            [words.at_steps(torch.from_numpy(one[:, own:])) for one in values] if words.covariates else (),
        )

    @classmethod
    def _whole(cls, data: SeriesData, horizon: int) -> Rolling:
        series, known = list[np.ndarray](), list[Condition]()
        for batch in data.test_dataloader():
            assert isinstance(batch, Batch)
            seen = torch.ones_like(batch.series) if batch.seen is None else batch.seen
            series += [*torch.where(seen > 0, batch.series, torch.nan).numpy()]
            known.append(batch.condition)
        told = known[0]
        for more in known[1:]:
            told = told.followed_by(more)
        origins = [Origin(i, 0, len(one) - horizon) for i, one in enumerate(series) if len(one) > horizon]
        covariates = [] if told.covariates is None else list(told.covariates)
        training = list(data.reference_series().numpy())
        if covariates:
            told = Condition(told.label, told.static)
        return cls(series, training, origins, horizon, data.channels, WHOLE, told, covariates)

    @cached_property
    def deviation(self) -> np.ndarray:
        """Deviation of each channel over the training series, ``(M,)``: the unit of scores."""
        values = np.concatenate(self.training).astype(np.float64)
        spread = np.nanstd(values, axis=0)
        return np.where(spread > 0, spread, 1.0)

    def targets(self, which: Sequence[int]) -> np.ndarray:
        """Return what came after some origins, ``(B, H, M)``."""
        return np.stack([self.series[i][step : step + self.horizon] for i, _, step in self._at(which)])

    def pasts(self, which: Sequence[int], steps: int | None = None) -> list[np.ndarray]:
        """Return the last ``steps`` before some origins, or all of them, ``(T, M)`` each."""
        reach = [(i, max(since, 0 if steps is None else step - steps), step) for i, since, step in self._at(which)]
        return [self.series[i][first:step] for i, first, step in reach]

    def windows(self, which: Sequence[int], length: int) -> Tensor:
        """Return as much of the past as fits before the horizon, and NaN for it, ``(B, length, M)``."""
        pasts = self.pasts(which, length - self.horizon)
        return _at_end([torch.from_numpy(one) for one in pasts], length, self.horizon)

    def told(self, which: Sequence[int], length: int) -> Condition:
        """Return what is known at some origins, in the model's numbers, to the end of the horizon."""
        at = self._at(which)
        told = self.known.take(torch.tensor([i for i, _, _ in at])) if self.known else NOTHING
        if not self.covariates:
            return told
        steps = [self.covariates[i][max(0, o + self.horizon - length) : o + self.horizon] for i, _, o in at]
        return Condition(told.label, told.static, _at_end(steps, length, 0))

    def _at(self, which: Sequence[int]) -> list[Origin]:
        return [self.origins[i] for i in which]


def _at_end(parts: Sequence[Tensor], length: int, room: int) -> Tensor:
    """Return ``(B, length, C)``: each part ``(T, C)`` right before the last ``room`` steps, and NaN elsewhere."""
    found = torch.full((len(parts), length, parts[0].shape[1]), torch.nan)
    for row, part in zip(found, parts, strict=True):
        row[length - room - len(part) : length - room] = part
    return found
