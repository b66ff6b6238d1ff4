"""Caches of whole calls against a second implementation: one sample at a time, in numpy, in double precision."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from random_networks import random_score
from scipy.optimize import minimize
from slow_caches import SAMPLES, STALE, STEPS, TIMES, Twin, check, ratio, walk

from lightning_freqdiff.caching import L2C, AdaCorrection, MagCache, PrediT
from lightning_freqdiff.caching.adacorrection import offset
from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.l2c import router
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.sampling import time_grid


class SlowMagCache(Twin):
    def __init__(self, score, sample, stale, tau, skips, retention):
        super().__init__(score, sample, stale)
        self.tau, self.skips, self.first = tau, skips, int(retention * STEPS + 0.5)
        self.ratio, self.error, self.idle = 1.0, 0.0, 0

    def decide(self, h0, step):
        """The ratios of neighbours multiplied up, as published."""
        size = [math.exp(math.sin(3 * float(t))) for t in TIMES]
        if step == 0:
            return True
        self.ratio *= size[step] / size[step - 1]
        self.error += abs(1 - self.ratio)
        self.idle += 1
        skip = step >= self.first and self.error < self.tau and self.idle <= self.skips
        if not skip:
            self.ratio, self.error, self.idle = 1.0, 0.0, 0
        return not skip


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize(("tau", "skips", "retention"), [(0.3, 3, 0.2), (1.0, 100, 0.0), (100.0, 2, 0.5)])
def test_magcache_adds_up_how_far_magnitudes_have_drifted(stale, tau, skips, retention):
    score, policy = random_score(13, 2), MagCache(tau=tau, skips=skips, retention=retention, stale=stale)
    grid = torch.linspace(0, 1, 2001, dtype=torch.float64)
    score.calibration["magcache.log_magnitude"] = (3 * grid).sin()
    called = check(score, policy, lambda s, b: SlowMagCache(s, b, stale, tau, skips, retention))
    assert 0.1 < called.mean() < 0.9


def test_magcache_without_a_calibration_is_a_clock():
    called = check(random_score(13, 2), MagCache(retention=0.0), lambda s, b: SlowClock(s, b, "residual", 4))
    assert called[:, 0].tolist() == [float(i % 4 == 0 or i == STEPS - 1) for i in range(STEPS)]


class SlowClock(Twin):
    def __init__(self, score, sample, stale, interval):
        super().__init__(score, sample, stale)
        self.interval = interval

    def decide(self, h0, step):
        return step % self.interval == 0


class SlowPrediT(Twin):
    def __init__(self, score, sample, stale, tau, skips, correct, warmup):
        super().__init__(score, sample, stale)
        self.tau, self.skips, self.correct, self.warmup = tau, skips, correct, warmup
        self.calls, self.wait = [], 0  # step, time and what was kept

    def decide(self, h0, step):
        self.step = step
        if not self.calls:
            return True
        if self.wait == 0:
            return True
        self.wait -= 1
        then, past = self.calls[-1][1:]
        h = float(TIMES[step]) - then
        f = [(b[2] - a[2]) / (b[1] - a[1]) for a, b in pairwise(self.calls)]
        self.kept = past
        if f:
            g = then - self.calls[-2][1]
            f0, f1 = f[-1], f[-2] if len(f) > 1 else f[-1]
            forecast = past + h * ((1 + h / (2 * g)) * f0 - h / (2 * g) * f1)
            if ratio(forecast, past) > self.correct:
                forecast = past + h / 2 * (f0 + (forecast - past) / h)
            self.kept = forecast
        self.kept = torch.as_tensor(self.kept).float()
        return False

    def called(self):
        value, time = self.kept.double().numpy(), float(TIMES[self.step])
        n = self.step - self.calls[-1][0] if self.calls else self.skips
        change = ratio(value, self.calls[-1][2]) if self.calls else 0.0
        self.calls.append((self.step, time, value))
        allowed = self.skips if change == 0 else math.floor(self.tau * n / change)
        self.wait = 0 if len(self.calls) < self.warmup else min(allowed, 2 * n, self.skips)


@pytest.mark.parametrize("stale", STALE)
@pytest.mark.parametrize(
    ("tau", "skips", "correct", "warmup"), [(1.0, 4, 0.3, 2), (2.0, 5, 1e9, 1), (1.5, 3, 0.0, 4), (0.7, 100, 0.5, 3)]
)
def test_predit_forecasts_as_far_as_change_allows(stale, tau, skips, correct, warmup):
    settings = {"tau": tau, "skips": skips, "correct": correct, "warmup": warmup}
    policy = PrediT(stale=stale, **settings)
    called = check(random_score(13, 2), policy, lambda s, b: SlowPrediT(s, b, stale, **settings))
    assert 0.2 < called.mean() < 0.95


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_the_offset_is_the_mean_move_of_tokens_and_their_mean_spread(spread):
    random = np.random.default_rng(0)
    fresh, past = random.normal(size=(2, 3, 5, 7))
    for b in range(3):
        moved = np.mean([np.sqrt(((x - y) ** 2).sum()) for x, y in zip(fresh[b], past[b], strict=True)])
        apart = np.mean([x.std() for x in fresh[b]])
        found = offset(torch.from_numpy(fresh), torch.from_numpy(past), spread)[b]
        assert float(found) == pytest.approx(moved**2 + spread * apart**2)


@torch.no_grad()
@pytest.mark.parametrize("interval", [1, 3])
def test_adacorrection_blends_at_probes_and_repeats_between(interval):
    """Of features, which are written down: the share, and the prediction that is made of the blend."""
    score, gain = random_score(13, 2), 0.01
    policy = AdaCorrection(interval=interval, gain=gain)
    state = policy.begin(score, Trajectory(TIMES, 1, (SAMPLES, *score.noise_scale.shape), 0, 0))
    kept, before, shares = None, None, []
    for step, z in enumerate(walk(score, 1.0)):
        t, last = TIMES[step].float(), step == STEPS - 1
        outcome, state = policy.evaluate(score, z, Call(step, t, last, float(TIMES[step])), state)
        c = score.coefficients(t)
        probe = step % interval == 0 or last
        assert bool(outcome.work.eq(float(probe)).all())
        if probe:
            h = score.embed(z, t, c).features
            for block in score.network.layers:
                h = block(h)
            share = torch.ones(SAMPLES) if before is None or last else (gain * offset(h, before, 1.0)).clamp(0, 1)
            kept = h if kept is None else kept + share.view(-1, 1, 1) * (h - kept)
            before = h
            shares.append(share)
        torch.testing.assert_close(outcome.eps, score.eps(score.network.head(kept, None), z, c), atol=1e-4, rtol=1e-4)
    assert any(((share > 0) & (share < 1)).all() for share in shares)


class SlowL2C(Twin):
    """Layers one by one, the router by SciPy's minimiser."""

    def __init__(self, score, sample, interval, penalty, threshold):
        super().__init__(score, sample, "residual")
        self.interval, self.penalty, self.threshold, self.full = interval, penalty, threshold, None
        self.learnt = {k.removeprefix("l2c."): v.numpy() for k, v in score.calibration.items()}

    def decide(self, h0, step):
        return True

    def asked(self, step):
        """The layers whose share of the present is above the threshold where the loss is least."""
        times = self.learnt["times"]
        place, before = (np.interp(-float(TIMES[i]), -times, np.arange(len(times))) for i in (step, self.full))
        apart = [abs(math.log(gap / (place - before))) for gap in self.learnt["gaps"]]
        gap = int(np.argmin(apart))
        products = self.learnt["products"][gap, np.argmin(abs(self.learnt["places"] - place))].astype(float)
        products = products * ((place - before) / self.learnt["gaps"][gap]) ** 2
        scale = products.trace()
        found = minimize(
            lambda b: ((1 - b) @ products @ (1 - b) + self.penalty * b.sum()) / scale,
            np.ones(len(products)),
            jac=lambda b: (-2 * products @ (1 - b) + self.penalty) / scale,
            bounds=[(0, 1)] * len(products),
            options={"ftol": 1e-15, "gtol": 1e-12},
        )
        return found.x > self.threshold

    def __call__(self, z, t, step, last):
        if self.full is None or last or step - self.full >= self.interval:
            self.added, blocks = [], self.score.network.layers
            hooks = [b.register_forward_hook(lambda _, i, o: self.added.append((o - i[0])[0])) for b in blocks]
            answer = super().__call__(z, t, step, last)
            for hook in hooks:
                hook.remove()
            self.full = step
            return answer
        asked, blocks = self.asked(step), self.score.network.layers
        chosen = zip(blocks, asked, self.added, strict=True)
        self.score.network.layers = torch.nn.ModuleList(block if run else Add(past) for block, run, past in chosen)
        try:
            return float(asked.mean()), super().__call__(z, t, step, last)[1]
        finally:
            self.score.network.layers = blocks


class Add(torch.nn.Module):
    def __init__(self, added):
        super().__init__()
        self.added = added

    def forward(self, h, context=None):
        return h + self.added


@pytest.mark.parametrize(("interval", "penalty", "threshold"), [(2, 3e-3, 0.1), (3, 3e-3, 0.5), (5, 3e-2, 0.1)])
def test_l2c_leaves_out_the_layers_whose_past_costs_less_than_they_do(interval, penalty, threshold):
    score, random = random_score(13, 2), torch.Generator().manual_seed(1)
    layers = len(score.network.layers)
    rows = torch.randn(2, 9, layers, layers, generator=random).double() * 0.05
    score.calibration |= {
        "l2c.times": time_grid(VP(), 60, "edm"),
        "l2c.places": torch.linspace(3, 57, 9),
        "l2c.gaps": torch.tensor([1.0, 3.0]),
        "l2c.products": rows @ rows.mT,
    }
    policy = L2C(interval=interval, penalty=penalty, threshold=threshold)
    share = check(score, policy, lambda s, b: SlowL2C(s, b, interval, penalty, threshold))
    assert {0 < row[0] < 1 for row in share} == {True, False}


def test_a_router_without_a_penalty_computes_everything_and_under_a_large_one_nothing():
    products = np.array([[2.0, -1.0], [-1.0, 1.0]])
    assert router(products, 0.0).tolist() == [1, 1]
    assert router(products, 100.0).tolist() == [0, 0]
    assert router(np.zeros((2, 2)), 1e-9).tolist() == [0, 0]  # what changes nothing is left out
