import errno
import os

import pytest
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_freqdiff.callbacks import SafeCheckpoints
from lightning_freqdiff.callbacks.checkpoints import WholeCheckpointIO
from lightning_freqdiff.checkpoint import read_checkpoint
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


def fit(folder, steps, ckpt_path=None, **more) -> Trainer:
    keep = ModelCheckpoint(folder, "best", save_last=True, every_n_train_steps=1, enable_version_counter=False)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        callbacks=[keep, SafeCheckpoints()],
        **more,
    )
    data = SyntheticECG(num_series=64, length=16)
    trainer.fit(ScoreModule(MLP(layers=1, width=8)), data, ckpt_path=ckpt_path, weights_only=True)
    return trainer


def test_checkpoints_of_another_run_are_left_alone(tmp_path):
    fit(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert set(before) == {"best.ckpt", "last.ckpt"}
    with pytest.raises(ValueError, match=r"holds best.ckpt, last.ckpt: set `checkpoint\.dirpath`.*`ckpt_path`"):
        fit(tmp_path, 2)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    fit(tmp_path, 4, ckpt_path=tmp_path / "last.ckpt")  # the same run, which goes on
    assert read_checkpoint(tmp_path / "last.ckpt")["global_step"] == 4


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_a_disk_that_runs_full_in_mid_run_leaves_whole_checkpoints(tmp_path, monkeypatch, name):
    fit(tmp_path, 2)
    sync = os.fsync

    def full(file) -> None:
        if name in os.readlink(f"/proc/self/fd/{file}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    monkeypatch.setattr(os, "fsync", full)
    told = rf"cannot write the checkpoint .*{name} \(No space left on device\).*`checkpoint\.dirpath`"
    with pytest.raises(OSError, match=told):
        fit(tmp_path, 400, ckpt_path=tmp_path / "last.ckpt")
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}
    for path in tmp_path.iterdir():
        assert read_checkpoint(path)["global_step"] >= 2


def test_a_trial_saves_nothing(tmp_path):
    fit(tmp_path, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    fit(tmp_path, 1, fast_dev_run=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_writer_of_ones_own_is_kept(tmp_path):
    class Own(TorchCheckpointIO):
        pass

    assert type(fit(tmp_path / "own", 1, plugins=[Own()]).strategy.checkpoint_io) is Own
    assert type(fit(tmp_path / "ours", 1).strategy.checkpoint_io) is WholeCheckpointIO


def test_a_checkpoint_is_there_before_the_other_goes(tmp_path):
    path = tmp_path / "a.ckpt"
    for value in (1, 2):
        WholeCheckpointIO().save_checkpoint({"weights": torch.full((9,), value)}, path)
    assert torch.load(path, weights_only=True)["weights"].tolist() == [2] * 9
