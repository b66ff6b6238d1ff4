"""W&B without an account: runs are offline, and are read back from their files."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from wandb_file import read_run, records

from lightning_freqdiff.__main__ import main

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SMALL = [
    "--model.network=Transformer",
    "--model.network.layers=1",
    "--model.network.width=8",
    "--model.network.heads=2",
    "--model.network.feedforward=8",
]
MONITOR = ["every_n_validations=1", "num_samples=12", "num_steps=6", "num_directions=20"]
SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def project(tmp_path) -> Path:
    for name in ("configs", "callbacks"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def shell(args, cwd, **more) -> str:
    """Run a command with no account: no key, no netrc."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB")}
    environment = {**kept, "HOME": str(cwd), "OMP_NUM_THREADS": "1", "MY_SECRET": SECRET, **more}
    done = subprocess.run(args, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def command(*args) -> list[str]:
    return [sys.executable, "-m", "lightning_freqdiff", *args]


def runs(folder: Path) -> list[Path]:
    return sorted(folder.glob("runs/wandb/offline-run-*/*.wandb"))


@pytest.mark.parametrize("processes", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_fit_logs_one_offline_run_that_holds_everything(project, processes):
    many = ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp"] if processes == 2 else []
    args = ["--config=callbacks/wandb.yaml", "--data.num_series=96", "--data.length=16", "--trainer.max_epochs=2"]
    said = shell(command("fit", *args, *SMALL, *(f"--trainer.callbacks.{s}" for s in MONITOR), *many), project)
    assert said.count("upload it later with: wandb sync") == 1
    (path,) = runs(project)
    run = read_run(path)
    sampled = [row for row in run["history"] if "samples/sw_time/mean" in row]
    assert len(sampled) == 2  # validations with new weights: one a step
    for row in sampled:
        assert row["samples/sw_time/floor"] > 0
        assert row["samples/samples"]["_type"] == "image-file"
        assert row["samples/spectra"]["_type"] == "image-file"
        table = json.loads((path.parent / "files" / row["samples/distances"]["path"]).read_text())
        assert table["columns"] == [
            "metric",
            "samples (12)",
            "samples (10)",
            "floor, real series (10)",
            "half against half (43)",
            "mean series (1)",
        ]
        assert [line[0] for line in table["data"]] == ["sw_time", "sw_frequency", "marginal", "spectral"]
        assert (path.parent / "files" / row["samples/samples"]["path"]).stat().st_size > 1000
    losses = [row["trainer/global_step"] for row in run["history"] if "val_loss" in row]
    assert losses[0] == 0  # before the first step, when there is nothing to sample
    assert [row["trainer/global_step"] for row in sampled] == [step + 1 for step in losses[1:]]
    assert run["summary"]["samples/sw_time/mean"] == sampled[-1]["samples/sw_time/mean"]
    config = run["config"]
    assert config["times"] == "lognormal"
    assert config["data"]["class_path"] == "lightning_freqdiff.SyntheticECG"
    assert config["data"]["init_args"]["num_series"] == 96
    assert config["trainer"]["max_epochs"] == 2
    assert config["seed_everything"] == 0
    (folder,) = (project / "runs" / "freqdiff").iterdir()
    left = {p.name for p in folder.iterdir()}
    assert {"config.yaml", "samples.png", "spectra.png", "evaluation.csv", "checkpoints"} <= left
    # Nothing that tells where the run was made: no list of packages, no name of the machine.
    assert {p.name for p in path.parent.glob("files/*.*")} <= {"wandb-summary.json", "output.log"}
    hosts = [record.run.host for record in records(path) if record.WhichOneof("record_type") == "run"]
    assert set(hosts) == {""}
    # Nothing private: no path in what is logged (W&B's own staging paths are not), no environment anywhere.
    assert str(project) not in json.dumps([run["config"], run["history"], run["summary"]])
    for file in [path, *path.parent.glob("files/*.*"), folder / "config.yaml"]:
        assert SECRET.encode() not in file.read_bytes()


def test_predict_logs_the_cache(project, checkpoint):
    args = ["--sampling.num_samples=4", "--sampling.num_steps=20", "--data=SyntheticECG", "--data.length=64"]
    shell(
        command(
            "predict", f"--ckpt_path={checkpoint}", "--config=callbacks/wandb.yaml", "--config=callbacks/e2crf.yaml",
            *args, "--data.num_series=64",
        ),
        project,
    )  # fmt: skip
    (path,) = runs(project)
    run = read_run(path)
    (row,) = [r for r in run["history"] if "samples/sw_time/mean" in r]
    assert 0 < row["samples/cache/flops_fraction"] <= 1
    assert row["samples/cache"]["_type"] == "image-file"
    assert row["samples/samples_per_second"] > 0
    assert run["summary"]["samples/cache/hit_rate"] == row["samples/cache/hit_rate"]
    page = (project / "samples" / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert "<script" not in page
    assert "<th>samples (4)</th><th>floor, real series (4)</th>" in page
    assert "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "sweeps").glob("[ct]*.yaml")), ids=lambda p: p.stem)
def test_sweeps_run_as_the_agent_runs_them(project, checkpoint, path):
    """Draw parameters, build the command as the agent does, run it small, and find the metric in the summary."""
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    sweep = yaml.safe_load(path.read_text())
    drawn = {}
    for name, spec in sweep["parameters"].items():
        drawn[name] = {"value": spec["values"][0] if "values" in spec else spec["min"]}
    variables = {"CKPT": str(checkpoint), "DATA": "SyntheticECG"}
    os.environ.update(variables)  # the agent reads them from its own environment
    try:
        built = create_sweep_command(sweep["command"])
    finally:
        for name in variables:
            del os.environ[name]
    args = []
    for piece in built:
        args += create_sweep_command_args({"args": drawn})["args"] if piece == "${args}" else [piece]
    args = [sys.executable if a == "${interpreter}" else a for a in args if a not in ("${env}", "/usr/bin/env")]
    args = [sys.executable if a == "python" else a for a in args]
    small = ["--data.num_series=64", "--data.length=64"]
    if "fit" in args:
        small += ["--trainer.max_epochs=1", *(f"--trainer.callbacks.{s}" for s in MONITOR)]
    else:
        small += ["--sampling.num_samples=3", "--sampling.num_steps=12"]
    shell([*args, *small], project, WANDB_RUN_ID="abc12345")
    (file,) = runs(project)
    assert file.name == "run-abc12345.wandb"
    summary = read_run(file)["summary"]
    assert isinstance(summary[sweep["metric"]["name"]], float)
    if "predict" in args:
        assert (project / "runs" / "sweep" / "abc12345" / "samples.npy").exists()


def test_test_on_two_processes_gives_the_values_of_one(project, checkpoint, monkeypatch):
    args = ["test", f"--ckpt_path={checkpoint}", "--data=SyntheticECG", "--data.length=64", "--data.num_series=128"]
    args += ["--sampling.num_samples=20", "--sampling.num_steps=10"]
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *args, "--sampling.output=one"])
    main()
    two = ["--trainer.devices=2", "--trainer.accelerator=cpu", "--trainer.strategy=ddp"]
    shell(command(*args, "--sampling.output=two", *two), project)
    one, both = (
        dict(
            zip(
                *[line.split(",") for line in (project / name / "evaluation.csv").read_text().splitlines()],
                strict=True,
            )
        )
        for name in ("one", "two")
    )
    assert one.keys() == both.keys()
    for name, value in one.items():
        assert float(both[name]) == pytest.approx(float(value), rel=1e-3), name
    assert (project / "two" / "report.html").exists()


def test_of_a_data_set_its_name_is_logged_and_not_where_it_lies(project):
    rows = np.random.default_rng(0).normal(size=(40, 8, 1)).astype(np.float32)
    (project / "private").mkdir()
    np.save(project / "private" / "beats.npy", rows)
    args = ["--config=callbacks/wandb.yaml", "--data=ArrayData", f"--data.path={project}/private/beats.npy"]
    shell(command("fit", *args, *SMALL, "--trainer.max_steps=1", "--trainer.callbacks.num_samples=2"), project)
    (path,) = runs(project)
    assert read_run(path)["config"]["data"]["init_args"]["path"] == "beats.npy"
    assert b"private/beats" not in path.read_bytes()
