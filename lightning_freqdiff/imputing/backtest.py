"""Forecasts of a model from many origins of real series, measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.backtest import Backtest, Forecaster
from lightning_freqdiff.evaluation.backtest_report import KIND, write
from lightning_freqdiff.evaluation.origins import Rolling
from lightning_freqdiff.evaluation.panel import Tell, quiet
from lightning_freqdiff.evaluation.rivals import ridge, seasonal_naive
from lightning_freqdiff.given import DATA, SAMPLING, series_data
from lightning_freqdiff.imputing.methods import LINEAR, Method
from lightning_freqdiff.imputing.model import Imputing
from lightning_freqdiff.keywords import spelt
from lightning_freqdiff.outputs import claimed
from lightning_freqdiff.sampling import Given
from lightning_freqdiff.sampling.conditions import InTurn

MODEL = "model"
"""What a model's own forecasts are called in results."""


class Backtesting(Imputing):
    """What a model's forecasts are worth."""

    data: SeriesData | None

    def backtest(
        self,
        horizon: int,
        series: Any = None,
        num_samples: int = 100,
        method: Method = None,
        *,
        stride: int | None = None,
        origins: int | None = None,
        season: int | None = None,
        rivals: bool = True,
        seed: int = 0,
        output: str | Path | None = None,
        tell: Tell = quiet,
        **settings: Any,
    ) -> Backtest:
        """Forecast from many origins of series that were not trained on, and measure it beside simpler forecasts.

        Args:
            horizon: Steps to forecast, from 1 to ``N - 1``.
            series: A data set, or what ``fit`` takes, with the settings of data that the model was trained with
                (``window``, ``test_fraction`` ...), so that the split is the same one; the series that it was just
                trained on if not given. What is forecast lies in the test part, or without one in the validation one.
            num_samples: Samples of each forecast, at least 2.
            method: As of :meth:`impute`.
            stride: Steps from one origin to the next; the horizon if not given.
            origins: How many, evenly spaced; all if not given.
            season: Steps of a season, such as 24 of hours in a day: for the seasonal naive forecast, and the mean
                absolute scaled error.
            rivals: Whether to measure forecasts without a network, too: seasonal naive (the last value, without a
                season) and ridge regression, with Gaussian errors; and the linear model's conditional law.
            seed: As of :meth:`impute`.
            output: Folder, empty or new, for ``backtest.json``, ``backtest.csv`` and ``report.html`` with pictures.
            tell: Called with what comes next.
            **settings: Of ``sample``, and of ``ArrayData`` for series that are no data set.

        Returns:
            What was found: ``rows``, the scores of each forecaster by its name.

        Raises:
            ValueError: For a horizon that is none, or too long, and series that are too short.
        """
        place = nullcontext() if output is None else claimed(Path(output).expanduser(), "output", KIND)
        with spelt(**{"data.path": "series"}), place:
            data, settings = self._held_out(series, settings)
            length = self.module.layout.length
            if not 1 <= horizon < length:
                raise ValueError(
                    f"expected a horizon from 1 to {length - 1}, less than the {length} steps that the model was "
                    f"trained on, got {horizon}: set `horizon`"
                )
            if num_samples < 2:
                raise ValueError(f"expected num_samples >= 2, got {num_samples}: set `sampling.num_samples`")
            found = Backtest(Rolling.of(data, horizon, stride, origins), num_samples, season)
            found.add(MODEL, self._forecaster(method, num_samples, seed, settings), tell)
            if rivals:
                for name, forecaster in self._rivals(found, seed):
                    found.add(name, forecaster, tell)
            if output is not None:
                write(found, Path(output).expanduser(), {"checkpoint": self.module.checkpoint_hash})
        return found

    def _held_out(self, series: Any, settings: dict[str, Any]) -> tuple[SeriesData, dict[str, Any]]:
        """Return the data set of real series, and the settings that are not its own."""
        if series is None or isinstance(series, SeriesData):
            data = self.data if series is None else series
        else:
            data = series_data(series, {k: v for k, v in settings.items() if k in DATA})
            settings = {k: v for k, v in settings.items() if k in SAMPLING or k not in DATA}
        if data is None:
            raise ValueError("expected real series to forecast, got none, for this model was loaded: set `series`")
        data.prepare_data()
        data.expect_shape(self.module.layout.length, self.module.layout.channels)
        return data, settings

    def _forecaster(self, method: Method, num_samples: int, seed: int, settings: dict[str, Any]) -> Forecaster:
        """Return what draws this model's forecasts of some origins; each depends on its own number, and no other."""
        length = self.module.layout.length
        settings = {"enable_progress_bar": False, **settings}

        def draw(rolling: Rolling, which: Sequence[int]) -> Tensor:
            told = rolling.told(which, length).take(torch.arange(len(which)).repeat_interleave(num_samples))
            beside = InTurn(told) if told else None
            given = Given(rolling.windows(which, length), num_samples, list(which), beside=beside)
            drawn = self._drawn(given, method, seed, dict(settings))
            return torch.from_numpy(drawn[:, :, -rolling.horizon :])

        return draw

    def _rivals(self, found: Backtest, seed: int) -> Iterator[tuple[str, Forecaster]]:
        """Yield forecasts that need no network, and note which there are not."""
        rolling, lags = found.rolling, self.module.layout.length - found.rolling.horizon
        learnt = rolling.training, lags, rolling.horizon
        yield "linear model", self._forecaster(LINEAR, found.num_samples, seed, {})
        season = found.season or 1
        yield "seasonal naive" if season > 1 else "naive", seasonal_naive(*learnt, season, found.num_samples, seed)
        try:
            yield "ridge", ridge(*learnt, found.num_samples, seed)
        except ImportError:
            found.notes.append(
                'no ridge regression, for scikit-learn is missing: pip install "lightning-freqdiff[plates]"'
            )
