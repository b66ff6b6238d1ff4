import warnings

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.nn.utils import parameters_to_vector

from lightning_freqdiff.callbacks import E2CRFCache, WienerCache
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.diffusion.losses import score_matching_loss
from lightning_freqdiff.diffusion.sde import VE, SubVP
from lightning_freqdiff.domains import Lapped, domain_of
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import LSTM, MLP, Transformer, UNet
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit
from lightning_freqdiff.sampling.solvers import Chords

TINY = Transformer(layers=1, heads=2, width=8, feedforward=16)


def fit(module, data=None, **settings):
    settings = {"max_epochs": 1, "enable_checkpointing": False, **settings}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*logging interval.*")
        warnings.filterwarnings("ignore", message=".*configure_model.*")
        trainer = Trainer(
            accelerator="cpu",
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            **settings,
        )
        trainer.fit(module, datamodule=data or SyntheticECG(num_series=96, length=17))
    return trainer


@pytest.mark.parametrize("domain", ["frequency", "time", "wavelet", Lapped(4)], ids=str)
@pytest.mark.parametrize(
    "network",
    [TINY, LSTM(layers=1, width=8), MLP(layers=1, width=8), UNet(width=8, heads=2)],
    ids=lambda n: type(n).__name__,
)
def test_fit_save_load_sample(network, domain, tmp_path):
    form = "steps" if isinstance(network, UNet) else "wiener"
    module = ScoreModule(network, SubVP(), form, domain=domain)
    trainer = fit(module)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = ScoreModule.load_from_checkpoint(tmp_path / "a.ckpt")
    assert loaded.architecture == network
    assert loaded.sde == SubVP()
    assert loaded.layout.domain == module.layout.domain == domain_of(domain)
    assert loaded.layout.length == 17
    assert loaded.channels == module.channels
    module.eval()
    for m in (module, loaded):
        m.sampling = Sampling(num_steps=5)
    with torch.no_grad():
        series = loaded.predict_step(WorkUnit(0, 0, 3), 0)
        assert torch.equal(series, module.predict_step(WorkUnit(0, 0, 3), 0))
    assert series.shape == (3, 17, 1)
    assert series.isfinite().all()


@pytest.mark.parametrize("parametrization", ["eps", "x0", "score"])
def test_other_parametrizations_and_weightings_train(parametrization):
    for weighting in ("eps", "likelihood", "fd"):
        trainer = fit(ScoreModule(TINY, VE(), parametrization=parametrization, weighting=weighting), fast_dev_run=2)
        assert trainer.callback_metrics["val_loss"].isfinite()


def test_statistics_are_those_of_the_training_part():
    data = SyntheticECG(num_series=96, length=16)
    module = ScoreModule(TINY)
    fit(module, data, fast_dev_run=1)
    z = module.layout.encode(data.train_series().double())
    torch.testing.assert_close(module.score.codec.mean, z.mean(0).float())
    density = module.score.codec.density()
    assert density is not None
    expected = torch.fft.rfft(data.train_series(), dim=1, norm="ortho").abs().square().mean(0)
    torch.testing.assert_close(density, expected, rtol=1e-3, atol=1e-5)


def test_validation_noise_is_fixed():
    module = ScoreModule(TINY)
    data = SyntheticECG(num_series=96, length=16)
    trainer = fit(module, data)
    values = [trainer.validate(module, datamodule=data, verbose=False)[0]["val_loss"] for _ in range(2)]
    assert values[0] == values[1]


@pytest.mark.parametrize("parametrization", ["wiener", "eps"])
def test_the_gain_is_the_share_of_the_linear_models_error_that_is_removed(parametrization):
    trainer = fit(ScoreModule(TINY, parametrization=parametrization))
    loss, linear, gain = (float(trainer.callback_metrics[f"val_{name}"]) for name in ("loss", "loss_linear", "gain"))
    assert gain == pytest.approx(1 - loss / linear, abs=1e-6)
    # With a step or two behind it, one is the linear model still, and the other knows nothing yet.
    assert (abs(gain) < 0.1) == (parametrization == "wiener")
    test = trainer.test(trainer.lightning_module, datamodule=trainer.datamodule, verbose=False)[0]
    assert test["test_gain"] == pytest.approx(1 - test["test_loss"] / test["test_loss_linear"], abs=1e-6)


def test_ranks_start_alike_and_draw_times_and_noise_of_their_own(monkeypatch):
    """All ranks are seeded alike, so that their weights agree; their batches must not meet the same noise."""
    seen = []

    def spy(score, z0, noise, t, *more):
        seen[-1].append((parameters_to_vector(score.parameters()).detach().clone(), t, noise))
        return score_matching_loss(score, z0, noise, t, *more)

    monkeypatch.setattr("lightning_freqdiff.training_module.score_matching_loss", spy)
    for rank in (0, 1, 0):
        seen.append([])
        seed_everything(5, verbose=False)
        monkeypatch.setattr(ScoreModule, "global_rank", rank)  # the data stay those of one process
        fit(ScoreModule(TINY), num_sanity_val_steps=0, limit_val_batches=0)
    first, second, again = (
        [torch.cat([p.flatten() for p in parts]) for parts in zip(*run, strict=True)] for run in seen
    )
    weights = [run[0][0] for run in seen]
    assert torch.equal(weights[0], weights[1])
    for other, same in ((second, False), (again, True)):
        assert [torch.equal(a, b) for a, b in zip(first[1:], other[1:], strict=True)] == [same, same]


def test_checkpoint_holds_the_averaged_weights(tmp_path):
    seed_everything(0, verbose=False)
    module = ScoreModule(TINY)
    keep = ModelCheckpoint(tmp_path, filename="a")
    fit(module, callbacks=[EMAWeightAveraging(decay=0.5), keep], max_epochs=2, enable_checkpointing=True)
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    key = "score.network.token.weight"
    assert not torch.equal(content["state_dict"][key], content["current_model_state"][key])
    assert torch.equal(
        ScoreModule.load_from_checkpoint(tmp_path / "a.ckpt").state_dict()[key], content["state_dict"][key]
    )


def test_learning_rate_rises_and_falls():
    rates = []

    class Recorder(ScoreModule):
        def on_train_batch_start(self, batch, batch_idx):
            rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])

    fit(
        Recorder(TINY, learning_rate=1e-2, warmup=0.25),
        SyntheticECG(num_series=80, length=8, batch_size=8),
        max_epochs=4,
    )
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(1e-2)
    assert 0 < top < len(rates) * 0.3
    assert all(a < b for a, b in zip(rates[:top], rates[1 : top + 1], strict=True))
    assert rates[-1] < 2e-4


def test_training_lowers_the_loss():
    seed_everything(0, verbose=False)
    module = ScoreModule(Transformer(layers=2, heads=2, width=16, feedforward=32), learning_rate=5e-3)
    data = SyntheticECG(num_series=1024, length=32, batch_size=32)
    trainer = fit(module, data, max_epochs=6)
    after = float(trainer.callback_metrics["val_loss"])
    # Unit weighting: the Wiener filter alone scores 1 by construction.
    assert after < 0.95


def test_compile_reaches_the_layers_that_are_run():
    plain, compiled = (ScoreModule(TINY, shape=(16, 1), compile=flag) for flag in (False, True))
    assert compiled.score.network.compiled
    assert not plain.score.network.compiled
    for module in (plain, compiled):
        module.on_fit_start()
    assert all(layer._compiled_call_impl is None for layer in plain.score.network.layers)
    assert all(layer._compiled_call_impl is not None for layer in compiled.score.network.layers)


def test_processes_that_draw_samples_of_their_own_cannot_share_out_calls(monkeypatch):
    module = ScoreModule(TINY, shape=(8, 1))
    module.sampling = Sampling(num_steps=50, solver=Chords(over_ranks=True))
    module.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    module.on_predict_start()
    monkeypatch.setattr(Trainer, "world_size", 2)
    with pytest.raises(ValueError, match="expected one process, .* got 2: set `sampling.solver.over_ranks` false"):
        module.on_predict_start()


WIDE = Transformer(preset="base", axis="time")


@pytest.mark.parametrize(
    ("network", "shape", "more", "form"),
    [
        (UNet(), (24, 2), {}, "steps"),
        (WIDE, (24, 2), {}, "steps"),
        (Transformer(), (24, 2), {}, "wiener"),
        (MLP(), (24, 2), {}, "wiener"),
        (UNet(), (24, 2), {"covariance": "diagonal"}, "wiener"),
        (UNet(), (3000, 1), {}, "wiener"),
        (UNet(), (24, 2), {"parametrization": "wiener"}, "wiener"),
    ],
)
def test_the_output_is_what_the_network_sees(network, shape, more, form):
    module = ScoreModule(network, shape=shape, **more)
    assert module.parametrization == module.score.parametrization == module.hparams["parametrization"] == form
    assert module.hparams_initial["parametrization"] == form, "loggers are told something else"


def test_weighting_follows_the_parametrization():
    assert ScoreModule(TINY).weighting == "unit"
    assert ScoreModule(TINY).weighting == ScoreModule(UNet(), parametrization="steps").weighting == "unit"
    assert ScoreModule(TINY, parametrization="eps").weighting == "eps"
    assert ScoreModule(TINY, parametrization="eps", weighting="unit").weighting == "unit"


def test_a_second_cache_is_refused_before_anything_is_drawn(model):
    model.sampling = Sampling(num_samples=2, num_steps=4)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=[WienerCache(), E2CRFCache()]
    )
    with pytest.raises(ValueError, match="at most one cache, got WienerCache and E2CRFCache: remove"):
        trainer.predict(model)
    assert model.score_function is model.score


def test_no_data_and_no_checkpoint_name_the_settings():
    with pytest.raises(ValueError, match=r"`data`.*`ckpt_path`"):
        ScoreModule(TINY).configure_model()


@pytest.mark.parametrize(("setting", "value"), [("learning_rate", 0.0), ("warmup", 1.0)])
def test_bad_settings_name_themselves(setting, value):
    with pytest.raises(ValueError, match=rf"`model\.{setting}`"):
        ScoreModule(TINY, **{setting: value})


def test_double_precision_validates_at_the_same_times_and_noise(checkpoint):
    found = []
    for precision in ("32-true", "64-true"):
        trainer = Trainer(precision=precision, accelerator="cpu", logger=False, enable_progress_bar=False)
        model = ScoreModule.load_from_checkpoint(checkpoint)
        (losses,) = trainer.validate(model, SyntheticECG(num_series=64, length=64), verbose=False)
        found.append(losses["val_loss"])
    assert 0 < abs(found[1] / found[0] - 1) < 1e-5


@pytest.mark.parametrize("precision", ["16-true", "bf16-true"])
def test_a_precision_without_digits_is_refused(checkpoint, precision):
    model = ScoreModule.load_from_checkpoint(checkpoint)
    trainer = Trainer(precision=precision, accelerator="cpu", logger=False, enable_progress_bar=False)
    with pytest.raises(ValueError, match=rf"got {precision}: set `trainer\.precision` bf16-mixed"):
        trainer.predict(model, return_predictions=False)


def test_a_constant_channel_counts_for_nothing():
    x = torch.randn(64, 12, 2, generator=torch.Generator().manual_seed(0)).cumsum(1)
    x[..., 1] = 3
    for domain in ("frequency", "time", "wavelet", "lapped"):
        module = ScoreModule(UNet(width=8, heads=2), domain=domain, shape=(12, 2))
        module.score.codec.fit([x])
        varies = module.score.codec.step_variance
        assert varies is not None
        assert (varies[:, 0] > 0).all()
        assert (varies[:, 1] == 0).all()


def test_a_training_goes_on_with_the_output_it_had(tmp_path):
    trainer = fit(ScoreModule(UNet(width=8, heads=2), parametrization="wiener"), max_epochs=1)
    trainer.save_checkpoint(tmp_path / "before.ckpt")
    content = torch.load(tmp_path / "before.ckpt", weights_only=True)
    other = ScoreModule(UNet(width=8, heads=2), shape=(17, 1))
    with pytest.raises(ValueError, match="expected wiener, .* got steps: set `model.parametrization` wiener"):
        other.on_load_checkpoint(content)
