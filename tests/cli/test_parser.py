"""The command line as a user meets it: real files, bad input, and real processes where they are what is tested."""

import contextlib
import io
import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.evaluation import teacher
from lightning_freqdiff.evaluation.bench import Bench
from lightning_freqdiff.module import ScoreModule

SMALL = [
    "--model.network=Transformer",
    "--model.network.layers=1",
    "--model.network.width=8",
    "--model.network.heads=2",
    "--model.network.feedforward=8",
]
DATA = ["--data.num_series=64", "--data.length=16"]


def command(*args) -> list[str]:
    return [sys.executable, "-m", "lightning_freqdiff", *map(str, args)]


def shell(*args, cwd, expect=0) -> str:
    """Run the command line in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "default"}
    done = subprocess.run(command(*args), cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == expect, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def call(monkeypatch, tmp_path, capfd, blank_pictures):
    """Run the command line in this process, in a folder of its own: its code, and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def well(call):
    """Run the command line in this process and to a good end: what it wrote."""

    def run(*args) -> str:
        code, out, err = call(*args)
        assert not code, out + err
        return out + err

    return run


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder in which `fit` was run, as a user would."""
    folder, said = tmp_path_factory.mktemp("project"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said):
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["lightning_freqdiff", "fit", *SMALL, *DATA, "--trainer.max_epochs=2"])
        main()
    path = re.search(r"best checkpoint: (\S+)", said.getvalue())
    assert path, said.getvalue()
    assert f"predict --ckpt_path {path[1]}" in said.getvalue()
    return folder / path[1]


def predict_args(checkpoint, output, **more) -> list[str]:
    settings = {"num_samples": 40, "num_steps": 10, "solver": "EulerMaruyama", "seed": 0, "batch_size": 16, **more}
    return ["predict", f"--ckpt_path={checkpoint}", f"--sampling.output={output}"] + [
        f"--sampling.{k}={v}" for k, v in settings.items()
    ]


def test_fit_leaves_what_is_needed_and_nothing_else(trained):
    run = trained.parent.parent
    assert {p.name for p in run.iterdir()} == {"checkpoints", "config.yaml", "hparams.yaml", "metrics.csv"}
    assert {p.name for p in trained.parent.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert "val_loss" in (run / "metrics.csv").read_text()


def test_batch_size_does_not_change_the_samples(trained, tmp_path, well):
    drawn = []
    for size in (16, 1, 7, 64):
        well(*predict_args(trained, tmp_path / str(size), batch_size=size))
        drawn.append(np.load(tmp_path / str(size) / "samples.npy"))
    reference, *others = drawn
    assert reference.shape == (40, 16, 1)
    assert not np.allclose(reference[0], reference[1])
    for other in others:
        np.testing.assert_allclose(reference, other, atol=1e-4, rtol=1e-4)


TWO = ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp"]
FORKED = [*TWO[:2], "--trainer.strategy=ddp_fork"]
"""Forks of this process, which start at once; training cannot fork, since autograd has threads."""


def test_two_processes_give_the_samples_of_one_and_the_report_of_a_cache(trained, tmp_path, well):
    cache = [
        "--trainer.callbacks+=E2CRFCache",
        "--trainer.callbacks.preset=fixed_schedule",
        "--trainer.callbacks.R=3",
    ]
    well(*predict_args(trained, "one"), *cache)
    well(*predict_args(trained, "two", batch_size=7), *cache, *FORKED)
    samples = [np.load(tmp_path / name / "samples.npy") for name in ("one", "two")]
    np.testing.assert_allclose(*samples, atol=1e-4, rtol=1e-4)
    one, two = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("one", "two"))
    assert two["devices"] == 2
    assert sum(u["count"] for u in two["units"]) == 40
    for key, tolerance in (("hit_rate", 1e-6), ("probe_error", 1e-3)):
        assert two["reports"][0][key] == pytest.approx(one["reports"][0][key], rel=tolerance)


def test_two_processes_fill_a_data_set_of_many_files(trained, tmp_path, well):
    well(*predict_args(trained, "one", batch_size=4))
    args = predict_args(trained, f"file://{tmp_path}/set", batch_size=4)
    well(*args, "--sampling.shard=1/3", *FORKED)
    well(*args, *FORKED)
    np.testing.assert_array_equal(lf.read_samples(tmp_path / "set"), np.load(tmp_path / "one" / "samples.npy"))


def test_more_processes_than_units(trained, tmp_path, well):
    """One unit left for two processes."""
    data = ["--data=SyntheticECG", "--data.length=16", "--data.num_series=64"]
    well(*predict_args(trained, "few", num_samples=3), *data, *FORKED)
    assert "sw_time/mean" in (tmp_path / "few" / "evaluation.csv").read_text()
    assert np.load(tmp_path / "few" / "samples.npy").any(axis=(1, 2)).all()


@pytest.mark.slow
def test_killed_and_resumed_gives_the_same_file(trained, tmp_path, well, caplog):
    args = {"num_steps": 100, "batch_size": 4}
    well(*predict_args(trained, "whole", **args))
    victim = multiprocessing.get_context("fork").Process(target=well, args=predict_args(trained, "cut", **args))
    victim.start()
    journal = tmp_path / "cut" / "journal-0.jsonl"
    until = time.monotonic() + 120
    while not (journal.exists() and journal.stat().st_size) and time.monotonic() < until:
        time.sleep(0.01)
    victim.kill()
    victim.join()
    done = len(journal.read_text().splitlines())
    assert 1 <= done < 10, "the run should have been killed in the middle"
    well(*predict_args(trained, "cut", **args))
    assert f"{4 * done} of 40 samples are there" in caplog.text
    whole, cut = ((tmp_path / name / "samples.npy").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


@pytest.mark.slow
def test_fit_on_two_processes_goes_on_from_its_checkpoint(trained, tmp_path):
    shell("fit", *DATA, "--trainer.max_epochs=3", f"--ckpt_path={trained.with_name('last.ckpt')}", *TWO, cwd=tmp_path)
    assert list(tmp_path.glob("runs/fit/version_*/checkpoints/best.ckpt"))


def test_own_data_in_every_form(tmp_path, call):
    x = np.random.default_rng(0).normal(size=(40, 12, 1)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    np.savez(tmp_path / "a.npz", x=x, y=np.zeros(40, int))
    np.savetxt(tmp_path / "a.csv", x[:, :, 0], delimiter=",")
    for name in ("a.npy", "a.npz", "a.csv"):
        code, out, err = call("fit", *SMALL, "--data=ArrayData", f"--data.path={name}", "--trainer.fast_dev_run=1")
        assert code == 0, out + err


def test_config_files_interpolate_and_print(tmp_path, call):
    (tmp_path / "mine.yaml").write_text(
        "model:\n  network:\n    class_path: Transformer\n    init_args: {width: 24, heads: 2, "
        "feedforward: '${model.network.init_args.width}'}\n"
    )
    code, out, err = call("fit", "--config=mine.yaml", "--print_config")
    assert code == 0, err
    assert re.search(r"feedforward: (24|'?\$\{model)", out)
    assert "class_path: lightning_freqdiff.Transformer" in out


BAD_DATA = {
    "nan.npy": np.array([[1.0, np.nan, 2.0]] * 3),
    "rank.npy": np.zeros((2, 3, 4, 5)),
    "one_sample.npy": np.zeros((1, 8, 1)),
    "one_step.npy": np.zeros((5, 1, 1)),
    "constant.npy": np.ones((5, 8, 1)),
    "empty.npy": np.zeros((0, 8, 1)),
}


@pytest.mark.parametrize("name", [*BAD_DATA, "missing.npy", "short.csv", "labels.npz", "data.xlsx"])
def test_bad_data_ends_in_one_line(tmp_path, call, name):
    if name in BAD_DATA:
        np.save(tmp_path / name, BAD_DATA[name])
    (tmp_path / "short.csv").write_text("1,2,3\n1,2\n3,4,5\n")
    np.savez(tmp_path / "labels.npz", x=np.random.default_rng(0).normal(size=(6, 8, 1)), y=np.zeros(5))
    (tmp_path / "data.xlsx").write_text("x")
    code, _, err = call("fit", "--data=ArrayData", f"--data.path={name}", *SMALL)
    assert code == 1
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1, err
    assert name in errors[0]
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--sampling.num_samples=0"], "--sampling.num_samples"),
        (["--sampling.num_steps=0"], "--sampling.num_steps"),
        (["--sampling.seed=-1"], "--sampling.seed"),
        (["--sampling.solver=RungeKutta"], "--sampling.solver: expected one of Chords, DDIM, DEIS, DPMSolverPP"),
        (["--sampling.solver=DDIM", "--sampling.solver.eta=3"], "--sampling.solver.eta"),
        (["--sampling.solver=UniPC", "--sampling.solver.order=4"], "--sampling.solver.order"),
        (["--sampling.grid=cosine"], "--sampling.grid"),
        (["--sampling.format=xlsx"], "--sampling.format"),
        (["--sampling.nonsense=1"], "nonsense"),
        (["--sampling.output=/proc/nowhere"], "--sampling.output"),
    ],
)
def test_bad_settings_of_predict_end_in_one_line(checkpoint, tmp_path, call, extra, says):
    code, _, err = call("predict", f"--ckpt_path={checkpoint}", "--sampling.output=out", *extra)
    assert code in (1, 2)
    (error,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert says in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--data=SyntheticECG", "--data.length=32", "--data.num_series=64"], "as in the checkpoint"),
        (["--model.sde=VE"], "--model.sde has no effect beside --ckpt_path"),
        (["--sampling.num_samples=100000000000000000000000"], "error:"),
        (["--trainer.precision=nonsense"], "--trainer.precision"),
    ],
)
def test_what_would_fail_late_or_be_ignored_is_said_at_once(checkpoint, tmp_path, call, extra, says):
    code, _, err = call("predict", f"--ckpt_path={checkpoint}", "--sampling.output=out", *extra)
    assert code in (1, 2)
    (error,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert says in error
    assert not (tmp_path / "out" / "samples.npy").exists()


def test_a_finished_run_gives_another_format_too(checkpoint, tmp_path, call):
    assert call(*predict_args(checkpoint, "out", num_samples=3))[0] == 0
    assert call(*predict_args(checkpoint, "out", num_samples=3, format="npz"))[0] == 0
    both = np.load(tmp_path / "out" / "samples.npy"), np.load(tmp_path / "out" / "samples.npz")["x"]
    np.testing.assert_array_equal(*both)
    (tmp_path / "out" / "samples.npy").unlink()
    code, _, err = call(*predict_args(checkpoint, "out", num_samples=3))
    assert code == 1
    assert "samples.npy is not there" in err


def test_bad_checkpoints_end_in_one_line(tmp_path, call, checkpoint):
    (tmp_path / "cut.ckpt").write_bytes(checkpoint.read_bytes()[:2000])
    for args in (["--ckpt_path=none.ckpt"], ["--ckpt_path=cut.ckpt"], []):
        code, _, err = call("predict", *args)
        assert code == 1
        (error,) = [line for line in err.splitlines() if line.startswith("error:")]
        assert "--ckpt_path" in error


def test_an_output_of_another_run_is_left_alone(checkpoint, tmp_path, call):
    assert call(*predict_args(checkpoint, "out"))[0] == 0
    before = (tmp_path / "out" / "samples.npy").read_bytes()
    code, _, err = call(*predict_args(checkpoint, "out", seed=1))
    assert code == 1
    assert "sampling.seed was 0 and is now 1" in err
    assert (tmp_path / "out" / "samples.npy").read_bytes() == before


@pytest.fixture
def float32():
    """Leave the process's float32 as it was."""
    before = torch.get_float32_matmul_precision()
    yield
    torch.set_float32_matmul_precision(before)


def test_precision_is_part_of_a_run(checkpoint, tmp_path, call, float32):
    assert call(*predict_args(checkpoint, "out"))[0] == 0
    for setting in ("--trainer.precision=bf16-mixed", "--matmul_precision=medium"):
        code, _, err = call(*predict_args(checkpoint, "out"), setting)
        assert code == 1
        assert "precision was 32-true and is now" in err
    assert call(*predict_args(checkpoint, "low"), "--trainer.precision=bf16-mixed")[0] == 0
    plain, low = (np.load(tmp_path / name / "samples.npy") for name in ("out", "low"))
    assert 0 < np.linalg.norm(low - plain) < 0.03 * np.linalg.norm(plain)


@pytest.mark.slow
def test_double_precision_gives_the_samples_of_single_to_rounding(trained, tmp_path, well):
    """The same noise, and no more than rounding between them: nothing on the way goes back to single precision."""
    for name in ("32-true", "64-true"):
        for cache in ([], ["--trainer.callbacks+=WienerCache"]):
            output = tmp_path / f"{name}{len(cache)}"
            well(*predict_args(trained, output, num_steps=100), f"--trainer.precision={name}", *cache)
    for cache in "01":
        plain, double = (np.load(tmp_path / f"{name}{cache}" / "samples.npy") for name in ("32-true", "64-true"))
        assert 0 < np.abs(double - plain).max() < 1e-4


def test_a_comparison_in_bfloat16_says_so(checkpoint, tmp_path, call, float32):
    few = ["--sampling.num_samples=2", "--sampling.num_steps=4", "--rounds=1", "--solvers=false"]
    said = call("compare", f"--ckpt_path={checkpoint}", *few, "--precision=bf16-mixed", "--matmul_precision=highest")
    assert said[0] == 0, said
    assert torch.get_float32_matmul_precision() == "highest"
    assert json.loads((tmp_path / "comparison/compare.json").read_text())["precision"] == "bf16-mixed"


@pytest.mark.slow
def test_lightnings_tuner_finds_the_batch_size(well, caplog):
    finder = ["--trainer.callbacks+=BatchSizeFinder", "--trainer.callbacks.max_trials=2"]
    data = ["--data.num_series=512", "--data.length=16"]
    said = well("fit", *SMALL, *data, *finder, "--trainer.max_epochs=1")
    assert "will continue with full run using batch size 4" in caplog.text
    assert "best checkpoint" in said


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fit", "--data=Nothing"], "--data: expected one of ArrayData"),
        (["fit", "--model.network=Nothing"], "--model.network: expected one of .*LSTM, MLP, Transformer, UNet"),
        (["fit", "--model.sde=Nothing"], "--model.sde: expected one of SubVP, VE, VP"),
        (["fit", "--data.path=x.npy"], "--data.path"),
        (["fit", "--config=none.yaml"], "none.yaml"),
        (["predict", "--sampling.batch_size=many"], "--sampling.batch_size"),
    ],
)
def test_unknown_names_list_the_known_ones(call, args, says):
    code, _, err = call(*args)
    assert code == 2
    (error,) = [line for line in err.splitlines() if line.startswith("error:")]
    assert re.search(says, error)


CACHES = Path(__file__).parents[2] / "callbacks"


@pytest.mark.filterwarnings("ignore:.*nothing was recomputed.*")
@pytest.mark.slow
def test_caches_are_calibrated_compared_and_tuned(trained, tmp_path, well, calls_for_seconds):
    checkpoint = tmp_path / "best.ckpt"
    checkpoint.write_bytes(trained.read_bytes())
    few = ["--ckpt_path", checkpoint, "--sampling.num_samples=4", "--sampling.num_steps=30"]
    said = well("calibrate", *few)
    assert (tmp_path / "best.calibration.npz").exists()
    assert "best.calibration.npz" in said
    presets = [CACHES / "wiener.yaml", CACHES / "teacache.yaml"]
    data = ["--data=SyntheticECG", *DATA, "--rounds=1", "--output=out"]
    said = well("compare", *few, "--callbacks", *presets, *data)
    saved = json.loads((tmp_path / "out/compare.json").read_text())
    assert {"uncached", "wiener", "teacache"} <= {run["name"] for run in saved["runs"]}
    assert all(run["sw_frequency"] > 0 for run in saved["runs"])
    assert "teacache" in said
    well("tune", *few, "--tolerance=0.9", "--families", "fixed", "--confirm=4", "--name=mine")
    assert (tmp_path / "callbacks/mine.yaml").exists()
    well("predict", *few, "--config", "callbacks/mine.yaml", "--sampling.output=samples")
    manifest = json.loads((tmp_path / "samples/manifest.json").read_text())
    assert manifest["reports"][0]["hit_rate"] > 0


@pytest.mark.slow
def test_a_calibrated_model_samples_on_a_grid_of_its_own(trained, tmp_path, call, well, monkeypatch):
    monkeypatch.setattr(teacher, "SAMPLES", 32)
    checkpoint, path = tmp_path / "best.ckpt", tmp_path / "best.calibration.npz"
    checkpoint.write_bytes(trained.read_bytes())
    few = ["--ckpt_path", checkpoint, "--sampling.num_samples=4"]
    tuned = [*few, "--sampling.grid=tuned", "--sampling.solver=DPMSolverPP", "--sampling.output=drawn"]

    def refused(*args):
        code, _, err = call("predict", *tuned, *args)
        assert code == 1
        assert not (tmp_path / "drawn").exists()
        return err

    err = refused("--sampling.num_steps=6")
    assert "run calibrate on its checkpoint, or set --sampling.grid" in err
    said = well("calibrate", *few, "--sampling.num_steps=20")
    assert re.search(r"grid_damage_4_steps: 0\.\d+", said)
    assert re.search(r"seconds: \d+", said)
    first = path.read_bytes()
    well("calibrate", *few, "--sampling.num_steps=20")
    assert path.read_bytes() == first
    assert "set --sampling.num_steps" in refused("--sampling.num_steps=0")
    well("predict", *tuned, "--sampling.num_steps=6", "--config", CACHES / "taylorseer.yaml")
    manifest = json.loads((tmp_path / "drawn/manifest.json").read_text())
    assert manifest["identity"]["sampling"]["grid"] == "tuned"
    well("predict", *tuned, "--sampling.num_steps=6", "--sampling.output=plain")
    assert json.loads((tmp_path / "plain/manifest.json").read_text())["identity"]["calibration"]
    well("calibrate", *few, "--sampling.num_steps=20", "--sampling.seed=1")
    code, _, err = call("predict", *tuned, "--sampling.num_steps=6", "--sampling.output=plain")
    assert code == 1
    assert "belongs to another run (calibration was" in err
    with np.load(path) as kept:
        np.savez(path, **{**kept, "weights": np.array("other")})
    with pytest.warns(UserWarning, match="fitted to other weights"):
        code, _, err = call("predict", *tuned, "--sampling.num_steps=6", "--sampling.output=new")
    assert code == 1
    assert "run calibrate" in err


def test_a_comparison_that_is_interrupted_says_where_its_results_are(trained, tmp_path, call, monkeypatch):
    draw, drawn = Bench._draw, []

    def interrupted(bench: Bench, run) -> None:
        drawn.append(run)
        if len(drawn) == 4:
            raise KeyboardInterrupt
        draw(bench, run)

    monkeypatch.setattr(Bench, "_draw", interrupted)
    few = ["--sampling.num_samples=2", "--sampling.num_steps=4", "--callbacks", CACHES / "fixed.yaml", "--output=out"]
    code, out, _ = call("compare", "--ckpt_path", trained, *few)
    assert code == 130
    assert "unfinished, so far: out" in out
    assert not json.loads((tmp_path / "out/compare.json").read_text())["complete"]


def test_sampling_that_is_interrupted_says_how_to_go_on(trained, tmp_path, call, well, monkeypatch):
    draw = ScoreModule.draw

    def interrupted(module, unit, *args):
        if unit.first:
            raise KeyboardInterrupt
        return draw(module, unit, *args)

    with monkeypatch.context() as patch:
        patch.setattr(ScoreModule, "draw", interrupted)
        code, out, _ = call(*predict_args(trained, "out"))
    assert code
    assert out.endswith("interrupted: the same command goes on from what is in out\n")
    well(*predict_args(trained, "out"))
    assert np.load(tmp_path / "out/samples.npy").any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compare"], "ckpt_path"),
        (["compare", "--ckpt_path=none.ckpt"], "expected a checkpoint file"),
        (["compare", "--ckpt_path=CKPT", "--callbacks", "none.yaml"], "set --callbacks"),
        (["compare", "--ckpt_path=CKPT", "--device=quantum"], "set --device"),
        (["compare", "--ckpt_path=CKPT", "--data=SyntheticECG"], "as in the checkpoint"),
        (["tune", "--ckpt_path=CKPT", "--tolerance=0"], "set --tolerance"),
        (["tune", "--ckpt_path=CKPT", "--tolerance=0.1", "--families", "magic"], "expected families of wiener"),
        (["tune", "--ckpt_path=CKPT", "--tolerance=0.1", "--metric=sw"], "set --data"),
        (["tune", "--ckpt_path=CKPT"], "tolerance"),
        (["calibrate", "--ckpt_path=CKPT", "--output=none/x.npz", "--sampling.num_samples=1"], "set --output"),
        (["describe"], "data"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_studies_end_in_one_line_on_bad_input(call, trained, args, message):
    checkpoint = trained
    code, _, err = call(*(a.replace("CKPT", str(checkpoint)) for a in args))
    assert code in (1, 2)
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def held(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("command", "folder", "setting"),
    [
        ("test", "samples", "--sampling.output"),
        ("test", "mine", "--sampling.output"),
        ("predict", "mine", "--sampling.output"),
        ("describe", "mine", "--output"),
        ("describe", "samples", "--output"),
        ("compare", "samples", "--output"),
    ],
)
def test_no_command_writes_to_a_folder_of_another(trained, tmp_path, call, command, folder, setting):
    """Found out before any work, and nothing of what is there changes."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "report.html").write_text("my report")
    assert call(*predict_args(trained, "samples", num_samples=2, num_steps=2))[0] == 0
    before = held(tmp_path)
    args = {"describe": [], "test": [f"--ckpt_path={trained}", "--trainer.limit_test_batches=0"]}
    data = [] if command in ("predict", "compare") else ["--data=SyntheticECG", *DATA]
    given = args.get(command, [f"--ckpt_path={trained}", "--sampling.num_steps=2"])
    code, _, err = call(command, *given, *data, f"{setting}={folder}")
    assert code == 1
    assert re.search(rf"error: expected an empty output folder.* but {folder} holds .*set {setting}", err), err
    assert held(tmp_path) == before


def test_a_test_replaces_an_earlier_one_and_has_a_folder_of_its_own(trained, tmp_path, well):
    assert well(*predict_args(trained, "samples", num_samples=2, num_steps=2))
    args = ["test", f"--ckpt_path={trained}", "--data=SyntheticECG", *DATA]
    for _ in range(2):
        well(*args, "--sampling.num_samples=4", "--sampling.num_steps=2")
        assert (tmp_path / "report" / "report.html").exists()
    well("describe", "--data=SyntheticECG", *DATA)
    well("describe", "--data=SyntheticECG", *DATA)


@pytest.mark.slow
def test_a_calibration_replaces_nothing_but_an_earlier_one(trained, tmp_path, call):
    np.save(tmp_path / "mine.npy", np.arange(3))
    np.savez(tmp_path / "mine.npz", x=np.arange(3))
    before = held(tmp_path)
    few = [f"--ckpt_path={trained}", "--sampling.num_samples=2"]
    for name in ("mine.npy", "mine.npz", "new.txt"):
        code, _, err = call("calibrate", *few, f"--output={name}", "--sampling.num_steps=20")
        assert code == 1
        assert name in err
        assert "set --output" in err
    assert held(tmp_path) == before
    for _ in range(2):
        assert call("calibrate", *few, "--output=good.npz", "--sampling.num_steps=20")[0] == 0
    good = (tmp_path / "good.npz").read_bytes()
    code, _, err = call("calibrate", *few, "--output=good.npz", "--sampling.num_steps=1")
    assert code == 1
    assert "raise --sampling.num_steps" in err
    content = torch.load(trained, weights_only=True)
    for weight in content["state_dict"].values():
        if weight.is_floating_point():
            weight.fill_(1e38)
    torch.save(content, tmp_path / "broken.ckpt")
    code, _, err = call("calibrate", "--ckpt_path=broken.ckpt", "--output=good.npz", "--sampling.num_steps=20")
    assert code == 1
    assert "expected finite samples" in err
    assert (tmp_path / "good.npz").read_bytes() == good


def test_tune_looks_at_its_output_before_it_searches(trained, tmp_path, call):
    (tmp_path / "file").write_text("x")
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "fixed.yaml").write_text("mine")
    args = ["tune", f"--ckpt_path={trained}", "--tolerance=0.5", "--families", "fixed", "--sampling.num_steps=2"]
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "tuned-frontier.png").write_text("mine")
    taken = ["--output=presets", "--keep_all=true"], ["--output=presets", "--name=fixed"], ["--output=theirs"]
    for more in (["--output=file"], *taken):
        code, out, err = call(*args, *more)
        assert code == 1
        assert "--output" in err
        assert "calls" not in out  # nothing was drawn yet
    assert (tmp_path / "presets" / "fixed.yaml").read_text() == "mine"


def test_tune_says_so_when_nothing_meets_the_tolerance(call, checkpoint, tmp_path):
    few = ["--sampling.num_samples=2", "--sampling.num_steps=10", "--families", "fixed"]
    code, _, err = call("tune", "--ckpt_path", checkpoint, "--tolerance=1e-9", *few)
    assert code == 1
    assert "raise --tolerance" in err
    assert call("tune", "--ckpt_path", checkpoint, "--tolerance=1e-9", *few)[2] == err  # not in its own way
    assert {path.name for path in (tmp_path / "callbacks").iterdir()} == {"tuned-frontier.png", "tuned-trials.json"}


def test_what_was_trained_on_a_table_comes_back_as_a_table(tmp_path, well):
    rng = np.random.default_rng(0)
    rows = [f"{i // 9},{i % 9},{a:.3f},{b:.3f}" for i, (a, b) in enumerate(rng.random((40 * 9, 2)))]
    (tmp_path / "beats.csv").write_text("\n".join(["id,time,lead,pulse", *rows]) + "\n")
    data = ["--data=ArrayData", "--data.path=beats.csv"]
    well("fit", *SMALL, *data, "--trainer.max_epochs=1", "--data.batch_size=8")
    checkpoint = "runs/fit/version_0/checkpoints/best.ckpt"
    few = ["--sampling.num_samples=2", "--sampling.num_steps=3"]
    well("predict", "--ckpt_path", checkpoint, *few)
    lines = (tmp_path / "samples/samples.csv").read_text().splitlines()
    assert lines[0] == "sample,step,lead,pulse"
    assert len(lines) == 1 + 2 * 9
    more = ["--sampling.output=array", "--sampling.format=npy"]
    well("predict", "--ckpt_path", checkpoint, *few, *more)
    assert np.load(tmp_path / "array/samples.npy").shape == (2, 9, 2)


def test_reports_take_any_metric_of_evaluate(trained, tmp_path, call, well):
    few = ["--sampling.num_samples=12", "--sampling.num_steps=4", f"--ckpt_path={trained}"]
    data = ["--data=SyntheticECG", *DATA]
    said = well("test", *few, *data, "--metrics", "sw,mmd", "precision", "--sampling.output=tested")
    assert "test_mmd" in said
    well("predict", *few, *data, "--metrics=mmd", "--sampling.output=drawn")
    for folder, names in (("tested", ("sliced_wasserstein", "mmd", "precision")), ("drawn", ("mmd",))):
        page = (tmp_path / folder / "report.html").read_text()
        assert "ceiling: Gaussian" in page
        assert "memorization" in page.lower()
        header = (tmp_path / folder / "evaluation.csv").read_text().splitlines()[0].split(",")
        for name in names:
            assert f">{name}</td>" in page
            assert {f"{name}/value", f"{name}/floor", f"{name}/ceiling"} <= set(header)
    assert "histogram" not in page
    plain = well("test", *few, *data, "--sampling.output=plain")
    assert "mmd" not in plain + (tmp_path / "plain" / "report.html").read_text()
    for args, says in (
        (["test", *few, *data, "--metrics=fid"], "got 'fid': set --metrics"),
        (["predict", *few, "--metrics=mmd"], "a data set to take metrics against: set --data"),
    ):
        code, _, err = call(*args)
        assert code == 1
        assert says in err
