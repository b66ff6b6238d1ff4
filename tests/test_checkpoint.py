import pickle
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from lightning_freqdiff.checkpoint import as_settings, file_hash, read_checkpoint
from lightning_freqdiff.networks import Transformer


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
