"""Planted copies are found and fresh series are not accused; neighbours and tests against SciPy."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist
from torch import Tensor

from lightning_freqdiff.metrics import NearestEuclidean, memorization, nearest_euclidean
from lightning_freqdiff.metrics.memorization import _copy_ratio, _nearness
from lightning_freqdiff.metrics.nearest import nearest_rows
from lightning_freqdiff.metrics.significance import more_than_before, rank_sum


def waves(n: int, seed: int, length: int = 48, channels: int = 1) -> Tensor:
    """Three harmonics of random size and phase, which have six dimensions."""
    random = torch.Generator().manual_seed(seed)
    size = torch.randn(n, 3, 1, channels, generator=random)
    phase = torch.rand(n, 3, 1, channels, generator=random) * 2 * torch.pi
    pace = torch.arange(1, 4)[:, None, None] * 2 * torch.pi / length
    return (size * torch.sin(pace * torch.arange(length)[:, None] + phase)).sum(1)


def planted(generated: Tensor, train: Tensor, count: int, noise: float, seed: int) -> tuple[Tensor, dict[int, int]]:
    random = torch.Generator().manual_seed(seed)
    at = torch.randperm(len(generated), generator=random)[:count]
    rows = torch.randperm(len(train), generator=random)[:count]
    copies = train[rows] + noise * train.std((0, 1)) * torch.randn(train[rows].shape, generator=random)
    generated = generated.clone()
    generated[at] = copies
    return generated, dict(zip(at.tolist(), rows.tolist(), strict=True))


# Neighbours and tests


@pytest.mark.parametrize("chunk", [1, 10**6])
def test_neighbours_are_scipy_s(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_freqdiff.metrics.nearest.PAIRS", chunk)
    a, b = waves(20, 0)[..., 0] + 1e3, waves(30, 1)[..., 0] + 1e3
    a[3] = b[7]  # and far from zero, where products of matrices lose their digits
    distances, which = nearest_rows(a, b, 3)
    slow = cdist(a.double().numpy(), b.double().numpy())
    np.testing.assert_array_equal(which.numpy(), slow.argsort(axis=1)[:, :3])
    np.testing.assert_allclose(distances.numpy(), np.sort(slow, axis=1)[:, :3], rtol=1e-9)
    assert distances[3, 0] == 0


def test_the_nearest_distance_is_the_mean_of_scipy_s() -> None:
    a, b = waves(20, 0, channels=2), waves(30, 1, channels=2) * torch.tensor([1.0, 100.0]) + 5
    mean, spread = b.double().numpy().mean((0, 1)), b.double().numpy().std((0, 1))
    rows = [((x.double().numpy() - mean) / spread).reshape(len(x), -1) for x in (a, b)]
    expected = cdist(*rows).min(1) / math.sqrt(96)
    found = nearest_euclidean(a, b)
    assert float(found["mean"]) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(found["two_se"]) == pytest.approx(2 * stats.sem(expected), rel=1e-4)
    assert float(found["max"]) == pytest.approx(expected.max(), rel=1e-5)
    metric = NearestEuclidean()
    metric.update(a, b)
    assert metric.compute() == found
    noisier = [float(nearest_euclidean(b + level * waves(30, 2, channels=2), b)["mean"]) for level in (0, 0.1, 1.0)]
    assert noisier[0] == 0 < noisier[1] < noisier[2]


@pytest.mark.parametrize("ties", [False, True])
def test_the_rank_sum_is_scipy_s(ties: bool) -> None:
    random = torch.Generator().manual_seed(0)
    a, b = torch.randn(40, generator=random), torch.randn(30, generator=random) + 0.4
    if ties:
        a, b = a.round(), b.round()
    expected = stats.mannwhitneyu(a.numpy(), b.numpy(), alternative="less", method="asymptotic")
    share, p_value = rank_sum(a, b)
    assert p_value == pytest.approx(expected.pvalue, rel=1e-6)
    assert 1 - share == pytest.approx(expected.statistic / 1200)
    assert rank_sum(torch.ones(9), torch.ones(8)) == (0.5, 1.0)


@pytest.mark.parametrize(("count", "before"), [(1, 0), (5, 0), (5, 3.5), (80, 60), (600, 500)])
@pytest.mark.parametrize("expected", [None, 1e-3])
def test_rare_events_are_scipy_s_negative_binomial(count: int, before: float, expected: float | None) -> None:
    weight = 750 + (500 if expected else 0)
    slow = stats.nbinom.sf(count - 1, 0.5 + before, weight / (weight + 1000))
    assert more_than_before(count, 1000, before, 750, expected) == pytest.approx(slow, rel=1e-9)


def test_the_tail_finds_the_dimension() -> None:
    # Ratios of points in D dimensions are r ** D (Facco et al. 2017), so that the 2,000th part has a known edge.
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dimension in (2, 5):
        exact = 5e-4 ** (1 / dimension)
        assert 0.8 * exact < _copy_ratio(u ** (1 / dimension)) < exact
    assert _copy_ratio(u ** (1 / 50)) == 0.5


def test_training_rows_leave_themselves_out() -> None:
    rows = torch.tensor([[0.0], [1.0], [1.0], [4.0], [10.0]])
    _, _, own = _nearness(rows[:1], rows[:1], rows, most_fresh=10)
    assert own.distance.tolist() == [1.0, 0.0, 0.0, 3.0, 6.0]  # the second and third are each other's copies
    assert own.ratio.tolist() == [0.25, 0.0, 0.0, 0.75, pytest.approx(2 / 3)]
    assert own.index.tolist() == [1, 1, 1, 1, 3]


# Memorisation


@pytest.mark.parametrize(("n", "m", "h"), [(500, 500, 500), (500, 1000, 250), (1000, 1000, 200)])
def test_planted_copies_are_found(n: int, m: int, h: int) -> None:
    for seed in range(4):
        train, held_out = waves(m, 3 * seed), waves(h, 3 * seed + 1)
        generated, where = planted(waves(n, 3 * seed + 2), train, n // 100, 0.01, seed)
        found = memorization(generated, train, held_out)
        assert found.p_value < 0.01
        assert abs(found.share_of_copies - 0.01) <= 0.002
        assert where.items() <= {copy.generated: copy.training for copy in found.copies}.items()
        assert not any(copy.exact for copy in found.copies)
        # 1 % of a deviation, root mean square.
        assert all(0.005 < copy.distance < 0.02 for copy in found.copies if copy.generated in where)


@pytest.mark.parametrize(("n", "m", "h"), [(500, 500, 500), (300, 1000, 700), (1000, 1000, 200)])
def test_fresh_series_pass(n: int, m: int, h: int) -> None:
    found = [memorization(*(waves(k, 3 * seed + i) for i, k in enumerate((n, m, h)))) for seed in range(8)]
    assert all(each.p_value > 0.01 for each in found)
    assert np.mean([each.share_of_copies for each in found]) < 2e-3
    assert np.mean([each.p_nearness for each in found]) == pytest.approx(0.5, abs=0.3)
    assert np.mean([each.membership_auc for each in found]) == pytest.approx(0.5, abs=0.03)


def test_nearness_is_monotone_in_what_was_memorised() -> None:
    train, held_out = waves(400, 0), waves(400, 1)
    values = []
    for noise in (0.02, 0.3, 10.0):
        mixed = train + noise * waves(400, 2)
        values.append(memorization(mixed, train, held_out))
    assert [v.p_value < 0.01 for v in values] == [True, True, False]
    assert values[0].share_of_copies > 0.9 > 0.5 > values[2].share_of_copies
    assert values[0].membership_auc > values[1].membership_auc > 0.6 > values[2].membership_auc
    assert values[0].median_distance < values[1].median_distance < values[2].median_distance


def test_exact_copies_are_listed_first() -> None:
    train, held_out = waves(300, 0), waves(300, 1)
    generated, near = planted(waves(300, 2), train, 5, 0.01, 0)
    at = min(set(range(300)) - set(near))
    generated[at] = train[17]
    found = memorization(generated, train, held_out)
    assert found.copies[0] == (at, 17, 0.0, True)
    assert found.share_of_exact_copies == pytest.approx(1 / 300)
    assert found.p_copies < 0.01


def quantised(n: int, seed: int) -> Tensor:
    """Short series of few levels: rows come twice of themselves, mostly the flat one."""
    random = torch.Generator().manual_seed(seed)
    flat = torch.rand(n, 1, 1, generator=random) < 0.05
    return torch.where(flat, 0.0, waves(n, seed))


def test_copies_that_the_data_have_of_themselves_do_not_accuse() -> None:
    for seed in range(6):
        generated, train, held_out = (quantised(n, 10 * seed + i) for i, n in enumerate((500, 500, 300)))
        found = memorization(generated, train, held_out)
        assert found.share_of_exact_copies > 0.02
        assert found.held_out_share_of_copies > 0.02
        assert found.p_value > 0.01
        worse, _ = planted(generated, train, 10, 0.01, seed)
        assert memorization(worse, train, held_out).p_value < 0.01


def test_is_deterministic_and_plain() -> None:
    generated, train, held_out = (waves(60, i, channels=2) for i in range(3))
    first, second = (memorization(generated, train, held_out) for _ in range(2))
    assert first == second
    values = first.as_dict()
    assert {"share_of_copies", "p_value", "membership_auc", "median_distance"} <= set(values)
    assert all(type(value) in (int, float) and math.isfinite(value) for value in values.values())
    json.dumps(values)
    flat = [torch.cat([x, torch.full_like(x, 3.0)], dim=-1) for x in (generated, train, held_out)]
    assert memorization(*flat).p_value == pytest.approx(first.p_value)  # a constant channel says nothing


def test_refuses_bad_input() -> None:
    x = waves(20, 0)
    for call, message in [
        (lambda: memorization(x[:9], x, x), "at least 10 samples, got 9: add rows to `generated`"),
        (lambda: memorization(x, x[:9], x), "add rows to `train`"),
        (lambda: memorization(x, x, x[:9]), "add rows to `held_out`"),
        (lambda: memorization(x[:, 1:], x, x), "cut or resample `generated`"),
        (lambda: memorization(x, x, x.expand(-1, -1, 2)), "cut or resample `held_out`"),
        (lambda: memorization(x, x, x * math.nan), "clean `held_out`"),
        (lambda: memorization(x, torch.ones_like(x), x), "at least 3 different series, got 1"),
        (lambda: memorization(x, x, x, most_fresh=3), "set `most_fresh`"),
        (lambda: nearest_euclidean(x, x[:, 1:]), "of one shape"),
        (lambda: nearest_euclidean(x[0, 0], x), "reshape `generated`"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
