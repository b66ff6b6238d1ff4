"""Models as folders: what is written, that it reads back to the bit, and what is said of what is no model."""

import json
import shutil

import numpy as np
import pytest
import safetensors.torch
import torch
from huggingface_hub import HfApi, ModelHubMixin
from matplotlib.figure import Figure

import lightning_freqdiff as lf
from lightning_freqdiff import hub

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
SERIES = np.random.default_rng(0).normal(size=(64, 16, 2)).cumsum(1)
FEW = {"num_steps": 12, **QUIET}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory) -> lf.Model:
    run = tmp_path_factory.mktemp("run") / "one"
    return lf.fit(SERIES, network=lf.MLP(layers=1, width=8), max_steps=4, folder=run, **QUIET)


@pytest.fixture
def saved(fitted, tmp_path):
    fitted.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_saved_model_gives_the_same_samples_to_the_bit(fitted, saved):
    assert {p.name for p in saved.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    for model in (lf.load(saved), lf.Model.from_pretrained(str(saved))):
        assert isinstance(model, ModelHubMixin)
        assert (model.channels, model.val_gain, model.shape) == (fitted.channels, fitted.val_gain, fitted.shape)
        np.testing.assert_array_equal(model.sample(3, cache="wiener", **FEW), fitted.sample(3, cache="wiener", **FEW))
    again = saved.with_name("again")
    lf.load(saved).save_pretrained(again)
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (saved / name).read_bytes()


def test_what_was_calibrated_goes_along(fitted, tmp_path):
    calibration = {"wiener.rate": torch.rand(51, dtype=torch.float64), "fastcache.bias.0": torch.rand(8)}
    model = lf.load(fitted.checkpoint_path)
    model.module.score.calibration = calibration
    model.save_pretrained(tmp_path / "saved")
    read = lf.load(tmp_path / "saved").module.score.calibration
    assert read.keys() == calibration.keys()
    for name, value in calibration.items():
        assert torch.equal(read[name], value)
        assert read[name].dtype == value.dtype


def test_the_card_tells_what_was_measured_and_shows_it(fitted, tmp_path, monkeypatch):
    shown = [("At a glance", Figure((1, 1)), "All of them."), ("Channels", Figure((1, 1)), "Side by side.")]
    monkeypatch.setattr("lightning_freqdiff.card.pictures", lambda found: iter(shown))
    model = lf.Model(fitted.module, fitted.checkpoint_path, fitted.data)
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: lightning_freqdiff\n")
    assert "channel 0, channel 1" in card
    assert "fresh real series" not in card
    model.evaluate(num_samples=20, metrics="sw", **FEW)
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert "| sliced_wasserstein | lower |" in card
    for name in ("at-a-glance.png", "channels.png"):
        assert f"]({name})" in card
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_card_of_ones_own_stays(fitted, saved):
    (saved / "README.md").write_text("Mine.")
    fitted.save_pretrained(saved)
    assert (saved / "README.md").read_text() == "Mine."


def test_a_folder_of_something_else_is_left_alone(fitted, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="holds config.json: set `save_directory`"):
        fitted.save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["config.json"]
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match="`save_directory`"):
        fitted.save_pretrained(tmp_path / "file")


def test_a_save_that_fails_leaves_the_model_that_was_there(fitted, saved, monkeypatch):
    before = {p.name: p.read_bytes() for p in saved.iterdir()}
    monkeypatch.setattr(safetensors.torch, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        fitted.save_pretrained(saved)
    assert {p.name: p.read_bytes() for p in saved.iterdir()} == before


def _without(saved, name):
    (saved / name).unlink()


def _cut(saved):
    path = saved / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def _flipped(saved):
    path = saved / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _config(saved, change):
    path = saved / "config.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda saved: _without(saved, "model.safetensors"), "got no model.safetensors"),
        (_cut, "expected whole weights.*model.safetensors cannot be read"),
        (_flipped, "expected the weights that config.json was written with"),
        (lambda saved: (saved / "config.json").write_text("{"), "config.json to be JSON"),
        (lambda saved: (saved / "config.json").write_text("[]"), "of another project"),
        (lambda saved: _config(saved, lambda c: c.pop("lightning_freqdiff")), "of another project"),
        (lambda saved: _config(saved, lambda c: c["hyper_parameters"].update(shape=[12, 2])), "does not fit"),
        (
            lambda saved: _config(saved, lambda c: c["hyper_parameters"].update(colours=1)),
            "settings that this version",
        ),
        (
            lambda saved: _config(saved, lambda c: c["hyper_parameters"].update(network="No")),
            "settings that this version",
        ),
    ],
)
def test_a_broken_folder_says_so_in_one_line(saved, spoil, says):
    spoil(saved)
    with pytest.raises((ValueError, OSError), match=says) as caught:
        lf.load(saved)
    assert "\n" not in str(caught.value)
    assert "`path`" in str(caught.value)


def test_without_a_configuration_there_is_nothing_to_load(saved):
    _without(saved, "config.json")
    with pytest.raises(FileNotFoundError, match="no config.json"):
        lf.Model.from_pretrained(saved)


@pytest.fixture
def reached(monkeypatch) -> list[str]:
    """What was asked of the Hub."""
    asked = []

    def fetch(repository, **settings):
        asked.append(repository)
        raise OSError("offline\nand far away")

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    return asked


def test_nothing_is_fetched_but_for_the_id_of_a_repository(reached, saved):
    lf.Model.from_pretrained(saved)
    for name in ("none", "./no/where", str(saved / "none"), "a/b/c", str(saved / "config.json")):
        with pytest.raises(FileNotFoundError, match="a folder, or the id of a repository"):
            lf.Model.from_pretrained(name)
    with pytest.raises(FileNotFoundError):
        lf.load("user/name")
    assert not reached
    with pytest.raises(OSError, match="a repository that can be reached, got 'user/name' .offline and far away"):
        lf.Model.from_pretrained("user/name")
    assert reached == ["user/name"]


def test_pulling_is_reading_what_was_fetched(monkeypatch, saved, fitted):
    asked = {}
    monkeypatch.setattr(hub, "snapshot_download", lambda name, **settings: asked.update(settings) or str(saved))
    model = lf.Model.from_pretrained("user/name", revision="v1")
    assert asked == {"allow_patterns": ["config.json", "model.safetensors"], "revision": "v1"}
    np.testing.assert_array_equal(model.sample(2, **FEW), fitted.sample(2, **FEW))


def test_pushing_uploads_the_folder_when_asked_and_only_then(monkeypatch, tmp_path, fitted):
    sent = []

    def upload(self, *, repo_id, folder_path, **_):
        shutil.copytree(folder_path, tmp_path / "sent", dirs_exist_ok=True)
        sent.append(repo_id)
        return "address"

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **_: type("Repo", (), {"repo_id": repo_id}))
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    fitted.save_pretrained(tmp_path / "saved")
    assert not sent
    assert fitted.push_to_hub("user/name", private=True) == "address"
    assert sent == ["user/name"]
    assert lf.load(tmp_path / "sent").channels == fitted.channels
    fitted.save_pretrained(tmp_path / "other", push_to_hub=True, repo_id="user/other")
    assert sent == ["user/name", "user/other"]
