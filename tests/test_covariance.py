"""The best linear prediction from all coordinates together, and networks that see it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from known_law import known_covariance

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL
from lightning_freqdiff.covariance import JointMoments, groups_of
from lightning_freqdiff.diffusion import VE, VP, Score, SubVP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import MLP, Steps, Transformer, UNet

TINY = UNet(width=8, heads=2)


def bumps(count, length, channels, seed=0):
    """Series that start at one place and fade: not stationary, so that frequencies depend on each other."""
    generator = torch.Generator().manual_seed(seed)
    fade = torch.linspace(2, 0.1, length).reshape(1, -1, 1)
    walk = torch.randn(count, length, channels, generator=generator).cumsum(1)
    return 3 + fade * (walk + torch.randn(count, 1, 1, generator=generator))


def fitted(x, domain="frequency", colour=0.0, apart=False) -> Codec:
    """Fit a codec to all coordinates together, or to those of each channel, as if all were too many."""
    with pytest.MonkeyPatch.context() as patch:
        if apart:
            patch.setattr("lightning_freqdiff.codec.groups_of", lambda coordinates, channels: channels)
        codec = Codec(Representation(domain, x.shape[1], x.shape[2]), colour, joint=True)
    codec.fit(x.split(100))
    return codec


@given(
    st.integers(2, 13),
    st.integers(1, 3),
    st.sampled_from(["frequency", "time", "wavelet", "lapped"]),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([VP(), SubVP(), VE()]),
    st.floats(0.01, 1.0),
    st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_it_is_the_textbooks_conditional_mean(length, channels, domain, colour, sde, t, apart):
    """With NumPy: of z = α x + σ ξ, E[x | z] = α C (α² C + σ²)⁻¹ z, over its root mean square."""
    codec = fitted(bumps(60, length, channels), domain, colour, apart)
    time = torch.tensor(t)
    alpha, sigma = (float(x) for x in (sde.alpha(time), sde.sigma(time)))
    known, n = known_covariance(codec).numpy(), codec.noise_scale.numel()
    z = torch.randn(7, *codec.noise_scale.shape) * sigma + alpha
    found = codec.predict(z, torch.tensor(alpha).view(1, 1, 1), torch.tensor(sigma).view(1, 1, 1)).double()
    total = alpha**2 * known + sigma**2 * np.eye(n)
    map_ = np.linalg.solve(total, alpha * known).T
    size = np.sqrt(np.trace(map_ @ total @ map_.T) / n)
    expected = codec.whiten(z).double().numpy() @ map_.T / size
    expected = expected.reshape(z.shape) * codec.noise_scale.numpy()
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3 * np.abs(expected).max())


def test_the_covariance_is_that_of_the_training_series_but_for_what_may_be_chance():
    x = bumps(400, 8, 2)
    codec = fitted(x)
    assert codec.directions is not None
    live = ((codec.noise_scale > 0) & (codec.variance > 0)).flatten()
    rows = codec.whiten(codec.encode(x)).double()[:, live]
    # Schäfer and Strimmer, one pair at a time.
    unit = rows / rows.square().mean(0).sqrt()
    d, n = unit.shape[1], len(unit)
    pairs = [(i, j) for i in range(d) for j in range(d) if i != j]
    products = {(i, j): unit[:, i] * unit[:, j] for i, j in pairs}
    chance = sum(float(((w - w.mean()) ** 2).mean()) / (n - 1) for w in products.values())
    shrinkage = min(1.0, chance / sum(float(w.mean()) ** 2 for w in products.values()))
    assert float(codec.directions.shrinkage) == pytest.approx(shrinkage, rel=1e-4)
    assert 0.001 < shrinkage < 0.5
    expected = rows.T @ rows / n
    expected = expected * (1 - shrinkage) + torch.diag(expected.diagonal()) * shrinkage
    torch.testing.assert_close(known_covariance(codec)[live][:, live], expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("domain", ["frequency", "time"])
def test_channels_apart_are_channels_alone(domain):
    """But for the share that may be chance, which is one for all of them."""
    x = bumps(3000, 9, 3) * torch.tensor([1.0, 5.0, 0.2])
    codec = fitted(x, domain, apart=True)
    assert codec.directions is not None
    assert codec.directions.basis.shape[0] == 3
    found = known_covariance(codec).view(*codec.noise_scale.shape, *codec.noise_scale.shape)
    for m in range(3):
        mine = found[:, m::3, :, m::3]
        alone = fitted(x[..., m : m + 1], domain)
        expected = known_covariance(alone).view_as(mine)
        torch.testing.assert_close(mine, expected, atol=2e-3 * float(expected.abs().max()), rtol=0)
        others = [i for i in range(3) if i != m]
        assert not found[:, m::3][:, :, :, [f for f in range(found.shape[3]) if f % 3 in others]].any()


@pytest.mark.parametrize("apart", [False, True])
def test_the_variance_at_every_step_is_what_the_covariance_makes_there(apart):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_freqdiff.codec.groups_of", lambda coordinates, channels: channels if apart else 1)
        codec = Codec(Representation("frequency", 9, 2), 0.5, joint=True, over_time=True)
    codec.fit([bumps(500, 9, 2)])
    one = torch.eye(codec.noise_scale.numel()).view(-1, *codec.noise_scale.shape)
    made = codec.to_time(one).flatten(1).double()
    expected = (made.T @ known_covariance(codec) @ made).diagonal().view(9, 2)
    assert codec.step_variance is not None
    torch.testing.assert_close(codec.step_variance.double(), expected, rtol=1e-4, atol=1e-5)


def test_groups_of_coordinates():
    assert groups_of(2048, 4) == 1
    assert groups_of(2049, 1) == 0
    assert groups_of(28 * 192, 28) == 28
    assert groups_of(2 * 2048, 2) == 0, "two of the largest are twice the numbers of one"
    assert groups_of(4 * 1024, 4) == 4


def test_leading_directions_of_groups_are_those_of_all():
    codec = fitted(bumps(500, 8, 3) * torch.tensor([1.0, 5.0, 0.2]), apart=True)
    assert codec.directions is not None
    basis, power = codec.directions.leading(4)
    torch.testing.assert_close(power, codec.directions.power.sort().values[-4:])
    torch.testing.assert_close(basis.T @ basis, torch.eye(4), atol=1e-5, rtol=0)
    known = known_covariance(codec).float()
    torch.testing.assert_close(known @ basis, basis * power, atol=1e-4 * float(power.max()), rtol=1e-4)


def awkward(count=1000) -> torch.Tensor:
    """Rows whose first ones are elsewhere, far from 0, and whose numbers are skewed and go together."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 2, 3, generator=generator, dtype=torch.float64)
    x = x + x[:, :1].square() + 0.5 * x.roll(1, 2)
    return 1e6 + x + 4 * (torch.arange(count) < 100).view(-1, 1, 1)


def moments_of(batches, groups=1) -> JointMoments:
    moments = JointMoments(torch.Size((2, 3)), groups)
    for batch in batches:
        moments.update(batch)
    return moments


def check(moments: JointMoments, x: torch.Tensor, rtol: float) -> None:
    """In two passes: what is left of a number beside an offset of a million is known to 1e-10."""
    rows = (x - x.mean(0)).flatten(1)
    assert moments.count == len(x)
    torch.testing.assert_close(moments.mean, x.mean(0), rtol=3e-15, atol=0)
    torch.testing.assert_close(moments.covariance.squeeze(0), rows.T @ rows / len(x), rtol=rtol, atol=rtol)
    torch.testing.assert_close(moments.variance, rows.square().mean(0).view(2, 3), rtol=rtol, atol=0)
    fourth = rows.square().T @ rows.square() / len(x)
    torch.testing.assert_close(moments.fourth.squeeze(0), fourth, rtol=rtol, atol=rtol)


def test_moments_of_groups_are_those_of_their_numbers():
    x = awkward()
    every, apart = moments_of(x.split(90)), moments_of(x.split(90), groups=3)
    torch.testing.assert_close(apart.mean, every.mean, rtol=0, atol=0)
    torch.testing.assert_close(apart.variance, every.variance, rtol=1e-12, atol=0)
    for group in range(3):
        for name in ("covariance", "fourth"):
            whole, own = getattr(every, name)[0], getattr(apart, name)[group]
            torch.testing.assert_close(own, whole[group::3, group::3], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_one_pass_is_as_good_as_two_beside_a_large_offset(size):
    x = awkward()
    check(moments_of(x.split(size)), x, 1e-8)
    check(moments_of((x - 1e6).split(size)), x - 1e6, 1e-12)


def test_ranks_that_saw_other_rows_and_none_agree_with_one_that_saw_all():
    x, barrier, sums = awkward(), Barrier(3), [torch.zeros(())] * 3
    shares = [moments_of(part.split(90)) for part in (x[:120], x[120:], x[:0])]

    def share(rank):
        def over_ranks(value):
            sums[rank] = value
            barrier.wait(20)
            total = torch.stack(sums).sum(0)
            barrier.wait(20)
            return total

        shares[rank].share(over_ranks)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(share, range(3)))
    for moments in shares:
        check(moments, x, 1e-8)


def test_few_series_are_not_believed():
    white = torch.randn(200, 12, 1, generator=torch.Generator().manual_seed(1))
    few, many, noise = (fitted(x).directions for x in (bumps(3, 12, 1), bumps(3000, 12, 1), white))
    assert few is not None
    assert many is not None
    assert noise is not None
    assert few.shrinkage > 3 * many.shrinkage
    assert noise.shrinkage > 0.8


@pytest.mark.parametrize("t", [1e-5, 0.001, 0.03, 0.3, 1.0])
def test_it_is_as_loud_under_any_noise(t):
    codec, time = fitted(bumps(500, 64, 1)), torch.tensor(t)
    z0 = codec.encode(bumps(200, 64, 1, seed=1))
    alpha, sigma = (x.view(1, 1, 1) for x in (VP().alpha(time), VP().sigma(time)))
    found = codec.predict(alpha * z0 + sigma * codec.noise_scale * torch.randn_like(z0), alpha, sigma)
    assert codec.whiten(found).square().mean().sqrt() == pytest.approx(1, abs=0.15)


def test_a_batch_is_its_singles_and_autocast_changes_nothing():
    codec = fitted(bumps(100, 9, 2))
    z, alpha, sigma = torch.randn(4, *codec.noise_scale.shape), torch.tensor([[[0.6]]]), torch.rand(4, 1, 1) + 0.1
    together = codec.predict(z, alpha, sigma)
    singles = [codec.predict(one[None], alpha, level[None]) for one, level in zip(z, sigma, strict=True)]
    torch.testing.assert_close(together, torch.cat(singles), atol=1e-5, rtol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(together, codec.predict(z, alpha, sigma))


def test_constant_coordinates_and_too_many_of_them_are_left_alone():
    x = bumps(50, 8, 2)
    x[..., 1] = 4.0
    codec = fitted(x)
    found = codec.predict(torch.randn(3, *codec.noise_scale.shape), torch.tensor([[[0.5]]]), torch.tensor([[[0.9]]]))
    assert found[:, (codec.variance == 0) | (codec.noise_scale == 0)].abs().max() < 1e-6
    assert Codec(Representation("time", 2049, 1), joint=True).directions is None
    assert Codec(Representation("time", 2049, 2), joint=True).directions is None
    assert Score(TINY, VP(), "eps", Representation("time", 20, 1), covariance="joint").correction is None


@pytest.mark.parametrize("colour", [0.0, 0.5, 1.0])
def test_where_there_is_no_noise_the_series_itself_is_seen(colour):
    """Over time, in each channel's deviations, but for one factor: the size of a prediction."""
    x = bumps(200, 10, 2) * torch.tensor([1.0, 5.0])
    codec = fitted(x, colour=colour)
    view, z = Steps(codec, UNCONDITIONAL), codec.encode(x)
    linear = codec.predict(z, torch.ones(1, 1, 1), torch.full((1, 1, 1), 1e-6))
    seen = view.see(torch.cat([z, linear], dim=-1), NOTHING)[..., 4:6]
    expected = (x - x.mean(0)) / view.deviation
    factor = (seen * expected).sum() / expected.square().sum()
    assert factor > 0.1
    torch.testing.assert_close(seen, factor * expected, atol=1e-3, rtol=1e-2)


NETWORKS = {
    "unet": TINY,
    "time": Transformer(width=16, heads=2, layers=1, axis="time"),
    "frequency": Transformer(width=16, heads=2, layers=1),
    "groups": Transformer(width=16, heads=2, layers=1, group=3),
}


@pytest.mark.parametrize("domain", ["frequency", "time", "wavelet", "lapped"])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_networks_see_it(network, domain):
    """What is embedded depends on the covariance that is known, and is the old network's where none is."""
    x = bumps(200, 10, 2)
    score = Score(network, VP(), "wiener", Representation(domain, 10, 2), colour=0.0, covariance="joint")
    score.codec.fit(x.split(50))
    assert score.codec.directions is not None
    assert score.network.sees_linear
    z, t = torch.randn(3, *score.noise_scale.shape) * score.noise_scale, torch.tensor(0.4)
    with torch.no_grad():
        before = score.embed(z, t, score.coefficients(t), NOTHING).features
        score.codec.directions.power.zero_()
        after = score.embed(z, t, score.coefficients(t), NOTHING).features
        assert after.isfinite().all()
        assert (before - after).abs().max() > 1e-3
    plain = Score(network, VP(), "wiener", Representation(domain, 10, 2), colour=0.0)
    assert not plain.network.sees_linear
    assert not Score(MLP(), VP(), "wiener", Representation(domain, 10, 2), covariance="joint").network.sees_linear
