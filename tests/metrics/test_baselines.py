"""What real data and the poorest model score."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    bootstrap_floor,
    dummy_baseline,
    floor,
    sample_gaussian,
    self_baseline,
    sliced_wasserstein,
)

distance = partial(sliced_wasserstein, num_directions=50)


def both(generated: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    return generated, reference


@pytest.fixture
def train() -> Tensor:
    return torch.randn(101, 6, 2, generator=torch.Generator().manual_seed(0)) + 3


def rows(x: Tensor) -> list[tuple[float, ...]]:
    return [tuple(row) for row in x.flatten(1).tolist()]


def test_self_baseline_parts_the_training_set(train: Tensor) -> None:
    first, second = self_baseline(train, both)
    assert (len(first), len(second)) == (50, 51)
    assert sorted(rows(first) + rows(second)) == sorted(rows(train))
    assert rows(first) != rows(train[:50])  # data sets come sorted, by class for one
    assert rows(self_baseline(train, both, seed=1)[0]) != rows(first)


def test_floor_draws_held_out_rows_once_each(train: Tensor) -> None:
    real = train + 100
    (drawn, reference), count = floor(train, real, 60, both)
    assert count == len(drawn) == len(set(rows(drawn))) == 60
    assert set(rows(drawn)) <= set(rows(real))
    assert torch.equal(reference, train)
    (drawn, _), count = floor(train, real, 150, both)
    assert count == 101  # no row comes twice
    assert sorted(rows(drawn)) == sorted(rows(real))


def test_perfect_samples_are_at_the_floor_whatever_their_number() -> None:
    """Samples of the very distribution, held against what 410 held-out rows score: 4,000 of them as well as 410."""
    generator = torch.Generator().manual_seed(0)
    train, real, fresh = (torch.randn(n, 24, 1, generator=generator) for n in (4096, 410, 4000))
    for count in (410, 4000):
        value, taken = floor(train, real, count, distance)
        ours = distance(fresh[:count][:taken], train)
        assert float(value["mean"]) == pytest.approx(float(ours["mean"]), rel=0.1)
    assert taken == 410
    # What more samples score is no match for it, and a bootstrap of the training set is no floor.
    many = float(distance(fresh, train)["mean"])
    assert many < 0.5 * float(value["mean"])
    assert float(bootstrap_floor(train, 4000, distance)["mean"]) < 0.85 * many


def test_a_bootstrap_draws_from_the_training_set(train: Tensor) -> None:
    for count in (10, 101, 500):
        drawn, reference = bootstrap_floor(train, count, both)
        assert len(drawn) == count
        assert set(rows(drawn)) <= set(rows(train))
        assert torch.equal(reference, train)
    # With replacement: the training set itself would be at distance 0, which no sampler can reach.
    assert bootstrap_floor(train, 101, distance)["mean"] > 0.05


def test_floor_falls_with_the_count_as_the_bias_does(train: Tensor) -> None:
    real = torch.randn(1000, 6, 2, generator=torch.Generator().manual_seed(1)) + 3
    few, many = (float(floor(train, real, count, distance)[0]["mean"]) for count in (10, 1000))
    assert few > 2 * many


def test_dummy_baseline_is_the_spread_about_the_mean(train: Tensor) -> None:
    generated, _ = dummy_baseline(train, both)
    assert_close(generated, train.mean(0)[None])
    # W_2 between a point at the mean and unit Gaussian data is their deviation, 1, in every direction.
    assert_close(dummy_baseline(train, distance)["mean"], torch.tensor(1.0), atol=0.05, rtol=0)


def test_baselines_are_in_order(train: Tensor) -> None:
    real = torch.randn(101, 6, 2, generator=torch.Generator().manual_seed(1)) + 3
    floored, halves, dummy = (
        float(value["mean"])
        for value in (
            floor(train, real, 101, distance)[0],
            self_baseline(train, distance),
            dummy_baseline(train, distance),
        )
    )
    assert floored < halves < dummy


@pytest.mark.parametrize(
    ("rows", "count"), [(30, 20_000), (400, 2000), (400, 20)], ids=["few rows", "eigenvectors", "few samples"]
)
def test_the_gaussian_has_mean_and_covariance_of_the_rows(rows: int, count: int) -> None:
    generator = torch.Generator().manual_seed(0)
    train = torch.randn(rows, 12, 3, generator=generator).cumsum(1) ** 2
    train[:, :, 2] = 7
    drawn = torch.cat([sample_gaussian(train, count, seed) for seed in range(max(1, 4000 // count))])
    flat, real = drawn.flatten(1).double(), train.flatten(1).double()
    expected = torch.cov(real.T, correction=0)
    scale = expected.diagonal().sqrt().clamp(min=1e-3)
    assert drawn.shape[1:] == (12, 3)
    assert_close(drawn[:, :, 2], torch.full_like(drawn[:, :, 2], 7))
    assert float(((flat.mean(0) - real.mean(0)) / scale).abs().max()) < 0.1
    assert float(((torch.cov(flat.T) - expected) / scale / scale[:, None]).abs().max()) < 0.15
    # Gaussian, which the rows are not: the fourth moment is three times the second's square.
    assert float(((flat - flat.mean(0))[:, 0] ** 4).mean() / flat[:, 0].var() ** 2) == pytest.approx(3, abs=0.5)
    assert torch.equal(sample_gaussian(train, 5, 1), sample_gaussian(train, 5, 1))


def test_refuses_bad_input(train: Tensor) -> None:
    with pytest.raises(ValueError, match="set `count`"):
        floor(train, train, 0, both)
    with pytest.raises(ValueError, match="fill `train`"):
        dummy_baseline(train[:0], both)
    with pytest.raises(ValueError, match="add rows to `train`"):
        self_baseline(train[:1], both)
    with pytest.raises(ValueError, match="reshape `real`"):
        floor(train, train[0], 5, both)
    with pytest.raises(ValueError, match="add rows to `train`"):
        sample_gaussian(train[:1], 5)
