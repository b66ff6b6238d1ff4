"""Masks of training, and what is learnt through them."""

import pytest
import torch
from test_conditional import fitted, masks

from lightning_freqdiff.condition import Condition, ConditionSizes
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.data import ArrayData, Batch
from lightning_freqdiff.diffusion import VP, Score
from lightning_freqdiff.diffusion.losses import linear_loss, score_matching_loss
from lightning_freqdiff.masks import draw_masks
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP, UNet

TINY = UNet(width=8, heads=2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_masks_are_of_every_kind_and_leave_some_series_free():
    mask = draw_masks((4000, 20, 3), 0.8, generator())
    assert mask.unique().tolist() == [0, 1]
    seen = mask.flatten(1).sum(1)
    assert float((seen == 0).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert (seen < 60).all()
    told = mask[seen > 0]
    hidden = told == 0
    whole = hidden.all(1)  # (series, channels)
    channels = whole.any(1) & (hidden == whole.unsqueeze(1)).all(2).all(1)
    tail = (told[:, :1] == 1).all(2).squeeze(1) & (told.diff(dim=1) <= 0).flatten(1).all(1) & ~channels
    tail &= (hidden == hidden[..., :1]).flatten(1).all(1)
    changes = (told.diff(dim=1) != 0).sum(1)
    block = (changes <= 2).all(1) & ~channels & ~tail
    points = ~(channels | tail | block)
    for kind in (channels, tail, block, points):
        assert 0.15 < float(kind.float().mean()) < 0.35
    shares = hidden[points].flatten(1).float().mean(1)
    assert shares.min() < 0.15
    assert shares.max() > 0.85


def test_of_one_channel_something_is_always_told_and_hidden():
    seen = draw_masks((2000, 12, 1), 1.0, generator()).flatten(1).sum(1)
    assert float((seen == 0).float().mean()) < 0.05  # points may all be hidden by chance
    assert (seen < 12).float().mean() > 0.97


def scored(parametrization, colour=0.0, observed=True):
    codec = fitted(colour=colour)
    score = Score(TINY, VP(), parametrization, codec.layout, ConditionSizes(observed=observed), colour, "joint")
    score.codec.load_state_dict(codec.state_dict(), strict=False)
    torch.nn.init.normal_(next(reversed(list(score.network.parameters()))), std=0.3)
    return score


@pytest.mark.parametrize("parametrization", ["wiener", "eps", "x0"])
@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_an_error_counts_as_sampling_would_leave_it(parametrization, colour):
    """The loss against that of the clean estimate which the posterior's correction makes, number by number."""
    score = scored(parametrization, colour)
    gaussian, mask, t = gaussian_of(score.codec), masks(11, 2), torch.linspace(0.05, 0.9, 7)
    rows = gaussian.rows(torch.randn(7, gaussian.size, generator=generator()))
    z0 = (rows.float().view(7, *score.noise_scale.shape)) * score.noise_scale
    noise = torch.randn(z0.shape, generator=generator(1))
    x = score.codec.decode(z0)
    condition = Condition(observed=x, mask=mask)
    c = score.coefficients(t)
    zt = c.alpha * z0 + c.sigma * noise
    with torch.no_grad():
        eps = -c.sigma * score(zt, t, condition)
        clean = score.codec.whiten(zt - c.sigma * eps) / c.alpha.flatten(1)
        known = gaussian.known(mask)
        left = [c.alpha.flatten(1).double(), c.level.flatten(1).double()]
        moved = clean + known.move(known.lack(clean, x), lambda block: block.left(*left))
        series = gaussian.series(moved - rows).view(x.shape)
        assert series[mask > 0].abs().max() < 2e-3 * series.abs().max()  # where it is told, no error is left
        error = (moved - rows) * (c.alpha / c.level).flatten(1)  # of eps
        live = (score.noise_scale > 0).flatten()
        expected = error.square().sum() / (live.sum() * 7)
        if parametrization == "wiener":  # the prediction of noise has the weight 1 in every parametrisation
            live &= (score.codec.variance > 0).flatten()
        found = score_matching_loss(score, z0, noise, t, "eps", condition)
    assert float(found) == pytest.approx(float(expected), rel=0.02)


def test_nothing_observed_is_the_plain_loss_and_the_linear_loss_hears_of_what_is():
    score = scored("wiener")
    z0, noise = torch.randn(2, 7, *score.noise_scale.shape, generator=generator())
    z0, t = z0 * score.codec.variance.sqrt(), torch.linspace(0.05, 0.9, 7)
    mask = torch.zeros(7, 11, 2)
    nothing, some = (Condition(observed=score.codec.decode(z0), mask=one) for one in (mask, masks(11, 2)))
    with torch.no_grad():
        plain = score_matching_loss(score, z0, noise, t)
        assert torch.equal(score_matching_loss(score, z0, noise, t, condition=nothing), plain)
        assert linear_loss(score, z0, noise, t, condition=some) < linear_loss(score, z0, noise, t)
    plain = scored("wiener", observed=False)
    with torch.no_grad():
        told, untold = (score_matching_loss(plain, z0, noise, t, condition=one) for one in (some, nothing))
    assert torch.equal(told, untold), "a model that is told nothing is not trained on what it does not see"


def trained(observe, series, steps=4, **settings):
    from lightning.pytorch import Trainer, seed_everything

    seed_everything(0, verbose=False)
    module = ScoreModule(settings.pop("network", MLP(layers=1, width=8)), observe=observe, **settings)
    trainer = Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        enable_checkpointing=False,
    )  # fmt: skip
    trainer.fit(module, datamodule=ArrayData.of(series.numpy(), batch_size=32))
    return module, trainer


def test_a_model_that_observes_is_told_and_says_so_in_its_checkpoint(tmp_path):
    series = torch.randn(80, 10, 2, generator=generator()).cumsum(1)
    module, trainer = trained(0.8, series, network=TINY)
    assert module.score.sizes == ConditionSizes(observed=True)
    trainer.save_checkpoint(tmp_path / "it.ckpt")
    loaded = ScoreModule.load_from_checkpoint(tmp_path / "it.ckpt")
    assert loaded.observe == 0.8
    assert loaded.score.sizes.observed
    assert trainer.callback_metrics["val_loss"] > 0
    plain, _ = trained(0.0, series, network=TINY)
    assert not plain.score.sizes.observed


def test_a_share_that_is_none_is_refused():
    with pytest.raises(ValueError, match="share from 0 to 1 to observe, got 1.5: set `model.observe`"):
        ScoreModule(observe=1.5)


def test_a_missing_value_is_never_told():
    module = ScoreModule(TINY, observe=1.0, shape=(12, 2))
    seen = torch.ones(64, 12, 2)
    seen[:, 5:, 1] = 0
    condition = module._told(Batch(torch.randn(64, 12, 2), seen=seen), generator())
    assert condition.mask is not None
    assert float(condition.mask[:, 5:, 1].sum()) == 0
    assert float(condition.mask[:, :5].mean()) > 0.2
