"""Compiled code gives what plain code gives. Most tests trace only; the compiler itself is a slow one."""

import copy
import functools
import pickle

import pytest
import torch
from random_networks import draw, random_score

from lightning_freqdiff.caching import E2CRF, CachedScore, Wiener
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import LSTM
from lightning_freqdiff.networks.kernels import compiled
from lightning_freqdiff.networks.kernels.compiled import Compiled

STEPS = 25


@pytest.fixture
def traced(monkeypatch):
    """Trace without the compiler behind, for any batch on a CPU; return the sizes that were traced."""
    sizes = []
    plain = torch.compile

    def compile(run, **options):
        sizes.append(run.__code__.co_name)
        return plain(run, backend="eager", **options)

    monkeypatch.setattr(compiled.torch, "compile", compile)
    monkeypatch.setattr(compiled, "FEW", 64)
    return sizes


def pair(length=33, channels=1) -> tuple[Score, Score]:
    plain, fast = random_score(length, channels), random_score(length, channels)
    fast.network.compiled = True
    return plain, fast


@pytest.mark.slow
def test_uncached(traced):
    plain, fast = pair()
    torch.testing.assert_close(draw(fast, fast), draw(plain, plain))
    assert len(traced) == 1


@pytest.mark.parametrize(
    "policy",
    [E2CRF(preset="balanced", R=7), Wiener(tolerance=0.3, memory=0.0)],
    ids=["e2crf", "wiener"],
)
def test_caches(policy, traced):
    plain, fast = pair()
    cached = CachedScore(fast, policy, STEPS)
    expected = draw(CachedScore(plain, policy, STEPS), plain)
    torch.testing.assert_close(draw(cached, fast), expected, atol=1e-4, rtol=1e-3)
    assert 0 < len(traced) <= 4  # batches of 1, 2, 4 and 8


def test_an_lstm(traced):
    torch.manual_seed(0)
    score = Score(LSTM(width=8), VP(), "wiener", Representation("frequency", 17, 1)).eval()
    torch.nn.init.normal_(score.network.out.weight)
    expected = draw(score, score)
    score.network.compiled = True
    torch.testing.assert_close(draw(score, score), expected)
    assert traced


def test_batches_are_filled_up_to_a_power_of_two(traced):
    seen = []

    def run(x, pairs, t):
        seen.append(len(x))
        return x + t, [p * 2 for p in pairs]

    part = functools.partial(Compiled(run))
    for count in (1, 2, 3, 4, 5, 7, 8):
        x, pairs = torch.randn(count, 3), [torch.randn(count, 2), torch.randn(count)]
        out, (first, second) = part(x, pairs, torch.tensor(2.0))
        assert out.equal(x + 2)
        assert first.equal(pairs[0] * 2)
        assert second.equal(pairs[1] * 2)
    assert set(seen) <= {1, 2, 4, 8}
    assert len(traced) == 4


def test_no_samples(traced):
    _, fast = pair()
    assert fast(torch.zeros(0, 17, 2), torch.tensor(0.5)).shape == (0, 17, 2)


def test_training_and_gradients_are_not_touched(traced):
    _, fast = pair()
    z = torch.randn(2, 17, 2, requires_grad=True)
    fast(z, torch.tensor(0.5)).sum().backward()
    assert z.grad is not None
    assert not traced


def test_new_weights_are_seen(traced):
    _, fast = pair()
    before = draw(fast, fast)
    with torch.no_grad():
        fast.network.layers[0].expand.weight.mul_(0.5)
    assert (draw(fast, fast) - before).abs().max() > 1e-3


def test_copies_have_weights_of_their_own(traced):
    _, fast = pair()
    before = draw(fast, fast)
    other = copy.deepcopy(fast)
    with torch.no_grad():
        other.network.layers[0].expand.weight.mul_(0.5)
    assert (draw(other, other) - before).abs().max() > 1e-3
    assert draw(fast, fast).equal(before)
    cached = CachedScore(fast, E2CRF(preset="balanced"), STEPS)
    first = draw(cached, fast)
    pickled = pickle.loads(pickle.dumps(fast))
    torch.testing.assert_close(draw(CachedScore(pickled, E2CRF(preset="balanced"), STEPS), pickled), first)


@pytest.mark.slow
def test_the_compiler_itself():
    plain, fast = pair()
    torch.testing.assert_close(draw(fast, fast, count=1), draw(plain, plain, count=1), atol=1e-4, rtol=1e-3)
