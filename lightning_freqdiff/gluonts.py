"""A model as a predictor of GluonTS (extra ``gluonts``), for its data sets, its evaluation and its pipelines.

from gluonts.evaluation import Evaluator, make_evaluation_predictions

predictor = FreqDiffPredictor("run/checkpoints/best.ckpt", prediction_length=24, num_steps=50, grid="edm")
forecasts, series = make_evaluation_predictions(dataset, predictor, num_samples=100)
figures, _ = Evaluator()(series, forecasts)
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lightning_freqdiff.data.readers.entries import DYNAMIC
from lightning_freqdiff.imputing import Method
from lightning_freqdiff.model import Model, load

if TYPE_CHECKING:
    from gluonts.model.forecast import SampleForecast  # pyright: ignore[reportMissingImports]

TOGETHER = 32
"""Series that are forecast together."""


class FreqDiffPredictor:
    """Forecasts of any data set of GluonTS: entries with ``target``, ``start`` and maybe ``item_id``.

    It has the methods of GluonTS's ``Predictor`` that its evaluation calls.

    ``feat_dynamic_real``, known to the end of the horizon, is told to a model that was trained with as many.

    Args:
        model: A model, or the path of one.
        prediction_length: Steps to forecast.
        num_samples: Samples of each forecast.
        method: As of ``Model.forecast``.
        seed: As of ``Model.forecast``; the number of the series decides what is drawn, too.
        **settings: As of ``Model.forecast``: ``num_steps``, ``solver``, ``cache`` ...

    Raises:
        ImportError: Where GluonTS is missing.
    """

    lead_time = 0

    def __init__(
        self,
        model: Model | str | Path,
        prediction_length: int,
        num_samples: int = 100,
        method: Method = None,
        seed: int = 0,
        **settings: Any,
    ) -> None:
        if find_spec("gluonts") is None:
            raise ImportError(
                "a predictor of GluonTS needs GluonTS, which is not installed: "
                'pip install "lightning-freqdiff[gluonts]"'
            )
        self.prediction_length = prediction_length
        self.model = model if isinstance(model, Model) else load(model)
        self.num_samples, self.method, self.seed = num_samples, method, seed
        self.settings = {"enable_progress_bar": False, **settings}

    def predict(self, dataset: Any, num_samples: int | None = None, **kwargs: Any) -> Iterator[SampleForecast]:
        """Yield a forecast of what comes after each entry.

        Args:
            dataset: Of GluonTS.
            num_samples: As given to the predictor, if not given here.
            **kwargs: What other predictors take, and this one has no use for.
        """
        from gluonts.dataset.util import forecast_start  # pyright: ignore[reportMissingImports]
        from gluonts.model.forecast import SampleForecast  # pyright: ignore[reportMissingImports]

        entries, first = iter(dataset), 0
        while batch := list(islice(entries, TOGETHER)):
            drawn = self.model.forecast(
                [np.atleast_2d(np.asarray(entry["target"], dtype=float)).T for entry in batch],
                self.prediction_length,
                num_samples or self.num_samples,
                self._covariates(batch),
                self.method,
                seed=self.seed + first,
                format="numpy",
                **self.settings,
            )
            for entry, samples in zip(batch, drawn, strict=True):
                single = np.ndim(entry["target"]) == 1
                yield SampleForecast(
                    samples[..., 0] if single else samples,
                    forecast_start(entry),
                    item_id=entry.get("item_id"),
                )
            first += len(batch)

    def _covariates(self, batch: list[Any]) -> np.ndarray | None:
        """Return what is known at every step of the model's window, to the end of the horizon, ``(B, N, C)``."""
        size, length = self.model.module.score.sizes.covariates, self.model.shape[0]
        if not size:
            return None
        found = np.full((len(batch), length, size), np.nan)
        for row, entry in zip(found, batch, strict=True):
            steps = np.shape(entry["target"])[-1] + self.prediction_length
            known = np.atleast_2d(np.asarray(entry.get(DYNAMIC), dtype=float)).T
            if known.shape != (steps, size):
                raise ValueError(
                    f"expected {DYNAMIC} of {size} × {steps}, to the end of the horizon, got {known.T.shape}: set "
                    f"`{DYNAMIC}` of every entry"
                )
            row[max(0, length - steps) :] = known[-length:]
        return found
