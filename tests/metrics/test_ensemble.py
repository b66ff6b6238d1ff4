"""Scores of ensembles, against slow second implementations and where their values are known."""

import math

import numpy as np
import pytest
import torch

from lightning_freqdiff.metrics import CRPS, Coverage, EnergyScore, MedianError, QuantileLoss
from lightning_freqdiff.metrics.ensemble import coverage, crps, energy_score, median_error, quantile_loss

B, S, N, M = 3, 7, 5, 2
SAMPLES = torch.randn(B, S, N, M, generator=torch.manual_seed(0))
TARGET = torch.randn(B, N, M)
MASK = (torch.rand(B, N, M) < 0.6).float()
METRICS = [
    *(CRPS(), CRPS(fair=False), EnergyScore()),
    *(QuantileLoss(), QuantileLoss(normalised=False), MedianError(), Coverage()),
]


@pytest.mark.parametrize("fair", [True, False])
def test_crps_and_energy_score_are_their_double_sums(fair):
    pairs = S * (S - 1) if fair else S * S
    for b in range(B):
        x, y = SAMPLES[b].numpy(), TARGET[b].numpy()
        near, apart = np.zeros((N, M)), np.zeros((N, M))
        whole_near, whole_apart = 0.0, 0.0
        for i in range(S):
            near += np.abs(x[i] - y) / S
            whole_near += np.linalg.norm(x[i] - y) / S
            for j in range(S):
                apart += np.abs(x[i] - x[j])
                whole_apart += np.linalg.norm(x[i] - x[j])
        np.testing.assert_allclose(crps(SAMPLES, TARGET, fair)[b], near - apart / 2 / pairs, atol=1e-5)
        expected = whole_near - whole_apart / 2 / pairs
        assert float(energy_score(SAMPLES, TARGET, fair=fair)[b]) == pytest.approx(expected, abs=1e-4)


def test_crps_of_a_gaussian_and_its_fairness():
    """Of N(0, 1) at y: y (2Φ(y) - 1) + 2φ(y) - 1/√π (Gneiting and Raftery 2007), whatever S is if fair."""
    y = 0.7
    phi, cdf = math.exp(-(y**2) / 2) / math.sqrt(2 * math.pi), 0.5 * (1 + math.erf(y / math.sqrt(2)))
    expected = y * (2 * cdf - 1) + 2 * phi - 1 / math.sqrt(math.pi)
    generator = torch.Generator().manual_seed(1)
    for draws in (2, 20):
        samples = torch.randn(40000, draws, 1, 1, generator=generator)
        target = torch.full((40000, 1, 1), y)
        assert float(crps(samples, target).mean()) == pytest.approx(expected, abs=0.01)
        plain = expected + 1 / math.sqrt(math.pi) / draws
        assert float(crps(samples, target, fair=False).mean()) == pytest.approx(plain, abs=0.01)


def test_the_energy_score_of_one_value_is_its_crps():
    x, y = SAMPLES[:, :, :1, :1], TARGET[:, :1, :1]
    torch.testing.assert_close(energy_score(x, y), crps(x, y).flatten(), atol=1e-5, rtol=1e-4)


def test_the_energy_score_tells_wrong_dependence_and_crps_does_not():
    shared = torch.randn(2000, 1, 1, 1)
    target = (shared + 0.1 * torch.randn(2000, 1, 8, 1))[:, 0]
    right = torch.randn(2000, 12, 1, 1) + 0.1 * torch.randn(2000, 12, 8, 1)
    wrong = torch.randn(2000, 12, 8, 1) * math.sqrt(1.01)
    assert energy_score(wrong, target).mean() > 1.1 * energy_score(right, target).mean()
    assert float(crps(wrong, target).mean()) == pytest.approx(float(crps(right, target).mean()), rel=0.05)


def test_the_quantile_loss_is_csdis():
    total, size = 0.0, float((TARGET * MASK).abs().sum())
    levels = np.arange(0.05, 1.0, 0.05)
    for level in levels:
        quantile = np.quantile(SAMPLES.numpy(), level, axis=1)
        below = (TARGET.numpy() <= quantile) * 1.0
        total += 2 * np.sum(np.abs((quantile - TARGET.numpy()) * MASK.numpy() * (below - level))) / size
    metric = QuantileLoss()
    metric.update(SAMPLES, TARGET, MASK)
    assert float(metric.compute()) == pytest.approx(total / len(levels), rel=1e-4)


def test_the_quantile_loss_of_all_levels_is_the_crps():
    samples, target = torch.randn(1, 4000, 6, 1), torch.randn(1, 6, 1)
    levels = [(i + 0.5) / 500 for i in range(500)]
    torch.testing.assert_close(quantile_loss(samples, target, levels), crps(samples, target), atol=0.01, rtol=0.02)


def test_the_median():
    expected = np.abs(np.median(SAMPLES, axis=1) - TARGET.numpy())
    np.testing.assert_allclose(median_error(SAMPLES, TARGET), expected, atol=1e-6)


@pytest.mark.parametrize("draws", [19, 39, 99])
def test_another_draw_is_covered_as_often_as_the_level_says(draws):
    everything = torch.randn(20000, draws + 1, 1, 1, generator=torch.manual_seed(2))
    found = coverage(everything[:, 1:], everything[:, 0], (0.5, 0.8, 0.9)).mean((1, 2, 3))
    torch.testing.assert_close(found, torch.tensor([0.5, 0.8, 0.9]), atol=0.012, rtol=0)


@pytest.mark.parametrize("metric", METRICS, ids=lambda m: type(m).__name__)
def test_batches_add_up_and_what_does_not_count_may_be_anything(metric):
    metric.reset()
    spoilt = torch.where(MASK > 0, TARGET, torch.nan)
    holes = torch.where(MASK.unsqueeze(1) > 0, SAMPLES, torch.inf)
    metric.update(holes, spoilt, MASK)
    once = metric.compute().clone()
    assert once.isfinite().all()
    metric.reset()
    for b in range(B):
        metric.update(SAMPLES[b : b + 1], TARGET[b : b + 1], MASK[b : b + 1])
    torch.testing.assert_close(metric.compute(), once, atol=1e-6, rtol=1e-5)
    changed = TARGET + 10 * (1 - MASK)
    metric.reset()
    metric.update(SAMPLES, changed, MASK)
    torch.testing.assert_close(metric.compute(), once, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((SAMPLES[0], TARGET[0]), r"samples \(B, S, N, M\) and a target \(B, N, M\), got \(7, 5, 2\) and \(5, 2\)"),
        ((SAMPLES, TARGET[:, 1:]), "reshape `samples` or `target`"),
        ((SAMPLES, TARGET, MASK[:1]), "a mask of shape"),
        ((SAMPLES[:, :1], TARGET), "at least 2 draws of each series, got 1"),
        ((SAMPLES, TARGET * torch.nan), "clean `target`"),
        ((SAMPLES * torch.inf, TARGET), "clean `samples`"),
    ],
)
def test_what_cannot_be_scored(given, says):
    with pytest.raises(ValueError, match=says):
        CRPS().update(*given)


@pytest.mark.parametrize("levels", [[], [0.0], [1.2]])
def test_levels_that_cannot_be(levels):
    with pytest.raises(ValueError, match="levels between 0 and 1"):
        coverage(SAMPLES, TARGET, levels)
