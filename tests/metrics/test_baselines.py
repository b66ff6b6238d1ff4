"""What real data and the poorest model score."""

from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.metrics import dummy_baseline, floor, self_baseline, sliced_wasserstein

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


def test_floor_draws_as_many_rows_as_there_are_samples(train: Tensor) -> None:
    for count in (10, 101, 500):
        drawn, reference = floor(train, count, both)
        assert len(drawn) == count
        assert set(rows(drawn)) <= set(rows(train))
        assert torch.equal(reference, train)
    # With replacement: the training set itself would be at distance 0, which no sampler can reach.
    assert floor(train, 101, distance)["mean"] > 0.05


def test_floor_draws_held_out_rows_once_each(train: Tensor) -> None:
    real = train + 100
    drawn, reference = floor(train, 101, both, real=real)
    assert sorted(rows(drawn)) == sorted(rows(real))
    assert torch.equal(reference, train)
    assert len(floor(train, 150, both, real=real)[0]) == 150


def test_floor_falls_with_the_count_as_the_bias_does(train: Tensor) -> None:
    few, many = (float(floor(train, count, distance)["mean"]) for count in (10, 1000))
    assert few > 2 * many


def test_dummy_baseline_is_the_spread_about_the_mean(train: Tensor) -> None:
    generated, _ = dummy_baseline(train, both)
    assert_close(generated, train.mean(0)[None])
    # W_2 between a point at the mean and unit Gaussian data is their deviation, 1, in every direction.
    assert_close(dummy_baseline(train, distance)["mean"], torch.tensor(1.0), atol=0.05, rtol=0)


def test_baselines_are_in_order(train: Tensor) -> None:
    floored, halves, dummy = (
        float(value["mean"])
        for value in (
            floor(train, 101, distance),
            self_baseline(train, distance),
            dummy_baseline(train, distance),
        )
    )
    assert floored < halves < dummy


def test_refuses_bad_input(train: Tensor) -> None:
    with pytest.raises(ValueError, match="set `count`"):
        floor(train, 0, both)
    with pytest.raises(ValueError, match="fill `train`"):
        dummy_baseline(train[:0], both)
    with pytest.raises(ValueError, match="add rows to `train`"):
        self_baseline(train[:1], both)
    with pytest.raises(ValueError, match="reshape `real`"):
        floor(train, 5, both, real=train[0])
