"""What GluonTS's evaluator finds of forecasts is what ours finds; and a model is a predictor of GluonTS.

The figures of GluonTS 0.17 are written down here, for its pins of NumPy and pandas do not go with ours; where it is
installed it is asked again.
"""

from typing import Any

import numpy as np
import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.evaluation.backtest import Scoring
from lightning_freqdiff.evaluation.origins import Origin, Rolling

H, PAST, COUNT, SEASON, DRAWS = 4, 60, 5, 6, 21
QUANTILES = [round(0.05 * i, 2) for i in range(1, 20)]
FOUND = {
    "mean_wQuantileLoss": 0.21536442814547105,
    "MASE": 0.4744496550148313,
    "m_sum_mean_wQuantileLoss": 0.40764218864853674,
}


def made() -> tuple[list[np.ndarray], np.ndarray]:
    """Series ``(T, 2)`` of two channels, and forecasts of their ends ``(B, S, H, 2)``, the same on every machine."""
    t = np.arange(PAST + H)
    series = [np.stack([np.sin(t * (1 + 0.1 * b)) + 2, np.cos(t / 3 + b) * 3], axis=1) for b in range(COUNT)]
    wave = np.sin(np.arange(COUNT * DRAWS * H * 2) * 12.9898) * 1.5
    return series, np.stack([one[-H:] for one in series])[:, None] + wave.reshape(COUNT, DRAWS, H, 2) + 0.3


def ours() -> dict[str, float]:
    series, samples = made()
    origins = [Origin(b, 0, PAST) for b in range(COUNT)]
    rolling = Rolling(series, [one[:PAST] for one in series], origins, H, ("a", "b"), "by hand")
    scoring = Scoring(rolling, SEASON)
    scoring.update(torch.from_numpy(samples), range(COUNT))
    return scoring.compute()


def test_our_figures_are_those_of_gluonts():
    found = ours()
    assert found["weighted_quantile_loss_sum"] == pytest.approx(FOUND["m_sum_mean_wQuantileLoss"], rel=1e-5)
    assert found["mase"] == pytest.approx(FOUND["MASE"], rel=1e-5)
    assert found["weighted_quantile_loss"] == pytest.approx(FOUND["mean_wQuantileLoss"], rel=1e-5)


def theirs() -> dict[str, float]:
    """Ask GluonTS: each channel of each series as an item, and all channels as one."""
    import pandas as pd

    evaluation = pytest.importorskip("gluonts.evaluation")
    forecast = pytest.importorskip("gluonts.model.forecast").SampleForecast
    series, samples = made()
    start: Any = pd.Period("2024-01-01 00:00", freq="h")
    index = pd.period_range(start, periods=PAST + H, freq="h")
    items = [pd.DataFrame(one[:, [m]], index=index) for one in series for m in range(2)]
    each = [forecast(one[..., m], start + PAST) for one in samples for m in range(2)]
    settings = {"quantiles": QUANTILES, "seasonality": SEASON, "num_workers": 0}
    single, _ = evaluation.Evaluator(**settings)(items, each)
    whole = [pd.DataFrame(one, index=index) for one in series]
    together = [forecast(one, start + PAST) for one in samples]
    summed, _ = evaluation.MultivariateEvaluator(**settings, target_agg_funcs={"sum": np.sum})(whole, together)
    return {name: float((single | summed)[name]) for name in FOUND}


@pytest.mark.filterwarnings("ignore")
def test_gluonts_says_so_itself():
    assert theirs() == pytest.approx(FOUND, rel=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_a_model_is_a_predictor(tmp_path):
    evaluation = pytest.importorskip("gluonts.evaluation")
    common = pytest.importorskip("gluonts.dataset.common")
    from lightning_freqdiff.gluonts import FreqDiffPredictor

    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    rng = np.random.default_rng(0)
    entries = [
        {
            "item_id": f"s{i}",
            "start": "2024-01-01",
            "target": rng.normal(size=40 + i),
            "feat_dynamic_real": rng.normal(size=(1, 40 + i)),
        }
        for i in range(3)
    ]
    dataset = common.ListDataset(entries, freq="h")
    settings = {"window": 12, "val_fraction": 0.4, "covariates": "feat_dynamic_real"}
    model = lf.fit(
        dataset, network=lf.UNet(width=8, heads=2), max_steps=2, folder=tmp_path / "run", **settings, **quiet
    )
    predictor = FreqDiffPredictor(model.checkpoint_path, 4, num_steps=3, **quiet)
    forecasts, series = evaluation.make_evaluation_predictions(dataset, predictor, num_samples=6)
    forecasts = list(forecasts)
    assert [one.item_id for one in forecasts] == ["s0", "s1", "s2"]
    assert [one.samples.shape for one in forecasts] == [(6, 4)] * 3
    assert str(forecasts[1].start_date) == "2024-01-02 13:00"
    targets = [entry["target"][:-4] for entry in entries]
    known = np.stack([entry["feat_dynamic_real"][0, -12:] for entry in entries])[..., None]
    drawn = model.forecast([one[:, None] for one in targets], 4, 6, known, num_steps=3, **quiet)
    np.testing.assert_allclose(np.stack([one.samples for one in forecasts]), drawn[..., 0], rtol=1e-4)
    figures, _ = evaluation.Evaluator(num_workers=0)(list(series), forecasts)
    assert 0 < figures["mean_wQuantileLoss"] < 10
