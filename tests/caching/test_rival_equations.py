"""The rivals' equations against a second implementation: one sample at a time, in numpy, in double precision."""

import math

import numpy as np
import pytest
import torch
from random_networks import random_score
from scipy.stats import chi2
from slow_caches import SAMPLES, STALE, STEPS, TIMES, Twin, check, forecast, learned, ratio, walk

from lightning_freqdiff.caching import FastCache, FirstBlock, SpectralCache, Spectrum, TaylorSeer, TeaCache
from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.fastcache import chi_squared_bound
from lightning_freqdiff.caching.spectrum import chebyshev
from lightning_freqdiff.caching.teacache import polynomial, relative_change
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.sampling import time_grid


class SlowTeaCache(Twin):
    def __init__(self, score, sample, stale, tau, coefficients):
        super().__init__(score, sample, stale)
        self.tau, self.coefficients, self.before, self.sum = tau, coefficients, None, 0.0

    def decide(self, h0, step):
        now, before = self.modulated(h0), self.before
        self.before = now
        if before is None:
            return True
        self.sum += max(0.0, float(np.polyval(self.coefficients, ratio(now, before))))
        if self.sum < self.tau:
            return False
        self.sum = 0.0
        return True


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize(
    ("tau", "coefficients"), [(0.7, None), (0.5, [3.0, -2.0, 0.4, 0.5, 0.1])], ids=["plain", "quartic"]
)
def test_teacache_accumulates_the_fitted_change(stale, tau, coefficients):
    policy = TeaCache(tau=tau, coefficients=coefficients, stale=stale)
    called = check(random_score(13, 2), policy, lambda s, b: SlowTeaCache(s, b, stale, tau, coefficients or [1, 0]))
    assert 0.2 < called.mean() < 0.8
    assert len({tuple(column) for column in called.T}) > 1, "all samples were called together"


def test_teacache_takes_the_polynomial_of_the_calibration_unless_it_is_given():
    score, fitted = random_score(13, 2), [0.5, 0.6, 0.05]
    score.calibration["teacache.polynomial"] = torch.tensor(fitted, dtype=torch.float64)
    check(score, TeaCache(tau=0.7), lambda s, b: SlowTeaCache(s, b, "residual", 0.7, fitted))
    given = TeaCache(tau=0.7, coefficients=[2.0, 0.0])
    check(score, given, lambda s, b: SlowTeaCache(s, b, "residual", 0.7, [2.0, 0.0]))


def test_a_fitted_change_is_never_negative():
    x = torch.linspace(0, 1, 11)
    expected = np.polyval([2.0, -3.0, 0.5], x.numpy()).clip(min=0)
    torch.testing.assert_close(polynomial([2.0, -3.0, 0.5], x), torch.from_numpy(expected).float())
    assert expected.min() == 0 < expected.max()


def test_the_relative_change_of_nothing_is_nothing():
    old = torch.tensor([[[1.0, -3.0]], [[0.0, 0.0]], [[0.0, 0.0]]])
    new = torch.tensor([[[2.0, -1.0]], [[0.0, 0.0]], [[1.0, 0.0]]])
    change = relative_change(new, old)
    assert change[:2].tolist() == [0.75, 0.0]
    assert change[2] > 1e30


class SlowSpectralCache(SlowTeaCache):
    """Algorithm 1, line 13: TeaCache's sum, the bands' changes in this step alone, and the skips in a row."""

    def __init__(self, score, sample, **settings):
        super().__init__(score, sample, "residual", settings.pop("tau"), settings.pop("coefficients", None) or [1, 0])
        self.base, self.skips = self.tau, 0
        for name, value in settings.items():
            setattr(self, name, value)

    def decide(self, h0, step):
        now, before = self.modulated(h0), self.before
        if before is None:
            return super().decide(h0, step)
        factor = self.s_min + (self.s_max - self.s_min) * (1 - math.cos(2 * math.pi * step / STEPS)) / 2
        self.tau = tau = self.base * (factor if self.tads else 1)
        axis = 0 if self.bands == "frequency" else 1
        low = list(range(round(self.ratio * now.shape[axis])))
        parts = [(x.take(low, axis), np.delete(x, low, axis)) for x in (now, before)]
        below, above = (ratio(a, b) for a, b in zip(*parts, strict=True))
        skip = not super().decide(h0, step)
        if self.fdc:
            skip = skip and below <= tau * self.gamma_low and above <= tau * self.gamma_high
        if self.ceb:
            skip = skip and self.skips < self.c_max
        if not skip:
            self.sum = 0.0
        self.skips = self.skips + 1 if skip else 0
        return not skip


SPECTRAL = {
    "tau": 1.2,
    "tads": True,
    "ceb": True,
    "fdc": True,
    "s_min": 0.5,
    "s_max": 1.5,
    "c_max": 3,
    "gamma_low": 0.8,
    "gamma_high": 1.5,
    "ratio": 0.5,
}


@pytest.mark.filterwarnings("ignore:.*has no effect")
@pytest.mark.parametrize("bands", ["channel", "frequency"])
@pytest.mark.parametrize(
    "more",
    [{"tads": a, "ceb": b, "fdc": c} for a in (True, False) for b in (True, False) for c in (True, False)]
    + [{"ratio": 0.3, "c_max": 1}, {"gamma_low": 0.4, "gamma_high": 3.0}, {"s_min": 0.1, "s_max": 2.0}]
    + [{"coefficients": [0.5, 0.6, 0.05]}],
    ids=str,
)
def test_spectralcache_with_every_combination_of_its_parts(bands, more):
    settings = {**SPECTRAL, **more, "bands": bands}
    called = check(random_score(13, 2), SpectralCache(**settings), lambda s, b: SlowSpectralCache(s, b, **settings))
    assert 0.15 < called.mean() < 0.85
    if settings["ceb"]:
        longest = max(len(run) for column in called.T for run in "".join("01"[int(c)] for c in column).split("1"))
        assert longest <= settings["c_max"]


def test_bands_that_bound_nothing_leave_spectralcache_its_sum():
    """Its other gates apart, it is then TeaCache."""
    score = random_score(13, 2)
    score.calibration["teacache.polynomial"] = torch.tensor([0.5, 0.6, 0.05], dtype=torch.float64)
    tea = check(score, TeaCache(tau=0.7), lambda s, b: SlowTeaCache(s, b, "residual", 0.7, [0.5, 0.6, 0.05]))
    for gates in ({"gamma_low": 1e9, "gamma_high": 1e9}, {"fdc": False}):
        policy = SpectralCache(tau=0.7, tads=False, ceb=False, **gates)
        called = check(score, policy, lambda s, b: SlowTeaCache(s, b, "residual", 0.7, [0.5, 0.6, 0.05]))
        assert (called == tea).all()
    assert tea.mean() < 0.8


def test_the_published_settings_of_spectralcache_are_the_short_preset():
    s = SpectralCache(preset="short").settings_for(50)
    expected = {**SPECTRAL, "tau": 0.6, "c_max": 2}
    assert {name: getattr(s, name) for name in expected} == expected


class SlowFirstBlock(Twin):
    def __init__(self, score, sample, tau):
        super().__init__(score, sample)
        self.tau, self.before = tau, None

    def decide(self, h0, step):
        self.now = (self.score.network.layers[0](h0[None])[0] - h0).double().numpy()
        if self.before is None:
            return True
        change = np.abs(self.now - self.before).mean() / np.abs(self.before).mean()
        return bool(change >= self.tau)

    def called(self):
        self.before = self.now


@pytest.mark.parametrize("tau", [0.35, 0.45])
def test_firstblock_compares_with_the_residual_of_the_last_call(tau):
    called = check(random_score(13, 2), FirstBlock(tau=tau), lambda s, b: SlowFirstBlock(s, b, tau))
    assert 0.15 < called.mean() < 0.85


class SlowFastCache:
    def __init__(self, score, sample, bound, maps):
        self.score, self.bound, self.maps, self.inputs, self.outputs = score, bound, maps, None, None

    def __call__(self, z, t, step, last):
        c = self.score.coefficients(t)
        h, ran, inputs, outputs = self.score.embed(z[None], t, c).features[0], 0, [], []
        for i, block in enumerate(self.score.network.layers):
            inputs.append(h)
            run = self.inputs is None or last
            if self.inputs is not None:
                new, old = h.double().numpy(), self.inputs[i].double().numpy()
                run = run or ((new - old) ** 2).sum() / (old**2).sum() >= self.bound
            if run:
                h, ran = block(h[None])[0], ran + 1
            else:
                weight, bias = self.maps[i]
                h = torch.tensor(h.double().numpy() @ weight.T + bias).float()
            outputs.append(h)
        self.inputs, self.outputs = inputs, outputs
        return ran / len(inputs), self.score.eps(self.score.network.head(h[None], None), z[None], c)[0]


@pytest.mark.parametrize("fitted", [False, True])
@pytest.mark.parametrize(
    ("cap", "significance", "stride"),
    [(0.12, 0.05, 1.0), (0.2, 0.05, 1.0), (math.inf, 0.9999, 5.0), (math.inf, 0.99, 5.0)],
)
def test_fastcache_skips_blocks_below_the_bound(fitted, cap, significance, stride):
    score = random_score(13, 2)
    width, generator = 8, np.random.default_rng(0)
    maps = [(np.eye(width), np.zeros(width)) for _ in score.network.layers]
    if fitted:
        maps = [(np.eye(width) + 0.1 * generator.normal(size=(width, width)), generator.normal(size=width))] * 2
        for i, (weight, bias) in enumerate(maps):
            score.calibration[f"fastcache.weight.{i}"] = torch.from_numpy(weight)
            score.calibration[f"fastcache.bias.{i}"] = torch.from_numpy(bias)
    freedom = score.noise_scale.shape[0] * width
    bound = min(cap, chi2.ppf(1 - significance, freedom) / freedom)
    policy = FastCache(cap=cap, significance=significance)
    called = check(score, policy, lambda s, b: SlowFastCache(s, b, bound, maps), stride)
    assert 0.1 < called.mean() < 0.9, called.mean()


@pytest.mark.parametrize("significance", [0.001, 0.01, 0.05, 0.5, 0.95])
@pytest.mark.parametrize("freedom", [8, 72, 1000, 100_000])
def test_the_chi_squared_bound_against_scipy(freedom, significance):
    expected = chi2.ppf(1 - significance, freedom) / freedom
    assert chi_squared_bound(freedom, significance) == pytest.approx(expected, rel=3e-3 if freedom > 8 else 2e-2)


def test_the_chi_squared_bound_tends_to_one_so_that_a_cap_is_needed():
    assert abs(chi_squared_bound(94 * 64, 0.05) - 1) < 0.04


UNEVEN = [1.0, 0.93, 0.71, 0.64, 0.38]


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_taylorseer_forecasts_by_differences_over_true_gaps(order):
    """The recursion by hand: the n-th difference is that of the (n - 1)-th at the last two calls, over their gap."""
    values = [[math.sin(5 * t), t**3] for t in UNEVEN]
    policy = TaylorSeer(order=order)
    for calls in range(1, len(UNEVEN) + 1):
        table = [np.array(values[:calls])]
        gaps = np.diff(UNEVEN[:calls])[:, None]
        while len(table) <= order and len(table[-1]) > 1:
            table.append(np.diff(table[-1], axis=0) / gaps[-(len(table[-1]) - 1) :])
        k = 0.3 - UNEVEN[calls - 1]
        expected = sum(d[-1] * k**n / math.factorial(n) for n, d in enumerate(table))
        state = learned(policy, UNEVEN[:calls], values[:calls])
        assert len(state.terms) == min(order + 1, calls)
        np.testing.assert_allclose(forecast(policy, state, 0.3).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_taylorseer_is_exact_for_constants_and_from_order_one_for_lines_on_uneven_grids(order):
    policy = TaylorSeer(order=order)
    for calls in range(2, 5):
        state = learned(policy, UNEVEN[:calls], [[3.0, 2 - 5 * t] for t in UNEVEN[:calls]])
        constant, line = forecast(policy, state, 0.11).tolist()
        assert constant == pytest.approx(3)
        assert (line == pytest.approx(2 - 5 * 0.11)) == (order > 0)


def test_taylorseer_of_order_two_misses_a_parabola_by_the_lag_of_its_slope():
    """As published, a derivative is that of the middle of the last gap ``g``: ``t²`` is missed by ``g k``."""
    policy, times = TaylorSeer(order=2), [0.9, 0.8, 0.7]
    state = learned(policy, times, [[t**2] for t in times])
    assert forecast(policy, state, 0.65).item() - 0.65**2 == pytest.approx(0.1 * -0.05 * 1, rel=1e-6)


@pytest.mark.parametrize("policy", [TaylorSeer(order=2), Spectrum(blend=0.0)], ids=str)
def test_asked_at_the_time_of_the_last_call_a_forecast_is_what_was_kept(policy):
    values = [[math.sin(5 * t)] for t in UNEVEN]
    state = learned(policy, UNEVEN, values)
    assert forecast(policy, state, UNEVEN[-1]).item() == pytest.approx(values[-1][0], abs=1e-12)


def test_the_chebyshev_columns_against_numpy():
    x = np.linspace(-1, 1, 23)
    for degree in range(7):
        columns = chebyshev(torch.from_numpy(x), degree).numpy()
        np.testing.assert_allclose(columns, np.polynomial.chebyshev.chebvander(x, degree), atol=1e-12)


def ridge(tau, values, degree, penalty):
    """Ridge regression by an augmented least-squares problem, without a penalty on the constant."""
    x = np.polynomial.chebyshev.chebvander(tau, degree)
    rows = math.sqrt(penalty) * np.eye(degree + 1)[1:]
    target = np.concatenate([values, np.zeros((degree, values.shape[1]))])
    return np.linalg.lstsq(np.concatenate([x, rows]), target, rcond=None)[0]


@pytest.mark.filterwarnings("ignore:.*has no effect")
@pytest.mark.parametrize("start_and_end", [(1.0, 0.02), (1.0, 0.001)])
@pytest.mark.parametrize("blend", [1.0, 0.3, 0.0])
@pytest.mark.parametrize(
    ("degree", "penalty", "history"), [(4, 0.1, 100), (2, 1.0, 3), (0, 0.1, 4), (4, 0.0, 100), (3, 1e-3, 2)]
)
def test_spectrum_against_ridge_regression_in_numpy(degree, penalty, history, blend, start_and_end):
    start, end = start_and_end
    policy = Spectrum(degree=degree, ridge=penalty, history=history, blend=blend)
    values = np.array([[math.sin(4 * t), 7 + t, 100.0] for t in UNEVEN])
    for calls in range(1, len(UNEVEN) + 1):
        kept = slice(max(0, calls - history), calls)
        tau, at = (2 * (start - np.array(t)) / (start - end) - 1 for t in (UNEVEN[kept], [0.3]))
        fitted = np.polynomial.chebyshev.chebvander(at, degree) @ ridge(tau, values[kept], degree, penalty)
        line = values[calls - 1]
        if calls > 1:
            gap = UNEVEN[calls - 1] - UNEVEN[calls - 2]
            line = line + (values[calls - 1] - values[calls - 2]) / gap * (0.3 - UNEVEN[calls - 1])
        state = learned(policy, UNEVEN[:calls], values[:calls], start, end)
        expected = blend * fitted[0] + (1 - blend) * line
        np.testing.assert_allclose(forecast(policy, state, 0.3).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_spectrum_leaves_a_constant_alone_whatever_the_penalty():
    policy = Spectrum(ridge=1e6)
    state = learned(policy, UNEVEN, [[42.0]] * len(UNEVEN))
    assert forecast(policy, state, 0.2).item() == pytest.approx(42)


@pytest.mark.parametrize("steps", [20, 1000])
def test_spectrum_maps_the_real_time_grid(steps):
    """Published code maps 50 steps only, so that the columns explode beyond."""
    times = time_grid(VP(), steps)[:-1]
    policy = Spectrum(preset="short")
    state = policy.begin(random_score(8, 1), Trajectory(times, 1, (1, 5, 2), 0, 0))
    for at, tau in ((0, -1.0), (-1, 1.0)):
        expected = np.polynomial.chebyshev.chebvander([tau], 4)[0]
        np.testing.assert_allclose(policy.weights(state, float(times[at]))[:5], expected, atol=1e-9)
    assert max(abs(w) for t in times for w in policy.weights(state, float(t))[:5]) <= 1 + 1e-9


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize(
    "policy", [TaylorSeer(interval=3, order=2), Spectrum(warmup=3, growth=0.5)], ids=lambda p: type(p).__name__
)
def test_a_forecast_is_of_what_is_kept(policy, stale):
    """The whole run of a forecaster beside twins that keep the history themselves."""
    chosen = type(policy)(**{**{k: v for k, v in vars(policy).items() if v is not None}, "stale": stale})

    class SlowForecaster(Twin):
        def __init__(self, score, sample):
            super().__init__(score, sample, stale)
            self.times, self.past, self.state = [], [], learned(chosen, [], [], float(TIMES[0]), float(TIMES[-1]))

        def decide(self, h0, step):
            self.time = float(TIMES[step])
            if not self.times:
                return True
            due = chosen.is_due(self.state)
            self.state.skipped += 1
            if not due:
                self.kept = forecast(chosen, self.state, self.time).float().reshape(self.past[-1].shape)
            return due

        def called(self):
            self.past.append(self.kept)
            self.times.append(self.time)
            values = [p.double().numpy() for p in self.past]
            self.state = learned(chosen, self.times, values, float(TIMES[0]), float(TIMES[-1]))

    called = check(random_score(13, 2), chosen, SlowForecaster)
    assert 0.2 < called.mean() < 0.8


@pytest.mark.parametrize(
    "policy", [TaylorSeer(interval=1, order=2), Spectrum(warmup=9)], ids=lambda p: type(p).__name__
)
@torch.no_grad()
def test_two_calls_at_one_time_are_one_point_of_the_history(policy):
    """Differences over a gap of nothing would be infinite."""
    score = random_score(13, 2)
    state = policy.begin(score, Trajectory(TIMES, 1, (SAMPLES, *score.noise_scale.shape), 0, 0))
    for step, z in enumerate(walk(score, 1.0)):
        time = float(TIMES[step // 2])
        _, state = policy.evaluate(score, z, Call(step, torch.tensor(time), False, time), state)
        assert all(term.isfinite().all() for term in state.terms)
        assert state.times == TIMES[: step // 2 + 1].tolist()
        if step == 8:
            break
