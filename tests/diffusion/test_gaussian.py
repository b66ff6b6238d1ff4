"""The linear model of all coordinates together: exact for every Gaussian, and nothing where they are independent."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_freqdiff.diffusion import VE, VP, Score, SubVP
from lightning_freqdiff.diffusion.gaussian import JointGaussian
from lightning_freqdiff.diffusion.losses import linear_loss, score_matching_loss
from lightning_freqdiff.networks import UNet
from lightning_freqdiff.spectral import Representation

TINY = UNet(width=8, heads=2)  # untrained: its output is 0, and what is left is the linear part


def bumps(count, length, channels, seed=0):
    """Series that start at one place and fade: not stationary, so that frequencies depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    fade = torch.linspace(2, 0.1, length).reshape(1, -1, 1)
    walk = torch.randn(count, length, channels, generator=generator).cumsum(1)
    return 3 + fade * (walk + torch.randn(count, 1, 1, generator=generator))


class Gaussian(JointGaussian):
    trust: torch.nn.Parameter


class Full(Score):
    joint: Gaussian

    def linear(self, z, c) -> torch.Tensor:
        found = super().linear(z, c)
        assert found is not None
        return found


def scores(x, domain="frequency", colour=0.0, sde=VP()) -> tuple[Full, Score]:  # noqa: B008 (frozen)
    layout = Representation(domain, x.shape[1], x.shape[2])
    full = Full(TINY, sde, "wiener", layout, colour=colour, covariance="full")
    diagonal = Score(TINY, sde, "wiener", layout, colour=colour)
    for score in (full, diagonal):
        score.fit(lambda: iter(x.split(100)))
    return full, diagonal


@given(
    st.integers(2, 13),
    st.integers(1, 3),
    st.sampled_from(["frequency", "time"]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([VP(), SubVP(), VE()]),
    st.floats(0.01, 1.0),
)
@settings(deadline=None, max_examples=25)
def test_an_untrained_model_is_the_exact_score_of_its_gaussian(length, channels, domain, colour, sde, t):
    """Against the textbook: the score of N(m, α²C + s²) is -(α²C + s²)⁻¹ (z - m), with the shrunk covariance C."""
    score, _ = scores(bumps(60, length, channels), domain, colour, sde)
    scale = score.noise_scale.flatten().double()
    live = (scale > 0) & (score.codec.variance.flatten() > 0)
    basis = score.joint.basis.double()
    covariance = scale.unsqueeze(1) * (basis * score.joint.power.double()) @ basis.T * scale
    time = torch.tensor(t)
    alpha, sigma = float(sde.alpha(time)), float(sde.sigma(time))
    total = (alpha**2 * covariance + torch.diag((sigma * scale).square()))[live][:, live]
    root, n = torch.linalg.cholesky(total), torch.randn(7, len(total), dtype=torch.float64)
    z = torch.zeros(7, len(live))
    z[:, live] = (n @ root.T).float()
    with torch.no_grad():
        found = score(z.view(7, *score.noise_scale.shape), time).flatten(1).double()
    expected = -torch.linalg.solve_triangular(root.T, n.T, upper=True).T
    noise = sigma * scale[live]
    torch.testing.assert_close(found[:, live] * noise, expected * noise, atol=2e-3, rtol=1e-3)  # as noise predictions
    assert found[:, ~live].eq(0).all()


def test_the_covariance_is_that_of_the_training_series_but_for_what_may_be_chance():
    x = bumps(400, 8, 2)
    score, _ = scores(x)
    rows = score.codec.encode(x).double().flatten(1)
    scale = score.noise_scale.flatten().double()
    live = (scale > 0) & (score.codec.variance.flatten() > 0)
    rows = (rows / scale.where(scale > 0, 1.0))[:, live]
    # Schäfer and Strimmer, one pair at a time.
    unit = rows / rows.square().mean(0).sqrt()
    d, n = unit.shape[1], len(unit)
    pairs = [(i, j) for i in range(d) for j in range(d) if i != j]
    products = {(i, j): unit[:, i] * unit[:, j] for i, j in pairs}
    chance = sum(float(((w - w.mean()) ** 2).mean()) / (n - 1) for w in products.values())
    shrinkage = min(1.0, chance / sum(float(w.mean()) ** 2 for w in products.values()))
    assert float(score.joint.shrinkage) == pytest.approx(shrinkage, rel=1e-4)
    assert 0.001 < shrinkage < 0.5
    covariance = rows.T @ rows / n
    covariance = covariance * (1 - shrinkage) + torch.diag(covariance.diagonal()) * shrinkage
    basis = score.joint.basis.double()[live]
    torch.testing.assert_close(basis * score.joint.power.double() @ basis.T, covariance, atol=1e-4, rtol=1e-4)


def test_few_series_are_not_believed_and_independent_coordinates_gain_nothing():
    few, _ = scores(bumps(3, 12, 1))
    many, _ = scores(bumps(3000, 12, 1))
    assert few.joint.shrinkage > 3 * many.joint.shrinkage
    noise, _ = scores(torch.randn(200, 12, 1, generator=torch.Generator().manual_seed(1)))
    z, c = torch.randn(5, *noise.noise_scale.shape) * noise.noise_scale, noise.coefficients(torch.tensor(0.3))
    assert noise.joint.shrinkage > 0.8
    assert noise.linear(z, c).abs().max() < 0.1


def test_it_explains_more_than_coordinate_by_coordinate_and_is_the_loss_of_a_network_that_adds_nothing():
    full, diagonal = scores(bumps(2000, 16, 1))
    z0 = full.codec.encode(bumps(500, 16, 1, seed=1))
    noise, t = torch.randn_like(z0), torch.rand(len(z0)) * 0.98 + 0.01
    with torch.no_grad():
        joint, alone = (float(linear_loss(score, z0, noise, t)) for score in (full, diagonal))
        total = float(score_matching_loss(full, z0, noise, t))
    assert joint < 0.95 * alone
    assert alone == pytest.approx(1, abs=0.1)
    assert joint == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize("t", [0.001, 0.03, 0.3, 1.0])
def test_rounding_stays_small_at_both_ends_of_time(t):
    full, _ = scores(bumps(500, 64, 1))
    z0 = full.codec.encode(bumps(20, 64, 1, seed=1))
    c = full.coefficients(torch.tensor(t))
    z = c.alpha * z0 + c.sigma * torch.randn_like(z0)
    exact = full.double().linear(z.double(), full.coefficients(torch.tensor(t, dtype=torch.float64)))
    assert (full.float().linear(z, c) - exact).abs().max() < 2e-3


def test_a_batch_is_its_singles_and_autocast_changes_nothing():
    full, _ = scores(bumps(100, 9, 2))
    z, c = torch.randn(4, *full.noise_scale.shape), full.coefficients(torch.tensor(0.4))
    together = full.linear(z, c)
    torch.testing.assert_close(together, torch.cat([full.linear(one[None], c) for one in z]), atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(together, full.linear(z, c))


def test_how_much_is_taken_depends_on_the_noise_and_is_learnt():
    full, diagonal = scores(bumps(100, 9, 1))
    z = torch.randn(3, *full.noise_scale.shape)
    with torch.no_grad():
        full.joint.trust.copy_(torch.tensor([0.0] * 5 + [1.0] * 4))
        quiet, loud = (VP().time_at(torch.tensor(x)).float() for x in (2.0, -2.0))  # the log of signal over noise
        assert torch.equal(full(z, quiet), diagonal(z, quiet))
        assert (full(z, loud) - diagonal(z, loud)).abs().max() > 1e-3
        half = VP().time_at(torch.tensor(-0.5)).float()
        whole = full.linear(z, full.coefficients(half))
        full.joint.trust.fill_(1.0)
        torch.testing.assert_close(whole, 0.5 * full.linear(z, full.coefficients(half)), atol=1e-4, rtol=1e-3)
    z0 = full.codec.encode(bumps(16, 9, 1))
    score_matching_loss(full, z0, torch.randn_like(z0), torch.rand(16)).backward()
    assert full.joint.trust.grad is not None
    assert full.joint.trust.grad.abs().max() > 0


def test_constant_coordinates_and_too_many_of_them_are_left_alone():
    x = bumps(50, 8, 2)
    x[..., 1] = 4.0
    full, diagonal = scores(x)
    z, t = torch.randn(3, *full.noise_scale.shape), torch.tensor(0.2)
    constant = (full.codec.variance == 0) | (full.noise_scale == 0)
    assert full.linear(z, full.coefficients(t))[:, constant].eq(0).all()
    assert torch.equal(full(z, t)[:, constant], diagonal(z, t)[:, constant])
    assert Score(TINY, VP(), "wiener", Representation("time", 2049, 1), covariance="full").joint is None
    assert Score(TINY, VP(), "eps", Representation("time", 20, 1), covariance="full").joint is None
