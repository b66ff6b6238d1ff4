import pytest
import torch
from oracle import GaussianScore
from torch import nn

from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VE, VP, SubVP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import Transformer, UNet

TINY = Transformer(layers=1, heads=1, width=4, feedforward=4)
LAYOUT = Representation("frequency", 8, 2)


def make(parametrization, sde=None, layout=LAYOUT) -> Score:
    return Score(TINY, sde or VP(), parametrization, layout)


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("t", [1e-5, 1e-3, 0.1, 0.5, 1.0])
def test_every_parametrization_gives_the_same_score(sde, t):
    """A network that outputs exactly what each asks for must lead to the score of the perturbation kernel."""
    torch.manual_seed(0)
    z0, xi = torch.randn(2, 5, 5, 4).unbind()
    t = torch.tensor(t)
    exact = None
    for name in ("eps", "x0", "score", "wiener"):
        score = make(name, sde)
        z0 = z0 * (score.noise_scale > 0)
        xi = xi * (score.noise_scale > 0)
        c = score.coefficients(t)
        zt = c.alpha * z0 + c.sigma * xi
        target, _ = score.target(z0, xi, c)
        value = score.eps(target, zt, c)
        if exact is None:
            exact = xi
            assert torch.equal(value * (score.noise_scale > 0), xi)
        # Dividing by the noise level costs the clean form its digits near the data: that is why it is no default.
        digits = {"x0": 1e-6 * float(c.alpha.max() / c.sigma[c.sigma > 0].min())}.get(name, 0)
        torch.testing.assert_close(value, exact, atol=2e-5 + digits, rtol=1e-4)


@pytest.mark.parametrize("colour", [0.0, 0.5])
def test_a_coloured_model_has_the_exact_score_and_a_target_of_unit_variance(colour):
    """The same untrained model: only the noise differs, and the Wiener filter with it."""
    torch.manual_seed(0)
    score = Score(TINY, VP(), "wiener", LAYOUT, colour=colour)
    score.codec.fit([torch.randn(4000, 8, 2).cumsum(1)])
    codec, live = score.codec, (score.noise_scale > 0).flatten()
    oracle = GaussianScore(VP(), score.noise_scale, torch.diag(codec.variance.double().flatten()))
    z, xi = torch.randn(2, 4000, 5, 4) * score.noise_scale.gt(0)
    z0 = z * codec.variance.sqrt()
    for t in (1e-3, 0.2, 1.0):
        t = torch.tensor(t)
        torch.testing.assert_close(score(z[:3], t), oracle(z[:3], t), rtol=1e-3, atol=1e-4)
        c = score.coefficients(t)
        target, _ = score.target(z0, xi, c)
        assert target.flatten(1)[:, live].std(0).sub(1).abs().max() < 0.06
        torch.testing.assert_close(score.eps(target, c.alpha * z0 + c.sigma * xi, c), xi, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["eps", "x0", "score", "wiener"])
def test_target_and_unit_error_agree_with_the_meaning(name):
    """Raising the raw output by d must raise the noise prediction by unit_error * d, up to sign."""
    score = make(name)
    z0, xi, raw = torch.randn(3, 6, 5, 4).unbind()
    t = torch.rand(6)
    c = score.coefficients(t)
    zt = c.alpha * z0 + c.sigma * xi
    _, unit = score.target(z0, xi, c)
    change = score.eps(raw + 1, zt, c) - score.eps(raw, zt, c)
    torch.testing.assert_close(change.abs(), unit.expand_as(change), atol=1e-3, rtol=1e-3)


def test_wiener_target_has_unit_variance_at_every_time():
    score = make("wiener")
    live = score.noise_scale > 0
    z0, xi = torch.randn(2, 20_000, 5, 4).unbind()
    for t in (1e-4, 0.03, 0.3, 0.9):
        target, _ = score.target(z0, xi, score.coefficients(torch.tensor(t)))
        torch.testing.assert_close(target[:, live].var(0), torch.ones(int(live.sum())), atol=0.06, rtol=0)


@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=lambda s: type(s).__name__)
def test_untrained_wiener_model_is_exact_for_independent_gaussian_frequencies(sde):
    score = make("wiener", sde)
    live = (score.noise_scale > 0).flatten()
    oracle = GaussianScore(sde, score.noise_scale, torch.diag(live.double()))
    z = torch.randn(3, 5, 4) * live.reshape(5, 4)
    for t in (1e-5, 0.2, 1.0):
        t = torch.tensor(t)
        torch.testing.assert_close(score(z, t), oracle(z, t), rtol=1e-4, atol=1e-5)


def test_constant_coordinates_are_denoised_exactly():
    score = make("wiener")
    score.codec.variance[1] = 0
    nn.init.normal_(score.network.out.weight)
    t = torch.tensor(0.3)
    c = score.coefficients(t)
    xi = torch.randn(4, 5, 4)
    noise = score.eps(torch.randn(4, 5, 4), c.sigma * xi, c)
    torch.testing.assert_close(noise[:, 1], xi[:, 1])


@pytest.mark.parametrize("name", ["eps", "x0", "score", "wiener"])
def test_masked_coordinates_have_no_score(name):
    score = make(name)
    nn.init.normal_(score.network.out.weight)
    value = score(torch.randn(3, 5, 4), torch.tensor(0.5))
    assert value.isfinite().all()
    assert value[:, score.noise_scale == 0].eq(0).all()
    assert value[:, score.noise_scale > 0].abs().min() > 0


def test_unknown_parametrization_names_its_setting():
    with pytest.raises(ValueError, match=r"`model\.parametrization`"):
        make("velocity")


LINEAR_MODELS = [{"covariance": "joint"}, {"covariance": "diagonal"}, {"covariance": "joint", "colour": 0.5}]


@pytest.mark.parametrize("settings", LINEAR_MODELS, ids=str)
@pytest.mark.parametrize(("domain", "length"), [("frequency", 12), ("frequency", 13), ("time", 8), ("wavelet", 11)])
@pytest.mark.parametrize("sde", [VP(), VE()], ids=lambda s: type(s).__name__)
def test_the_remainder_of_steps_has_unit_variance_and_gives_the_noise_back(settings, domain, length, sde):
    torch.manual_seed(0)
    score = Score(UNet(width=8, heads=2), sde, "steps", Representation(domain, length, 2), **settings)
    x = torch.randn(20_000, length, 2).cumsum(1)
    x[:, 3, 1] = 1.5  # never varies
    score.codec.fit([x])
    codec, live = score.codec, score.noise_scale > 0
    z0 = codec.encode(x)
    xi = torch.randn_like(z0) * live
    for t in (1e-3, 0.2, 1.0):
        c = score.coefficients(torch.tensor(t))
        target, unit = score.target(z0, xi, c)
        assert target.shape == x.shape
        if codec.directions is not None and settings.get("colour", 0) == 0:
            varies = torch.ones(length, 2)
            varies[3, 1] = 0
            torch.testing.assert_close(target.var(0) * varies, varies, atol=0.08, rtol=0)
        raw = codec.from_time(target)
        torch.testing.assert_close(score.meant(raw), target, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(score.eps(raw, c.alpha * z0 + c.sigma * xi, c) * live, xi, atol=1e-3, rtol=1e-3)
        error = torch.randn_like(target) * (unit > 0)
        torch.testing.assert_close(score.in_raw(score.in_eps(error, unit), unit), error, atol=1e-4, rtol=1e-4)


def test_over_time_steps_are_the_wiener_form():
    torch.manual_seed(0)
    x = torch.randn(5000, 8, 2).cumsum(1)
    one, other = (
        Score(UNet(width=8, heads=2), VP(), name, Representation("time", 8, 2), colour=0.0, covariance="joint")
        for name in ("steps", "wiener")
    )
    for score in (one, other):
        score.codec.fit([x])
    z, raw = torch.randn(2, 5, 8, 2)
    for t in (1e-3, 0.2, 1.0):
        c = one.coefficients(torch.tensor(t))
        torch.testing.assert_close(one.eps(raw, z, c), other.eps(raw, z, c), atol=1e-3, rtol=1e-2)
        found, expected = (score.target(z, raw, c) for score in (one, other))
        torch.testing.assert_close(found[0], expected[0], atol=1e-3, rtol=1e-2)
        torch.testing.assert_close(*(unit.expand_as(z) for _, unit in (found, expected)), atol=1e-3, rtol=1e-2)


@pytest.mark.parametrize("network", [Transformer(heads=2, width=8), Transformer(heads=2, width=8, group=2)], ids=str)
def test_steps_want_a_network_that_sees_time(network):
    with pytest.raises(ValueError, match=r"got Transformer over tokens: set `model\.parametrization` wiener"):
        Score(network, VP(), "steps", LAYOUT)
