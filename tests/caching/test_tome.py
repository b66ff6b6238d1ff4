"""Merging tokens, one by one in plain Python, and what every cache must satisfy."""

import pytest
import torch
from random_networks import draw, random_score, told_score

from lightning_freqdiff.caching import CachedScore, ToMe
from lightning_freqdiff.caching.tome import match, merge, merged_blocks, unmerge
from lightning_freqdiff.networks import LSTM, MLP, Transformer, UNet
from lightning_freqdiff.sampling.solvers import EulerMaruyama, Heun

STEPS = 8


def run(score, policy, solver=None, **more):
    solver = solver or EulerMaruyama()
    cached = CachedScore(score, policy, STEPS * solver.calls_per_step)
    return draw(cached, score, num_steps=STEPS, solver=solver, **more), cached


def slow_groups(h, ratio):
    """Groups of one sample's tokens: each odd one's likeness to all even ones, and the likest go first."""
    likeness = {}
    for odd in range(1, len(h), 2):
        each = [float(torch.cosine_similarity(h[odd], h[even], dim=0)) for even in range(0, len(h), 2)]
        likeness[odd] = max((value, 2 * i) for i, value in enumerate(each))
    merged = sorted(likeness, key=lambda odd: -likeness[odd][0])[: round(ratio * len(h))]
    groups = {token: [token] for token in range(len(h)) if token not in merged}
    for odd in merged:
        groups[likeness[odd][1]].append(odd)
    return list(groups.values())


@pytest.mark.parametrize("tokens", [8, 9])
@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.5])
def test_the_likest_tokens_are_merged_and_get_back_what_they_gained(tokens, ratio):
    torch.manual_seed(0)
    h = torch.randn(3, tokens, 5)
    groups = match(h, ratio)
    mean, back = merge(h, groups), unmerge(merge(h, groups), groups)
    for b in range(3):
        expected = slow_groups(h[b], ratio)
        assert mean.shape[1] == len(expected) == tokens - min(round(ratio * tokens), tokens // 2)
        for group in expected:
            for token in group:
                torch.testing.assert_close(back[b, token], h[b, group].mean(0))
    assert groups.sizes.sum(1).flatten().tolist() == [tokens] * 3


def test_equal_tokens_are_merged_without_loss():
    """Blocks of attention see a pair once, which would count twice; alone in its place the result is the same."""
    score = random_score(17, 1)
    h = torch.randn(2, 1, 8).repeat(1, 8, 1)
    with torch.no_grad():
        torch.testing.assert_close(merged_blocks(score.network, 0.5, h, None), score.network.blocks(h, None))


@pytest.mark.parametrize("preset", ["plain", "small"])
@pytest.mark.parametrize("solver", [EulerMaruyama(), Heun()], ids=["euler", "heun"])
def test_every_requirement(preset, solver):
    score = random_score(17, 1, preset=preset)
    plain = draw(score, score, num_steps=STEPS, solver=solver, count=4, first=3)
    assert torch.equal(run(score, ToMe(ratio=0.0), solver, count=4, first=3)[0], plain)
    batch, cached = run(score, ToMe(), solver, count=4, first=3)
    singles = torch.cat([run(score, ToMe(), solver, count=1, first=3 + i)[0] for i in range(4)])
    torch.testing.assert_close(batch, singles, atol=1e-4, rtol=1e-4)
    assert torch.equal(run(score, ToMe(), solver, count=4, first=3)[0], batch)
    assert not torch.allclose(batch, plain, atol=1e-3)
    totals = cached.ledger.totals()
    assert totals["calls_skipped"] == 0
    assert totals["hit_rate"] == pytest.approx(4 / 9)  # of nine tokens four are merged
    assert 0.3 < totals["flops_fraction"] < 0.6


def test_in_double_precision():
    score = random_score(17, 1).double()
    assert run(score, ToMe())[0].isfinite().all()


OTHERS = [
    MLP(layers=1, width=8),
    LSTM(layers=1, width=8),
    UNet(width=8, levels=1, heads=2),
    Transformer(mix=3, layers=1, heads=2, width=16, feedforward=16),
]


@pytest.mark.parametrize("network", OTHERS, ids=lambda n: type(n).__name__)
def test_a_network_without_such_tokens_is_refused(network):
    with pytest.raises(ValueError, match=r"expected a network whose tokens can be merged.*: set `policy`"):
        run(told_score(network), ToMe())
