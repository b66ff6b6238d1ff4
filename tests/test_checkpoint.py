import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging

from lightning_freqdiff.checkpoint import MARK, file_hash, read_checkpoint
from lightning_freqdiff.components import as_settings
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer, UNet
from lightning_freqdiff.sampling import Sampling, WorkUnit


def test_reads_its_own(checkpoint):
    content = read_checkpoint(checkpoint)
    assert content["hyper_parameters"]["shape"] == [64, 1]
    assert len(file_hash(checkpoint)) == 64


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="`ckpt_path`"):
        read_checkpoint(tmp_path / "none.ckpt")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_cut_short(checkpoint, tmp_path, share):
    whole = Path(checkpoint).read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"whole checkpoint.*`ckpt_path`"):
        read_checkpoint(tmp_path / "cut.ckpt")


def test_not_a_checkpoint(tmp_path):
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(ValueError, match="`ckpt_path`"):
        read_checkpoint(tmp_path / "text.ckpt")


@pytest.mark.parametrize("content", [{"state_dict": {}}, [1, 2], torch.zeros(3)])
def test_of_another_project(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="another project"):
        read_checkpoint(tmp_path / "other.ckpt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    for save in (
        lambda p: torch.save({"lightning_freqdiff": Bomb()}, p),
        lambda p: p.write_bytes(pickle.dumps(Bomb())),
    ):
        save(tmp_path / "bomb.ckpt")
        with pytest.raises(ValueError, match="`ckpt_path`"):
            read_checkpoint(tmp_path / "bomb.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_components_are_written_as_plain_settings():
    settings = as_settings(Transformer(layers=3))
    assert settings["class_path"].endswith("Transformer")
    assert settings["init_args"]["layers"] == 3

    @dataclass
    class Mine:
        a: int = 1

    assert as_settings(Mine())["init_args"] == {"a": 1}
    with pytest.raises(ValueError, match="dataclass"):
        as_settings(object())


OLD_CLASSES = {
    "lightning_freqdiff.networks.Transformer": "lightning_freqdiff.networks.transformer.Transformer",
    "lightning_freqdiff.diffusion.VP": "lightning_freqdiff.sde.VP",
}
OLD_WEIGHTS = {
    "score.codec.mean": "score.standardizer.mean",
    "score.codec.scale": "score.standardizer.scale",
    "score.codec.variance": "score.standardizer.variance",
}


def as_version_0_1(checkpoint: Path, target: Path) -> Path:
    """Write a checkpoint down in the names that version 0.1 used."""
    content = torch.load(checkpoint, weights_only=True)
    settings = content["hyper_parameters"]
    del settings["conditions"], settings["colour"], settings["covariance"]
    sizes = settings["network"]["init_args"]
    assert sizes["preset"] == "plain"
    sizes["preset"] = "small"
    del sizes["axis"], sizes["group"], sizes["mix"]
    for component in (settings["network"], settings["sde"]):
        component["class_path"] = OLD_CLASSES[component["class_path"]]
    for weights in ("state_dict", "current_model_state", "averaging_state"):
        state = content.get(weights) or {}
        for name in [name for name in state if ".directions." in name or ".correction." in name]:
            del state[name]
    content["state_dict"] = {OLD_WEIGHTS.get(name, name): value for name, value in content["state_dict"].items()}
    content[MARK]["version"] = "0.1.0"
    torch.save(content, target)
    return target


def test_a_checkpoint_of_version_0_1_gives_the_same_samples(checkpoint, tmp_path):
    old = ScoreModule.load_from_checkpoint(as_version_0_1(checkpoint, tmp_path / "old.ckpt"))
    new = ScoreModule.load_from_checkpoint(checkpoint)
    assert old.score.correction is None
    new.score.correction = None
    few = Sampling(num_samples=2, num_steps=5)
    assert torch.equal(*(model.draw(few.units()[0], few) for model in (old, new)))
    assert old.channels == new.channels


def test_a_model_from_before_networks_were_doubted_is_believed(checkpoint, tmp_path):
    content, later = torch.load(checkpoint, weights_only=True), ("correction.trust", "correction.kept")
    for weights in ("state_dict", "current_model_state", "averaging_state"):
        for name in [name for name in content.get(weights) or {} if name.endswith(later)]:
            del content[weights][name]
    torch.save(content, tmp_path / "old.ckpt")
    old = ScoreModule.load_from_checkpoint(tmp_path / "old.ckpt")
    assert old.score.correction is not None
    assert bool((old.score.correction.trust == 1).all())
    assert not old.score.correction.partly


def test_a_model_from_before_there_were_limits_has_none(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    for weights in ("state_dict", "current_model_state", "averaging_state"):
        for name in [name for name in content.get(weights) or {} if ".limits." in name]:
            del content[weights][name]
    torch.save(content, tmp_path / "old.ckpt")
    assert not ScoreModule.load_from_checkpoint(tmp_path / "old.ckpt").score.codec.limits.met.any()


def test_a_model_of_many_numbers_from_before_channels_had_a_covariance_is_what_it_was(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    for weights in ("state_dict", "current_model_state", "averaging_state"):
        state = content.get(weights) or {}
        for name in [name for name in state if ".directions." in name or ".correction." in name]:
            del state[name]
    torch.save(content, tmp_path / "old.ckpt")
    assert content["hyper_parameters"]["covariance"] == "joint"
    old = ScoreModule.load_from_checkpoint(tmp_path / "old.ckpt")
    assert old.score.codec.directions is None
    assert old.covariance == "diagonal"


@pytest.mark.filterwarnings("ignore")
def test_a_model_from_before_series_were_held_beyond_their_ends_is_what_it_was(tmp_path):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    module, data = ScoreModule(UNet(width=8, heads=2, margin=0)), SyntheticECG(num_series=64, length=30)
    trainer = Trainer(max_steps=1, accelerator="cpu", callbacks=[EMAWeightAveraging(decay=0.95)], **quiet)
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    content = torch.load(tmp_path / "new.ckpt", weights_only=True)
    assert content["hyper_parameters"]["network"]["init_args"].pop("margin") == 0
    torch.save(content, tmp_path / "old.ckpt")
    old, new = (ScoreModule.load_from_checkpoint(tmp_path / name) for name in ("old.ckpt", "new.ckpt"))
    assert old.architecture == new.architecture == UNet(width=8, heads=2, margin=0)
    unit = WorkUnit(0, 0, 2)
    assert torch.equal(*(model.draw(unit, Sampling(num_samples=2, num_steps=3)) for model in (old, new)))


@pytest.mark.parametrize(("old", "new"), [("noise", "eps"), ("clean", "x0"), ("score", "score")])
def test_settings_of_version_0_1_are_translated(checkpoint, tmp_path, old, new):
    path = as_version_0_1(checkpoint, tmp_path / "old.ckpt")
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["parametrization"] = old
    content["hyper_parameters"]["weighting"] = "noise"
    torch.save(content, path)
    model = ScoreModule.load_from_checkpoint(path)
    assert (model.parametrization, model.weighting) == (new, "eps")


@pytest.mark.filterwarnings("ignore")
def test_training_goes_on_from_a_checkpoint_of_version_0_1(checkpoint, tmp_path):
    """As the command line does it: the module's settings are read first, the trainer restores the rest."""
    path = as_version_0_1(checkpoint, tmp_path / "old.ckpt")
    module = ScoreModule.load_from_checkpoint(path)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=5, accelerator="cpu", callbacks=[EMAWeightAveraging(decay=0.95)], **quiet)
    trainer.fit(module, datamodule=SyntheticECG(num_series=1024, length=64), ckpt_path=path, weights_only=True)
    assert trainer.current_epoch == 5


def test_weights_that_do_not_fit_say_which_version_wrote_them(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"].pop("score.network.out.bias")
    content[MARK]["version"] = "0.0.7"
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(
        ValueError, match=r"written by version 0\.0\.7 and does not fit .*out\.bias.*`ckpt_path`"
    ) as error:
        ScoreModule.load_from_checkpoint(tmp_path / "other.ckpt")
    assert "\n" not in str(error.value)
