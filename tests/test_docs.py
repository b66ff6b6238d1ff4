"""What the documents say can be done: commands and Python run, figures are those measured, paths exist."""

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import raw_files
import torch
import yaml

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.checkpoint import MARK
from lightning_freqdiff.cli.commands import STUDIES
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.vocabulary import Column, Vocabulary

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(document: Path, language: str) -> list[str]:
    """The code blocks of a document in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)


def lines_of(block: str) -> list[str]:
    """Lines of a shell block, put together where they go on, without comments."""
    lines = [line.split("#")[0].strip() for line in block.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines if line]


SHELL = list(dict.fromkeys(line for path in DOCUMENTS for block in blocks(path, "sh") for line in lines_of(block)))
LAUNCHED = re.compile(r"(?:srun python|torchrun .*?|python) -m lightning_freqdiff (.*)")
COMMANDS = list(dict.fromkeys(found[1] for line in SHELL if (found := LAUNCHED.fullmatch(line))))
SMALL = [
    "--model.network=Transformer",
    *(
        "--model.network.layers=1",
        "--model.network.width=8",
        "--model.network.heads=2",
        "--model.network.feedforward=8",
    ),
]


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """A folder with small files of every data set, as published, and a cache that the tests share."""
    folder = tmp_path_factory.mktemp("published")
    raw_files.everything(folder)
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch, checkpoint, published, blank_pictures):
    """A folder with what the documents name: the presets, a checkpoint, series of one's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("configs", "callbacks"):
        (tmp_path / name).symlink_to(ROOT / name)
    series = np.random.default_rng(0).normal(size=(40, 187, 1)).astype(np.float32)
    np.save("series.npy", series)
    gaps = series[:3, :64].copy()
    gaps[:, 10:30] = np.nan
    np.save("gaps.npy", gaps)
    Path("samples").mkdir()
    np.save("samples/samples.npy", series[:12] + 1)
    raw_files.own_tables(tmp_path)
    lists = {"a": list(series[:, :64, 0]), "b": list(series[:, 64:128, 0])}
    (tmp_path / "shards").mkdir()
    pyarrow.parquet.write_table(pyarrow.table(lists), "shards/0.parquet")
    (tmp_path / "data").symlink_to(published)
    monkeypatch.setenv("FREQDIFF_DATA", str(published))
    monkeypatch.setenv("FREQDIFF_CACHE", str(published / "cache"))
    for place in ("C", "runs/fit/version_0/checkpoints/best.ckpt", "runs/fit/version_0/checkpoints/last.ckpt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(checkpoint.read_bytes())
    save_told(tmp_path / "told.ckpt")
    yield tmp_path
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()  # a run belongs to its process, which here goes on to the next test


def save_told(path: Path) -> None:
    """A checkpoint of a model that knows labels and static covariates, and was never trained."""
    words = Vocabulary(("N", "V"), (Column("age", (), 60.0, 10.0), Column("sex", ("f", "m"))), label="kind")
    network = lf.UNet(width=8, heads=2)
    module = ScoreModule(network, shape=(9, 1), conditions=words.sizes)
    facts = {"version": lf.__version__, "vocabulary": words.as_dict(), "channels": ["lead"]}
    torch.save({"state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams), MARK: facts}, path)


def run(monkeypatch, args) -> int:
    monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *args])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def test_documents_have_commands():
    assert len(COMMANDS) > 40


def cut_down(args: list[str]) -> list[str]:
    """The words of a command with less work: one batch, few steps, one process."""
    if {"--help", "--print_config"} & set(args) or any(word.endswith(".help") for word in args):
        return args
    few = ["--sampling.num_steps=6", "--sampling.num_samples=4"]
    if args[0] in STUDIES:
        studied = ["--sampling.num_steps=8", "--sampling.num_samples=2"]
        more = {
            "compare": [*studied, "--rounds=1", "--data.length=64", "--data.num_series=64"],
            "tune": [*studied, "--tolerance=0.99", "--families", "fixed", "--confirm=2", "--output=presets"],
            "calibrate": studied,
            "distill": ["--lessons=64", "--max_steps=2"],
            "describe": [],
            "backtest": [*studied, "--horizon=14", "--origins=2", "--data.num_series=64"],
            "presets": [],
            "evaluate": ["--metrics=skewness"],
            "app": ["--help"],  # it serves until Ctrl-C, and has tests of its own
        }
        return args + more[args[0]]
    one = (
        ["--trainer.devices=1", "--trainer.num_nodes=1", "--trainer.strategy=auto"]
        if {"ddp", "fsdp2"} & set(args)
        else []
    )
    if "--ckpt_path" in args and args[0] == "fit":  # the checkpoint at hand is of shorter series, four epochs old
        return [*args, "--data.length=64", "--trainer.max_epochs=5", "--trainer.limit_train_batches=1"]
    if args[0] == "test":
        return [*args, *few, "--data.length=64", "--data.num_series=128"]
    if args[0] == "fit":
        small = SMALL if "LSTM" not in args else []
        return [*args, *one, *small, "--trainer.fast_dev_run=1", "--model.compile=false"]
    plain = ["--model.compile=false"] if "--model.compile" in args else []
    # What E²-CRF warns of at so few steps is not what is tried here.
    few = ["--sampling.num_samples=4"] if "student.ckpt" in args else few  # its calls are its own
    return [*args, *one, *few, *plain, "--sampling.output=out"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*", "ignore:.*nothing was recomputed.*")
@pytest.mark.filterwarnings("ignore:.*a part of the data set is used.*", "ignore:Skipping batch size scaler.*")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_documents_commands_run(project, monkeypatch, capfd, calls_for_seconds, command):
    """Each command to its end, but with the work cut down."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    # The files are there, the network is not.
    args = shlex.split(os.path.expandvars(command.replace("--data.download true", "--data.path data")))
    if "student.ckpt" in args and args[0] == "predict":
        assert (
            run(monkeypatch, cut_down(["distill", "--ckpt_path", "C", "--calls", "4", "--output", "student.ckpt"]))
            == 0
        )
    elif {"tuned", "Fitted"} & set(args):  # needs what the command before it left
        assert run(monkeypatch, cut_down(["calibrate", "--ckpt_path", "C"])) == 0
    assert run(monkeypatch, cut_down(args)) == 0, capfd.readouterr().err


@pytest.mark.parametrize("line", [line for line in SHELL if not LAUNCHED.fullmatch(line)])
def test_what_else_is_typed_can_be(line):
    """Installing, `make`, a job's first lines, a sweep: that what they name is there."""
    words = shlex.split(line, comments=False)
    project = (ROOT / "pyproject.toml").read_text()
    match words:
        case ["pip", "install", *what]:
            assert (ROOT / "constraints.txt").exists()
            for extra in re.findall(r"\[(\w+)\]", " ".join(what)):
                assert re.search(rf"^{extra} = \[", project, re.MULTILINE)
        case ["make", target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case ["wandb", "sweep", path]:
            assert yaml.safe_load((ROOT / path).read_text())["command"]
        case ["wandb", "agent", *_] | ["export", *_]:
            pass
        case _:
            raise AssertionError(f"nothing says whether this can be done: {line}")


def test_a_job_is_shell():
    scripts = [block for path in DOCUMENTS for block in blocks(path, "sh") if block.startswith("#!/bin/bash")]
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)
        tasks, devices = re.search(r"--ntasks-per-node=(\d+)", script), re.search(r"--trainer.devices (\d+)", script)
        assert tasks is not None
        assert devices is not None
        assert tasks[1] == devices[1], "one task for each device"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*", "ignore:.*nothing was recomputed.*")
@pytest.mark.parametrize("path", sorted((ROOT / "callbacks").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_callback_preset_plugs_in(project, monkeypatch, capfd, path):
    if path.stem == "deepcache":  # which the checkpoint at hand, a transformer, has no levels for
        args = ["fit", "--model.network=UNet", "--model.network.width=8", "--trainer.max_steps=1"]
        assert run(monkeypatch, [*args, "--data.num_series=64", "--data.length=32", "--checkpoint.dirpath=unet"]) == 0
        Path("C").write_bytes(Path("unet/best.ckpt").read_bytes())
    if "Run calibrate first." in path.read_text():
        assert run(monkeypatch, cut_down(["calibrate", "--ckpt_path", "C"])) == 0
    args = ["predict", "--ckpt_path=C", f"--config=callbacks/{path.name}", "--sampling.num_steps=6"]
    assert run(monkeypatch, [*args, "--sampling.num_samples=4", "--sampling.output=out"]) == 0, capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:.*a part of the data set is used.*")
@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_runs(project, monkeypatch, capfd, path):
    args = ["fit", f"--config=configs/{path.name}", "--trainer.fast_dev_run=1"]
    args += [] if "paper" not in path.stem else SMALL[1:]
    assert run(monkeypatch, args) == 0, capfd.readouterr().err


LESS = {
    r'max_time="[\d:]+"|max_steps=\d+': 'max_steps=2, network="MLP", enable_progress_bar=False',
    r"num_steps=(?:1000|200|50)\b": "num_steps=12",
    r"num_samples=\d+": "num_samples=8",
    r"sample\((?:16|64|256)\b": "sample(2",
    r"lf\.SyntheticECG\(.*?\)": "lf.SyntheticECG(num_series=128, length=64)",
    r"count=1000": "count=64",
    r"tolerance=0\.03, num_steps=12": 'tolerance=0.99, caches=["fixed"], num_samples=2, confirm=2, num_steps=12',
    r"evaluate\((?!.*metrics)(.*?)\)": r'evaluate(\1, metrics="sw")',
    r'sample\(2, cache="wiener"\)': 'sample(2, cache="wiener", num_steps=12)',
    r'accelerator="auto", devices="auto"': 'accelerator="cpu", devices=1',
    r"distill\(model, 4\)": "distill(model, 4, lessons=64, max_steps=2, enable_progress_bar=False)",
    r'output="compared"': 'output="compared", rounds=1, solvers=False',
    r"backtest\(12": "backtest(12, origins=2",
}
"""What is cut down in Python: a reader waits some minutes for it."""
PYTHON = [path for path in DOCUMENTS if blocks(path, "python")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*", "ignore:.*nothing was recomputed.*")
@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_the_documents_python_runs(project, calls_for_seconds, path):
    """All of a document's blocks, one after the other, as they stand but for their budget."""
    scope: dict[str, Any] = {"__name__": path.stem}
    for block in blocks(path, "python"):
        for given, less in LESS.items():
            block = re.sub(given, less, block)
        if path.stem == "conditional":  # an MLP cannot be told anything
            block = block.replace('network="MLP"', "network=lf.UNet(width=8, heads=2)")
        exec(compile(block, path.name, "exec"), scope)
    if path.name == "README.md":
        assert scope["series"].shape == (2, 187, 1)
        assert lf.load("mine").shape == scope["model"].shape


def test_the_readmes_table_is_what_was_measured():
    text = (ROOT / "README.md").read_text()
    measured = json.loads((ROOT / "benchmarks/results/compare-ecg_mitbih-unet/compare.json").read_text())
    runs, count = measured["runs"], measured["sampling"]["num_samples"]
    assert f"{count} samples" in text
    for name, words in {
        "wiener-fast": "fastest cache",
        "fitted-8": "few steps of the ODE",
        "dpm++2m-sde-26": "few steps of the SDE",
        "e2crf": "E²-CRF on whole calls",
        "uncached": "uncached, 1,000",
    }.items():
        (row,) = [run for run in runs if run["name"] == name]
        (line,) = [line for line in text.splitlines() if line.startswith(f"| {words}")]
        _, _, calls, seconds, speed, distance, change, _ = (cell.strip() for cell in line.split("|"))
        assert float(calls.replace(",", "")) == round(row["network_calls"])
        assert float(seconds) == pytest.approx(row["seconds"] / count, abs=0.005)
        assert float(speed.rstrip("×")) == pytest.approx(row["speedup"], abs=0.05)
        assert float(change.rstrip(" %²")) == pytest.approx(100 * row["sw_time_change"], abs=0.05)
        if row["kind"] == "cache":
            mean, median = map(float, re.findall(r"[\d.]+", distance))
            assert (mean, median) == pytest.approx((row["relative_l2"], row["relative_l2_median"]), abs=5e-4)
    fastest = max((run for run in runs if run["kind"] == "cache"), key=lambda run: run["speedup"])
    assert fastest["name"] == "wiener-fast"
    ways = json.loads((ROOT / "benchmarks/results/peers.json").read_text())["batches"]["64"]["rows"]
    over = {row["name"]: row["over_reference"]["ratio"] for row in ways}
    assert f"{1 / over['ours, uncached']:.2f}×" in text
    assert f"{over['ours, uncached']:.1f} times faster, and {max(over.values()):.0f} times" in " ".join(text.split())


def test_the_readmes_quality_is_what_was_measured():
    cells = [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in (ROOT / "README.md").read_text().splitlines()
        if re.match(r"\| (\||samples|Gaussian)", line)
    ]
    (names, samples, gaussian) = [row[-9:] for row in cells if "droughts" in row or row[0] in ("samples", "Gaussian")]
    known = {"heartbeats": "ecg", "ETTh1": "ett"}
    runs = json.loads((ROOT / "benchmarks/results/quality.json").read_text())["runs"]
    first = [run for run in runs if run["seed"] == 0]  # and not the seed that did best
    best = {run["set"]: run for run in sorted(first, key=lambda run: -run["over_floor"])}
    assert {known.get(name, name.lower().replace(" ", "-")) for name in names} == set(best)
    for name, ours, linear in zip(names, samples, gaussian, strict=True):
        row = best[known.get(name, name.lower().replace(" ", "-"))]
        assert float(ours) == pytest.approx(row["over_floor"], abs=0.005)
        assert float(linear) == pytest.approx(row["ceiling"]["sw_time"] / row["floor"]["sw_time"], abs=0.005)
    assert all(float(a) <= float(b) for a, b in pairwise(samples))


def test_every_setting_has_a_line_of_help(monkeypatch, capfd):
    assert run(monkeypatch, ["predict", "--help"]) == 0
    text = capfd.readouterr().out
    ours = re.findall(r"^  --((?:model|sampling)\.\w+) [^\n]*\n?\s*([^\n]*)", text, re.MULTILINE)
    assert len(ours) > 15
    assert not [name for name, line in ours if line.startswith("(type")]


def test_the_reference_has_every_name_of_the_front_door():
    page = (ROOT / "docs/reference/index.md").read_text()
    assert not [name for name in lf.__all__ if not re.search(rf"\b{name}\b", page)]


def test_the_reference_has_every_room():
    pages = "".join(path.read_text() for path in (ROOT / "docs/reference").glob("*.md"))
    rooms = {path.parent.name for path in (ROOT / "lightning_freqdiff").glob("*/__init__.py")} - {"cli", "app"}
    assert not [room for room in rooms if f"::: lightning_freqdiff.{room}/\n" not in pages]


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 125


def test_paths_in_documents_exist():
    """As they lie in the repository; that they exist on the site, too, is seen when it is built."""
    for document in [*DOCUMENTS, ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"]:
        for target in re.findall(r"\]\(\s*([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document} points to {target}"
