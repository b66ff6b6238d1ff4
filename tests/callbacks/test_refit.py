"""The best checkpoint of a training holds the correction of its own weights, and nothing else is changed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lightning_freqdiff.callbacks import Refit
from lightning_freqdiff.callbacks.refit import FOUND
from lightning_freqdiff.data import ArrayData, SyntheticECG
from lightning_freqdiff.diffusion.refit import refit
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling import Sampling


def fit(folder, *callbacks, model=None, data=None, **settings):
    torch.manual_seed(0)
    model = model or ScoreModule(MLP(width=16), learning_rate=1e-4)
    checkpoint = ModelCheckpoint(folder, filename="best", monitor="val_loss", enable_version_counter=False)
    options = {"max_epochs": 3, "accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(logger=False, callbacks=[checkpoint, *callbacks], **{**options, **settings})
    trainer.fit(model, datamodule=data or SyntheticECG(num_series=1024, length=32), weights_only=True)
    return trainer, model


def slope(model: ScoreModule) -> torch.Tensor:
    assert model.score.correction is not None
    return model.score.correction.slope


@pytest.mark.filterwarnings("ignore")
def test_the_best_checkpoint_is_corrected_where_it_lies(tmp_path):
    fit(tmp_path / "plain")
    trainer, model = fit(tmp_path / "mended", Refit(share=1.0))
    plain, mended = (ScoreModule.load_from_checkpoint(tmp_path / name / "best.ckpt") for name in ("plain", "mended"))
    different = {k for k, v in plain.state_dict().items() if not torch.equal(v, mended.state_dict()[k])}
    found = {f"score.correction.{name}" for name in ("slope", "offset", "trust", "kept")}
    assert different == found | {f"score.codec.limits.{name}" for name in ("met", "bound", "threshold")}
    assert torch.equal(slope(model), slope(mended))
    (callback,) = (c for c in trainer.callbacks if isinstance(c, Refit))
    count = 3 * callback._seen // 12
    series = trainer.datamodule.reference_series()
    assert refit(plain.score, series, count, torch.Generator().manual_seed(0))
    assert torch.equal(slope(plain), slope(mended))


@pytest.mark.filterwarnings("ignore")
def test_training_that_goes_on_begins_without_the_old_correction(tmp_path):
    _, model = fit(tmp_path / "first", Refit(share=1.0))
    assert slope(model).abs().max() > 0
    fit(tmp_path / "second", Refit(share=0.0), model=model)
    assert slope(model).eq(0).all()


@pytest.mark.filterwarnings("ignore")
def test_heartbeats_end_where_they_are_padded_and_stay_in_their_range(tmp_path):
    _, model = fit(tmp_path, Refit(share=1.0))
    best = ScoreModule.load_from_checkpoint(tmp_path / "best.ckpt")
    real = SyntheticECG(num_series=1024, length=32)
    real.setup()
    series, plain = real.train_series(), Sampling(num_samples=200, num_steps=20, limits=False)
    free, kept = (
        torch.cat([best.draw(unit, sampling) for unit in sampling.units()])
        for sampling in (plain, replace(plain, limits=True))
    )
    assert not (free == 0).any()
    assert free.min() < 0
    assert free.max() > 1
    assert (kept.min(), kept.max()) == (0, 1)
    flat = [float((x[:, -1] == 0).float().mean()) for x in (kept, series)]
    assert flat[0] == pytest.approx(flat[1], abs=0.15)
    for name, value in best.score.codec.limits.state_dict().items():
        assert torch.equal(value, model.score.codec.limits.state_dict()[name])
    fit(tmp_path / "on", model=model, max_epochs=1)  # without the callback nothing is found, and nothing forgotten
    assert model.score.codec.limits.met.any()
    fit(tmp_path / "again", Refit(share=0.0), model=model, limit_val_batches=0)
    assert not model.score.codec.limits.met.any()


@pytest.mark.filterwarnings("ignore")
def test_in_double_precision_it_is_done_as_well(tmp_path):
    fit(tmp_path, Refit(share=1.0), precision="64-true")
    best = ScoreModule.load_from_checkpoint(tmp_path / "best.ckpt")
    assert slope(best).abs().max() > 0
    assert best.score.codec.limits.met.all()


@pytest.mark.filterwarnings("ignore")
def test_a_training_that_was_done_is_left_as_it_is(tmp_path):
    """A run that is asked to go on to where it ended sees no series, and knows how many it has seen."""
    first, again = Refit(share=1.0), Refit(share=1.0)
    fit(tmp_path, ModelCheckpoint(tmp_path, filename="end"), first)
    before = ScoreModule.load_from_checkpoint(tmp_path / "best.ckpt").score.codec.limits.state_dict()
    assert before["met"].any()
    trainer = Trainer(
        logger=False,
        callbacks=[ModelCheckpoint(tmp_path, filename="best", monitor="val_loss"), again],
        max_epochs=3,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(
        ScoreModule(MLP(width=16), learning_rate=1e-4),
        datamodule=SyntheticECG(num_series=1024, length=32),
        ckpt_path=tmp_path / "end.ckpt",
        weights_only=True,
    )
    assert again.state_dict() == first.state_dict()
    after = ScoreModule.load_from_checkpoint(tmp_path / "best.ckpt").score.codec.limits.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.filterwarnings("ignore")
def test_what_stands_in_gaps_hides_no_limit(tmp_path):
    rain = (torch.randn(1024, 16, 1, generator=torch.Generator().manual_seed(0)) - 0.5).clamp(min=0).numpy()
    rain[np.random.default_rng(0).random(rain.shape) < 0.02] = np.nan
    data = ArrayData.of(rain, missing="mask")
    _, model = fit(tmp_path, Refit(share=1.0), data=data)
    series, seen = data.reference_series(), data.reference_seen()
    assert seen is not None
    assert (series[seen == 0] < 0).any()
    assert not (series[seen == 1] < 0).any()
    assert model.score.codec.limits.met[:, 0].tolist() == [1, 0]
    assert model.score.codec.limits.bound[0, 0] == 0


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("gaps", [False, True])
def test_a_network_is_asked_about_what_was_observed_of_series_it_was_not_trained_on(tmp_path, monkeypatch, gaps):
    walks = torch.randn(1024, 16, 1, generator=torch.Generator().manual_seed(0)).cumsum(1).numpy()
    if gaps:
        walks[np.random.default_rng(0).random(walks.shape) < 0.05] = np.nan
    data, given = ArrayData.of(walks, missing="mask" if gaps else "refuse"), []
    monkeypatch.setattr("lightning_freqdiff.callbacks.refit.refit", lambda *args: given.append(args[-3:]))
    fit(tmp_path, Refit(share=1.0), data=data, max_epochs=1)
    ((held_out, known, seen),) = given
    assert not known
    assert torch.equal(held_out, data.reference_series(part="val"))
    assert (seen is not None) == gaps
    if seen is not None:
        assert torch.equal(seen, data.reference_seen(part="val"))
        assert 0 < seen.mean() < 1


class Kept(Callback):
    """Writes down what each rank's model holds in the end."""

    def __init__(self, folder):
        self.folder = folder

    def on_fit_end(self, trainer, pl_module):
        found = {name: value for name, value in pl_module.state_dict().items() if name.startswith(FOUND)}
        torch.save(found, self.folder / f"{trainer.global_rank}.pt")

    def teardown(self, trainer, pl_module, stage):
        """A process that leaves while gloo's threads run may abort."""
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_the_models_of_all_ranks_are_corrected_alike(tmp_path):
    fit(tmp_path, Refit(share=1.0), Kept(tmp_path), devices=2, strategy="ddp_spawn")
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert first["score.codec.limits.met"].all()
    assert first["score.correction.slope"].any()
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_share_that_is_none_names_its_setting():
    with pytest.raises(ValueError, match=r"`trainer\.callbacks\.share`"):
        Refit(share=2.0)
