"""Forecasts from many origins: nothing of what is forecast is known, and what they score is what others find."""

import csv
import json
import sys

import numpy as np
import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.evaluation.backtest import Backtest, Scoring, seasonal_error
from lightning_freqdiff.evaluation.origins import Origin, Rolling
from lightning_freqdiff.evaluation.rivals import pairs, ridge, seasonal_naive

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
FEW = {"num_steps": 4, **QUIET}
L, N, H = 300, 16, 5
RNG = np.random.default_rng(0)
LONG = (np.sin(np.arange(L)[:, None] / 4 + [0, 1]) + 0.1 * RNG.normal(size=(L, 2))).astype(np.float32)


def windows(x=LONG, **settings):
    return lf.ArrayData.of(x, window=N, **{"test_fraction": 0.2, **settings})


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> lf.Model:
    folder = tmp_path_factory.mktemp("backtest")
    return lf.fit(windows(), network=lf.UNet(width=8, heads=2), max_steps=4, folder=folder / "run", **QUIET)


def test_what_is_forecast_lies_after_all_that_was_trained_on():
    rolling = Rolling.of(windows(), H)
    (trained,) = rolling.training
    np.testing.assert_array_equal(trained, LONG[: len(trained)])
    assert [one.step for one in rolling.origins] == list(range(240, 300 - H + 1, H))
    assert len(trained) == 210  # the validation part is in between
    np.testing.assert_array_equal(rolling.targets([1])[0], LONG[245:250])
    np.testing.assert_array_equal(rolling.pasts([1])[0], LONG[:245])
    seen = rolling.windows([0, 1], N)
    assert seen[:, -H:].isnan().all()
    np.testing.assert_array_equal(seen[1, :-H], LONG[245 - N + H : 245])
    few = Rolling.of(windows(), H, stride=1, most=4)
    assert [one.step for one in few.origins] == [240, 258, 277, 295]


def test_without_a_test_part_the_validation_part_is_forecast():
    rolling = Rolling.of(windows(test_fraction=0.0), H)
    assert min(one.step for one in rolling.origins) == 270
    assert "validation" in rolling.split


def test_series_that_are_whole_are_forecast_to_their_end():
    series = RNG.normal(size=(40, N, 2)).astype(np.float32)
    data = lf.ArrayData.of({"x": series, "y": np.arange(40) % 2}, test_fraction=0.25, conditional=True)
    rolling = Rolling.of(data, H)
    held = data.test_series().numpy()
    assert len(rolling.origins) == 10
    np.testing.assert_array_equal(rolling.targets(range(10)), held[:, -H:])
    label = rolling.told([3], N).label
    assert label is not None
    assert label.tolist() == [int(data.labels("test")[3])]
    assert {row.tobytes() for row in rolling.training}.isdisjoint(row.tobytes() for row in held)


def test_the_past_does_not_reach_over_a_break_in_time():
    pd = pytest.importorskip("pandas")
    stamps = pd.date_range("2024-01-01", periods=L, freq="h").to_numpy().copy()
    stamps[236:] += np.timedelta64(5, "D")
    table = pd.DataFrame({"time": stamps, "a": LONG[:, 0], "b": LONG[:, 1]})
    with pytest.warns(UserWarning, match="break"):
        rolling = Rolling.of(windows(table, time="time"), H)
    assert {one.since for one in rolling.origins} == {236}
    assert rolling.windows([0], N)[0, : N - H - 4].isnan().all()
    assert {one.since for one in Rolling.of(windows(table, time="time", breaks="cross"), H).origins} == {0}


def test_covariates_reach_to_the_end_of_the_horizon():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame({"a": LONG[:, 0], "heat": np.arange(L, dtype=float)})
    data = windows(table, covariates="heat")
    rolling, (column,) = Rolling.of(data, H), data.vocabulary.covariates
    told = rolling.told([0], N).covariates
    assert told is not None
    expected = (np.arange(245 - N, 245) - column.mean) / column.scale
    np.testing.assert_allclose(told[0, :, 0], expected, rtol=1e-5)
    assert rolling.channels == ("a",)


def given(x: np.ndarray, horizon: int = 3, count: int = 4) -> Rolling:
    origins = [Origin(0, 0, 20 + 4 * i) for i in range(count)]
    return Rolling([x], [x[:18]], origins, horizon, ("a", "b"), "by hand")


def test_scores_are_their_definitions():
    """By slow second implementations, with a gap in what came."""
    x = (RNG.normal(size=(40, 2)) * [1, 10]).astype(np.float32)
    x[21, 1] = np.nan
    rolling, samples = given(x), torch.from_numpy(RNG.normal(size=(4, 21, 3, 2)) * [1, 10]).float()
    scoring = Scoring(rolling, season=4)
    scoring.update(samples[:3], range(3))
    scoring.update(samples[3:], [3])
    found = scoring.compute()
    y, draws, unit = rolling.targets(range(4)), samples.numpy(), x[:18].std(0)
    seen = np.isfinite(y)
    quantile = np.quantile(draws, np.arange(0.05, 1, 0.05), axis=1)
    levels = np.arange(0.05, 1, 0.05).reshape(-1, 1, 1, 1)
    loss = np.nansum(2 * (quantile - y) * ((y <= quantile) - levels), (1, 2, 3)).mean()
    assert found["weighted_quantile_loss"] == pytest.approx(loss / np.nansum(np.abs(y)), rel=1e-4)
    total, whole = draws.sum(3), y.sum(2)
    quantile = np.quantile(total, np.arange(0.05, 1, 0.05), axis=1)
    loss = np.nansum(2 * (quantile - whole) * ((whole <= quantile) - levels[..., 0]), (1, 2)).mean()
    assert found["weighted_quantile_loss_sum"] == pytest.approx(loss / np.nansum(np.abs(whole)), rel=1e-4)
    near = np.abs(draws - y[:, None]).mean(1)
    apart = np.abs(draws[:, :, None] - draws[:, None]).sum((1, 2)) / 2 / 21 / 20
    assert found["crps"] == pytest.approx(((near - apart) / unit)[seen].mean(), rel=1e-4)
    assert found["mae"] == pytest.approx((np.abs(np.median(draws, 1) - y) / unit)[seen].mean(), rel=1e-4)
    past = [np.nanmean(np.abs(x[4:step] - x[: step - 4]), 0) for step in (20, 24, 28, 32)]
    scaled = np.nanmean(np.abs(np.median(draws, 1) - y), 1) / past
    assert found["mase"] == pytest.approx(scaled.mean(), rel=1e-4)
    assert len(found["crps_by_step"]) == 3
    assert list(found["crps_by_channel"]) == ["a", "b"]


def test_a_series_no_longer_than_a_season_is_scaled_by_its_steps():
    np.testing.assert_allclose(seasonal_error(np.array([[1.0], [3.0], [6.0]]), 3), [2.5])


def test_intervals_of_the_right_law_cover_what_they_say():
    x = RNG.normal(size=(3000, 2)).astype(np.float32)
    origins = [Origin(0, 0, step) for step in range(1000, 2990, 3)]
    rolling = Rolling([x], [x[:1000]], origins, 3, ("a", "b"), "by hand")
    found = Backtest(rolling, 60)
    found.add("right", lambda r, which: torch.randn(len(which), 60, 3, 2))
    found.add("narrow", lambda r, which: 0.5 * torch.randn(len(which), 60, 3, 2))
    right, narrow = found.rows["right"], found.rows["narrow"]
    for level in (50, 80, 95):
        assert right[f"coverage_{level}"] == pytest.approx(level / 100, abs=0.03)
        assert narrow[f"coverage_{level}"] < level / 100 - 0.1
    assert right["crps"] < narrow["crps"]
    assert right["energy_score"] < narrow["energy_score"]
    assert right["crps"] == pytest.approx(1 / np.sqrt(np.pi), abs=0.03)  # of N(0, 1) against itself


def test_the_season_before_is_repeated_and_its_errors_are_those_of_the_training_part():
    season = np.tile(np.arange(6.0), 60)[:, None] + np.arange(360)[:, None]  # rises by 6 from season to season
    forecast = seasonal_naive([season], 12, 8, 6, 5)
    middle = forecast.point(season[None, 100:112])[0, :, 0]
    np.testing.assert_allclose(middle, season[106 + np.arange(8) % 6, 0])
    np.testing.assert_allclose(forecast.deviation[:, 0], [6] * 6 + [12] * 2)
    gappy = season[None, 100:112].copy()
    gappy[0, 8:] = np.nan
    np.testing.assert_allclose(forecast.point(gappy)[0, 2:6, 0], gappy[0, 7, 0])


def test_ridge_finds_what_is_linear():
    pytest.importorskip("sklearn")
    t = np.arange(600)
    x = np.stack([np.sin(t / 3), 100 * np.cos(t / 5)], axis=1)
    forecast = ridge([x], 20, 4, 5)
    np.testing.assert_allclose(forecast.point(x[None, 300:320])[0], x[320:324], atol=0.5)
    assert (forecast.deviation < [0.01, 1]).all()


def test_pairs_are_spread_over_all_series():
    past, future = pairs([np.arange(5.0)[:, None], np.arange(10.0, 14)[:, None]], 2, 1)
    assert past[..., 0].tolist() == [[0, 1], [1, 2], [2, 3], [10, 11], [11, 12]]
    assert future[..., 0].tolist() == [[2], [3], [4], [12], [13]]
    with pytest.raises(ValueError, match="training series of 8 steps, got 5"):
        pairs([np.zeros((5, 1))], 6, 2)


def test_a_models_forecasts_are_those_of_forecast(model, monkeypatch):
    found = model.backtest(H, num_samples=6, origins=3, season=25, **FEW)
    assert list(found.rows) == ["model", "linear model", "seasonal naive", "ridge"]
    drawn = found.fans[1]
    steps = [one.step for one in found.rolling.origins]
    histories = np.stack([LONG[step - N + H : step] for step in steps])
    np.testing.assert_allclose(drawn, model.forecast(histories, H, 6, **FEW), atol=2e-4)
    monkeypatch.setattr("lightning_freqdiff.evaluation.backtest.TOGETHER", 6)  # one origin at a time
    again = model.backtest(H, windows(), 6, origins=3, season=25, rivals=False, **FEW)
    assert list(again.rows) == ["model"]
    assert again.rows["model"]["crps"] == pytest.approx(found.rows["model"]["crps"], rel=1e-3)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda m: m.backtest(0), "horizon from 1 to 15, .* got 0: set `horizon`"),
        (lambda m: m.backtest(N), "got 16: set `horizon`"),
        (lambda m: m.backtest(H, num_samples=1), "num_samples >= 2, got 1: set `num_samples`"),
        (lambda m: m.backtest(H, origins=0), "origins >= 1, got 0: set `origins`"),
        (lambda m: m.backtest(H, LONG[:, :1], window=N), r"\(N, M\) = \(16, 2\)"),
        (
            lambda m: m.backtest(6, LONG[:160], window=N, val_fraction=0.03),
            "raise `test_fraction`|window of 16 steps",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(model, call, says):
    with pytest.raises(ValueError, match=says) as caught:
        call(model)
    assert "\n" not in str(caught.value)


def test_the_command_leaves_table_figures_and_page(model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.save("long.npy", LONG)
    words = ["--data=ArrayData", "--data.path=long.npy", f"--data.window={N}", "--data.test_fraction=0.2"]
    words += [f"--horizon={H}", "--season=25", "--origins=4", "--sampling.num_samples=8", "--sampling.num_steps=4"]
    command = ["lightning_freqdiff", "backtest", f"--ckpt_path={model.checkpoint_path}", "--device=cpu", *words]
    monkeypatch.setattr(sys, "argv", command)
    main()
    assert "seasonal naive" in capsys.readouterr().out
    facts = json.loads((tmp_path / "backtest/backtest.json").read_text())
    assert set(facts["forecasters"]) == {"model", "linear model", "seasonal naive", "ridge"}
    found = model.backtest(H, num_samples=8, origins=4, season=25, rivals=False, num_steps=4, **QUIET)
    assert facts["forecasters"]["model"]["crps"] == pytest.approx(found.rows["model"]["crps"], rel=1e-3)
    assert "trained on" in facts["settings"]["split"]
    with open(tmp_path / "backtest/backtest.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["forecaster"] for row in rows] == list(facts["forecasters"])
    page = (tmp_path / "backtest/report.html").read_text()
    assert page.count("<img") == 2
    monkeypatch.setattr(sys, "argv", [*command, "--horizon=99"])
    with pytest.raises(SystemExit) as leaving:
        main()
    assert leaving.value.code != 0
    assert "set --horizon" in capsys.readouterr().err
    assert (tmp_path / "backtest/report.html").is_file(), "what was there stays"
