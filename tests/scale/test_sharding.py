"""Weights that are shared out over two processes: trained, saved and taken up as those of plain data parallelism."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import two_ranks
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.trainer.states import TrainerFn
from two_ranks import NETWORKS, QUIET, walks

from lightning_freqdiff.callbacks import Averaging, SampleMonitor
from lightning_freqdiff.checkpoint import read_checkpoint
from lightning_freqdiff.diffusion.losses import score_matching_loss
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import Sampling
from lightning_freqdiff.sharding import ShardedStrategy, check_strategy

pytestmark = pytest.mark.slow

CLOSE = {"rtol": 1e-4, "atol": 2e-5}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    two_ranks.run(folder)
    return folder


def saved(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_checkpoint(folder / "fsdp2" / "last.ckpt"), read_checkpoint(folder / "ddp" / "last.ckpt")


def same(one: dict[str, Any], other: dict[str, Any], **tolerance: float) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


def agree(one: dict[str, Any], other: dict[str, Any]) -> None:
    for what in ("state_dict", "current_model_state", "averaging_state"):
        same(one[what], other[what], **CLOSE)
    moments = [[s["exp_avg"] for s in x["optimizer_states"][0]["state"].values()] for x in (one, other)]
    for mine, theirs in zip(*moments, strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


@pytest.mark.parametrize("network", NETWORKS)
def test_shares_are_trained_as_copies_are_and_saved_whole(runs, network):
    agree(*saved(runs / network))
    for rank in range(2):
        shares, copies = map(float, (runs / network / f"held-{rank}.txt").read_text().split())
        assert 0.4 < shares < 0.6
        assert copies == 1
    model = ScoreModule.load_from_checkpoint(runs / network / "fsdp2" / "last.ckpt")
    drawn = model.draw(Sampling(num_samples=3, num_steps=4).units()[0], Sampling(num_samples=3, num_steps=4))
    assert drawn.shape == (3, 16, 2)
    assert drawn.isfinite().all()


@pytest.mark.parametrize("begun", ["fsdp2", "ddp"])
def test_a_training_goes_on_from_either_kind_of_checkpoint(runs, begun):
    shares, copies = saved(runs / f"from-{begun}")
    agree(shares, copies)
    assert shares["global_step"] == 4


def test_the_best_model_is_corrected(runs):
    found = [read_checkpoint(path)["state_dict"] for path in (runs / "transformer" / "fsdp2").glob("step=*.ckpt")]
    slopes = [state["score.correction.slope"] for state in found]
    assert sum(bool(slope.abs().max() > 0) for slope in slopes) == 1
    assert all(slope.isfinite().all() for slope in slopes)


def test_compiled_blocks_that_are_computed_again_learn_the_same(runs):
    for one, other in zip(saved(runs / "compiled"), saved(runs / "accumulated"), strict=True):
        agree(one, other)


def test_weights_stay_in_float32_under_mixed_precision(runs):
    one, other = saved(runs / "mixed")
    assert {x.dtype for x in one["state_dict"].values() if x.is_floating_point()} == {torch.float32}
    same(one["state_dict"], other["state_dict"], rtol=1e-2, atol=3e-3)


def test_an_average_that_cannot_be_shared_out_is_refused(runs):
    refused = (runs / "refused.txt").read_text()
    assert refused.startswith("expected callbacks.Averaging for weights that are shared out, got EMAWeightAveraging")


def test_strategies_that_leave_what_cannot_be_sampled_from_are_refused():
    strategy = ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1)
    with pytest.raises(ValueError, match=r"strategy fsdp2 .* got ModelParallelStrategy: set `trainer.strategy`"):
        check_strategy(cast(Trainer, SimpleNamespace(strategy=strategy, callbacks=[])))


@pytest.mark.parametrize("stage", ["predict", "test", "validate"])
def test_nothing_but_training_is_shared_out(stage):
    trainer = SimpleNamespace(strategy=ShardedStrategy(), callbacks=[], state=SimpleNamespace(fn=TrainerFn(stage)))
    with pytest.raises(ValueError, match=rf"to train with, got it to {stage}: set `trainer.strategy` ddp"):
        check_strategy(cast(Trainer, trainer))
    with pytest.raises(ValueError, match="expected no SampleMonitor where weights are shared out"):
        SampleMonitor().setup(cast(Trainer, trainer), ScoreModule(), "fit")


class Fixed(ScoreModule):
    """Takes the loss under noise that depends on nothing, so that batches are comparable."""

    def training_step(self, batch, batch_idx):
        z0 = self.score.codec.encode(batch.series)
        return score_matching_loss(self.score, z0, torch.ones_like(z0), torch.full((len(z0),), 0.3), "unit")


def test_small_batches_that_are_accumulated_are_one_large_batch():
    found = []
    for parts in (1, 4):
        torch.manual_seed(0)
        module, average = Fixed(NETWORKS["transformer"]), Averaging(decay=0.5)
        options = {**QUIET, "accelerator": "cpu", "max_epochs": 2, "accumulate_grad_batches": parts}
        trainer = Trainer(callbacks=[average], gradient_clip_val=1.0, enable_checkpointing=False, **options)
        trainer.fit(module, datamodule=walks(32 // parts))
        assert trainer.global_step == 4
        assert average._average_model is not None
        assert int(average._average_model.n_averaged) == 4
        found.append(module.state_dict())
    same(*found, **CLOSE)
