"""What stretches without a call do to samples, against sampling step by step."""

import pytest
import torch
from random_networks import random_score, told_score

from lightning_freqdiff.caching.integrating_factor import Frame
from lightning_freqdiff.caching.local_error import expected_rate, weights
from lightning_freqdiff.condition import ConditionSizes
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.evaluation import stretches as room
from lightning_freqdiff.evaluation.stretches import stretch_damage, stretch_damages, stretches
from lightning_freqdiff.networks import MLP, UNet
from lightning_freqdiff.sampling import Sampling, time_grid
from lightning_freqdiff.sampling.conditions import Label, of_labels
from lightning_freqdiff.sampling.noise import normal_stream
from lightning_freqdiff.sampling.solvers import EulerMaruyama, plan

STEPS = 60
SAMPLING = Sampling(num_samples=5, num_steps=STEPS, batch_size=5, seed=3)


def frame_of(score: Score) -> Frame:
    times = time_grid(score.sde, STEPS)
    found = Frame.build(score, times[:-1], [EulerMaruyama().affine(step) for step in plan(score.sde, times, "cpu")])
    assert found is not None
    return found


def drawn(score: Score, called: set[int], count: int) -> torch.Tensor:
    """Series by the definition: step by step, and every stretch again once the remainder at its end is known."""
    times = time_grid(score.sde, STEPS)
    steps, t = plan(score.sde, times, "cpu"), times.float()
    shape = (count, *score.noise_scale.shape)
    stream = normal_stream(SAMPLING.seed, 0, shape, "cpu")
    z = steps[0].now.sigma * score.noise_scale * next(stream)
    noise = [next(stream) for _ in steps]

    def spread(i):
        c = score.coefficients(t[i])
        return c, c.spread / c.total

    def remainder(z, i):
        c, share = spread(i)
        eps = -c.sigma * score(z, t[i])
        return torch.where(share > 0, (score.wiener_eps(z, c) - eps) / share.clamp(min=1e-30), 0.0)

    def onward(z, i, u):
        c, share = spread(i)
        a, b, w = EulerMaruyama().affine(steps[i])
        return a * z + score.noise_scale * (b * (score.wiener_eps(z, c) - share * u) + w * noise[i])

    begun, since, kept = z, 0, remainder(z, 0)
    for i in range(STEPS):
        if i in called and i > 0:
            fresh, z = remainder(z, i), begun
            for j in range(since, i):
                share = float((times[since] - times[j]) / (times[since] - times[i]))
                z = onward(z, j, kept + share * (fresh - kept))
            begun, since, kept = z, i, fresh
        z = onward(z, i, kept)
    return score.codec.decode(z)


@torch.no_grad()
@pytest.mark.parametrize("length", [12, 13])
def test_damage_is_that_of_sampling_without_the_calls_of_a_stretch(length):
    score = random_score(length, 2)
    frame = frame_of(score)
    early, late, moved = stretch_damages(score, frame, SAMPLING)
    starts = stretches(frame.times)
    ends = [*starts[1:], STEPS]
    assert moved.shape == (len(starts), room.SAMPLES)
    every = {a + (b - a) * i // room.CLOSE for a, b in zip(starts, ends, strict=True) for i in range(room.CLOSE)}
    right = drawn(score, every, 5).flatten(1)
    times = [*frame.times.tolist(), 0.0]
    for number in (0, len(starts) // 2, len(starts) - 3):
        start, stop = starts[number], ends[number]
        assert (float(early[number]), float(late[number])) == (times[start], times[stop])
        wrong = drawn(score, {step for step in every if not start < step < stop}, 5).flatten(1)
        expected = (wrong - right).norm(dim=1) / right.norm(dim=1)
        torch.testing.assert_close(moved[number, :5].float(), expected, rtol=2e-2, atol=1e-4)


def test_where_a_model_is_linear_no_stretch_does_any_harm():
    """The head of a new network is zero."""
    score = Score(MLP(layers=2, width=8), VP(), "wiener", Representation("frequency", 12, 1)).eval()
    score.codec.fit([5 + torch.randn(100, 12, 1, generator=torch.Generator().manual_seed(0)).cumsum(1)])
    assert stretch_damages(score, frame_of(score), SAMPLING)[2].max() < 1e-4
    assert stretch_damage(score, frame_of(score), SAMPLING).isfinite().all()


def test_samples_do_not_know_of_each_other(monkeypatch):
    score = random_score(9, 1)
    one, several = (
        stretch_damages(score, frame_of(score), Sampling(num_samples=4, num_steps=STEPS, batch_size=size))[2]
        for size in (1, 32)
    )
    torch.testing.assert_close(one, several, rtol=1e-3, atol=1e-5)
    # Of long series there are as many as memory holds.
    monkeypatch.setattr(room, "NUMBERS", 3 * 75 * score.noise_scale.numel())
    fewer = stretch_damages(score, frame_of(score), Sampling(num_steps=STEPS, batch_size=32))[2]
    assert 0 < fewer.shape[1] < room.SAMPLES
    torch.testing.assert_close(fewer, several[:, : fewer.shape[1]], rtol=1e-3, atol=1e-5)


def test_what_is_known_of_samples_is_told_the_network():
    score = told_score(UNet(width=8, heads=2), sizes=ConditionSizes(classes=3))
    labels: list[Label] = [0, 1]
    first, second = (
        stretch_damages(score, frame_of(score), Sampling(num_steps=STEPS, condition=of_labels(label)))[2]
        for label in labels
    )
    assert not torch.equal(first, second)


def test_stretches_are_shorter_where_little_noise_is_left():
    times = time_grid(VP(), 1000)[:-1]
    starts = torch.tensor([*stretches(times), 1000])
    assert starts[0] == 0
    assert len(starts) == room.STRETCHES + 1
    lengths = starts.diff()
    assert lengths.min() >= 1
    assert lengths[0] > 5 * lengths[-1]
    assert stretches(time_grid(VP(), 3)[:-1]) == [0, 1, 2]


def test_calls_go_where_errors_matter_and_are_as_many():
    score = random_score(9, 1)
    times = time_grid(score.sde, 200)[:-1]
    rate = expected_rate(score, times, True)
    plain = weights(score, rate, times, 5.0, True)
    for late, early in ((1.0, 50.0), (50.0, 1.0)):
        score.calibration["wiener.damage"] = torch.tensor([[0.01, 0.9], [late, early]], dtype=torch.float64)
        measured = weights(score, rate, times, 5.0, True)
        calls, before = ((rate * w).pow(2 / 3).sum() for w in (measured, plain))
        torch.testing.assert_close(calls, before)
        harm = rate * measured
        assert (harm[0] > harm[-1]) == (early > late)
        torch.testing.assert_close(harm[0] / harm[-1], torch.tensor(early / late).double(), rtol=0.2, atol=0)
        assert torch.equal(weights(score, rate, times, 5.0, False), plain)
    score.calibration["wiener.damage"] = torch.tensor([[0.01, 0.9], [0.0, 0.0]], dtype=torch.float64)
    assert weights(score, rate, times, 5.0, True).isfinite().all()
    assert weights(score, 0 * rate, times, 5.0, True).isfinite().all()
