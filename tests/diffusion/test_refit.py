"""Timid predictions are found by least squares, and put right; right ones are left as they are."""

from dataclasses import replace

import pytest
import torch

from lightning_freqdiff.condition import UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.diffusion import VP, Score
from lightning_freqdiff.diffusion.losses import linear_loss, score_matching_loss
from lightning_freqdiff.diffusion.refit import refit
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import UNet
from lightning_freqdiff.sampling import GaussianPosterior, Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.conditions import InTurn
from lightning_freqdiff.sampling.solvers import DPMSolverPP, Heun

LENGTH = 12


def series(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fade = torch.linspace(2, 0.1, LENGTH).reshape(1, -1, 1)
    return 5 + fade * torch.randn(count, LENGTH, 1, generator=generator).cumsum(1)


class Exact(Score):
    """The exact Gaussian in the place of the network, with predictions that may be timid under strong noise."""

    timid = 0.0

    def eps(self, raw, z, c, lacking=None):
        assert self.codec.directions is not None
        alpha, level, lacking = c.alpha.flatten(1), c.level.flatten(1), self.lacking(z, c)
        basis, power = self.codec.directions.basis, getattr(self, "known", self.codec.directions.power)
        with torch.autocast("cpu", enabled=False):
            along = self.codec.whiten(z) @ basis * (alpha * power / (alpha**2 * power + level**2))
            predicted = (along @ basis.T).view_as(z) * self.noise_scale
        predicted = predicted * (1 - self.timid * c.level**2 / (c.alpha**2 + c.level**2))
        noise = torch.where(c.sigma > 0, c.sigma, torch.inf)
        assert lacking is not None
        own, kept = (z - c.alpha * predicted) / noise, self.kept(c)
        return (own if kept is None else kept * own) + lacking


def model(kind=Score, **settings):
    """Untrained, so that all it knows is the Wiener filter; or the whole Gaussian."""
    settings = {"colour": 0.0, "covariance": "joint", **settings}
    score = kind(UNet(width=8, heads=2), VP(), "wiener", Representation("frequency", LENGTH, 1), **settings)
    score.codec.fit(series(4000).split(500))
    return score.eval()


def generator():
    return torch.Generator().manual_seed(1)


def predictions(score, t):
    z0 = score.codec.encode(series(50, seed=2))
    t, c = torch.tensor(t), score.coefficients(torch.tensor(t))
    z = c.alpha * z0 + c.sigma * torch.randn(z0.shape, generator=generator())
    with torch.no_grad():
        return (z + c.sigma.square() * score(z, t)) / c.alpha


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_leading_directions_learn_afterwards_what_the_gaussian_knows(t):
    exact, untrained, diagonal = model(Exact), model(), model(covariance="diagonal")
    assert torch.equal(predictions(untrained, t), predictions(diagonal, t))
    assert refit(untrained, series(4000), 4000, generator())
    before, after = ((predictions(x, t) - predictions(exact, t)).norm() for x in (diagonal, untrained))
    assert after < 0.25 * before


@pytest.mark.slow
def test_samples_get_their_deviation_back():
    exact, timid, mended = model(Exact), model(Exact), model(Exact)
    timid.timid = mended.timid = 0.1
    refit(mended, series(4000), 4000, generator())
    few = Sampling(num_samples=400, num_steps=40, solver=Heun(), grid="edm")
    drawn = [s.codec.decode(sample(s, s.sde, s.codec, WorkUnit(0, 0, 400), few)) for s in (exact, timid, mended)]
    right, small, back = (float(x.std(0).mean()) for x in drawn)
    assert abs(small - right) > 0.05 * right
    assert abs(back - right) < 0.3 * abs(small - right)


def test_a_right_model_is_left_nearly_as_it_is():
    exact = model(Exact)
    before = predictions(exact, 0.3)
    refit(exact, series(4000), 4000, generator())
    assert (predictions(exact, 0.3) - before).norm() < 0.05 * before.norm()


def test_twice_is_as_once():
    timid = model()
    refit(timid, series(500), 500, generator())
    assert timid.correction is not None
    slope = timid.correction.slope.clone()
    refit(timid, series(500), 500, generator())
    assert torch.equal(slope, timid.correction.slope)


def test_low_precision_of_the_network_finds_the_same():
    exact, low = model(Exact), model(Exact)
    exact.timid = low.timid = 0.1
    refit(exact, series(500), 500, generator())
    with torch.autocast("cpu", torch.bfloat16):
        refit(low, series(500), 500, generator())
    assert exact.correction is not None
    assert low.correction is not None
    torch.testing.assert_close(low.correction.slope, exact.correction.slope, atol=1e-5, rtol=1e-3)


def test_it_is_not_done_where_it_could_not_be():
    assert not refit(model(), series(500), 20, generator())
    assert not refit(model(covariance="diagonal"), series(500), 500, generator())


def test_a_model_that_is_told_values_is_not_corrected_as_if_it_were_not():
    score = model(Exact, sizes=ConditionSizes(observed=True))
    score.timid = 0.1
    assert refit(score, series(500), 500, generator())
    assert score.correction is not None
    assert not score.correction.slope.any()
    assert not score.correction.offset.any()


class Wrong(Exact):
    """The exact Gaussian, with errors of its own that depend on what it is given."""

    size = 0.5

    def eps(self, raw, z, c, lacking=None):
        found = super().eps(raw, z, c, lacking)
        noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(int(1e6 * float(z.abs().sum())) % 2**31))
        kept = self.kept(c)
        share = 1.0 if kept is None else kept
        return found + share * self.size * c.alpha / c.level * noise * self.noise_scale.sign()


def test_a_network_is_believed_by_what_it_is_worth():
    """Its error is as large in every direction, while what is open differs from one to the next."""
    score, right = model(Wrong), model(Exact)
    x = series(600)
    assert refit(score, x, 500, generator())
    assert score.correction is not None
    assert score.correction.trust.max() < 0.4
    assert right.correction is not None
    # The linear model of other data, beside which the exact Gaussian of these is right.
    assert right.codec.directions is not None
    right.known = right.codec.directions.power.clone()
    right.codec.directions.power.mul_(torch.linspace(0.02, 4, len(right.known)))
    assert refit(right, x, 500, generator())
    assert right.correction.trust[3:-4, -4:].mean() > 0.8


def some_of(count):
    return (torch.rand(count, LENGTH, 1, generator=generator()) < 0.6).float()


@pytest.mark.parametrize("seen", [None, some_of(100)], ids=["whole", "gaps"])
def test_a_network_that_does_harm_gives_way_to_the_linear_model(seen):
    score, exact = model(Wrong), model(Exact)
    assert score.correction is not None
    assert refit(score, series(600), 500, generator(), held_out=series(9, seed=7))
    assert not score.correction.partly, "nine held-out series prove nothing"
    before = predictions(score, 0.3)
    assert refit(score, series(600), 500, generator(), held_out=series(100, seed=7), held_seen=seen)
    assert score.correction.partly
    assert score.correction.kept.max() < 0.4
    right = predictions(exact, 0.3)
    assert (predictions(score, 0.3) - right).norm() < 0.3 * (before - right).norm()


class WrongAtTheEnd(Exact):
    """The exact Gaussian, with an error in the second half of every series."""

    chance = torch.Generator()

    def eps(self, raw, z, c, lacking=None):
        found, kept = super().eps(raw, z, c, lacking), self.kept(c)
        noise = torch.randn(len(z), LENGTH, 1, generator=self.chance)
        noise[:, : LENGTH // 2] = 0
        share = 1.0 if kept is None else kept
        return found + share * 0.5 * (c.alpha / c.level).clamp(max=1) * self.codec.from_time(noise)


def test_what_a_network_says_of_gaps_does_not_count():
    """Nothing is known there but what a linear model drew."""
    held_out, seen = series(100, seed=7), torch.zeros(100, LENGTH, 1)
    for half, harm in ((slice(None, LENGTH // 2), False), (slice(LENGTH // 2, None), True)):
        score = model(WrongAtTheEnd)
        WrongAtTheEnd.chance.manual_seed(3)
        assert score.correction is not None
        assert refit(
            score,
            series(2000),
            2000,
            generator(),
            held_out=held_out,
            held_seen=seen.clone().index_fill_(1, torch.arange(LENGTH)[half], 1.0),
        )
        assert score.correction.partly == harm


@pytest.mark.parametrize("seen", [None, some_of(100)], ids=["whole", "gaps"])
def test_a_network_that_knows_better_is_kept_as_it_is(seen):
    """The linear model is that of other data."""
    right = model(Exact)
    assert right.correction is not None
    assert right.codec.directions is not None
    right.known = right.codec.directions.power.clone()
    right.codec.directions.power.mul_(torch.linspace(0.02, 4, len(right.known)))
    assert refit(right, series(600), 500, generator(), held_out=series(100, seed=7), held_seen=seen)
    assert not right.correction.partly


def test_held_out_series_are_asked_whichever_order_they_are_in(monkeypatch):
    """More of them than draws: the first may be all of one kind."""
    score, held_out = model(Wrong), series(1000, seed=7)
    asked, encode = [], score.codec.encode
    monkeypatch.setattr(score.codec, "encode", lambda x: asked.append(x) or encode(x))
    assert refit(score, series(600), 100, generator(), held_out=held_out)
    rows = {row.numpy().tobytes(): number for number, row in enumerate(held_out)}
    numbers = [rows[row.numpy().tobytes()] for x in asked for row in x if row.numpy().tobytes() in rows]
    levels = torch.tensor(numbers).view(-1, 100)
    assert all(len(set(level)) == 100 for level in levels.tolist())
    assert levels.max() > 900


@pytest.mark.parametrize("form", ["wiener", "steps"])
@torch.no_grad()
def test_what_is_kept_in_part_lies_between_the_network_and_the_linear_model(form):
    score = Score(
        UNet(width=8, heads=2), VP(), form, Representation("frequency", LENGTH, 1), UNCONDITIONAL, 0.0, "joint"
    )
    x = series(400)
    score.codec.fit([x])
    for parameter in score.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    assert score.correction is not None
    score.correction.slope.normal_(std=0.1)
    z0, t = score.codec.encode(x[:50]), torch.linspace(0.05, 0.9, 50)
    noise = torch.randn(z0.shape, generator=generator()) * (score.noise_scale > 0)
    c = score.coefficients(t)
    z = c.alpha * z0 + c.sigma * noise

    def eps():
        return -c.sigma * score(z, t)

    whole, loss = eps(), score_matching_loss(score, z0, noise, t)
    error = score.eps(raw := torch.randn_like(z), z, c) - noise
    target, unit = score.target(z0, noise, c)
    expected = torch.where(unit > 0, score.meant(raw) - target, 0.0).abs()
    torch.testing.assert_close(score.in_raw(error, unit).abs(), expected, atol=1e-3, rtol=1e-3)
    score.correction.keep(torch.full((12,), 0.25))
    torch.testing.assert_close(eps(), 0.25 * whole + 0.75 * score.linear_eps(z, c), atol=1e-4, rtol=1e-4)
    score.correction.keep(torch.full((12,), 0.999999))
    torch.testing.assert_close(score_matching_loss(score, z0, noise, t), loss, rtol=1e-3, atol=1e-4)
    score.correction.keep(torch.zeros(12))
    torch.testing.assert_close(eps(), score.linear_eps(z, c), atol=1e-5, rtol=1e-4)
    if form == "steps":
        linear = linear_loss(score, z0, noise, t)
        torch.testing.assert_close(score_matching_loss(score, z0, noise, t), linear, rtol=1e-3, atol=1e-4)
    copy = Score(
        UNet(width=8, heads=2), VP(), form, Representation("frequency", LENGTH, 1), UNCONDITIONAL, 0.0, "joint"
    )
    copy.load_state_dict(score.state_dict())
    assert copy.correction is not None
    assert copy.correction.partly
    score.correction.forget()
    assert not score.correction.partly


@torch.no_grad()
def test_values_are_filled_in_as_well_as_by_the_linear_model_at_least():
    score = model(Wrong)
    x = series(40, seed=9)
    mask = (torch.rand(x.shape, generator=generator()) < 0.5).float()
    mean = gaussian_of(score.codec).draw(x, mask)
    sampling = Sampling(num_samples=40, num_steps=12, solver=DPMSolverPP(), grid="edm", guidance=GaussianPosterior())
    sampling = replace(sampling, condition=InTurn(Condition(observed=x, mask=mask)))

    def error():
        drawn = sample(score, score.sde, score.codec, sampling.units()[0], sampling)
        filled = score.codec.decode(drawn)
        torch.testing.assert_close(filled[mask > 0], x[mask > 0], atol=0.02, rtol=0)
        return float((filled - x).square().sum() / (mean - x).square().sum())

    before = error()
    assert refit(score, series(600), 500, generator())
    after = error()
    assert before > 2 * after
    assert after < 2.6  # a draw is off by twice the variance of the mean


def test_a_network_is_told_what_it_was_in_training():
    score, heard = model(Exact, sizes=ConditionSizes(classes=2)), []
    score.timid = 0.1
    plain = model(Exact)
    plain.timid = 0.1
    embed = score.network.embed
    score.network.embed = lambda seen, t, condition: (heard.append(condition.label), embed(seen, t, condition))[1]
    known = Condition(label=torch.arange(500) % 2)
    torch.manual_seed(0)
    assert refit(score, series(500), 500, generator(), known, dropout=0.5)
    assert refit(plain, series(500), 500, generator())
    assert score.correction is not None
    assert plain.correction is not None
    torch.testing.assert_close(score.correction.slope, plain.correction.slope)
    rows = torch.randint(500, (500,), generator=generator())
    first = torch.cat(heard)[:500]
    told = first >= 0
    assert 0.3 < told.float().mean() < 0.7
    assert torch.equal(first[told], (rows % 2)[told])


@pytest.mark.parametrize("domain", ["frequency", "time", "wavelet", "lapped"])
def test_before_any_statistics_nothing_is_corrected(domain):
    score = Score(UNet(width=8, heads=2), VP(), "wiener", Representation(domain, LENGTH, 1), covariance="joint")
    z = torch.randn(3, *score.noise_scale.shape)
    lacking = score.lacking(z, score.coefficients(torch.tensor(0.3)))
    assert lacking is not None
    assert lacking.eq(0).all()
