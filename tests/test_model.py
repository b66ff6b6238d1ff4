"""The front door as a user of Python meets it: fit, load, and what a model can do."""

import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping, EMAWeightAveraging, ModelCheckpoint

import lightning_freqdiff as lf
from lightning_freqdiff import recipe
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.caching import Wiener
from lightning_freqdiff.callbacks import Averaging

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SMALL = {"network": lf.MLP(layers=1, width=8), **QUIET}
SERIES = np.random.default_rng(0).normal(size=(64, 16, 2)).cumsum(1)
FEW = {"num_steps": 12, **QUIET}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> lf.Model:
    return lf.fit(SERIES, max_steps=8, folder=tmp_path_factory.mktemp("run") / "one", **SMALL)


def command(monkeypatch, *args) -> None:
    monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *map(str, args)])
    main()


def test_fit_is_the_fit_of_the_command_line(monkeypatch, folder):
    np.save("series.npy", SERIES)
    few = ["--trainer.max_steps=6", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    network = ["--model.network=MLP", "--model.network.layers=1", "--model.network.width=8"]
    command(monkeypatch, "fit", "--data=ArrayData", "--data.path=series.npy", *network, *few)
    state = torch.get_rng_state()
    model = lf.fit("series.npy", max_steps=6, **SMALL)
    assert torch.equal(torch.get_rng_state(), state), "a user's generator was moved"
    assert model.checkpoint_path == folder / "runs/fit/version_1/checkpoints/best.ckpt"
    theirs, ours = (lf.load(f"runs/fit/version_{i}").module.state_dict() for i in (0, 1))
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    assert (folder / "runs/fit/version_1/metrics.csv").exists()


@pytest.mark.parametrize("cache", [None, "wiener"])
def test_samples_are_those_of_predict_bit_for_bit(fitted, monkeypatch, folder, cache, blank_pictures):
    sampling = ["--sampling.num_samples=21", "--sampling.num_steps=12", "--sampling.solver=DDIM", "--sampling.seed=3"]
    plugged = [] if cache is None else [f"--config={cache}"]
    command(monkeypatch, "predict", f"--ckpt_path={fitted.checkpoint_path}", *sampling, *plugged)
    settings = {"num_steps": 12, "solver": "DDIM", "seed": 3, "cache": cache, **QUIET}
    drawn = fitted.sample(21, **settings)
    assert drawn.dtype == np.float32
    np.testing.assert_array_equal(drawn, np.load("samples/samples.npy"))
    np.testing.assert_array_equal(drawn, fitted.sample(21, output="written", **settings))
    np.testing.assert_array_equal(drawn, fitted.sample(21, output="written", **settings), "a finished run is read")


def test_a_cache_is_a_name_a_path_a_policy_or_a_callback(fitted, folder):
    (folder / "mine.yaml").write_text("# Mine.\ntrainer: {callbacks+: [{class_path: WienerCache}]}")
    policy = Wiener()
    given = ["mine.yaml", Path("mine.yaml"), policy, lf.CacheCallback(policy)]
    first, *others = (fitted.sample(4, cache=cache, **FEW) for cache in given)
    assert not np.array_equal(first, fitted.sample(4, **FEW))
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_solvers_and_other_settings_reach_the_sampler(fitted):
    fitted.sample(3, solver=lf.DPMSolverPP("ode"), grid="edm", batch_size=2, **FEW)
    assert fitted.module.sampling == lf.Sampling(3, 12, lf.DPMSolverPP("ode"), "edm", batch_size=2)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"num_samples": -1}, "num_samples >= 1, got -1: set `num_samples`"),
        ({"num_samples": "many"}, "expected `num_samples` as int, got 'many'"),
        ({"num_samples": 10**9, "num_steps": 0}, "set `num_steps`"),
        ({"seed": -1}, "set `seed`"),
        ({"solver": "Euler"}, "expected `solver` as one of Chords, DDIM, "),
        ({"cache": "wienr"}, "name of a preset such as wiener.* set `cache`"),
        ({"cache": "ecg"}, "expected a preset of the form"),
        ({"cache": 3}, "expected `cache` as the name or path of a preset"),
        ({"cache": "wiener", "callbacks": [lf.CacheCallback(Wiener())]}, "at most one cache"),
        ({"format": "excel"}, "expected `format` as one of numpy, torch"),
        ({"precision": "nonsense"}, "nonsense"),
    ],
)
def test_a_wrong_setting_of_sample_ends_in_one_line(fitted, settings, says):
    given = {**FEW, **settings}
    with pytest.raises((ValueError, OSError), match=says) as caught:
        fitted.sample(given.pop("num_samples", 2), **given)
    assert "\n" not in str(caught.value)


def test_a_setting_that_nobody_knows_is_refused(fitted):
    with pytest.raises(TypeError, match="sample.*'num_step'; is `num_steps`"):
        fitted.sample(2, num_step=3)
    with pytest.raises(TypeError, match="fit.*'epochs'; is `min_epochs` or `max_epochs` meant"):
        lf.fit(SERIES, epochs=3)


def test_samples_that_are_no_numbers_are_not_returned(fitted):
    broken = lf.load(fitted.checkpoint_path)
    with torch.no_grad():
        next(broken.module.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite .* `num_steps`"):
        broken.sample(2, **FEW)


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_a_frame_comes_back_as_a_frame(library):
    made = pytest.importorskip(library)
    columns = {
        "id": np.repeat(np.arange(40), 9),
        "time": np.tile(np.arange(9), 40),
        **{name: np.random.default_rng(len(name)).normal(size=360) for name in ("lead", "pulse")},
    }
    frame = made.table(columns) if library == "pyarrow" else made.DataFrame(columns)
    model = lf.fit(frame, max_steps=2, batch_size=8, **SMALL)
    assert (model.shape, model.channels) == ((9, 2), ("lead", "pulse"))
    model = lf.load(model.checkpoint_path)
    table = model.sample(3, **FEW)
    assert type(table) is type(frame)
    names = list(table.column_names if library == "pyarrow" else table.columns)
    assert names == ["sample", "step", "lead", "pulse"]
    array = model.sample(3, format="numpy", **FEW)
    np.testing.assert_array_equal(np.asarray(table["pulse"]), array[..., 1].ravel())
    np.testing.assert_array_equal(np.asarray(table["sample"]), np.repeat(np.arange(3), 9))
    assert model.module.data_facts["format"] == "csv", "and as a table from the command line"


def test_an_array_comes_back_as_an_array_and_a_tensor_when_asked(fitted):
    assert type(fitted.sample(2, **FEW)) is np.ndarray
    tensor = fitted.sample(2, format="torch", **FEW)
    assert (type(tensor), tensor.shape) == (torch.Tensor, (2, 16, 2))


@pytest.mark.parametrize(
    ("series", "settings", "says"),
    [
        (np.full((20, 8, 1), np.nan), {}, "finite float32 numbers.*in `series`.*`missing`"),
        (np.zeros((2, 3, 4, 5)), {}, "3 axes .*got 4"),
        (np.zeros((0, 8, 1)), {}, "at least 2 series"),
        (np.array([["a", "b"]] * 3), {}, "expected real numbers"),
        ("none.csv", {}, "found nothing at .*none.csv; mend `series`"),
        ([], {}, "expected arrays"),
        (SERIES, {"window": 0}, "`window`"),
        (SERIES, {"val_fraction": 2.0}, "`val_fraction`"),
        (SERIES, {"network": "UNot"}, "expected `network` as one of .*LSTM, MLP"),
        (SERIES, {"learning_rate": -1.0}, "set `learning_rate`"),
        (None, {}, "got None: set `series`"),
        (SERIES, {"seed": "a"}, "expected `seed` from 0 to 4294967295"),
        (SERIES, {"seed": -1}, "expected `seed` from 0"),
        (SERIES, {"callbacks": ["EarlyStopping"]}, "instances of Lightning's Callback, got 'EarlyStopping'"),
        (SERIES, {"max_steps": "many"}, "expected what Lightning's Trainer takes, got .*max_steps='many'"),
        (
            SERIES,
            {"max_time": "two minutes"},
            "expected what Lightning's Trainer takes, got .*max_time='two minutes'",
        ),
        (SERIES * 1e38, {}, r"beyond 1e\+15"),
        (SERIES, {"time": "date"}, "expected a table with a column 'date', got arrays; leave `time` out"),
        (SERIES, {"matmul_precision": "low"}, "expected `matmul_precision` as one of highest"),
        (lf.SyntheticECG(num_series=20), {"batch_size": 4}, "`batch_size` to be set where the SyntheticECG is made"),
    ],
)
def test_what_cannot_be_learnt_from_ends_in_one_line(folder, series, settings, says):
    with pytest.raises((ValueError, OSError), match=says) as caught:
        lf.fit(series, **{"max_steps": 1, **SMALL, **settings})
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())


def test_a_run_that_ends_early_says_so(folder, caplog):
    with caplog.at_level(logging.INFO):
        lf.fit(SERIES, max_steps=64, learning_rate=20.0, warmup=0.0, **{**SMALL, "early_stopping": True})
    assert "early: val_loss had not fallen for 6 validations (early_stopping=False goes on)" in caplog.text


def test_a_folder_that_holds_something_is_left_alone(folder):
    (folder / "mine").mkdir()
    (folder / "mine/thesis.txt").write_text("x")
    with pytest.raises(ValueError, match="expected an empty output folder, but mine holds thesis.txt: set `folder`"):
        lf.fit(SERIES, folder="mine", **SMALL)
    assert [p.name for p in (folder / "mine").iterdir()] == ["thesis.txt"]


class Mine(Callback):
    pass


def test_callbacks_take_the_place_of_those_of_their_kind(folder):
    own = [EarlyStopping("val_loss"), ModelCheckpoint(folder), EMAWeightAveraging(decay=0.5), Mine()]
    kinds = [type(c) for c in recipe.training({"callbacks": own}, folder)["callbacks"]]
    assert kinds == [*map(type, own), *map(type, recipe.watching([]))]
    kinds = [type(c) for c in recipe.training({"callbacks": Mine()}, folder)["callbacks"]]
    assert kinds[:1] == [Mine]
    assert {EarlyStopping, ModelCheckpoint, Averaging} < set(kinds)
    bare = {"enable_progress_bar": False, "enable_checkpointing": False, "callbacks": []}
    kinds = [type(c) for c in recipe.training(bare, folder, stopping=False)["callbacks"]]
    assert kinds == [*map(type, recipe.watching([], progress=False)), Averaging]


def test_a_budget_of_any_kind_replaces_the_default(folder):
    assert recipe.training({}, folder)["max_steps"] == recipe.FIT_STEPS
    assert recipe.training({"max_epochs": 3}, folder)["max_steps"] == -1
    assert recipe.training({"max_time": "00:00:01:00"}, folder)["max_steps"] == -1


def test_without_checkpoints_the_last_weights_are_the_model(folder):
    model = lf.fit(SERIES, max_steps=2, logger=False, enable_checkpointing=False, **SMALL)
    assert model.checkpoint_path is None
    assert not list(folder.iterdir())
    assert model.sample(2, **FEW).shape == (2, 16, 2)


class Interrupt(Callback):
    """Press Ctrl-C at a step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(1)


@pytest.fixture
def interruptible():
    """Let Ctrl-C interrupt, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_says_what_there_is_and_leaves_the_process_alive(folder):
    assert threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt, match=r"at step 4; load\('runs/fit/.*best.ckpt'\)") as caught:
        lf.fit(SERIES, max_steps=40, callbacks=Interrupt(), **SMALL)
    assert signal.getsignal(signal.SIGINT) is before
    path = str(caught.value).split("'")[1]
    assert lf.load(path).sample(2, **FEW).shape == (2, 16, 2)


def test_a_model_says_what_it_is(fitted, monkeypatch):
    monkeypatch.chdir(fitted.checkpoint_path.parents[2])
    said = repr(fitted)
    for part in ("16 steps × 2 (channel 0, channel 1)", "MLP", "VP", "val_gain", "(one/checkpoints/best.ckpt"):
        assert part.strip("(") in said
    assert f"{sum(p.numel() for p in fitted.module.parameters()):,} parameters" in said


def test_loading_finds_the_checkpoint_of_a_run(fitted, folder):
    run = fitted.checkpoint_path.parents[1]
    for path in (fitted.checkpoint_path, str(run), run / "checkpoints"):
        assert lf.load(path).checkpoint_path == fitted.checkpoint_path
    (folder / "no.ckpt").write_bytes(b"no checkpoint")
    for path, says in (
        ("no.ckpt", "plain tensors.*set `path`"),
        ("none", "expected a checkpoint file"),
        (folder, "checkpoints/best.ckpt"),
    ):
        with pytest.raises((ValueError, OSError), match=says):
            lf.load(path)


def test_evaluate_measures_samples_against_what_was_trained_on(fitted):
    few = {"metrics": "sw,mmd", "rows": 30, **FEW}
    found = fitted.evaluate(num_samples=20, **few)
    assert len(found.sets.train) == fitted.data.num_train
    assert found.settings.rows == 30
    np.testing.assert_array_equal(found.sets.generated.numpy(), fitted.sample(20, **FEW))
    assert {name for name, score in found.scores.items() if score.value is not None} >= {"sliced_wasserstein"}
    given = fitted.evaluate(SERIES[:20] + 1, SERIES[20:50], SERIES[50:], metrics=["sw"])
    assert (len(given.sets.train), len(given.sets.held_out)) == (30, 14)
    loaded = lf.load(fitted.checkpoint_path)
    with pytest.raises(ValueError, match="set `reference`"):
        loaded.evaluate()
    with pytest.raises(ValueError, match="`generated`"):
        loaded.evaluate(SERIES[:, :5], SERIES, metrics="sw")


def test_evaluate_takes_files_frames_and_data_sets(folder):
    np.save("made.npy", SERIES[:20])
    found = lf.evaluate("made.npy", lf.ArrayData.of(SERIES, test_fraction=0.2), metrics="sw")
    assert len(found.sets.train) == 45
    assert len(found.sets.held_out) == 13
    with pytest.raises(OSError, match="nothing at .*gone.npy; mend `holdout`"):
        lf.evaluate("made.npy", SERIES, "gone.npy")


@pytest.mark.filterwarnings("ignore:.*nothing was recomputed.*")
def test_compare_and_tune_are_those_of_the_command_line(fitted, folder, calls_for_seconds, blank_pictures):
    few = {"num_samples": 3, "num_steps": 30}
    rows = lf.compare(fitted, ["wiener", lf.TaylorSeer()], metrics="mmd, histogram", rounds=1, solvers=False, **few)
    assert {row["name"] for row in rows} == {"uncached", "wiener", "taylorseer"}
    assert all(row["sw_time"] > 0 and row["histogram"] > 0 for row in rows)
    assert (folder / "comparison/compare.json").exists()
    policy = lf.tune(fitted, 0.9, caches=["fixed"], confirm=3, **few)
    assert isinstance(policy, lf.E2CRF)
    assert fitted.sample(3, cache=policy, **FEW).shape == (3, 16, 2)
    assert isinstance(lf.tune(fitted, 0.9, metric="histogram", caches=["fixed"], confirm=3, **few), lf.E2CRF)
    with pytest.raises(ValueError, match="expected `caches` of wiener"):
        lf.tune(fitted, 0.1, caches=["magic"])
    with pytest.raises(ValueError, match="expected one of relative_l2, sw, .* got 'l2': set `metric`"):
        lf.tune(fitted, 0.1, metric="l2")
    with pytest.raises(ValueError, match="expected metrics of .* got 'fid': set `metrics`"):
        lf.compare(fitted, metrics=["fid"], output="other")
    with pytest.raises(ValueError, match="expected `precision` as one of 32-true, bf16-mixed"):
        lf.compare(fitted, output="other", precision="16")
    with pytest.raises(FileNotFoundError, match="set `caches`"):
        lf.compare(fitted, ["wienr"], output="other")
    with pytest.raises(ValueError, match="set `device`"):
        lf.compare(fitted, output="other", device="quantum")


def test_describe_takes_what_fit_takes():
    facts = lf.describe(np.arange(400.0) + SERIES.ravel()[:400], window=10)
    assert (facts["steps"], facts["channels"]) == (10, ["channel 0"])
