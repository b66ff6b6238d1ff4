"""The sliced distance: against POT, in closed form, and what must not change it."""

import math

import ot
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    SortedReference,
    random_directions,
    sliced_distances,
    sliced_wasserstein,
)


def series(n: int, seed: int = 0, length: int = 12, channels: int = 2) -> Tensor:
    x = torch.randn(n, length, channels, generator=torch.Generator().manual_seed(seed))
    return x.cumsum(1) + seed


# Directions


def test_directions_do_not_depend_on_how_they_are_shared_out() -> None:
    whole = random_directions(300, 5, seed=3)
    for first, num in [(0, 1), (63, 2), (64, 64), (100, 200), (299, 1)]:
        assert torch.equal(random_directions(num, 5, seed=3, first=first), whole[first : first + num])
    assert not torch.equal(random_directions(300, 5, seed=4), whole)


def test_directions_are_uniform_on_the_sphere() -> None:
    u = random_directions(20_000, 3)
    assert_close(u.norm(dim=1), torch.ones(20_000))
    assert_close(u.mean(0), torch.zeros(3), atol=0.02, rtol=0)
    # In three dimensions every coordinate is uniform on [-1, 1] (Archimedes).
    assert_close(u.sort(0).values, torch.linspace(-1, 1, 20_000)[:, None].expand(-1, 3), atol=0.03, rtol=0)


# Values


@pytest.mark.parametrize("m", [80, 57])
@pytest.mark.parametrize("p", [1, 2])
def test_every_direction_is_pot_s(m: int, p: int) -> None:
    a, b = series(80), series(m, seed=1)
    ours = sliced_distances(a, b, range(10, 40), p)
    x, y = (series.flatten(1).double().numpy() for series in (a, b))
    u = random_directions(30, 24, first=10).double().numpy().T
    theirs = [ot.sliced_wasserstein_distance(x, y, p=p, projections=u[:, i : i + 1]) for i in range(30)]
    assert_close(ours, torch.tensor(theirs, dtype=torch.float32), rtol=1e-5, atol=0)


def test_the_mean_is_over_distances_and_not_over_their_squares() -> None:
    a, b = series(40), series(40, seed=1)
    distances = sliced_distances(a, b, range(200))
    value = sliced_wasserstein(a, b, num_directions=200)
    assert_close(value["mean"], distances.mean())
    assert_close(value["max"], distances.max())
    assert_close(value["two_se"], 2 * distances.std() / math.sqrt(200))
    assert value["mean"] < distances.square().mean().sqrt() * 0.999


def test_a_shift_costs_what_is_seen_of_it_along_each_direction() -> None:
    a, shift = series(50).flatten(1), torch.linspace(-3, 5, 24)
    expected = (random_directions(100, 24) @ shift).abs()
    assert_close(sliced_distances(a, a + shift, range(100)), expected, rtol=1e-5, atol=1e-5)


def test_one_direction_has_no_standard_error() -> None:
    assert sliced_wasserstein(series(5), series(5, seed=1), num_directions=1)["two_se"].isnan()


def test_a_large_common_offset_costs_no_digits() -> None:
    a, b = (series(200, seed).flatten(1).double() for seed in (0, 1))
    shifted = sliced_distances(a + 1e6, b + 1e6, range(20))
    assert_close(shifted, sliced_distances(a, b, range(20)), rtol=1e-5, atol=0)


# What must not change a value


@pytest.mark.parametrize("m", [40, 31])
def test_order_of_samples_and_chunks_do_not_matter(m: int) -> None:
    a, b = series(40), series(m, seed=1)
    whole = sliced_distances(a, b, range(150))
    assert_close(sliced_distances(a.flip(0), b.roll(3, 0), range(150)), whole, rtol=1e-5, atol=0)
    for chunk in (1, 7, 64, 1000):
        assert_close(sliced_distances(a, b, range(150), chunk=chunk), whole, rtol=1e-5, atol=0)


def test_a_sorted_reference_gives_the_same() -> None:
    a, b = series(40), series(31, seed=1)
    ready = SortedReference.build(b, num_directions=100, seed=5)
    for chunk in (None, 7):
        assert_close(sliced_wasserstein(a, ready, 100, seed=5, chunk=chunk), sliced_wasserstein(a, b, 100, seed=5))
    for bad in ({"num_directions": 101, "seed": 5}, {"num_directions": 100, "seed": 6}):
        with pytest.raises(ValueError, match="rebuild `reference`"):
            sliced_wasserstein(a, ready, **bad)
    with pytest.raises(ValueError, match="rebuild `reference`"):
        sliced_wasserstein(a[:, :-1], ready, 100, seed=5)
