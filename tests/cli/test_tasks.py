"""`predict --task`: what is left of series of which some is known, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main

LENGTH, FEW = 64, ["--sampling.num_samples=3", "--sampling.num_steps=8", "--trainer.accelerator=cpu"]


def predict(monkeypatch, checkpoint, *words) -> int:
    monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", "predict", f"--ckpt_path={checkpoint}", *FEW, *words])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


@pytest.fixture
def series(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(2, LENGTH, 1)).cumsum(1).astype(np.float32)
    x[0, 10:20] = np.nan
    np.save("gaps.npy", x)
    np.save("history.npy", np.nan_to_num(x[:, :50]))
    return x


def test_gaps_are_filled_as_from_python_and_quantiles_lie_beside(monkeypatch, checkpoint, series):
    data = ["--task=impute", "--data=ArrayData", "--data.path=gaps.npy", "--sampling.output=out"]
    assert predict(monkeypatch, checkpoint, *data) == 0
    drawn = np.load("out/samples.npy").reshape(2, 3, LENGTH, 1)
    quiet = {"num_steps": 8, "accelerator": "cpu", "enable_progress_bar": False}
    np.testing.assert_allclose(lf.load(checkpoint).impute(series, 3, **quiet), drawn, atol=2e-4)
    with np.load("out/quantiles.npz") as beside:
        assert beside["levels"].tolist() == [0.1, 0.25, 0.5, 0.75, 0.9]
        np.testing.assert_allclose(beside["quantiles"][2], np.median(drawn, axis=1), atol=1e-6)
        np.testing.assert_array_equal(beside["observed"], series)
    assert "What is known" in Path("out/report.html").read_text()
    assert predict(monkeypatch, checkpoint, *data) == 0, "a finished run is read"
    other = np.load("gaps.npy")
    other[0, 0] += 1
    np.save("gaps.npy", other)
    assert predict(monkeypatch, checkpoint, *data) != 0, "the folder belongs to other series"


def test_a_forecast_is_drawn_by_the_method_asked_for(monkeypatch, checkpoint, series, blank_pictures):
    data = ["--task=forecast", "--horizon=20", "--data=ArrayData", "--data.path=history.npy"]
    way = ["--sampling.constraint=Replacement", "--sampling.output=out"]
    assert predict(monkeypatch, checkpoint, *data, *way) == 0
    drawn = np.load("out/samples.npy").reshape(2, 3, LENGTH, 1)
    np.testing.assert_array_equal(drawn[:, 0, :44], np.nan_to_num(series[:, 6:50]))
    assert drawn[:, :, 44:].std(1).min() > 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--task=impute"], "got none: set --data ArrayData and --data.path"),
        (["--task=impute", "--data=SyntheticECG"], "got SyntheticECG: set --data"),
        (["--task=forecast", "--data=ArrayData", "--data.path=history.npy"], "got none: set --horizon"),
        (["--horizon=3"], "set --task forecast"),
        (["--task=forecast", "--horizon=64", "--data=ArrayData", "--data.path=history.npy"], "from 1 to 63"),
        (["--task=impute", "--data=ArrayData", "--data.path=history.npy"], "got 50 steps: set --data.path"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(monkeypatch, checkpoint, series, capfd, words, says):
    assert predict(monkeypatch, checkpoint, *words) != 0
    (error,) = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error:")]
    assert says in error
