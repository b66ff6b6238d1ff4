import copy
import math

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.fft import dct

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.domains import (
    DOMAINS,
    Lapped,
    Representation,
    Wavelet,
    domain_of,
    from_half_spectrum,
    orthonormal,
    spectral_density,
    to_half_spectrum,
)
from lightning_freqdiff.domains.lapped import cosines

EVERY = [*DOMAINS.values(), Wavelet("haar"), Wavelet("sym8"), Lapped(1), Lapped(5)]
LENGTHS = [2, 3, 4, 7, 24, 97, 187, 1000, 1025, 4999, 10_000]

shapes = st.tuples(st.integers(1, 3), st.integers(2, 40), st.integers(1, 4), st.integers(0, 2**31))


def series(shape) -> torch.Tensor:
    *size, seed = shape
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(shapes)
def test_round_trip_is_exact_for_even_and_odd_lengths(shape):
    x = series(shape)
    z = to_half_spectrum(x)
    assert z.shape == (x.shape[0], x.shape[1] // 2 + 1, 2 * x.shape[2])
    torch.testing.assert_close(from_half_spectrum(z, x.shape[1]), x)


@given(shapes)
def test_parseval_on_the_half_spectrum(shape):
    x = series(shape)
    n = x.shape[1]
    weight = torch.full((n // 2 + 1,), 2.0, dtype=torch.float64)
    weight[0] = 1
    if n % 2 == 0:
        weight[-1] = 1
    energy = (to_half_spectrum(x).square().sum(-1) * weight).sum(1)
    torch.testing.assert_close(energy, x.square().sum((1, 2)))
    torch.testing.assert_close((spectral_density(x).sum(-1) * weight).sum(1), energy)


@given(st.integers(2, 33), st.integers(1, 3), st.sampled_from(EVERY))
@settings(deadline=None, max_examples=40)
def test_noise_scale_is_the_exact_deviation_of_white_noise(n, m, domain):
    # The covariance of a linear map of white noise is map @ map.T: no sampling, so no tolerance for it.
    layout = Representation(domain, n, m)
    unit = torch.eye(n * m, dtype=torch.float64).reshape(n * m, n, m)
    linear = layout.encode(unit).flatten(1)
    covariance = linear.T @ linear
    torch.testing.assert_close(
        covariance, torch.diag(layout.noise_scale().double().flatten() ** 2), atol=1e-7, rtol=0
    )


@pytest.mark.parametrize("n", [2, 3, 8, 9])
def test_masked_coordinates_carry_nothing(n):
    layout = Representation("frequency", n, 2)
    masked = layout.noise_scale() == 0
    assert masked.sum() == 2 * (2 if n % 2 == 0 else 1)
    x = torch.randn(5, n, 2)
    z = layout.encode(x)
    assert z[:, masked].abs().max() < 1e-6
    torch.testing.assert_close(layout.decode(z + 7 * masked), x)


def test_encode_refuses_other_shapes():
    with pytest.raises(ValueError, match=r"expected series of shape \(B, 8, 2\), got \(3, 8, 1\)"):
        Representation("frequency", 8, 2).encode(torch.zeros(3, 8, 1))


@pytest.mark.parametrize(("n", "m"), [(1, 1), (0, 1), (4, 0)])
def test_series_without_a_spectrum_are_refused(n, m):
    with pytest.raises(ValueError, match="at least 2 steps"):
        Representation("frequency", n, m)


@given(shapes, st.sampled_from(EVERY))
@settings(deadline=None, max_examples=40)
def test_round_trip_and_energy_in_every_domain(shape, domain):
    x = series(shape)
    layout = Representation(domain, x.shape[1], x.shape[2])
    z = layout.encode(x)
    assert z.shape == (len(x), layout.tokens, layout.features)
    torch.testing.assert_close(layout.decode(z), x)
    unit = layout.noise_scale().double()
    live = unit > 0
    energy = torch.where(live, z / torch.where(live, unit, 1.0), 0.0).square().sum((1, 2))
    torch.testing.assert_close(energy, x.square().sum((1, 2)), rtol=1e-6, atol=1e-6)
    assert int(live.sum()) == x.shape[1] * x.shape[2]  # as many numbers as the series has


@given(st.integers(2, 33), st.integers(1, 3), st.sampled_from(EVERY))
@settings(deadline=None, max_examples=40)
def test_channels_do_not_mix(n, m, domain):
    x = series((2, n, m, n))
    layout, single = Representation(domain, n, m), Representation(domain, n, 1)
    for k in range(m):
        torch.testing.assert_close(layout.encode(x)[..., k::m], single.encode(x[..., k : k + 1]))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("domain", EVERY, ids=str)
def test_every_length_is_exact_in_float64_and_close_in_float32(n, domain):
    layout, x = Representation(domain, n, 2), series((2, n, 2, n))
    z = layout.encode(x)
    torch.testing.assert_close(layout.decode(z), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(layout.decode(layout.encode(x.float())), x.float(), rtol=0, atol=2e-5)
    assert layout.encode(x.float()).dtype == torch.float32


@given(st.integers(2, 70), st.sampled_from(EVERY[2:]))
@settings(deadline=None, max_examples=40)
def test_short_series_take_the_same_transform_at_once(n, domain):
    at_once = Representation(domain, n, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orthonormal, "SHORT", 0)
        in_turn = Representation(domain, n, 2)
    x, z = series((3, n, 2, n)), torch.randn(3, at_once.tokens, at_once.features, dtype=torch.float64)
    torch.testing.assert_close(at_once.encode(x), in_turn.encode(x))
    torch.testing.assert_close(at_once.decode(z), in_turn.decode(z))
    torch.testing.assert_close(at_once.noise_scale(), in_turn.noise_scale())


@pytest.mark.parametrize("n", [16, 2000])
@pytest.mark.parametrize("domain", ["wavelet", "lapped"])
def test_gradients_and_autocast_go_through(domain, n):
    layout = Representation(domain, n, 1)
    x = torch.randn(2, n, 1, requires_grad=True)
    z = layout.encode(x)
    z.square().sum().backward()
    torch.testing.assert_close(x.grad, 2 * x.detach(), atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layout.encode(x), z)
        assert layout.decode(z).dtype == torch.float32


@pytest.mark.parametrize("n", [20, 1500])
@pytest.mark.parametrize("domain", ["wavelet", "lapped"])
def test_it_goes_along_with_a_model_and_is_no_part_of_its_weights(domain, n):
    model = Codec(Representation(domain, n, 1))
    x = series((2, n, 1, 0))
    assert not list(model.layout.buffers())  # of which averages would be taken
    constants = [part for part in model.to("meta").modules() if isinstance(part, orthonormal.Constant)]
    assert constants
    assert all(part.value.is_meta for part in constants)
    double = copy.deepcopy(Codec(Representation(domain, n, 1))).double()
    torch.testing.assert_close(double.layout.decode(double.layout.encode(x)), x, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["haar", "db2", "db4", "db10", "sym8", "coif2"])
def test_inside_a_series_wavelets_are_those_of_pywavelets(name):
    rows = Representation(Wavelet(name), 512, 1).transform.matrix.exact.numpy()
    low, high = (np.array(taps) for taps in pywt.Wavelet(name).filter_bank[:2])
    slower = np.convolve(low, np.insert(high, range(1, len(high)), 0.0))
    for row, taps in ((rows[256 + 128], high), (rows[128 + 64], slower)):
        inside = row[np.flatnonzero(np.abs(row) > 1e-10)]
        taps = taps[np.abs(taps) > 1e-10]
        assert any(np.allclose(inside, sign * taps[::way], atol=1e-8) for sign in (1, -1) for way in (1, -1))


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("name", ["haar", "db4", "sym8", "coif2"])
def test_a_constant_series_is_one_wavelet_coefficient_whatever_the_length(name, n):
    z = Representation(Wavelet(name), n, 1).encode(torch.ones(1, n, 1, dtype=torch.float64)).flatten()
    assert z[0] == pytest.approx(math.sqrt(n))
    assert z[1:].abs().max() < 1e-9


def test_haar_is_made_of_means_over_halves():
    x = series((3, 8, 1, 0))
    z = Representation(Wavelet("haar"), 8, 1).encode(x).squeeze(-1)
    halves = x.view(3, 2, 4).sum(-1) / math.sqrt(8)
    torch.testing.assert_close(z[:, 1].abs(), (halves[:, 0] - halves[:, 1]).abs())


@pytest.mark.parametrize("domain", ["frequency", "wavelet"])
@pytest.mark.parametrize("wave", [0.4, 0.2, 0.1, 0.05])
def test_tokens_tell_the_frequencies_that_they_stand_for(domain, wave):
    layout = Representation(domain, 400, 1)
    f = layout.frequencies
    assert f is not None
    assert (len(f), f[0]) == (layout.tokens, 0)
    assert (f.diff() >= 0).all()
    assert f[-1] <= 0.5
    x = torch.sin(2 * math.pi * wave * torch.arange(400, dtype=torch.float64)).view(1, -1, 1)
    energy = layout.encode(x).square().sum((0, 2))
    octave = (f >= wave / 2) & (f <= 2 * wave)
    assert energy[octave].sum() > 0.9 * energy.sum()


@pytest.mark.parametrize("domain", ["time", "lapped"])
def test_other_tokens_are_no_frequencies(domain):
    assert Representation(domain, 40, 1).frequencies is None


@pytest.mark.parametrize("n", [2, 7, 20])
def test_a_single_block_is_the_cosine_transform_of_scipy(n):
    x = series((2, n, 1, n))
    z = Representation(Lapped(n), n, 1).encode(x)
    np.testing.assert_allclose(z.flatten(1).numpy(), dct(x.squeeze(-1).numpy(), norm="ortho"), atol=1e-12)
    np.testing.assert_allclose(cosines(n, last=False).numpy(), dct(np.eye(n), 4, axis=0, norm="ortho"), atol=1e-12)


def test_inner_blocks_are_the_modified_cosine_transform_with_the_sine_window():
    """Its definition (Princen and Bradley 1986), summed as it stands, of waves that are even at the block's start."""
    b, x = 8, series((1, 40, 1, 0))
    window = np.sin(np.pi * (np.arange(2 * b) + 0.5) / (2 * b))
    step = np.arange(2 * b)
    for j in (1, 2, 3):
        frame = window * x[0, j * b - b // 2 : j * b + b + b // 2, 0].numpy()
        waves = np.cos(np.pi / b * (step + 0.5 - b / 2) * (np.arange(b)[:, None] + 0.5))
        expected = math.sqrt(2 / b) * waves @ frame
        np.testing.assert_allclose(Representation(Lapped(b), 40, 1).encode(x)[0, j].abs(), abs(expected), atol=1e-12)


def test_blocks_differ_by_a_step_at_most_and_a_shorter_one_has_a_number_less():
    layout = Representation(Lapped(8), 27, 2)
    assert (layout.tokens, layout.features) == (3, 18)
    layout = Representation(Lapped(8), 26, 2)
    live = layout.noise_scale().view(3, 9, 2)[..., 0].sum(1)
    assert live.tolist() == [9, 9, 8]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Wavelet("bior2.2"), "an orthonormal wavelet.*got 'bior2.2': set `model.domain.filter`"),
        (lambda: Wavelet("nonsense"), "an orthonormal wavelet"),
        (lambda: Lapped(0), "at least 1 step, got 0: set `model.domain.block`"),
        (lambda: domain_of("fourier"), "frequency, time, wavelet, lapped, got 'fourier': set `model.domain`"),
    ],
)
def test_domains_that_are_none_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
