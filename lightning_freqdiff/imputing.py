"""Fill gaps, and forecast: series of which some is known in, samples of the whole out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.callbacks.table import to_frame_of_series
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.data import ArrayData
from lightning_freqdiff.data.readers.sources import is_table
from lightning_freqdiff.keywords import concrete, spelt
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import (
    ClassifierFree,
    Conditions,
    Constraint,
    GaussianPosterior,
    Given,
    Guidance,
    Listed,
    Together,
)
from lightning_freqdiff.sampling.conditions import of_labels
from lightning_freqdiff.sampling.noise import normal_stream
from lightning_freqdiff.vocabulary import Vocabulary

LINEAR = "linear"
"""The method that asks no network: the exact conditional law of the linear model."""
Method = str | Guidance | Constraint | None


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
        if isinstance(array, (list, tuple)):
            array = [np.asarray(one, dtype=float) for one in array]
        if isinstance(array, np.ndarray):
            array = _three_axes(array, channels)
        data = array if isinstance(array, ArrayData) else ArrayData.of(array, id=id, time=time)
        # Where a series is one number a step, tables may have a series a row.
        wide = channels == 1 and _width(data) == length
        ragged = data.as_given(long=not wide and not isinstance(array, (np.ndarray, list)))
        own = len(ragged.channels) - ragged.covariates  # what is known at every step is the last of the channels
        series = [np.asarray(one, dtype=np.float32)[:, :own] for one in ragged.series]
        names = ragged.channels[:own]
        known = module.vocabulary
        covariates = None
        if ragged.covariates:
            expect_covariates(ragged.channels[own:], known)
            order = [ragged.channels.index(column.name, own) for column in known.covariates]
            covariates = [np.asarray(one)[:, order] for one in ragged.series]
        facts = {one.name: ragged.static[one.name] for one in known.static if one.name in ragged.static}
        facts |= {"label": ragged.y} if known.classes and ragged.y is not None else {}
        if set(names) == set(module.channels) and tuple(names) != module.channels:
            order = [names.index(name) for name in module.channels]
            series = [one[:, order] for one in series]
        wrong = [one.shape for one in series if one.shape[1] != channels]
        if wrong or not series:
            got = f"{wrong[0][1]} in shape {wrong[0]}" if wrong else "no series"
            raise ValueError(
                f"expected series of the {channels} channels that the model was trained on, got {got}: set "
                "`data.path`"
            )
        if any(np.isinf(one).any() for one in series):
            raise ValueError(
                "expected numbers, or NaN where a value is not known, got infinite ones: set `data.path`"
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


def linear(module: ScoreModule, given: Given, seed: int) -> np.ndarray:
    """Return draws ``(R * S, N, M)`` of the linear model's conditional law, under the noise that samples meet."""
    codec = module.score.codec
    given = given.said_in(module.vocabulary)
    gaussian, parts = gaussian_of(codec), []
    for row in range(len(given.values)):
        first, count = row * given.num_samples, given.num_samples
        shape = (count, *codec.noise_scale.shape)
        known = given.rows(first, count).to(gaussian.mean.device)
        assert known.observed is not None
        assert known.mask is not None
        noise = next(normal_stream(seed, given.numbers(first, count), shape, gaussian.mean.device))  # pyright: ignore
        parts.append(gaussian.draw(known.observed, known.mask, noise.flatten(1)))
    return torch.cat(parts).cpu().float().numpy()


def _each_label(label: Any, of: list[int], num_samples: int, count: int) -> int | str | list[int | str]:
    """Return the label of all samples, or one for each sample of some series where there is one for each series."""
    if isinstance(label, (int, str)):
        return label
    labels = np.asarray(label).tolist()
    if not isinstance(labels, list):
        return labels
    if len(labels) != count:
        raise ValueError(f"expected one label, or one for each of {count} series, got {len(labels)}: set `label`")
    return [labels[b] for b in of for _ in range(num_samples)]


def keeping(guidance: Guidance | None) -> Guidance:
    """Return a guidance that keeps to observed values: the one that is given, or around it the default one.

    Guidance towards a class says nothing of observed values.
    """
    if guidance is None:
        return GaussianPosterior()
    return Together((guidance, GaussianPosterior())) if isinstance(guidance, ClassifierFree) else guidance


def settings_of(method: Method, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of sampling that make a method, whatever it is given as.

    Raises:
        ValueError: For a method that there is not, or two in one place.
    """
    kinds = {kind.__name__: name for name, base in _BASES.items() for kind in concrete(base)}
    if method is None:
        towards = settings.pop("guidance_scale", None)
        guidance = settings.get("guidance") if towards is None else ClassifierFree(towards)
        return {**settings, "guidance": keeping(guidance)}
    if isinstance(method, str):
        if method not in kinds:
            raise ValueError(f"expected `method` as one of {', '.join(sorted(kinds))}, {LINEAR}, got {method!r}")
        place = kinds[method]
    else:
        place = "guidance" if isinstance(method, Guidance) else "constraint"
    if settings.get(place) is not None:
        raise ValueError(f"expected `method` or `{place}`, got both: put one inside the other's place")
    return {place: method, **settings}


_BASES: dict[str, type] = {"guidance": Guidance, "constraint": Constraint}


class Imputing:
    """What a model does with series of which some is known."""

    module: ScoreModule

    def sample(self, num_samples: int = 0, **settings: Any) -> Any:
        """Draw series; see :class:`~lightning_freqdiff.model.Model`."""
        raise NotImplementedError

    def impute(
        self,
        x: Any,
        num_samples: int = 64,
        method: Method = None,
        *,
        covariates: Any = None,
        seed: int = 0,
        id: str | None = None,
        time: str | None = None,
        **settings: Any,
    ) -> Any:
        """Fill the gaps of series: samples of what is not known, given what is, which comes out as it is.

        Args:
            x: Series ``(B, N, M)`` or ``(N, M)``, NaN where a value is to be filled in; or a data frame or a file, in
                any form that ``fit`` reads.
            num_samples: Samples of each series.
            method: Name of a guidance or constraint that keeps to what is observed, or one with its settings;
                ``"linear"`` for the linear model's conditional law alone, which asks no network. If not given,
                ``GaussianPosterior``, and a model that was trained with ``observe`` is told the values as well.
            covariates: Covariates at every step, ``(B, N, C)`` or ``(N, C)``, of a model that was trained with them,
                in the data's units; if not given, those of a data set `x` with `covariates`. NaN is not known.
            seed: Sample ``i`` of series ``b`` depends on ``(seed, b, i)`` and on this series alone.
            id: Column of a table that tells series apart; not needed for ``id`` or ``sample``.
            time: Column with time stamps; not needed for ``time`` or ``step``.
            **settings: Of ``sample``: ``num_steps``, ``solver``, ``cache``, ``batch_size``, ``constraint``, ``label``
                (one for all, or one for each series), ``guidance_scale`` ...

        Returns:
            Samples ``(B, num_samples, N, M)``, float32; of a data frame one of the same library, with the columns
            ``series``, ``sample``, ``step`` and one for each channel.

        Raises:
            ValueError: For series of another shape than the model's, and settings that cannot be.

        Examples:
            >>> import lightning_freqdiff as lf
            >>> series, quiet = np.random.default_rng(0).normal(size=(64, 16, 2)), {"enable_progress_bar": False}
            >>> model = lf.fit(series, network="MLP", max_steps=2, logger=False, enable_checkpointing=False, **quiet)
            >>> series[0, 3:7] = np.nan
            >>> filled = model.impute(series[:2], 3, num_steps=5, **quiet)
            >>> filled.shape, bool((filled[1] == series[1].astype("float32")).all())
            ((2, 3, 16, 2), True)
        """
        with spelt(**{"data.path": "x"}):
            asked, layout = Asked.of(x, self.module, id, time), self.module.layout
            values = asked.whole(layout.length)
            known = covariates_of(
                covariates, len(values), layout.length, layout.length, self.module.score.sizes.covariates
            )
            known = asked.told(layout.length) if known is None else known
            drawn = self._fill(asked, values, num_samples, method, known, seed, settings)
        return self._shaped(drawn, asked, settings)

    def forecast(
        self,
        history: Any,
        horizon: int,
        num_samples: int = 64,
        covariates: Any = None,
        method: Method = None,
        *,
        seed: int = 0,
        id: str | None = None,
        time: str | None = None,
        **settings: Any,
    ) -> Any:
        """Draw what comes next.

        Args:
            history: Series ``(B, T, M)`` or ``(T, M)`` of any length: what the model's ``N`` steps leave beside the
                horizon is looked at, the last ``N - horizon`` steps; of a shorter one, what there is. NaN where a
                value is not known. Or a data frame or a file, in any form that ``fit`` reads.
            horizon: Steps to forecast, from 1 to ``N - 1``.
            num_samples: Samples of each series.
            covariates: Covariates of history and horizon, ``(B, T + horizon, C)`` or ``(T + horizon, C)``, of a model
                that was trained with them.
            method: As of :meth:`impute`.
            seed: As of :meth:`impute`.
            id: As of :meth:`impute`.
            time: As of :meth:`impute`.
            **settings: As of :meth:`impute`.

        Returns:
            Samples ``(B, num_samples, horizon, M)``, float32; of a data frame one of the same library.

        Raises:
            ValueError: For a horizon that is none, or too long, and whatever :meth:`impute` refuses.
        """
        with spelt(**{"data.path": "history"}):
            asked, length = Asked.of(history, self.module, id, time), self.module.layout.length
            values = asked.before(horizon, length)
            room = max(min(len(one), length - horizon) for one in asked.series)
            size = self.module.score.sizes.covariates
            known = covariates_of(covariates, len(values), length, room + horizon, size)
            known = asked.told(length, horizon) if known is None else known
            drawn = self._fill(asked, values, num_samples, method, known, seed, settings)
        return self._shaped(drawn[:, :, -horizon:], asked, settings)

    def _fill(
        self,
        asked: Asked,
        values: Tensor,
        num_samples: int,
        method: Method,
        covariates: Tensor | None,
        seed: int,
        settings: dict[str, Any],
    ) -> np.ndarray:
        """Return samples ``(B, S, N, M)``; of series without a gap there is nothing to draw."""
        settings = {k: v for k, v in settings.items() if k != "format"}
        gaps = values.isnan().flatten(1).any(1).nonzero().flatten()
        beside: Conditions | None = settings.pop("condition", None)
        label = settings.pop("label", None)
        if beside is not None and (label is not None or not isinstance(beside, Conditions)):
            got = "both" if label is not None else type(beside).__name__
            raise ValueError(
                f"expected `label`, or `condition` as one of Conditions, got {got}: leave one of them out"
            )
        if label is not None:
            beside = of_labels(_each_label(label, gaps.tolist(), num_samples, len(values)))
        told = None if covariates is None else self.module.vocabulary.at_steps(covariates)[gaps]
        beside = asked.conditions(gaps.tolist(), num_samples) if beside is None else beside
        given = Given(values[gaps], num_samples, gaps.tolist(), told, beside)
        drawn = values.unsqueeze(1).repeat(1, num_samples, 1, 1).numpy()
        if not len(gaps):
            return drawn
        if method == LINEAR:
            filled = linear(self.module, given, seed)
        else:
            wanted = settings_of(method, settings)
            count = len(gaps) * num_samples
            filled = self.sample(count, seed=seed, condition=given, format="numpy", **wanted)
        drawn[gaps.numpy()] = np.asarray(filled).reshape(len(gaps), num_samples, *drawn.shape[2:])
        return drawn

    def _shaped(self, drawn: np.ndarray, asked: Asked, settings: dict[str, Any]) -> Any:
        """Return samples as they were asked for."""
        library = settings.get("format") or asked.library or "numpy"
        if library in ("numpy", "torch"):
            return torch.from_numpy(drawn) if library == "torch" else drawn
        return to_frame_of_series(drawn, asked.names, self.module.channels, library)
