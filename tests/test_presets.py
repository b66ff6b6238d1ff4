"""Presets by name, as they are shipped, and by path."""

import json
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from lightning_freqdiff import presets
from lightning_freqdiff.__main__ import main

ROOT = Path(__file__).parents[1]


@pytest.fixture
def call(monkeypatch, tmp_path, capfd, blank_pictures):
    """Run the command line in this process, in an empty folder: its code, and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code
        return code, "".join(capfd.readouterr())

    return run


def test_every_file_has_a_name_of_its_own_and_says_what_it_is():
    files = [path for kind in presets.KINDS for path in (ROOT / kind).glob("*.yaml")]
    assert sorted(presets.shipped()) == sorted(path.stem for path in files)
    for path in files:
        first, second = path.read_text().splitlines()[:2]
        assert first.startswith("# ")
        assert first.endswith("."), f"{path.name}: a sentence that goes on in the second line"
        assert presets.summary(path) == first[2:]
        assert len(first) > 40 or second.startswith("#")


def test_a_wheel_has_them_inside(monkeypatch, tmp_path):
    (tmp_path / "shipped/configs").mkdir(parents=True)
    (tmp_path / "shipped/configs/mine.yaml").write_text("# Mine.\n")
    (tmp_path.parent / "configs").mkdir(exist_ok=True)  # a folder beside the package is nobody's
    monkeypatch.setattr(presets, "__file__", str(tmp_path / "presets.py"))
    assert list(presets.shipped()) == ["mine"]


def test_a_path_comes_first_and_a_name_needs_no_suffix(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shipped = presets.shipped()["wiener"]
    assert presets.locate("wiener", "config") == presets.locate("wiener.yaml", "config") == shipped
    Path("wiener").mkdir()  # no file
    assert presets.locate("wiener", "config") == shipped
    Path("ecg").write_text("trainer: {}")
    with pytest.warns(UserWarning, match="`config` ecg is taken for the file"):
        assert presets.locate("ecg", "config") == Path("ecg")


def test_names_of_another_kind_are_not_taken():
    with pytest.raises(FileNotFoundError, match="such as wiener"):
        presets.locate("wienr", "callbacks", ["callbacks"])


def test_a_configuration_by_name_beside_one_by_path(call, tmp_path):
    (tmp_path / "mine.yaml").write_text("model: {learning_rate: 0.5}\ntrainer: {max_steps: 7}")
    code, said = call("fit", "--config=sines", "--config=mine.yaml", "--print_config")
    assert code == 0, said
    config = OmegaConf.create(said[said.index("seed_everything") :])
    assert config.data.class_path.endswith("Sines")
    assert (config.trainer.max_steps, config.model.learning_rate) == (7, 0.5)
    assert config.model.network.init_args.axis == "time"


def test_caches_by_name(call, checkpoint, tmp_path):
    few = [f"--ckpt_path={checkpoint}", "--sampling.num_samples=2", "--sampling.num_steps=12"]
    code, said = call("predict", *few, "--config", "wiener", "--config=wandb.yaml", "--trainer.logger=false")
    assert code == 0, said
    assert json.loads((tmp_path / "samples/manifest.json").read_text())["reports"][0]["cache"] == "Wiener"
    code, said = call("compare", *few, "--callbacks", "wiener", "fixed", "--rounds=1", "--solvers=false")
    assert code == 0, said
    rows = json.loads((tmp_path / "comparison/compare.json").read_text())["runs"]
    assert {row["name"] for row in rows} == {"uncached", "wiener", "fixed"}


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fit", "--config=egc"], "such as ecg"),
        (["fit", "--config=configs/none.yaml"], "configs/none.yaml"),
        (["compare", "--ckpt_path=CKPT", "--callbacks", "wienr"], "such as wiener"),
        (["compare", "--ckpt_path=CKPT", "--callbacks", "ecg"], "expected a preset of the form"),
    ],
)
def test_an_unknown_preset_ends_in_one_line(call, checkpoint, args, says):
    code, said = call(*(arg.replace("CKPT", str(checkpoint)) for arg in args))
    assert code in (1, 2)
    (error,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert says in error
    assert "--config" in error or "--callbacks" in error


def test_the_command_lists_them(call):
    code, said = call("presets")
    assert code == 0
    for name, path in presets.shipped().items():
        assert any(line.split()[:1] == [name] and presets.summary(path) in line for line in said.splitlines())
