"""What series meet exactly is met as often by samples, nothing lies beyond, and everything else is left alone."""

import copy
from dataclasses import replace

import pytest
import torch

from lightning_freqdiff.callbacks.identity import sampling_settings
from lightning_freqdiff.checkpoint import tensors_hash, weights_hash
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.limits import Limits
from lightning_freqdiff.sampling import Constrained, GaussianPosterior, InTurn, Mean, Sampling, WorkUnit

N = 20


def dry(count=1000, seed=0):
    """Rain of which there is none more and more often, beside a channel without limits."""
    generator = torch.Generator().manual_seed(seed)
    rain = torch.randn(count, N, generator=generator) + torch.linspace(2, -2, N)
    return torch.stack([rain.clamp(min=0), torch.randn(count, N, generator=generator)], -1)


def as_drawn(x, seed=1):
    """The same with a little noise, as of a model."""
    return x + 0.05 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed))


def fitted(real, generated):
    limits = Limits(real.shape[1], real.shape[2])
    limits.fit(real, lambda: generated)
    return limits


def test_a_limit_is_met_as_often_as_by_series_at_every_step():
    real, drawn = dry(4000), as_drawn(dry(4000, seed=2))
    limits = fitted(real, as_drawn(dry(4000, seed=3)))
    found = limits(drawn)
    assert limits.met.tolist() == [[1, 0], [0, 0]]
    assert not (drawn[..., 0] == 0).any()
    torch.testing.assert_close(
        (found[..., 0] == 0).float().mean(0), (real[..., 0] == 0).float().mean(0), atol=0.04, rtol=0
    )
    assert found[..., 0].min() == 0
    assert torch.equal(found[..., 1], drawn[..., 1])
    high = drawn[..., 0] > 0.3
    assert torch.equal(found[..., 0][high], drawn[..., 0][high])


def test_each_sample_is_mapped_alone_and_once():
    limits, drawn = fitted(dry(), as_drawn(dry(seed=2))), as_drawn(dry(8, seed=3))
    whole = limits(drawn)
    assert torch.equal(whole, torch.cat([limits(one) for one in drawn.split(1)]))
    assert torch.equal(limits(whole), whole)


def test_the_highest_value_is_a_limit_as_the_lowest_is():
    real, drawn = dry(), as_drawn(dry(seed=2))
    low, high = fitted(real, drawn), fitted(5 - real, 5 - drawn)
    assert torch.equal(high.met.flip(0), low.met)
    assert high.bound[1, 0] == 5
    torch.testing.assert_close(high(5 - drawn), 5 - low(drawn))


def test_what_all_series_meet_is_met_by_all_samples_and_nothing_is_between_two_limits():
    generator = torch.Generator().manual_seed(0)
    real = torch.stack([dry()[..., 0], (torch.rand(1000, N, generator=generator) < 0.3).float()], -1)
    real[:, -3:, 0] = 0
    limits = fitted(real, as_drawn(real[:300]))
    found = limits(as_drawn(real, seed=2))
    assert (found[:, -3:, 0] == 0).all()
    assert set(found[..., 1].unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(found[..., 1].mean(0), real[..., 1].mean(0), atol=0.1, rtol=0)


def test_missing_values_are_no_values_and_samples_that_are_no_numbers_do_not_count():
    real, drawn = dry(), as_drawn(dry(seed=2))
    whole = fitted(real, drawn)
    gaps = real.clone()
    gaps[torch.rand(real.shape, generator=torch.Generator().manual_seed(5)) < 0.1] = torch.nan
    gaps[:, 3] = torch.nan
    spoilt = drawn.clone()
    spoilt[7, 3, 1], spoilt[9] = torch.nan, torch.inf
    limits = fitted(gaps, spoilt)
    assert torch.equal(limits.met, whole.met)
    assert all(value.isfinite().all() for value in limits.state_dict().values())
    others = [n for n in range(N) if n != 3]
    shares = [(one(drawn)[:, others] == 0).float().mean(0) for one in (limits, whole)]
    torch.testing.assert_close(*shares, atol=0.03, rtol=0)
    assert not fitted(real, torch.full((100, N, 2), torch.nan)).met.any()


def windows():
    """Of one long series, whose lowest value is in many windows, at another step of each."""
    return torch.randn(400, generator=torch.Generator().manual_seed(0)).unfold(0, N, 1).unsqueeze(2)


@pytest.mark.parametrize(
    "real",
    [torch.randn(500, N, 1), windows(), torch.full((500, N, 1), 2.0), dry(4)],
    ids=["extremes", "windows", "constant", "four rows"],
)
def test_what_is_met_by_chance_or_always_is_no_limit(real):
    limits = fitted(real, as_drawn(real))
    assert not limits.met.any()
    assert all(value.isfinite().all() for value in limits.state_dict().values())
    drawn = 3 * torch.randn(50, *real.shape[1:])
    assert torch.equal(limits(drawn), drawn)


def test_what_was_found_is_forgotten_copied_and_kept():
    limits, drawn = fitted(dry(), as_drawn(dry(seed=2))), as_drawn(dry(seed=3))
    other = Limits(N, 2)
    other.load_state_dict(limits.state_dict())
    assert torch.equal(other(drawn), limits(drawn))
    found = copy.deepcopy(limits)(drawn)
    limits.forget()
    assert torch.equal(limits(drawn), drawn)
    assert not torch.equal(found, drawn)
    other.load_state_dict({})  # of a model from before there were limits
    assert torch.equal(other(drawn), drawn)


def test_a_model_without_limits_has_the_hash_that_it_had_before_there_were_any(model):
    limits = model.score.codec.limits
    limits.forget()
    later = (".limits.", ".logarithm.", "correction.kept")
    state = {name: value for name, value in model.state_dict().items() if not any(part in name for part in later)}
    assert weights_hash(model) == tensors_hash(state)
    model.score.correction.keep(torch.full((12,), 0.5))
    assert weights_hash(model) != tensors_hash(state)
    model.score.correction.keep(torch.ones(12))
    limits.met.fill_(1)
    assert weights_hash(model) != tensors_hash(state)
    assert "limits" not in sampling_settings(Sampling())
    assert sampling_settings(Sampling(limits=False))["limits"] is False


def test_rules_come_before_limits_and_observed_values_after(model):
    limits, unit = model.score.codec.limits, WorkUnit(0, 0, 4)
    limits.met.fill_(1)
    limits.bound.copy_(torch.tensor([[0.0], [1.0]]))
    limits.threshold.copy_(torch.tensor([0.3, 0.9]).view(2, 1, 1).expand_as(limits.threshold))
    plain = Sampling(num_steps=5)
    assert (model.draw(unit, plain) == 0).any()
    assert not (model.draw(unit, replace(plain, limits=False)) == 0).any()
    ruled = replace(plain, constraint=Constrained([Mean(value=0.4)]))
    assert torch.equal(model.draw(unit, ruled), model.draw(unit, replace(ruled, limits=False)))
    told = Condition(observed=torch.full((1, 64, 1), 0.2), mask=(torch.arange(64) < 5).float().view(1, 64, 1))
    filled = model.draw(unit, replace(plain, condition=InTurn(told), guidance=GaussianPosterior()))
    assert (filled[:, :5] == 0.2).all()
    assert (filled[:, 5:] == 0).any()
