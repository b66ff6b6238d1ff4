"""Timid predictions are found by least squares, and put right; right ones are left as they are."""

import pytest
import torch

from lightning_freqdiff.condition import Condition, ConditionSizes
from lightning_freqdiff.diffusion import VP, Score
from lightning_freqdiff.diffusion.refit import refit
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import UNet
from lightning_freqdiff.sampling import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.solvers import Heun

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
        basis, power = self.codec.directions.basis, self.codec.directions.power
        with torch.autocast("cpu", enabled=False):
            along = self.codec.whiten(z) @ basis * (alpha * power / (alpha**2 * power + level**2))
            predicted = (along @ basis.T).view_as(z) * self.noise_scale
        predicted = predicted * (1 - self.timid * c.level**2 / (c.alpha**2 + c.level**2))
        noise = torch.where(c.sigma > 0, c.sigma, torch.inf)
        assert lacking is not None
        return (z - c.alpha * predicted) / noise + lacking


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
    assert not refit(model(sizes=ConditionSizes(observed=True)), series(500), 500, generator())


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
