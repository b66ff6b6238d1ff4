"""What the documents say can be done: commands parse, YAML files run, paths exist."""

import re
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import raw_files

from lightning_freqdiff.__main__ import main
from lightning_freqdiff.cli.commands import STUDIES
from lightning_freqdiff.cli.trainer import CLI

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.replace("\\\n", " ").split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in re.split(r"(?<!\\)\n", block)
    if line.startswith("python -m lightning_freqdiff")
]
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
    """A folder with what the README's commands name: the presets, a checkpoint, series of one's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("configs", "callbacks"):
        (tmp_path / name).symlink_to(ROOT / name)
    series = np.random.default_rng(0).normal(size=(40, 187, 1)).astype(np.float32)
    np.save("series.npy", series)
    Path("samples").mkdir()
    np.save("samples/samples.npy", series[:12] + 1)
    raw_files.own_tables(tmp_path)
    (tmp_path / "data").symlink_to(published)
    monkeypatch.setenv("FREQDIFF_DATA", str(published))
    monkeypatch.setenv("FREQDIFF_CACHE", str(published / "cache"))
    for place in ("C", "runs/fit/version_0/checkpoints/best.ckpt", "runs/fit/version_0/checkpoints/last.ckpt"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(checkpoint.read_bytes())
    yield tmp_path
    if "wandb" in sys.modules:
        sys.modules["wandb"].finish()  # a run belongs to its process, which here goes on to the next test


def run(monkeypatch, args) -> int:
    monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *args])
    try:
        main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def test_the_readme_has_commands():
    assert len(COMMANDS) > 10


@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*", "ignore:.*nothing was recomputed.*")
@pytest.mark.filterwarnings("ignore:.*a part of the data set is used.*", "ignore:Skipping batch size scaler.*")
@pytest.mark.parametrize("command", COMMANDS)
def test_the_readmes_commands_run(project, monkeypatch, capfd, calls_for_seconds, command):
    """Each command to its end, but with the work cut down: one batch, few steps, one process."""
    # The files are there, the network is not.
    args = shlex.split(command.replace("--data.download true", "--data.path data"))[3:]
    if "--help" in args or "--print_config" in args:
        pass
    elif args[0] in STUDIES:
        few = ["--sampling.num_steps=8", "--sampling.num_samples=2"]
        args += {
            "compare": [*few, "--rounds=1", "--data.length=64", "--data.num_series=64"],
            "tune": [*few, "--tolerance=0.99", "--families", "fixed", "--confirm=2", "--output=presets"],
            "calibrate": few,
            "describe": [],
            "presets": [],
            "evaluate": ["--metrics=skewness"],
        }[args[0]]
    elif "--ckpt_path" in args and args[0] == "fit":  # the checkpoint at hand is of shorter series, four epochs old
        args += ["--data.length=64", "--trainer.max_epochs=5", "--trainer.limit_train_batches=1"]
    elif args[0] == "test":
        args += ["--data.length=64", "--data.num_series=128", "--sampling.num_steps=6", "--sampling.num_samples=4"]
    elif args[0] == "fit":
        args += ["--trainer.fast_dev_run=1", "--model.compile=false"]
        args += SMALL if "LSTM" not in args else []
    else:
        args += ["--sampling.num_steps=6", "--sampling.num_samples=4", "--sampling.output=out"]
        args += ["--model.compile=false"] if "--model.compile" in args else []
        args += ["--trainer.devices=1", "--trainer.strategy=auto"] if "ddp" in args else []
    assert run(monkeypatch, args) == 0, capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*", "ignore:.*nothing was recomputed.*")
@pytest.mark.parametrize("path", sorted((ROOT / "callbacks").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_callback_preset_plugs_in(project, monkeypatch, capfd, path):
    args = ["predict", "--ckpt_path=C", f"--config=callbacks/{path.name}", "--sampling.num_steps=6"]
    assert run(monkeypatch, [*args, "--sampling.num_samples=4", "--sampling.output=out"]) == 0, capfd.readouterr().err


@pytest.mark.filterwarnings("ignore:.*a part of the data set is used.*")
@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_runs(project, monkeypatch, capfd, path):
    args = ["fit", f"--config=configs/{path.name}", "--trainer.fast_dev_run=1"]
    args += [] if "paper" not in path.stem else SMALL[1:]
    assert run(monkeypatch, args) == 0, capfd.readouterr().err


def test_the_readmes_python_runs(project, blank_pictures):
    """As it stands, but for its budget and its metrics."""
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    small = 'max_steps=2, network="MLP", enable_progress_bar=False'
    scope: dict[str, Any] = {}
    changes = {
        'max_time="00:00:02:00"': small,
        "sample(64": "sample(2",
        'cache="wiener"': 'cache="fixed", num_steps=40',
    }
    changes |= {"num_samples=64, num_steps=50": 'num_samples=8, num_steps=5, metrics="sw"'}
    for given, less in changes.items():
        assert given in block
        block = block.replace(given, less)
    exec(block, scope)
    assert scope["series"].shape == (2, 187, 1)
    assert scope["lf"].load("mine").shape == scope["model"].shape


def test_every_setting_has_a_line_of_help(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", "predict", "--help"])
    with pytest.raises(SystemExit):
        CLI()
    text = capfd.readouterr().out
    ours = re.findall(r"^  --((?:model|sampling)\.\w+) [^\n]*\n?\s*([^\n]*)", text, re.MULTILINE)
    assert len(ours) > 15
    assert not [name for name, line in ours if line.startswith("(type")]


def test_paths_in_documents_exist():
    for document in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"):
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
            assert ((ROOT / document).parent / target).exists(), f"{document} points to {target}"
