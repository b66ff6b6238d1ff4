"""Channels of which the logarithm is learnt: the same model as of logarithms taken by hand, in the data's units."""

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint

import lightning_freqdiff as lf
from lightning_freqdiff.callbacks import Refit
from lightning_freqdiff.checkpoint import weights_hash
from lightning_freqdiff.data import ArrayData
from lightning_freqdiff.logarithm import Logarithm, span
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling.constrained import Constrained
from lightning_freqdiff.sampling.gradients import Reconstruction
from lightning_freqdiff.sampling.rules import Bounds, Fixed, Mean, Monotone, Sum, Total

N = 16
QUIET = {"accelerator": "cpu", "enable_progress_bar": False}
FEW = {"num_steps": 12, **QUIET}


def logs(count=300, seed=0):
    """Walks of two channels, of which exponentials span four orders of magnitude."""
    rng = np.random.default_rng(seed)
    return (1.5 * rng.normal(size=(count, 1, 2)) + 0.1 * rng.normal(size=(count, N, 2)).cumsum(1)).astype("float32")


def prices(count=300, seed=0):
    """A price, and beside it a return, which is not positive."""
    x = logs(count, seed)
    return np.stack([np.exp(x[..., 0]), x[..., 1]], axis=-1)


def fit(x, folder, **settings):
    seed_everything(0)
    settings = {"network": lf.UNet(width=8, heads=2), "max_steps": 30, "batch_size": 32, **settings}
    return lf.fit(x, folder=folder, **settings, **QUIET)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A model of prices, and one of their logarithms."""
    folder = tmp_path_factory.mktemp("logarithm")
    settings = {"observe": 0.8}
    return (
        fit(prices(), folder / "prices", **settings),
        fit(logs(), folder / "logs", logarithm="never", **settings),
    )


def exponential(x):
    return np.stack([np.exp(x[..., 0]), x[..., 1]], axis=-1)


def test_there_and_back_and_other_channels_to_the_bit():
    logarithm, x = Logarithm(3), torch.rand(5, 7, 3) * 1000 - 500
    assert logarithm(x) is x
    assert logarithm.back(x) is x
    x[..., 1] = x[..., 1].exp().clamp(1e-8, 1e8)
    logarithm.take(torch.tensor([False, True, False]), x.amin((0, 1)))
    learnt = logarithm(x)
    assert torch.equal(learnt[..., [0, 2]], x[..., [0, 2]])
    assert torch.equal(learnt[..., 1], x[..., 1].log())
    torch.testing.assert_close(logarithm.back(learnt), x, rtol=1e-5, atol=0)
    again = Logarithm(3)
    again.load_state_dict(logarithm.state_dict())
    assert torch.equal(again(x), learnt)
    x[0, :2, 1] = torch.tensor([-1, 1e-12])
    assert logarithm(x)[0, 0, 1] == learnt[..., 1].min()
    assert logarithm(x)[0, 1, 1] == np.float32(np.log(1e-12)), "what is less than all in training has a logarithm"


def test_a_gradient_through_it_is_a_number_where_an_exponential_would_not_be():
    logarithm, x = Logarithm(2), torch.tensor([[[1.0, 500.0]]], requires_grad=True)
    logarithm.take(torch.tensor([True, False]), torch.tensor([0.1, 0.1]))
    (slope,) = torch.autograd.grad(logarithm.back(x).sum(), x)
    torch.testing.assert_close(slope, torch.tensor([[[np.e, 1.0]]], dtype=torch.float32))


def test_missing_values_neither_widen_nor_narrow():
    x = torch.linspace(1, 100, 1000).view(10, 100, 1)
    x[:, 50] = torch.nan
    assert float(span(x)) == pytest.approx(95 / 6, rel=0.02)
    x[3, 3] = 0
    assert float(span(x)) == 1


def test_a_model_of_prices_is_that_of_their_logarithms(pair):
    model, by_hand = pair
    assert model.module.score.codec.logarithm.channels == (0,)
    assert by_hand.module.score.codec.logarithm.channels == ()
    for one, other in zip(model.module.parameters(), by_hand.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=2e-3, rtol=1e-2)
    drawn, expected = (one.sample(40, **FEW) for one in pair)
    assert drawn[..., 0].min() > 0
    np.testing.assert_allclose(drawn, exponential(expected), rtol=0.05, atol=0.05)


@pytest.mark.parametrize("method", [None, "linear", "GaussianPosterior", "ManifoldConstrained", Reconstruction(0.05)])
def test_gaps_are_filled_in_the_units_of_what_is_known(pair, method):
    known = logs(2, seed=1)
    known[:, 5:10] = np.nan
    filled, expected = (
        one.impute(x, 6, method=method, **{**FEW, "num_steps": 100})
        for one, x in zip(pair, (exponential(known), known), strict=True)
    )
    np.testing.assert_allclose(filled, exponential(expected), rtol=0.1, atol=0.1)
    kept = np.isfinite(known)
    for row in range(2):
        np.testing.assert_array_equal(filled[row][:, kept[row]], np.tile(exponential(known)[row][kept[row]], (6, 1)))


def test_rules_are_about_series_and_not_their_logarithms(pair):
    model, _ = pair
    rules = [
        Bounds(low=0.5, high=3.0, channel=0),
        Bounds(low=-1.0, channel=1),
        Fixed(value=2.0, stop=1),
        Monotone(channel=0),
        Sum(value=0.0, channel=1, start=1),
    ]
    drawn = model.sample(5, constraint=Constrained(rules), **FEW)
    np.testing.assert_allclose(drawn[:, 0], 2.0, rtol=1e-5)
    np.testing.assert_allclose(drawn[:, 1:, 1].sum(1), 0.0, atol=1e-3)
    assert drawn[..., 0].min() >= 0.5 - 1e-4
    assert drawn[..., 0].max() <= 3.0 + 1e-4
    assert (np.diff(drawn[..., 0], axis=1) >= -1e-4).all()
    met = []
    model.sample(2, constraint=Constrained([lambda x: met.append(x.detach()) or x.sum((1, 2))]), **FEW)
    assert torch.cat(met)[..., 0].min() > 0
    for rule in (Sum(value=1.0), Mean(value=1.0, channel=0), Total(channel=1), Total(channel=1, parts=(0,))):
        with pytest.raises(ValueError, match=f"whose logarithm is learnt, got {type(rule).__name__}: set"):
            model.sample(2, constraint=Constrained([rule]), **FEW)
    for rule in (Fixed(value=0.0), Bounds(high=-1.0)):
        with pytest.raises(ValueError, match="expected a value above 0"):
            model.sample(2, constraint=Constrained([rule]), **FEW)


def test_what_has_no_logarithm_is_refused(pair):
    model, _ = pair
    known = prices(1)
    known[0, 3] = [-2.0, np.nan]
    with pytest.raises(ValueError, match="expected positive values of channel 0, whose logarithm is learnt, got -2"):
        model.impute(known, 2)
    known[0, 3] = [np.nan, -2.0]
    assert model.impute(known, 2, **FEW).shape == (1, 2, N, 2)


def test_a_checkpoint_carries_it_and_older_ones_have_none(pair, tmp_path):
    model, by_hand = pair
    again = lf.load(model.checkpoint_path)
    np.testing.assert_array_equal(model.sample(3, **FEW), again.sample(3, **FEW))
    assert again.module.score.codec.density() is None
    content = torch.load(by_hand.checkpoint_path, weights_only=True)
    del content["hyper_parameters"]["logarithm"]
    gone = [content["state_dict"].pop(name) for name in list(content["state_dict"]) if ".logarithm." in name]
    assert len(gone) == 2
    torch.save(content, tmp_path / "old.ckpt")
    old = lf.load(tmp_path / "old.ckpt")
    assert old.module.hparams["logarithm"] == "never"
    assert weights_hash(old.module) == weights_hash(by_hand.module) != weights_hash(model.module)


def taken(x, logarithm="wide", **settings):
    data, module = ArrayData.of(x, **settings), ScoreModule(MLP(width=8), logarithm=logarithm)
    data.setup()
    module._build(*data.shape, data.conditions)
    module._take_logarithms(data)
    return module.score.codec.logarithm.channels


def test_which_channels_are_wide():
    x = prices()
    assert taken(x) == (0,)
    assert taken(x, "never") == ()
    assert taken(np.abs(x) + 1, "always") == (0, 1)
    assert taken(5 + 0.1 * np.tanh(x)) == ()
    with pytest.raises(ValueError, match=r"expected positive values of channel 1, .*: set `model.logarithm` wide"):
        taken(x, "always")
    x[:280, 3, 0] = np.nan
    assert taken(x, missing="mask") == (0,), "gaps are filled in logarithms, too"
    x[..., 1] = 1.0
    x[:, 0, 1] = 2.0
    assert taken(x, "always", missing="mask") == (0, 1)
    x[7, 5, 0] = 0.0
    with pytest.raises(ValueError, match=r"expected positive values of channel 0, .* got 0: set"):
        taken(x, "always", missing="mask")


@pytest.mark.filterwarnings("ignore")
def test_the_model_in_memory_keeps_it_after_training(tmp_path):
    """Of the best checkpoint it is given what was found, which is a part of it."""
    module, data = ScoreModule(MLP(width=8)), ArrayData.of(prices(), batch_size=32)
    checkpoint = ModelCheckpoint(tmp_path, filename="best", monitor="val_loss")
    trainer = Trainer(max_epochs=2, callbacks=[checkpoint, Refit()], logger=False, enable_progress_bar=False)
    trainer.fit(module, datamodule=data, weights_only=True)
    assert module.score.codec.logarithm.channels == (0,)
    module.load_state_dict({}, strict=False)
    assert module.score.codec.logarithm.channels == (0,)
    assert module.score.codec.logarithm.taken.tolist() == [1, 0]


def test_a_forecast_may_fall_below_all_that_was_met(pair):
    known = prices(1)
    known[..., 0] *= 1e-3
    known[:, 10:] = np.nan
    by_hand = np.stack([np.log(known[..., 0]), known[..., 1]], axis=-1)
    one, other = (m.impute(x, 8, method="linear", **FEW) for m, x in zip(pair, (known, by_hand), strict=True))
    np.testing.assert_allclose(one, exponential(other), rtol=0.02, atol=0.02)
