"""Timid predictions are found by least squares, and put right; right ones are left as they are."""

import pytest
import torch

from lightning_freqdiff.condition import ConditionSizes
from lightning_freqdiff.diffusion import VP, Score
from lightning_freqdiff.diffusion.refit import refit
from lightning_freqdiff.networks import UNet
from lightning_freqdiff.sampling import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.solvers import Heun
from lightning_freqdiff.spectral import Representation

LENGTH = 12


def series(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    fade = torch.linspace(2, 0.1, LENGTH).reshape(1, -1, 1)
    return 5 + fade * torch.randn(count, LENGTH, 1, generator=generator).cumsum(1)


def model(trust=1.0, **settings):
    """Untrained, so that all it knows is the exact Gaussian, or as much of it as it trusts."""
    settings = {"colour": 0.0, "covariance": "full", **settings}
    score = Score(UNet(width=8, heads=2), VP(), "wiener", Representation("frequency", LENGTH, 1), **settings)
    score.fit(lambda: series(4000).split(500))
    if score.joint is not None and score.joint.trust is not None:
        score.joint.trust.data.fill_(trust)
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
def test_what_a_model_does_not_trust_is_brought_back(t):
    exact, timid = model(), model(trust=0.0)
    before = (predictions(timid, t) - predictions(exact, t)).norm()
    assert refit(timid, series(4000), 4000, generator())
    after = (predictions(timid, t) - predictions(exact, t)).norm()
    assert after < 0.25 * before


@pytest.mark.parametrize("t", [0.2, 0.5])
def test_leading_directions_learn_afterwards_what_the_full_gaussian_knows(t):
    exact, leading, diagonal = model(), model(covariance="leading"), model(covariance="diagonal")
    assert torch.equal(predictions(leading, t), predictions(diagonal, t))
    refit(leading, series(4000), 4000, generator())
    before, after = ((predictions(x, t) - predictions(exact, t)).norm() for x in (diagonal, leading))
    assert after < 0.25 * before


def timidly(linear):
    return lambda z, c: linear(z, c) - 0.1 * z / c.total


def test_samples_get_their_deviation_back():
    exact, timid, mended = model(), model(), model()
    for score in (timid, mended):  # predictions a tenth too small along all that it knows
        score.linear = timidly(score.linear)
    refit(mended, series(4000), 4000, generator())
    few = Sampling(num_samples=400, num_steps=40, solver=Heun(), grid="edm")
    drawn = [s.codec.decode(sample(s, s.sde, s.codec, WorkUnit(0, 0, 400), few)) for s in (exact, timid, mended)]
    right, small, back = (float(x.std(0).mean()) for x in drawn)
    assert abs(small - right) > 0.05 * right
    assert abs(back - right) < 0.3 * abs(small - right)


def test_a_right_model_is_left_nearly_as_it_is():
    exact = model()
    before = predictions(exact, 0.3)
    refit(exact, series(4000), 4000, generator())
    assert (predictions(exact, 0.3) - before).norm() < 0.05 * before.norm()


def test_twice_is_as_once():
    timid = model(trust=0.0)
    refit(timid, series(500), 500, generator())
    assert timid.joint is not None
    slope = timid.joint.slope.clone()
    refit(timid, series(500), 500, generator())
    assert torch.equal(slope, timid.joint.slope)


def test_it_is_not_done_where_it_could_not_be():
    assert not refit(model(), series(500), 20, generator())
    assert not refit(model(covariance="diagonal"), series(500), 500, generator())
    assert not refit(model(sizes=ConditionSizes(classes=2)), series(500), 500, generator())


@pytest.mark.parametrize("domain", ["frequency", "time"])
def test_before_any_statistics_nothing_is_corrected(domain):
    score = Score(UNet(width=8, heads=2), VP(), "wiener", Representation(domain, LENGTH, 1), covariance="leading")
    z = torch.randn(3, *score.noise_scale.shape)
    linear = score.linear(z, score.coefficients(torch.tensor(0.3)))
    assert linear is not None
    assert linear.eq(0).all()
