"""Correlational, discriminative and predictive scores: known values, and no trace left outside."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    CorrelationalScore,
    DiscriminativeScore,
    PostHoc,
    PredictiveScore,
    correlational_score,
    discriminative_score,
    predictive_score,
)

QUICK = PostHoc(hidden=8, layers=1, steps=60, batch_size=32, lr=0.03)


def sines(n: int, seed: int = 0, length: int = 12, channels: int = 1) -> Tensor:
    phase = torch.rand(n, 1, channels, generator=torch.Generator().manual_seed(seed)) * 2 * torch.pi
    return torch.sin(phase + 0.6 * torch.arange(length)[:, None])


def white(n: int, seed: int = 0, length: int = 12, channels: int = 1) -> Tensor:
    return torch.randn(n, length, channels, generator=torch.Generator().manual_seed(seed))


# Correlational


def test_correlational_score_is_numpy_s() -> None:
    mix = torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
    a, b = white(50, channels=3) @ mix, white(40, seed=1, channels=3) + 1e4
    first, second = (np.corrcoef(x.flatten(0, 1).double().numpy(), rowvar=False) for x in (a, b))
    expected = np.abs(first - second)[np.triu_indices(3, 1)].mean()
    assert_close(correlational_score(a, b), torch.tensor(expected).float(), rtol=1e-4, atol=0)
    metric = CorrelationalScore()
    metric.update(a[:20], b[:1])
    metric.update(a[20:], b[1:])
    assert_close(metric.compute(), correlational_score(a, b))
    assert correlational_score(a.half(), a.half()) == 0


def test_a_constant_channel_correlates_with_none() -> None:
    a = white(20, channels=2)
    flat = torch.cat([a[..., :1], torch.full_like(a[..., :1], 3.0)], dim=-1)
    assert correlational_score(flat, flat) == 0
    together = a[..., :1].expand(-1, -1, 2)
    assert_close(correlational_score(flat, together), torch.tensor(1.0))


def test_one_channel_has_no_correlation() -> None:
    with pytest.raises(ValueError, match="at least 2 channels"):
        correlational_score(white(5), white(5))


# Discriminative


def test_a_classifier_tells_different_series_apart_only() -> None:
    assert discriminative_score(white(150), sines(150), QUICK) > 0.4
    assert discriminative_score(sines(400, seed=1), sines(400), QUICK) < 0.2


def test_a_classifier_is_scored_on_series_it_did_not_see() -> None:
    # It learns these few by heart, and has nothing else to learn.
    settings = PostHoc(hidden=32, layers=1, steps=200, batch_size=32, lr=0.02)
    assert discriminative_score(white(60, seed=1), white(60), settings) < 0.3


def test_unequal_counts_have_chance_at_one_half() -> None:
    # Series that are all the same get one answer, which nine to one would make right, or wrong, too often.
    assert discriminative_score(torch.ones(60, 5, 1), torch.ones(540, 5, 1), QUICK) == 0
    assert discriminative_score(torch.ones(540, 5, 1), torch.ones(60, 5, 1), QUICK) == 0


def test_units_of_a_channel_do_not_matter() -> None:
    a, b = sines(40, seed=1, channels=2), white(40, channels=2)
    scale = torch.tensor([1e6, 1e-6])
    assert_close(
        discriminative_score(a * scale, b * scale, QUICK), discriminative_score(a, b, QUICK), atol=0.1, rtol=0
    )


# Predictive


def test_a_forecaster_works_if_it_saw_such_series() -> None:
    real = sines(100)
    settings = PostHoc(hidden=16, layers=1, steps=300, batch_size=32, lr=0.03)
    good, bad = (float(predictive_score(x, real, settings)) for x in (sines(100, seed=1), white(100)))
    assert good < 0.06  # of a range of 1
    assert bad > 3 * good


def test_the_last_channel_is_forecast_from_the_others() -> None:
    # The last channel is the first one step ago, and is itself not given: its own past would not tell.
    first = white(100, length=13)
    x = torch.cat([first[:, 1:], first[:, :-1]], dim=-1)
    settings = PostHoc(hidden=16, layers=1, steps=300, batch_size=32, lr=0.03)
    assert predictive_score(x, x, settings) < 0.04
    assert predictive_score(x.flip(-1), x.flip(-1), settings) > 0.08


def test_the_past_of_the_last_channel_is_not_given() -> None:
    settings = PostHoc(hidden=16, layers=1, steps=300, batch_size=32, lr=0.03)
    x = torch.cat([white(100), sines(100)], dim=-1)
    assert predictive_score(x, x, settings) > 0.2
    assert predictive_score(x[..., 1:], x[..., 1:], settings) < 0.06


# Both


@pytest.mark.parametrize("score", [discriminative_score, predictive_score])
def test_scores_are_reproducible_and_leave_no_trace(score) -> None:
    a, b = sines(30, seed=1, channels=2), white(30, channels=2)
    before = torch.get_rng_state()
    value = score(a, b, QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(score(a, b, QUICK), value)
    assert (
        not torch.equal(
            score(a, b, PostHoc(hidden=8, layers=1, steps=3, seed=1)),
            score(a, b, PostHoc(hidden=8, layers=1, steps=3, seed=2)),
        )
        or score is discriminative_score
    )  # an accuracy may well be the same
    assert not value.requires_grad
    assert torch.isfinite(score(a.half(), b.bfloat16(), QUICK))


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
@pytest.mark.parametrize(
    ("metric", "score"),
    [(DiscriminativeScore(QUICK), discriminative_score), (PredictiveScore(QUICK), predictive_score)],
)
def test_metrics_train_within_lightning_s_validation(metric, score, mode) -> None:
    a, b = sines(30, seed=1), white(30)
    expected = score(a, b, QUICK)
    metric.reset()
    with mode(), torch.autocast("cpu", torch.bfloat16):
        metric.update(a[:10].clone(), b[:20].clone())
        metric.update(a[10:].clone(), b[20:].clone())
        value = metric.compute()
    assert_close(value, expected)


def test_refuses_bad_input() -> None:
    a = sines(5)
    for call, message in [
        (lambda: PostHoc(steps=0), "set `steps`"),
        (lambda: PostHoc(lr=0.0), "set `lr`"),
        (lambda: PostHoc(seed=-1), "set `seed`"),
        (lambda: discriminative_score(a[:1], a), "at least 2 series"),
        (lambda: predictive_score(a[:, :1], a[:, :1]), "at least 2 steps"),
        (lambda: predictive_score(a, a[:, 1:]), "of one shape"),
        (lambda: discriminative_score(a * float("nan"), a), "clean `generated`"),
        (lambda: correlational_score(a[0], a[0]), "reshape `generated`"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
