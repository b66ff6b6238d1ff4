"""How `fit` trains: its budget, its validations, what it keeps, and what it says at the end."""

import csv
import errno
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.callbacks import MetricsFile
from lightning_freqdiff.running import check_processes

SMALL = ["--model.network=MLP", "--model.network.layers=1", "--model.network.width=8"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
BEST = "runs/fit/version_0/checkpoints/best.ckpt"


@pytest.fixture
def call(monkeypatch, tmp_path, capfd, blank_pictures):
    """Run the command line in this process, in a folder of its own: its code, and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(*args) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return code, "".join(capfd.readouterr())

    return run


@pytest.fixture
def fit(call):
    """Train a tiny network on so many series to a good end: what it wrote."""

    def run(*args, series=64) -> str:
        code, said = call("fit", *SMALL, *QUIET, f"--data.num_series={series}", "--data.length=16", *args)
        assert code == 0, said
        return said

    return run


@pytest.fixture
def short(monkeypatch):
    """Let the default budget be 32 steps."""
    monkeypatch.setattr("lightning_freqdiff.recipe.FIT_STEPS", 32)


def validated(folder) -> list[int]:
    """Steps that had been taken at every validation."""
    with (folder / "runs/fit/version_0/metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val_loss"]]
    return [0] + [int(row["step"]) + 1 for row in rows[1:]] if rows[0]["step"] == "0" else []


def weights(path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.parametrize("series", [40, 700, 4000])  # epochs of 1, 9 and 56 steps
def test_the_budget_is_one_of_steps_however_long_an_epoch_is(fit, tmp_path, short, series):
    said = fit("--early_stopping=null", series=series)
    assert "trained: step 32 after" in said
    assert validated(tmp_path) == [0, *range(2, 33, 2)]
    assert "max_steps: 32" in (tmp_path / "runs/fit/version_0/config.yaml").read_text()


@pytest.mark.parametrize("given", ["flag", "file", "clock"])
@pytest.mark.slow
def test_other_budgets_are_not_cut_by_the_default(fit, tmp_path, short, given):
    (tmp_path / "mine.yaml").write_text("trainer: {max_epochs: 40}")
    budget = {
        "flag": "--trainer.max_epochs=40",
        "file": "--config=mine.yaml",
        "clock": "--trainer.max_time=00:00:00:03",
    }
    said = fit(budget[given], "--early_stopping=null")
    (step,) = (int(number.replace(",", "")) for number in re.findall(r"trained: step ([\d,]+)", said))
    seen = validated(tmp_path)
    assert seen[-1] == step
    if given == "clock":
        assert step > 32
        assert 10 <= len(seen) <= 20
    else:
        assert step == 40
        assert len(seen) == 17


def test_a_rhythm_of_ones_own_is_kept(fit, tmp_path):
    fit("--trainer.max_steps=9", "--trainer.val_check_interval=4", "--trainer.check_val_every_n_epoch=null")
    assert validated(tmp_path) == [0, 4, 8]


def test_steps_are_counted_where_gradients_are_accumulated(fit, tmp_path):
    fit("--trainer.max_steps=4", "--trainer.accumulate_grad_batches=3", "--early_stopping=null", series=400)
    assert validated(tmp_path) == [0, 1, 2, 3, 4]


def noise(folder):
    """Save series of which nothing can be learnt but by heart."""
    np.save(folder / "noise.npy", np.random.default_rng(0).normal(size=(400, 12, 1)).astype(np.float32))
    return ["--data=ArrayData", "--data.path=noise.npy", "--data.val_fraction=0.8"]


def test_a_run_that_only_gets_worse_keeps_the_gaussian_it_began_with(call, tmp_path):
    """The network learns the training rows by heart, and the checkpoint is still that of the linear model."""
    wild = ["--model.learning_rate=20", "--model.warmup=0", "--ema.decay=0.0", "--trainer.max_steps=64"]
    code, said = call("fit", *SMALL, *QUIET, *wild, *noise(tmp_path))
    assert code == 0, said
    assert "early: val_loss had not fallen for 6 validations (--early_stopping null" in said
    assert re.search(rf"best checkpoint: {BEST} \(val_loss ([\d.]+); linear model \1; step 0\)", said), said
    assert "no better than a Gaussian" in said
    assert "more --model.weight_decay" in said
    checkpoint = ["--ckpt_path", BEST, "--trainer.accelerator=cpu"]
    assert "no better than a Gaussian" in call("validate", *checkpoint, *noise(tmp_path))[1]
    few = ["--sampling.num_samples=4", "--sampling.num_steps=2"]
    for command, data in (("test", noise(tmp_path)), ("predict", [])):
        code, said = call(command, *checkpoint, *few, *data, f"--sampling.output={command}")
        assert code == 0, said
        assert "no better than a Gaussian" in (tmp_path / command / "report.html").read_text()


def test_a_run_that_learns_says_nothing_of_the_sort(fit):
    said = fit("--trainer.max_steps=200", "--model.learning_rate=0.02", series=512)
    assert "Gaussian" not in said
    ((loss, linear),) = re.findall(r"val_loss ([\d.]+); linear model ([\d.]+)", said)
    assert float(loss) < 0.95 * float(linear)


def test_a_loss_that_is_no_number_ends_the_run_and_spoils_nothing(call, tmp_path):
    huge = ["--model.learning_rate=1e35", "--trainer.max_steps=64", "--checkpoint.save_on_exception=true"]
    code, said = call("fit", *SMALL, *QUIET, *huge, "--data.length=16", "--data.num_series=64")
    assert code == 1
    (error,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert re.search(r"NaN or infinity at step [1-4]: lower --model.learning_rate, set --trainer.precision", error)
    assert f"the last good checkpoint is {BEST}" in error
    for name in ("best", "last"):
        for tensor in weights(tmp_path / BEST.replace("best", name)).values():
            assert tensor.isfinite().all()


@pytest.mark.slow
def test_an_interrupted_run_says_what_it_leaves(tmp_path):
    """Long before its second validation."""
    args = ["fit", *SMALL, *QUIET, "--data.num_series=64", "--data.length=16", "--trainer.max_steps=10000000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "lightning_freqdiff", *args],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / BEST.replace("best", "last")).exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode != 0
    assert re.search(rf"interrupted: step [\d,]+ after \d+ s\nbest checkpoint: {BEST} \(.*step 0\)", said), said
    assert weights(tmp_path / BEST)


def test_the_bar_counts_no_epochs_that_nobody_asked_for(call, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # what is written is taken for a terminal
    small = [*SMALL, "--trainer.accelerator=cpu", "--data.num_series=64", "--data.length=16"]
    for budget, shown in (("--trainer.max_steps=3", "Epoch 2 "), ("--trainer.max_epochs=3", "Epoch 2/2")):
        code, said = call("fit", *small, budget)
        assert code == 0, said
        assert shown in re.sub(r"\x1b\[[\d;?]*\w", "", said)


def test_a_log_has_lines_and_no_bar(call, monkeypatch):
    monkeypatch.setattr("lightning_freqdiff.callbacks.progress.EVERY", 0.0)
    small = [*SMALL, "--trainer.accelerator=cpu", "--data.num_series=64", "--data.length=16"]
    code, said = call("fit", *small, "--trainer.max_steps=32", "--early_stopping=null")
    assert code == 0, said
    code, drawn = call("predict", f"--ckpt_path={BEST}", "--sampling.num_steps=6", "--sampling.num_samples=5")
    assert code == 0, drawn
    for log in (said, drawn):
        assert not re.search(r"[\r\x1b━█]", log)
    lines = [line for line in said.splitlines() if line.startswith("step ")]
    assert len(lines) == 17
    assert re.fullmatch(r"step 32, epoch \d+: train_loss [\d.]+, val_loss [\d.]+", lines[-1])
    assert "sampling: step 3/6\n" in drawn
    assert re.search(r"sampling: batch 1/1, [\d.e+]+ samples/s\n", drawn)


def test_a_short_run_writes_two_lines(call):
    small = [*SMALL, "--trainer.accelerator=cpu", "--data.num_series=64", "--data.length=16"]
    said = call("fit", *small, "--trainer.max_steps=32", "--early_stopping=null")[1]
    assert [line.split(",")[0] for line in said.splitlines() if line.startswith("step ")] == ["step 0", "step 32"]


def test_without_validation_the_last_checkpoint_is_named(fit, tmp_path):
    said = fit("--trainer.max_steps=3", "--trainer.limit_val_batches=0")
    assert f"last checkpoint: {BEST.replace('best', 'last')}\n" in said
    assert weights(tmp_path / BEST.replace("best", "last"))


def test_a_disk_too_full_for_the_configuration_names_it(call, monkeypatch):
    from lightning.pytorch.cli import SaveConfigCallback

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(SaveConfigCallback, "setup", full)
    code, said = call("fit", *SMALL, *QUIET, "--data.num_series=64", "--data.length=16", "--trainer.max_steps=1")
    assert code == 1
    assert "error: cannot write config.yaml" in said
    assert "No space left on device" in said
    assert "--trainer.logger" in said


def test_a_run_that_cannot_begin_leaves_no_folder(call, tmp_path):
    code, said = call("fit", *SMALL, *QUIET, "--data=ArrayData", "--data.path=none.npy")
    assert code == 1
    assert "none.npy" in said
    assert not list(tmp_path.rglob("version_0"))


def test_a_table_of_metrics_that_cannot_be_written_is_named(tmp_path):
    log = MetricsFile(tmp_path, "fit", "one")
    log.log_metrics({"loss": 1.0}, 1)
    (tmp_path / "fit/one/metrics.csv").symlink_to("/dev/full")
    with pytest.raises(
        OSError, match=r"cannot write .*fit/one/metrics\.csv \(No space left on device\).*`trainer\.logger`"
    ):
        log.save()
    log.finalize("failed")  # which has an error of its own to tell of
    with pytest.raises(OSError, match="metrics"):
        log.finalize("success")


@pytest.mark.parametrize("command", [["fit"], ["predict", "--ckpt_path=C"]])
def test_a_slip_in_the_number_of_processes_starts_none(call, monkeypatch, command):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    code, said = call(*command, "--trainer.devices=99", "--trainer.accelerator=cpu")
    assert (code, said) == (
        1,
        "error: expected at most 8 processes on the 2 cores of this machine, got 99: set --trainer.devices\n",
    )
    with pytest.raises(ValueError, match="got 9: set `devices`"):
        lf.fit(np.random.default_rng(0).normal(size=(9, 8, 1)), devices=9, accelerator="cpu")
    check_processes(8, "cpu")
    check_processes("auto", "cpu")
    check_processes(99, "gpu")
