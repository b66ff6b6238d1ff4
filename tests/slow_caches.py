"""Second implementations of caches: one sample at a time, in numpy, in double precision."""

from abc import ABC, abstractmethod

import numpy as np
import torch

from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.forecast import ForecastState
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.sampling import time_grid

STEPS, SAMPLES = 18, 4
TIMES = time_grid(VP(), STEPS)[:-1]
STALE = ("output", "features", "residual", "wiener")


def walk(score, stride):
    """Tokens that move a little at every step, as a trajectory does, more in some steps than in others."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(SAMPLES, *score.noise_scale.shape, generator=generator) * score.noise_scale
    for step in range(STEPS):
        yield z
        shake = stride * (0.1, 0.02, 0.3)[step % 3]
        z = 0.98 * z + shake * torch.randn(z.shape, generator=generator) * score.noise_scale


@torch.no_grad()
def check(score, policy, slow, stride=1.0):
    """Run a policy along a walk beside one slow twin for every sample; return who was called when."""
    twins = [slow(score, b) for b in range(SAMPLES)]
    state = policy.begin(score, Trajectory(TIMES, 1, (SAMPLES, *score.noise_scale.shape), 0, 0))
    called = []
    for step, z in enumerate(walk(score, stride)):
        t, last = TIMES[step].float(), step == STEPS - 1
        outcome, state = policy.evaluate(score, z, Call(step, t, last, float(TIMES[step])), state)
        expected = [twin(z[b], t, step, last) for b, twin in enumerate(twins)]
        work = torch.stack([torch.tensor(w) for w, _ in expected])
        torch.testing.assert_close(outcome.tokens / score.noise_scale.shape[0], work.float())
        torch.testing.assert_close(outcome.eps, torch.stack([x for _, x in expected]), atol=2e-4, rtol=2e-4)
        called.append(work.tolist())
    assert all(share == 1 for share in called[0] + called[-1])
    return np.array(called)


class Twin(ABC):
    """A whole-call cache for one sample."""

    def __init__(self, score, sample, stale="residual"):
        self.score, self.stale, self.sample, self.kept = score, stale, sample, None

    def __call__(self, z, t, step, last):
        network, alpha, sigma = self.score.network, float(VP().alpha(t)), float(VP().sigma(t))
        variance, noise = self.score.codec.active, sigma * self.score.noise_scale
        square = alpha**2 * variance + noise**2
        total = torch.where(square > 0, square, 1.0).sqrt()
        linear, spread = noise * z / total**2, alpha * variance.sqrt() / total
        h0 = network.embed((z / total)[None], t).features[0]
        due = self.decide(h0, step)
        if due or last or self.kept is None:
            h = h0[None]
            for block in network.layers:
                h = block(h)
            answer = linear - spread * network.head(h, None)[0]
            remainder = torch.where(spread > 0, (linear - answer) / spread.clamp(min=1e-30), 0.0)
            self.kept = {"output": answer, "features": h[0], "residual": h[0] - h0, "wiener": remainder}[self.stale]
            self.called()
            return 1.0, answer
        if self.stale == "output":
            return 0.0, self.kept
        if self.stale == "wiener":
            return 0.0, linear - spread * self.kept
        features = self.kept if self.stale == "features" else h0 + self.kept
        return 0.0, linear - spread * network.head(features[None], None)[0]

    @abstractmethod
    def decide(self, h0, step) -> bool | np.bool_: ...

    def called(self):  # noqa: B027 (few caches take note of it)
        pass

    def modulated(self, h0):
        norm, h = self.score.network.layers[0].norm_attention, h0.double().numpy()
        h = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + norm.eps)
        return h * norm.weight.double().numpy() + norm.bias.double().numpy()


def ratio(new, old):
    return np.abs(new - old).sum() / np.abs(old).sum()


def learned(policy, times, values, start=1.0, end=0.0, gap=1, shape=(1, 1, -1), fit=None, **learnt):
    """State of a forecaster after calls at the times, every few steps, with what was kept there."""
    state = ForecastState(policy.settings_for(20), start, end, fit=fit)
    vars(state.settings).update(learnt)
    for t, value in zip(times, values, strict=True):
        state.skipped = gap - 1 if state.times else 0
        policy.learn(state, torch.as_tensor(value, dtype=torch.float64).reshape(shape), t)
        state.times.append(t)
    state.skipped = 0
    return state


def forecast(policy, state, t):
    return sum(w * term for w, term in zip(policy.weights(state, t), state.terms, strict=True)).flatten()
