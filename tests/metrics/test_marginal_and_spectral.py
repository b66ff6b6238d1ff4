"""Distances along the axes and between spectral densities, and where a series' energy is."""

import math

import pytest
import torch
from scipy.stats import wasserstein_distance
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    MarginalWasserstein,
    SpectralDensityDistance,
    marginal_wasserstein,
    spectral_density_distance,
    spectral_localisation,
)
from lightning_freqdiff.metrics.samples import coordinates


def series(n: int, seed: int = 0, length: int = 10, channels: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, length, channels, generator=generator).cumsum(1) * (1 + seed)


@pytest.mark.parametrize("m", [40, 23])
def test_marginals_are_scipy_s(m: int) -> None:
    a, b = series(40), series(m, seed=1)
    columns = zip(a.flatten(1).T.double(), b.flatten(1).T.double(), strict=True)
    expected = torch.tensor([wasserstein_distance(*pair) for pair in columns], dtype=torch.float32)
    value = marginal_wasserstein(a, b, p=1)
    assert_close(value["mean"], expected.mean(), rtol=1e-5, atol=0)
    assert_close(value["max"], expected.max(), rtol=1e-5, atol=0)
    assert_close(value["two_se"], 2 * expected.std() / math.sqrt(20), rtol=1e-5, atol=0)


def test_marginals_do_not_see_dependence() -> None:
    a = series(50)
    shuffled = a.clone()
    shuffled[:, :, 1] = shuffled[torch.randperm(50), :, 1]
    assert marginal_wasserstein(a, shuffled)["max"] == 0


@pytest.mark.parametrize("length", [9, 10])
def test_spectral_distance_is_scipy_s(length: int) -> None:
    a, b = series(30, length=length), series(20, seed=1, length=length)
    densities = [torch.fft.fft(x.double(), dim=1).abs().square() / length for x in (a, b)]
    expected = [
        wasserstein_distance(densities[0][:, k, c], densities[1][:, k, c])
        for k in range(length // 2 + 1)
        for c in range(2)
    ]
    value = spectral_density_distance(a, b, p=1)
    assert_close(value["mean"], torch.tensor(expected).mean(), rtol=1e-5, atol=0, check_dtype=False)
    assert_close(value["max"], torch.tensor(expected).max(), rtol=1e-5, atol=0, check_dtype=False)


def test_spectral_distance_sees_no_phase() -> None:
    a = series(30)
    assert_close(spectral_density_distance(a.roll(3, 1), a)["max"], torch.tensor(0.0), atol=1e-3, rtol=0)
    assert spectral_density_distance(a * 1.1, a)["mean"] > 0.1


def test_classes_accumulate() -> None:
    a, b = series(30), series(20, seed=1)
    metrics = [MarginalWasserstein(), MarginalWasserstein(p=1, domain="frequency"), SpectralDensityDistance(p=1)]
    expected = [
        marginal_wasserstein(a, b),
        marginal_wasserstein(coordinates(a, "frequency"), coordinates(b, "frequency"), 1),
        spectral_density_distance(a, b, 1),
    ]
    for metric, value in zip(metrics, expected, strict=True):
        metric.update(a[:3], b[:15])
        metric.update(a[3:], b[15:])
        assert_close(metric.compute(), value)


def test_half_precision() -> None:
    a, b = series(30).half(), series(20, seed=1).half()
    assert_close(marginal_wasserstein(a, b), marginal_wasserstein(a.float(), b.float()))
    assert_close(spectral_density_distance(a, b), spectral_density_distance(a.float(), b.float()))
    assert_close(spectral_localisation(a), spectral_localisation(a.float()))


@pytest.mark.parametrize("length", [29, 30, 99, 100])
def test_localisation_counts_both_halves_of_the_spectrum(length: int) -> None:
    x = series(8, length=length)
    energy = torch.fft.fft(x.double(), dim=1).abs().square().sum(-1)
    frequency = (torch.fft.fftfreq(length) * length).abs().round()
    expected = energy[:, 10 * frequency < length].sum(1) / energy.sum(1)
    assert_close(spectral_localisation(x), expected.float(), rtol=1e-5, atol=0)
    assert_close(spectral_localisation(x, fraction=1.0), torch.ones(8))


def test_localisation_leaves_out_the_cut_off_itself() -> None:
    wave = torch.cos(2 * torch.pi * 7 * torch.arange(100) / 100)[None, :, None]
    assert spectral_localisation(wave, fraction=0.07) < 1e-6  # 0.07 * 100 > 7 in floating point
    assert spectral_localisation(wave, fraction=0.08) > 1 - 1e-6


def test_localisation_of_white_noise_is_the_share_of_frequencies() -> None:
    noise = torch.randn(2000, 100, 1, generator=torch.Generator().manual_seed(0))
    # Frequencies 0 ... 9 of 100, all but the first with their mirror image.
    assert_close(spectral_localisation(noise).mean(), torch.tensor(0.19), atol=0.005, rtol=0)
    assert spectral_localisation(torch.zeros(1, 20, 1)).tolist() == [1.0]


def test_refuses_bad_input() -> None:
    a = series(4)
    with pytest.raises(ValueError, match="set `p`"):
        marginal_wasserstein(a, a, p=0.5)
    with pytest.raises(ValueError, match="set `p`"):
        SpectralDensityDistance(p=0.5)
    with pytest.raises(ValueError, match="set `domain`"):
        MarginalWasserstein(domain="freq")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="set `fraction`"):
        spectral_localisation(a, fraction=0)
    with pytest.raises(ValueError, match="reshape `x`"):
        spectral_localisation(a[0])
    with pytest.raises(ValueError, match="of one shape"):
        spectral_density_distance(a, a[:, 1:])
    with pytest.raises(ValueError, match="clean `reference`"):
        spectral_density_distance(a, a * float("nan"))
