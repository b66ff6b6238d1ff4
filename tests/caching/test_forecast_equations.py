"""Forecasters' equations against a second implementation, or against what they are exact for."""

import math

import numpy as np
import pytest
import torch
from scipy.fft import dct, idct
from slow_caches import forecast, learned

from lightning_freqdiff.caching import DMD, L2P, FoCa, FreqCa, SVDCache, TaylorSeer
from lightning_freqdiff.caching.freqca import hermite, high_pass
from lightning_freqdiff.caching.l2p import at_times, learnt_weights
from lightning_freqdiff.caching.svdcache import principal

UNEVEN = [1.0, 0.93, 0.71, 0.64, 0.38]


def curve(t):
    return np.array([math.sin(5 * t), 2 - 3 * t, t**2])


@pytest.mark.parametrize("ahead", [0.0, 0.05, 0.3])
def test_foca_predicts_by_bdf2_and_corrects_by_heun(ahead):
    """The predictor solves its implicit equation, the derivative of a parabola through three points, outright."""
    policy, values = FoCa(), [curve(t) for t in UNEVEN]
    t = UNEVEN[-1] - ahead
    f0, f1 = ((values[i] - values[i - 1]) / (UNEVEN[i] - UNEVEN[i - 1]) for i in (-1, -2))
    gap, h = UNEVEN[-1] - UNEVEN[-2], -ahead
    expected = values[-1]
    if ahead:
        slope = f0 + h * (f0 - f1) / gap
        # d/dt at the end of the parabola through (t₁, F₁), (t₀, F₀) and (t, F̂) is a line in F̂.
        nodes = np.array([UNEVEN[-2], UNEVEN[-1], t])
        at = [sum(1 / (t - n) for n in nodes[:2]) if i == 2 else None for i in range(3)]
        for i in range(2):
            other = nodes[1 - i]
            at[i] = (t - other) / ((nodes[i] - other) * (nodes[i] - t))
        predicted = (slope - at[0] * values[-2] - at[1] * values[-1]) / at[2]
        expected = values[-1] + h / 2 * (f0 + (predicted - values[-1]) / h)
    state = learned(policy, UNEVEN, values)
    np.testing.assert_allclose(forecast(policy, state, t).numpy(), expected, rtol=1e-9)


def test_foca_on_an_even_grid_has_the_weights_of_bdf2():
    """A forecast one gap ahead: 4/3 F₀ - 1/3 F₁ + 2/3 h f̂, averaged with the line."""
    policy, values = FoCa(), [1.0, 4.0, 11.0]
    state = learned(policy, [3.0, 2.0, 1.0], values)
    f0, f1 = -7.0, -3.0
    slope = f0 - (f0 - f1) / -1.0
    predicted = 4 / 3 * 11 - 1 / 3 * 4 + 2 / 3 * -1 * slope
    assert forecast(policy, state, 0.0).item() == pytest.approx((11 - f0 + predicted) / 2)


def test_foca_is_taylorseer_of_order_two_with_less_of_a_bend():
    values = [[t**3] for t in UNEVEN]
    states = [learned(p, UNEVEN, values) for p in (FoCa(), TaylorSeer(order=2), TaylorSeer(order=1))]
    for ahead, least, most in ((1e-6, 0.999, 1.0), (1e6, 0.5, 0.501), (0.26, 0.5, 1.0)):
        ours, bent, line = (
            float(forecast(p, s, UNEVEN[-1] - ahead) - values[-1][0])
            for p, s in zip((FoCa(), TaylorSeer(order=2), TaylorSeer(order=1)), states, strict=True)
        )
        assert least <= (ours - line) / (bent - line) <= most


@pytest.mark.parametrize("tokens", [8, 9, 33])
@pytest.mark.parametrize("cutoff", [0.0, 0.1, 0.5, 1.0])
def test_bands_against_transforms_of_numpy_and_scipy(tokens, cutoff):
    x = np.random.default_rng(0).normal(size=(tokens, 3))
    frequencies = np.abs(np.fft.fftfreq(tokens))
    spectrum = np.fft.fft(x, axis=0) * (frequencies > cutoff * frequencies.max())[:, None]
    fourier = np.fft.ifft(spectrum, axis=0).real
    above = (np.arange(tokens) > cutoff * (tokens - 1))[:, None]
    cosine = idct(dct(x, axis=0, norm="ortho") * above, axis=0, norm="ortho")
    for bands, expected in (("fourier", fourier), ("cosine", cosine), ("frequency", x * above)):
        np.testing.assert_allclose(high_pass(bands, tokens, cutoff).numpy() @ x, expected, atol=1e-12)


def test_hermite_polynomials_against_numpy():
    for order in range(6):
        for x in (0.0, 1.0, 7.5):
            expected = [
                np.polynomial.hermite_e.hermeval(x, np.eye(order + 1)[n]) / math.factorial(n)
                for n in range(order + 1)
            ]
            np.testing.assert_allclose(hermite(x, order), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bands", ["fourier", "cosine", "frequency"])
def test_freqca_repeats_the_low_band_and_forecasts_the_high_one(bands):
    random = np.random.default_rng(1)
    first, second, third = random.normal(size=(3, 1, 9, 2))
    policy, gap, x = FreqCa(bands=bands, cutoff=0.3), 4, 3
    state = policy.settings_for(20)
    high = high_pass(bands, 9, 0.3).numpy()
    one, two = (third - second) / gap, (third - 2 * second + first) / gap**2
    expected = third + high @ (x * one + (x**2 - 1) / 2 * two)
    state = learned(policy, [0.9, 0.5, 0.4], [first, second, third], gap=gap, shape=(1, 9, 2))
    state.skipped = x - 1
    np.testing.assert_allclose(forecast(policy, state, 0.0).reshape(1, 9, 2).numpy(), expected, rtol=1e-9)
    low = np.eye(9) - high
    np.testing.assert_allclose(low @ expected[0], low @ third[0], atol=1e-12)


@pytest.mark.parametrize(("real", "oscillates"), [([0.9], False), ([0.95, 1.04], False), ([], True), ([0.8], True)])
def test_dmd_is_exact_for_exponentials(real, oscillates):
    """Features that grow, decay and oscillate, each mode in a direction of its own."""
    gap, policy, random = 3, DMD(interval=3, ridge=0.0), np.random.default_rng(2)
    factors, mixing = np.array(real, dtype=complex), random.normal(size=(12, len(real))) + 0j
    if oscillates:
        pair = 0.95 * np.exp([0.3j, -0.3j])
        direction = random.normal(size=12) + 1j * random.normal(size=12)
        factors = np.concatenate([factors, pair])
        mixing = np.concatenate([mixing, direction[:, None], direction.conj()[:, None]], axis=1)
    truth = [(mixing * factors**step).sum(1).real for step in range(19)]
    state = learned(policy, np.linspace(1, 0.4, 6), truth[::gap][:6], gap=gap)
    for ahead in (1, 2, 3):
        state.skipped = ahead - 1
        np.testing.assert_allclose(forecast(policy, state, 0.0).numpy(), truth[15 + ahead], rtol=1e-5, atol=1e-5)


def slow_dmd(values, ridge, ahead):
    """By singular value decomposition of the features themselves."""
    y = np.array(values).T
    u, s, v = np.linalg.svd(y[:, :-1], full_matrices=False)
    r = int((s > 1e-4 * s[0]).sum())
    scaled = v[:r].T / (s[:r] + ridge)
    eigenvalues, w = np.linalg.eig(u[:, :r].T @ y[:, 1:] @ scaled)
    phi = y[:, 1:] @ scaled @ w
    amplitudes = np.linalg.lstsq(phi, y[:, -1].astype(complex), rcond=None)[0]
    return (phi @ (eigenvalues.astype(complex) ** ahead * amplitudes)).real


@pytest.mark.parametrize("ridge", [1e-8, 0.3])
@pytest.mark.parametrize("history", [4, 6])
def test_dmd_against_a_decomposition_of_the_features(ridge, history):
    random = np.random.default_rng(3)
    values = list(1 + 0.2 * random.normal(size=(7, 40)).cumsum(0))
    policy = DMD(interval=4, history=history, ridge=ridge)
    for calls in range(4, 8):
        state = learned(policy, np.linspace(1, 0.4, calls), values[:calls], gap=4)
        assert len(state.terms) == min(calls, history) - 1
        for ahead in (1, 2, 3, 4):
            state.skipped = ahead - 1
            expected = slow_dmd(values[max(0, calls - history) : calls], ridge, ahead / 4)
            np.testing.assert_allclose(forecast(policy, state, 0.0).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_dmd_goes_by_a_line_until_it_can_be_fitted():
    policy = DMD(interval=4)
    state = learned(policy, [1.0, 0.9, 0.8], [[1.0], [3.0], [6.0]], gap=4)
    state.skipped = 1
    assert forecast(policy, state, 0.0).item() == pytest.approx(6 + 2 * 3 / 4)
    state = learned(policy, [1.0], [[1.0]])
    assert forecast(policy, state, 0.0).item() == 1.0


@pytest.mark.parametrize("values", [np.zeros((5, 3)), np.full((5, 3), 1e300)], ids=["nothing", "too much"])
def test_dmd_holds_what_cannot_be_fitted(values):
    policy = DMD(interval=2)
    state = learned(policy, np.linspace(1, 0.5, 5), list(values), gap=2)
    assert torch.equal(forecast(policy, state, 0.0), torch.from_numpy(values[-1]))


def test_a_principal_subspace_holds_its_share_of_the_energy():
    random = np.random.default_rng(4)
    features = random.normal(size=(200, 6)) @ np.diag([5.0, 3.0, 1.0, 0.5, 0.1, 0.01]) @ random.normal(size=(6, 6))
    _, s, vt = np.linalg.svd(features)
    held = (s**2).cumsum() / (s**2).sum()
    for energy in (0.0, 0.5, 0.85, 0.999, 1.0):
        rank = 0 if energy == 0 else int(np.searchsorted(held, energy)) + 1
        found = principal(torch.from_numpy(features.T @ features), energy).numpy()
        np.testing.assert_allclose(found, vt[:rank].T @ vt[:rank], atol=1e-9)


@pytest.mark.parametrize("decay", [0.0, 0.9, 0.3])
def test_svdcache_forecasts_the_principal_part_by_averaged_slopes_and_repeats_the_rest(decay):
    """With coefficients U = F V / σ, as published, which are averaged and go back by σ Vᵀ."""
    random = np.random.default_rng(5)
    values, moments = random.normal(size=(5, 1, 4, 6)), np.diag([9.0, 4.0, 1.0, 0.5, 0.1, 0.1])
    policy, k = SVDCache(decay=decay, energy=0.85), 2
    directions, sigma = np.eye(6)[:, :k], np.sqrt(np.diag(moments)[:k])
    coefficients = [value[0] @ directions / sigma for value in values]
    gaps = np.diff(UNEVEN)
    slopes = [(coefficients[i + 1] - coefficients[i]) / gaps[i] for i in range(4)]
    average = slopes[0]
    for slope in slopes[1:]:
        average = decay * average + (1 - decay) * slope
    last = values[-1][0]
    rest = last - last @ directions @ directions.T
    expected = (coefficients[-1] + average * (0.3 - UNEVEN[-1])) * sigma @ directions.T + rest
    state = learned(policy, UNEVEN, list(values), shape=(1, 4, 6), fit=principal(torch.from_numpy(moments), 0.85))
    np.testing.assert_allclose(forecast(policy, state, 0.3).reshape(4, 6).numpy(), expected, rtol=1e-9)


def test_learnt_weights_are_those_of_ridge_regression():
    """By a least-squares problem with rows for the penalty, over the features themselves."""
    random = np.random.default_rng(6)
    present, calls = random.normal(size=(50, 1)), random.normal(size=(50, 3))
    together = np.concatenate([present, calls], axis=1)
    gram = together.T @ together / 50
    for ridge in (0.0, 1e-2, 1.0, 1e6):
        weight = math.sqrt(ridge * gram[1, 1] * 50)
        rows = np.concatenate([calls, weight * np.eye(3)])
        target = np.concatenate([present[:, 0], weight * np.eye(3)[0]])
        expected = np.linalg.lstsq(rows, target, rcond=None)[0]
        np.testing.assert_allclose(learnt_weights(gram, ridge), expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(learnt_weights(gram, 1e12), [1, 0, 0], atol=1e-9)


def test_l2p_forecasts_what_goes_together_with_the_calls():
    """Features that are lines in time, each with its own slope, are known from two calls; a wave from three."""
    times, policy = np.linspace(0, 1, 41), L2P(history=3)
    for basis in ([np.ones(41), times], [np.sin(5 * times), np.cos(5 * times)]):
        gram = sum(np.outer(b, b) for b in basis)
        values = [[b[round(40 * t)] for b in basis] for t in (0.9, 0.8, 0.6)]
        state = learned(policy, [0.9, 0.8, 0.6], values, fit=(times, gram), ridge=1e-12)
        expected = [b[20] for b in basis]
        np.testing.assert_allclose(forecast(policy, state, 0.5).numpy(), expected, atol=1e-5)
    between = at_times(np.array([0.51, -1.0, 2.0]), times)
    np.testing.assert_allclose(between @ times, [0.51, 0.0, 1.0])
    np.testing.assert_allclose(between.sum(1), 1.0)
