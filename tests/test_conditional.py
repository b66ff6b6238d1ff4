"""The conditional law of the linear model, against the textbook in NumPy and in the data's units."""

import numpy as np
import pytest
import torch
from known_law import known_covariance
from test_covariance import bumps

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.conditional import Gaussian, Known, gaussian_of
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.domains import Lapped, Representation
from lightning_freqdiff.masks import draw_masks

torch.set_num_threads(1)


def fitted(length=11, channels=2, domain="frequency", colour=0.0, joint=True, count=300, apart=False) -> Codec:
    with pytest.MonkeyPatch.context() as patch:
        if apart:
            patch.setattr("lightning_freqdiff.codec.groups_of", lambda coordinates, channels: channels)
        codec = Codec(Representation(domain, length, channels), colour, joint)
    x = bumps(count, length, channels) * torch.linspace(1, 3, channels)
    codec.fit([x])
    return codec


def law(codec: Codec) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of flattened series, number by number, by decoding every coordinate alone."""
    n = codec.noise_scale.numel()
    tokens = torch.eye(n).view(n, *codec.noise_scale.shape)
    mean = codec.decode(torch.zeros_like(tokens[:1])).double().numpy().reshape(-1)
    decode = codec.decode(tokens * codec.noise_scale).double().numpy().reshape(n, -1) - mean
    if codec.directions is None:
        scale = codec.noise_scale.double().numpy()
        deviation = np.divide(codec.variance.sqrt().numpy(), scale, out=np.zeros_like(scale), where=scale > 0)
        covariance = np.diag(deviation.reshape(-1) ** 2)
    else:
        covariance = known_covariance(codec).numpy()
    return mean, decode.T @ covariance @ decode


def masks(length, channels):
    """Points, a block, a channel, a tail, everything, nothing, and points again."""
    generator = torch.Generator().manual_seed(3)
    points = torch.rand(length, channels, generator=generator) < 0.4
    block, tail, channel = (torch.zeros(length, channels, dtype=torch.bool) for _ in range(3))
    block[2:5], tail[: length // 2], channel[:, 0] = True, True, True
    full = torch.ones_like(points)
    return torch.stack([points, block, channel, tail, full, ~full, points]).float()


KINDS = [
    {"colour": 0.0},
    {"colour": 1.0},
    {"colour": 0.5, "length": 12},
    {"domain": "time", "colour": 1.0},
    {"apart": True},
    {"apart": True, "domain": "time", "colour": 1.0},
    {"apart": True, "domain": Lapped(4), "colour": 0.5, "channels": 3},
    {"joint": False},
    {"joint": False, "colour": 1.0, "length": 12},
    {"domain": "time", "joint": False, "channels": 1},
    {"domain": "wavelet", "colour": 0.5},
    {"domain": Lapped(4), "colour": 0.5},
    {"domain": Lapped(4), "joint": False},
]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_mean_and_covariance_are_the_textbooks(kind):
    codec = fitted(**kind)
    layout = codec.layout
    mean, covariance = law(codec)
    x, mask = bumps(7, layout.length, layout.channels, seed=5), masks(layout.length, layout.channels)
    hidden = torch.where(mask > 0, x, torch.nan)
    gaussian = gaussian_of(codec)
    found = gaussian.draw(hidden, mask)
    draws = 4000
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(draws, codec.noise_scale.numel(), generator=generator)
    for one in range(len(x)):
        seen = mask[one].flatten().numpy() > 0
        known = x[one].flatten().double().numpy()[seen]
        inner = np.linalg.pinv(covariance[seen][:, seen], rcond=1e-9)
        expected = mean + covariance[:, seen] @ inner @ (known - mean[seen])
        expected[seen] = known
        np.testing.assert_allclose(found[one].flatten(), expected, atol=0.02)
        left = covariance - covariance[:, seen] @ inner @ covariance[seen]
        drawn = gaussian.draw(*(part[one].expand(draws, -1, -1) for part in (hidden, mask)), noise)
        rows = drawn.flatten(1).double().numpy()
        error = np.abs(np.cov(rows.T) - left).max() / covariance.diagonal().max()
        assert error < 0.06
        np.testing.assert_allclose(rows.mean(0), expected, atol=0.08 * covariance.diagonal().max() ** 0.5)


def test_what_is_observed_comes_out_as_it_is_and_rows_do_not_know_of_each_other():
    codec = fitted()
    x, mask = bumps(7, 11, 2, seed=5), masks(11, 2)
    gaussian, noise = gaussian_of(codec), torch.randn(7, codec.noise_scale.numel())
    drawn = gaussian.draw(x, mask, noise)
    assert torch.equal(drawn[mask > 0], x[mask > 0])
    alone = [gaussian.draw(x[i : i + 1], mask[i : i + 1], noise[i : i + 1]) for i in range(7)]
    torch.testing.assert_close(drawn, torch.cat(alone), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_sums_are_met_at_the_least_distance(kind):
    """In the noise's metric, by the pseudo-inverse of what rows are added up by."""
    codec = fitted(**kind)
    gaussian = gaussian_of(codec)
    matrix = torch.randn(3, codec.layout.length * codec.layout.channels, dtype=torch.float64)
    known = Known(gaussian, matrix=matrix, count=4)
    lack = torch.randn(4, 3, dtype=torch.float64)
    moved = known.move(lack, lambda block: torch.ones(1, len(block.power), dtype=torch.float64))
    torch.testing.assert_close(gaussian.series(moved) @ matrix.T, lack, atol=1e-3, rtol=1e-3)
    design = gaussian.series(torch.eye(gaussian.size)).T
    expected = lack @ torch.linalg.pinv(matrix @ design).T
    torch.testing.assert_close(moved, expected, atol=1e-4, rtol=1e-3)


def test_constant_channels_explain_nothing_and_are_returned_as_given():
    x = bumps(100, 9, 2)
    x[..., 1] = 4.0
    codec = Codec(Representation("frequency", 9, 2), 0.0, joint=True)
    codec.fit([x])
    mask = torch.zeros(1, 9, 2)
    mask[:, :, 1] = 1
    seen = torch.full((1, 9, 2), 7.0)
    found = gaussian_of(codec).draw(seen, mask)
    assert found.isfinite().all()
    torch.testing.assert_close(found[0, :, 0], x[..., 0].mean(0), atol=1e-4, rtol=1e-4)
    assert (found[0, :, 1] == 7.0).all()


def test_the_linear_model_is_kept_until_the_statistics_change():
    codec = fitted()
    first = gaussian_of(codec)
    assert gaussian_of(codec) is first
    codec.mean.add_(1)
    assert gaussian_of(codec) is not first
    assert isinstance(first, Gaussian)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_conjugate_gradients_come_to_what_factoring_gives(kind):
    """Each series with a mask and variances of its own, down to none and up to all observed."""
    codec = fitted(**kind)
    gaussian = gaussian_of(codec)
    known = gaussian.known(masks(codec.layout.length, codec.layout.channels))
    level = torch.tensor([0.05, 0.3, 1.0, 3.0, 0.3, 1.0, 10.0], dtype=torch.float64).unsqueeze(1)
    rows = gaussian.rows(torch.randn(7, gaussian.size, generator=torch.Generator().manual_seed(0)))
    lack = known.seen(gaussian.series(rows))
    exact = known.move(lack, lambda block: block.left(torch.ones_like(level), level))
    found = [known.nearly(lack, lambda block: block.left(torch.ones_like(level), level), r) for r in (4, 200)]
    left = [
        gaussian.series(one - exact).square().mean().sqrt() / gaussian.series(exact).square().mean().sqrt()
        for one in found
    ]
    assert left[1] < 0.01
    assert left[1] <= left[0] < 0.5
    assert not found[0][5].any()  # nothing is observed of it


def test_bfloat16_around_them_changes_nothing():
    codec = fitted()
    known, level = gaussian_of(codec).known(masks(11, 2)), torch.ones(7, 1)
    lack = known.seen(torch.randn(7, 22))
    plain = known.nearly(lack, lambda block: block.left(torch.ones_like(level), level))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(plain, known.nearly(lack, lambda block: block.left(torch.ones_like(level), level)))


@pytest.mark.parametrize("level", [0.3, 1.0, 10.0, 100.0])
def test_a_training_step_takes_away_what_known_values_say_of_heartbeats_and_of_gradients(level):
    """By as few rounds as it has: what is left would else be learnt, which sampling takes away by itself."""
    data = SyntheticECG(num_series=300, length=128)
    data.setup()
    x = data.train_series()[:64]
    codec = Codec(Representation("frequency", 128, 1), joint=True)
    codec.fit([data.train_series()])
    gaussian, generator = gaussian_of(codec), torch.Generator().manual_seed(0)
    known = gaussian.known(draw_masks(x.shape, 1.0, generator).to(x))

    def left(block):
        return block.left(torch.ones(1, 1, dtype=torch.float64), torch.full((1, 1), level, dtype=torch.float64))

    rows = codec.whiten(codec.encode(x))
    single, double = (one.requires_grad_() for one in (rows.clone(), rows.double()))
    exact = double - known.move(known.seen(gaussian.series(double)), left)
    found = known.open(single, left)
    assert float(found.detach().norm() / exact.detach().norm()) == pytest.approx(1, abs=0.005)
    (slope,) = torch.autograd.grad(found.square().sum(), single)
    (right,) = torch.autograd.grad(exact.square().sum(), double)
    assert (slope - right).norm() < 0.1 * right.norm()
