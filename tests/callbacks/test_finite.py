"""A loss that is no number ends a run at once, names its step, and nothing of it is saved."""

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from lightning_freqdiff.callbacks import FiniteLoss, Validations
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP


class Spoilt(ScoreModule):
    """A model whose loss, or else whose weights, are no numbers from the seventh step on."""

    def __init__(self, what: str) -> None:
        super().__init__(MLP(layers=1, width=8))
        self.what = what

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * torch.nan if self.what == "loss" and self.global_step >= 6 else loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if self.what == "weights" and self.global_step == 7:
            next(self.parameters()).data.fill_(torch.inf)


def fit(folder, what, **keep):
    best = ModelCheckpoint(folder, **{"filename": "best", "monitor": "val_loss", "save_last": True, **keep})
    trainer = Trainer(
        max_steps=24,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[EMAWeightAveraging(decay=0.5), Validations(6), FiniteLoss(every_n_steps=100), best],
    )
    trainer.fit(Spoilt(what), datamodule=SyntheticECG(num_series=512, length=16))


@pytest.mark.parametrize(("what", "named"), [("loss", "a loss .* at step 7"), ("weights", "a loss .* at step 8")])
def test_the_first_step_is_named_however_late_the_look_and_the_last_good_file_is_kept(tmp_path, what, named):
    """Validations are at 4 and 8; the host looks before the second."""
    with pytest.raises(ValueError, match=rf"{named}: lower `model.learning_rate`.*`trainer.precision`.*best\.ckpt$"):
        fit(tmp_path, what)
    content = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert content["global_step"] in (0, 4)
    for state in (content["state_dict"], content["current_model_state"]):
        assert all(tensor.isfinite().all() for tensor in state.values())


def test_weights_are_looked_at_before_any_save(tmp_path):
    """With a checkpoint after every step, the spoilt one is the first that is not written."""
    with pytest.raises(ValueError, match="weights of finite numbers, got NaN or infinity at step 8"):
        fit(
            tmp_path,
            "weights",
            monitor=None,
            filename="{step}",
            save_last=False,
            save_top_k=-1,
            every_n_train_steps=1,
        )
    assert {path.name for path in tmp_path.iterdir()} == {f"step={step}.ckpt" for step in range(1, 8)}


def test_bad_settings_name_themselves():
    with pytest.raises(ValueError, match="every_n_steps"):
        FiniteLoss(every_n_steps=0)
    with pytest.raises(ValueError, match="count"):
        Validations(count=0)
