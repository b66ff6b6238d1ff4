"""Guidance without a classifier: exact on Gaussian classes, seen through by caches, nothing at a scale of 1."""

from dataclasses import replace

import pytest
import torch
from random_networks import told_score

from lightning_freqdiff.caching import CachedScore, TeaCache, Wiener
from lightning_freqdiff.condition import NOTHING, Condition, ConditionSizes
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.networks import UNet
from lightning_freqdiff.sampling import ClassifierFree, InTurn, Sampling, sample
from lightning_freqdiff.sampling.guidance import Guided
from lightning_freqdiff.sampling.solvers import DDIM, Heun

SIZES = ConditionSizes(classes=3, static=2)
KNOWN = Condition(label=torch.tensor([0, 2, 1, -1, 0]), static=torch.randn(5, 2, generator=torch.manual_seed(3)))
GUIDED = Sampling(num_samples=5, num_steps=12, batch_size=5, condition=InTurn(KNOWN), guidance=ClassifierFree(2.0))


@pytest.fixture(scope="module")
def score():
    return told_score(UNet(width=8, heads=2), sizes=SIZES)


class Counting(ScoreFunction):
    """Answers as the score does, and notes how many rows it was asked for."""

    def __init__(self, score, fixed=False):
        self.score, self.fixed, self.rows = score, fixed, []

    def __call__(self, z, t, condition=NOTHING):
        self.rows.append(len(z))
        return self.score(z, t, condition)


def draw(score, function=None, sampling=GUIDED):
    parts = [sample(function or score, score.sde, score.codec, unit, sampling) for unit in sampling.units()]
    return torch.cat(parts)


def test_it_is_the_formula_of_two_scores(score):
    z, t = torch.randn(5, *score.noise_scale.shape), torch.tensor(0.4)
    told, untold = score(z, t, KNOWN), score(z, t, KNOWN.without("label", "static"))
    found = ClassifierFree(3.0).guide(score, z, t, KNOWN)
    torch.testing.assert_close(found, 3 * told - 2 * untold, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(untold, score(z, t), atol=1e-4, rtol=1e-3)
    assert (told - untold)[:3].abs().amax((1, 2)).min() > 1e-3


def test_a_scale_of_1_is_no_guidance_bit_for_bit_and_costs_nothing(score):
    plain = Counting(score)
    one = draw(score, plain, replace(GUIDED, guidance=ClassifierFree(1.0)))
    assert torch.equal(one, draw(score, sampling=replace(GUIDED, guidance=None)))
    assert set(plain.rows) == {5}
    assert not torch.allclose(one, draw(score), atol=1e-3)


@pytest.mark.parametrize("solver", [DDIM(), Heun()], ids=["one call", "two"])
@pytest.mark.parametrize("fixed", [False, True])
def test_outside_the_interval_the_plain_score_is_followed(score, solver, fixed):
    never = replace(GUIDED, solver=solver, guidance=ClassifierFree(5.0, (0.0, 1e-6)))
    plain = draw(score, sampling=replace(never, guidance=None))
    torch.testing.assert_close(draw(score, Counting(score, fixed), never), plain, atol=1e-4, rtol=1e-3)
    some = Counting(score, fixed)
    draw(score, some, replace(never, guidance=ClassifierFree(5.0, (0.2, 0.6))))
    assert set(some.rows) == ({10} if fixed else {5, 10})
    if not fixed and isinstance(solver, DDIM):
        times = torch.linspace(1, 1e-5, 13)[:-1]
        assert some.rows == [10 if 0.2 <= t <= 0.6 else 5 for t in times]


@pytest.mark.parametrize("interval", [(0.0, 1.0), (0.3, 0.8)], ids=str)
@pytest.mark.parametrize("policy", [Wiener(tolerance=0.0), TeaCache(tau=0.0)], ids=["wiener", "teacache"])
def test_a_cache_that_always_recomputes_changes_nothing(score, policy, interval):
    guided = replace(GUIDED, guidance=ClassifierFree(2.0, interval))
    cached = draw(score, CachedScore(score, policy, guided.num_calls), guided)
    torch.testing.assert_close(cached, draw(score, sampling=guided), atol=1e-4, rtol=1e-3)


def test_a_cache_decides_for_each_row_of_the_larger_batch(score):
    through = CachedScore(score, Wiener(tolerance=0.05), 60)
    cached = draw(score, through, replace(GUIDED, num_steps=60))
    assert through.ledger.sums[:, 0].max() == 10
    assert through.ledger.totals()["network_calls"] < 59
    exact = draw(score, sampling=replace(GUIDED, num_steps=60))
    assert (cached - exact).norm() < 0.5 * exact.norm()


@pytest.mark.parametrize("policy", [None, Wiener(tolerance=0.05)], ids=["plain", "cached"])
def test_a_batch_is_its_singles(score, policy):
    def drawn(batch_size):
        sampling = replace(GUIDED, batch_size=batch_size, num_steps=20)
        return draw(score, policy and CachedScore(score, policy, sampling.num_calls), sampling)

    torch.testing.assert_close(drawn(5), drawn(1), atol=2e-4, rtol=1e-3)


def test_on_gaussian_classes_the_mean_moves_as_it_must():
    """Of classes N(±m, v) beside their mixture N(0, m² + v), both linear: the guided score is a Gaussian's, too."""
    mean, variance, scale, sigma = 1.5, 0.5, 2.0, 0.7

    class Two(ScoreFunction):
        def __call__(self, z, t, condition=NOTHING):
            assert condition.label is not None
            known = (condition.label >= 0).view(-1, 1, 1)
            side = (2.0 * condition.label - 1).view(-1, 1, 1)
            told = -(z - side * mean) / (variance + sigma**2)
            return torch.where(known, told, -z / (mean**2 + variance + sigma**2))

    label = torch.tensor([0, 1])
    z = torch.zeros(2, 1, 1)
    found = ClassifierFree(scale).guide(Two(), z, torch.tensor(0.5), Condition(label=label)).flatten()
    precision = scale / (variance + sigma**2) - (scale - 1) / (mean**2 + variance + sigma**2)
    centre = scale * mean / (variance + sigma**2) / precision
    torch.testing.assert_close(found, precision * centre * torch.tensor([-1.0, 1.0]))


def test_a_scale_that_blows_up_is_said_with_its_step(score):
    with pytest.raises(
        ValueError, match=r"a million times as much, from step 1 of 12 on: lower `sampling.guidance_scale`"
    ):
        draw(score, sampling=replace(GUIDED, guidance=ClassifierFree(1e20)))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"interval": (0.6, 0.2)}, "interval of times within 0 and 1, the lower first, got 0.6 and 0.2"),
        ({"interval": (0.0, 2.0)}, "within 0 and 1"),
        ({"scale": float("nan")}, "a finite scale, got nan"),
    ],
)
def test_settings_that_cannot_be(settings, says):
    with pytest.raises(ValueError, match=says):
        ClassifierFree(**settings)


def test_there_must_be_something_to_guide_towards(score):
    with pytest.raises(
        ValueError, match="a label or static covariates to guide towards, got none: set `sampling.label`"
    ):
        draw(score, sampling=replace(GUIDED, condition=None))


def test_short_ways_to_say_it():
    short = Sampling(num_samples=2, label=["N", "V"], guidance_scale=3.0)
    assert short.guidance == ClassifierFree(3.0)
    assert replace(short, seed=1).condition is short.condition
    with pytest.raises(ValueError, match="`sampling.label` or `sampling.condition`, got both"):
        Sampling(label=1, condition=InTurn(KNOWN))
    with pytest.raises(ValueError, match="`sampling.guidance_scale` or `sampling.guidance`, got both"):
        Sampling(guidance_scale=1.0, guidance=ClassifierFree())


def test_a_last_step_that_blows_up_is_said(score):
    guided = Guided(score, ClassifierFree(2.0))
    guided.start(Trajectory(torch.tensor([0.9, 0.5, 0.1]).double(), 1, (2, *score.noise_scale.shape), 0, 0))
    z = torch.zeros(2, *score.noise_scale.shape)
    for t in (0.9, 0.5, 0.1):
        guided(z, torch.tensor(t), Condition(label=torch.tensor([0, 1]), static=torch.zeros(2, 2)))
    guided.expect_sane(z, 1)
    with pytest.raises(ValueError, match="from step 2 of 3 on"):
        guided.expect_sane(z / 0, 1)
