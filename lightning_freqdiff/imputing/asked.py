"""What comes in where some of a series is known: arrays, tables, files, with what came beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.data import ArrayData
from lightning_freqdiff.data.readers.entries import is_entries
from lightning_freqdiff.data.readers.sources import is_table
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Conditions, Listed
from lightning_freqdiff.vocabulary import Vocabulary


@dataclass(frozen=True)
class Asked:
    """Series of which some is known.

    Attributes:
        series: One array ``(T, M)`` each, NaN where nothing is known.
        names: What they are called.
        library: Library of the data frame that they came in, if they did.
        covariates: What came beside of each at its steps, one array ``(T, C)`` each, in the data's units.
        columns: What came beside of each as a whole, label and static columns ``(B,)`` that the model knows.
    """

    series: list[np.ndarray]
    names: Sequence[Any]
    library: str | None = None
    covariates: list[np.ndarray] | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Any, module: ScoreModule, id: str | None = None, time: str | None = None) -> Asked:
        """Take an array, a data frame, a path or a data set for what it is.

        Raises:
            ValueError: For series of other channels than the model's, and values that are infinite.
        """
        length, channels = module.layout.length, module.layout.channels
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else values
        if isinstance(array, (list, tuple)) and not is_entries(array):
            array = [np.asarray(one, dtype=float) for one in array]
        if isinstance(array, np.ndarray):
            array = _three_axes(array, channels)
        data = array if isinstance(array, ArrayData) else ArrayData.of(array, id=id, time=time)
        # Where a series is one number a step, tables may have a series a row.
        wide = channels == 1 and _width(data) == length
        ragged = data.as_given(long=not wide and not isinstance(array, (np.ndarray, list)))
        own = len(ragged.channels) - ragged.covariates  # what is known at every step is the last of the channels
        series = [np.asarray(one, dtype=np.float32)[:, :own] for one in ragged.series]
        known, covariates = module.vocabulary, None
        if ragged.covariates:
            expect_covariates(ragged.channels[own:], known)
            order = [ragged.channels.index(column.name, own) for column in known.covariates]
            covariates = [np.asarray(one)[:, order] for one in ragged.series]
        facts = {one.name: ragged.static[one.name] for one in known.static if one.name in ragged.static}
        facts |= {"label": ragged.y} if known.classes and ragged.y is not None else {}
        series = _in_order(series, ragged.channels[:own], module.channels)
        _expect_numbers(series, channels)
        for one in map(torch.from_numpy, series):
            module.score.codec.logarithm.expect_positive(
                one, one.isfinite(), "set `data.path`, or train with `model.logarithm` never"
            )
        named = ragged.names if any(ragged.names) else range(len(series))
        return cls(series, named, data.frame, covariates, facts)

    def whole(self, length: int) -> Tensor:
        """Return all series in one piece ``(B, N, M)``, of the model's length."""
        wrong = [len(one) for one in self.series if len(one) != length]
        if wrong:
            raise ValueError(
                f"expected series of the {length} steps that the model was trained on, NaN where they are not known, "
                f"got {wrong[0]} steps: set `data.path`"
            )
        return torch.from_numpy(np.stack(self.series))

    def before(self, horizon: int, length: int) -> Tensor:
        """Return the last steps of each, as many as the model has beside the horizon, and NaN where there are less.

        Returns:
            Series ``(B, N, M)``, the last ``horizon`` steps NaN.
        """
        if not 1 <= horizon < length:
            raise ValueError(
                f"expected a horizon from 1 to {length - 1}, less than the {length} steps that the model was trained "
                f"on, got {horizon}: set `horizon`"
            )
        return torch.from_numpy(_last(self.series, length - horizon, length).astype(np.float32))

    def told(self, length: int, horizon: int = 0) -> Tensor | None:
        """Return the covariates ``(B, N, C)`` at the same steps, if any came; NaN, which is not known, elsewhere."""
        return None if self.covariates is None else torch.from_numpy(_last(self.covariates, length - horizon, length))

    def conditions(self, of: Sequence[int], num_samples: int) -> Conditions | None:
        """Return what is known of some series as a whole, for so many samples of each."""
        columns = {name: np.repeat(column[list(of)], num_samples) for name, column in self.columns.items()}
        return Listed({name: column.tolist() for name, column in columns.items()}) if columns and len(of) else None


def _last(values: Sequence[np.ndarray], room: int, length: int) -> np.ndarray:
    """Return ``length`` steps of each array ``(T, C)``: its last ones in the first ``room`` steps, and NaN."""
    found = np.full((len(values), length, values[0].shape[1]), np.nan)
    for row, one in zip(found, values, strict=True):
        kept = one[-room:]
        row[room - len(kept) : room] = kept
    return found


def _in_order(series: list[np.ndarray], names: Sequence[str], wanted: Sequence[str]) -> list[np.ndarray]:
    """Return series with the model's channels in its order, where they bear the same names."""
    if set(names) != set(wanted) or tuple(names) == tuple(wanted):
        return series
    order = [list(names).index(name) for name in wanted]
    return [one[:, order] for one in series]


def _expect_numbers(series: Sequence[np.ndarray], channels: int) -> None:
    """Refuse series of other channels than the model's, none, and infinite values."""
    wrong = [one.shape for one in series if one.shape[1] != channels]
    if wrong or not series:
        got = f"{wrong[0][1]} in shape {wrong[0]}" if wrong else "no series"
        raise ValueError(
            f"expected series of the {channels} channels that the model was trained on, got {got}: set `data.path`"
        )
    if any(np.isinf(one).any() for one in series):
        raise ValueError("expected numbers, or NaN where a value is not known, got infinite ones: set `data.path`")


def expect_covariates(names: Sequence[str], known: Vocabulary) -> None:
    """Refuse other covariates than a model was trained with."""
    if set(names) != {one.name for one in known.covariates}:
        wanted = ", ".join(one.name for one in known.covariates) or "none"
        raise ValueError(
            f"expected the covariates that the model was trained with ({wanted}), got {', '.join(names)}: set "
            "`data.covariates` and `data.calendar`"
        )


def _width(data: ArrayData) -> int | None:
    """Return the number of columns of a table without named roles, if it is one."""
    values = data._values
    if data.roles.settings:
        return None
    if values is None:
        first = data.as_given(long=True)
        return first.series[0].shape[1]
    if is_table(values):
        return len(list(values.column_names if hasattr(values, "column_names") else values.columns))
    return None


def _three_axes(array: np.ndarray, channels: int) -> np.ndarray:
    """Return series ``(B, T, M)`` of an array that may lack an axis."""
    if array.ndim == 1 and channels == 1:
        return array[None, :, None]
    if array.ndim == 2:
        return array[..., None] if channels == 1 and array.shape[1] != 1 else array[None]
    if array.ndim != 3:
        raise ValueError(
            f"expected series (B, T, {channels}) or (T, {channels}), got an array of shape {array.shape}: set "
            "`data.path`"
        )
    return array


def covariates_of(given: Any, rows: int, length: int, known: int, size: int) -> Tensor | None:
    """Return covariates at every step of the model's window, ``(B, N, C)``.

    Args:
        given: ``(T, C)`` or ``(B, T, C)``; the last step is the last of the window.
        rows: Series, ``B``.
        length: Steps of the window, ``N``.
        known: Steps that must be covered, to the end of the window.
        size: Covariates that the model was trained with, ``C``.

    Raises:
        ValueError: For covariates that end too early, or of another number.
    """
    if given is None:
        return None
    values = torch.as_tensor(np.asarray(given, dtype=np.float32))
    values = values.expand(rows, -1, -1) if values.ndim == 2 else values
    if values.ndim != 3 or len(values) != rows or values.shape[2] != size:
        raise ValueError(
            f"expected covariates ({rows}, T, {size}) or (T, {size}), got {tuple(values.shape)}: set `covariates`"
        )
    if values.shape[1] < known:
        raise ValueError(
            f"expected covariates of {known} steps, to the end of the horizon, got {values.shape[1]}: set "
            "`covariates`"
        )
    values = values[:, -length:]
    first = values[:, :1].expand(-1, length - values.shape[1], -1)  # of steps before any that was given
    return torch.cat([first, values], dim=1)
