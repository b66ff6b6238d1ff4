"""One-dimensional distances against two other implementations and in closed form."""

import math
from typing import Any

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from torch.testing import assert_close

from lightning_freqdiff.metrics import wasserstein, wasserstein_1d
from lightning_freqdiff.metrics.wasserstein import quantile_coupling, sort_rows, spread

counts = pytest.mark.parametrize(("n", "m"), [(50, 50), (50, 30), (1, 40), (60, 7), (36, 24), (2, 1)])


def samples(n: int, seed: int = 0, columns: int = 4) -> torch.Tensor:
    x = torch.randn(n, columns, generator=torch.Generator().manual_seed(seed))
    return x * torch.tensor([1.0, 5.0, 0.1, 2.0])[:columns] + seed


@counts
def test_first_order_is_scipy_s(n: int, m: int) -> None:
    a, b = samples(n), samples(m, seed=1)
    expected = [wasserstein_distance(a[:, i].double(), b[:, i].double()) for i in range(4)]
    assert_close(wasserstein_1d(a, b, p=1), torch.tensor(expected, dtype=torch.float32), rtol=1e-5, atol=0)


@counts
@pytest.mark.parametrize("p", [1, 1.5, 2, 3, 7])
def test_any_order_is_pot_s(n: int, m: int, p: float) -> None:
    a, b = samples(n), samples(m, seed=1)
    to_the_p: Any = ot.wasserstein_1d(a.double().numpy(), b.double().numpy(), p=p)  # type: ignore[arg-type]
    expected = torch.from_numpy(to_the_p ** (1 / p)).float()
    assert_close(wasserstein_1d(a, b, p), expected, rtol=1e-5, atol=0)


@given(n=st.integers(1, 40), m=st.integers(1, 40), p=st.sampled_from([1, 2, 3]))
@settings(max_examples=60, deadline=None)
def test_unequal_counts_are_coupled_as_if_every_sample_were_repeated(n: int, m: int, p: int) -> None:
    a, b = samples(n).double(), samples(m, seed=2).double()
    lcm = math.lcm(n, m)
    repeated = wasserstein_1d(a.repeat_interleave(lcm // n, 0), b.repeat_interleave(lcm // m, 0), p)
    assert_close(wasserstein_1d(a, b, p), repeated)


@given(n=st.integers(1, 200), m=st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_coupling_gives_every_sample_its_weight(n: int, m: int) -> None:
    ia, ib, share = quantile_coupling(n, m)
    assert len(share) == n + m - math.gcd(n, m)
    assert_close(torch.zeros(n).double().index_add(0, ia, share), torch.full((n,), 1 / n).double())
    assert_close(torch.zeros(m).double().index_add(0, ib, share), torch.full((m,), 1 / m).double())


def test_coupling_is_exact_where_float_would_miss_shared_edges() -> None:
    # 3 / 10 and 30 / 100 are edges of both; summed in float they differ and leave slivers between them.
    assert len(quantile_coupling(10, 100)[0]) == 100
    assert len(quantile_coupling(99_991, 99_989)[0]) == 99_991 + 99_989 - 1


@pytest.mark.parametrize("p", [1, 2, 4])
def test_a_shift_costs_its_length(p: float) -> None:
    a = samples(100)
    assert_close(wasserstein_1d(a, a + torch.tensor([0.5, -2.0, 0.0, 1.0]), p), torch.tensor([0.5, 2, 0, 1]))


def test_gaussians_in_closed_form() -> None:
    # W_2^2 between N(0, 1) and N(m, s^2) is m^2 + (s - 1)^2; quantiles stand for a large sample.
    level = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    a = torch.special.ndtri(level)[:, None]
    assert_close(wasserstein_1d(a, 3 * a + 2), torch.tensor([math.sqrt(8)]).double(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
@pytest.mark.parametrize("p", [2, 8])
@pytest.mark.parametrize("m", [20, 13])
def test_no_unit_over_or_underflows(unit: float, p: float, m: int) -> None:
    a, b = samples(20), samples(m, seed=1)
    assert_close(wasserstein_1d(a * unit, b * unit, p) / unit, wasserstein_1d(a, b, p), rtol=1e-4, atol=0)


@pytest.mark.parametrize("columns", [1, 4])
def test_is_symmetric_and_keeps_its_inputs_and_their_precision(columns: int) -> None:
    a, b = samples(30, columns=columns), samples(20, seed=1, columns=columns)
    before = a.clone(), b.clone()
    assert_close(wasserstein_1d(a, b), wasserstein_1d(b, a))
    assert torch.equal(a, before[0])
    assert torch.equal(b, before[1])
    assert wasserstein_1d(a.double(), b).dtype == torch.float64
    assert wasserstein_1d(a.half(), b.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(1, 500), (7, 100), (3, 1)])
def test_rows_are_sorted(shape: tuple[int, int]) -> None:
    x = torch.randn(shape)
    assert torch.equal(sort_rows(x.clone()), x.sort(dim=1).values)
    assert torch.equal(sort_rows(x.T.contiguous().T), x.sort(dim=1).values)


@pytest.mark.parametrize("threads", [1, 3])
def test_columns_may_be_taken_in_parts_on_several_threads(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(20, 11), torch.randn(30, 11)
    whole = wasserstein_1d(a, b)
    monkeypatch.setattr(wasserstein, "CPU_VALUES", 150)  # three columns at a time
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        assert torch.equal(wasserstein_1d(a, b), whole)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_threads_are_as_before_after_an_error() -> None:
    before = torch.get_num_threads()
    seen = []

    def fail(part: range) -> torch.Tensor:
        seen.append(torch.get_num_threads())
        raise RuntimeError("stop")

    try:
        torch.set_num_threads(2)
        with pytest.raises(RuntimeError, match="stop"):
            spread(fail, [range(1), range(1, 2)], torch.device("cpu"))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("p", [0.5, 0, -1, math.inf, math.nan])
def test_refuses_an_order_below_one(p: float) -> None:
    with pytest.raises(ValueError, match="set `p`"):
        wasserstein_1d(samples(3), samples(3), p)


def test_refuses_what_is_no_matrix_of_samples() -> None:
    good = samples(3)
    with pytest.raises(ValueError, match=r"expected samples of shape \(n, D\), got \(4,\).*`generated`"):
        wasserstein_1d(good[0], good)
    with pytest.raises(ValueError, match=r"at least one sample.*`reference`"):
        wasserstein_1d(good, good[:0])
    with pytest.raises(ValueError, match="of one shape"):
        wasserstein_1d(good, good[:, :2])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="got 1 NaN or infinite of 12: clean `reference`"):
            wasserstein_1d(good, good.put(torch.tensor(0), torch.tensor(bad)))
