"""What a model does with series of which some is known: ``impute`` and ``forecast``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightning_freqdiff.callbacks.table import to_frame_of_series
from lightning_freqdiff.given import conditions_of
from lightning_freqdiff.imputing.asked import Asked, covariates_of
from lightning_freqdiff.imputing.methods import LINEAR, Method, check_settings, linear, settings_of
from lightning_freqdiff.keywords import spelt
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Conditions, Given
from lightning_freqdiff.sampling.conditions import InTurn, of_labels


class Imputing(ABC):
    """What a model does with series of which some is known."""

    module: ScoreModule

    @abstractmethod
    def sample(self, num_samples: int | None = None, **settings: Any) -> Any:
        """Draw series; see :class:`~lightning_freqdiff.model.Model`."""

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
                (one for all, or one for each series), ``condition`` (a data frame with a row for each series, or one
                for all), ``guidance_scale`` ...

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
        beside, label = settings.pop("condition", None), settings.pop("label", None)
        if beside is not None and label is not None:
            raise ValueError("expected `label` or `condition`, got both: leave one of them out")
        if beside is not None and not isinstance(beside, Conditions):
            table, count = conditions_of(beside), len(values)
            if table.count not in (None, 1, count):
                raise ValueError(
                    f"expected a row for each of {count} series, or one for all, got {table.count}: set `condition`"
                )
            rows = table.said_in(self.module.vocabulary).rows(0, count)
            beside = InTurn(rows.take(gaps.repeat_interleave(num_samples)))
        if label is not None:
            beside = of_labels(_each_label(label, gaps.tolist(), num_samples, len(values)))
        told = None if covariates is None else self.module.vocabulary.at_steps(covariates)[gaps]
        beside = asked.conditions(gaps.tolist(), num_samples) if beside is None else beside
        given = Given(values[gaps], num_samples, gaps.tolist(), told, beside)
        drawn = values.unsqueeze(1).repeat(1, num_samples, 1, 1).numpy()
        if len(gaps):
            drawn[gaps.numpy()] = self._drawn(given, method, seed, settings)
        return drawn

    def _drawn(self, given: Given, method: Method, seed: int, settings: dict[str, Any]) -> np.ndarray:
        """Return so many samples of each series, ``(R, S, N, M)``."""
        check_settings(settings, self.sample)
        count, steps, channels = given.values.shape
        if method == LINEAR:
            filled = linear(self.module, given, seed)
        else:
            wanted = settings_of(method, settings)
            filled = self.sample(count * given.num_samples, seed=seed, condition=given, format="numpy", **wanted)
        return np.asarray(filled).reshape(count, given.num_samples, steps, channels)

    def _shaped(self, drawn: np.ndarray, asked: Asked, settings: dict[str, Any]) -> Any:
        """Return samples as they were asked for."""
        library = settings.get("format") or asked.library or "numpy"
        if library in ("numpy", "torch"):
            return torch.from_numpy(drawn) if library == "torch" else drawn
        return to_frame_of_series(drawn, asked.names, self.module.channels, library)


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
