import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.noise import BLOCK, normal_stream
from lightning_freqdiff.sampling.solvers import (
    DEIS,
    DPMSolverPP,
    EulerMaruyama,
    ExponentialWiener,
    PredictorCorrector,
    SASolver,
)


def draws(seed, first, count, number=20, stream=0):
    source = normal_stream(seed, first, (count, 3, 2), "cpu", stream)
    return torch.stack([next(source) for _ in range(number)])


@given(st.integers(0, 100), st.integers(1, 40), st.integers(0, 2**31))
def test_noise_belongs_to_the_sample(first, count, seed):
    whole = draws(seed, 0, first + count)
    assert torch.equal(draws(seed, first, count), whole[:, first : first + count])


def test_noise_is_standard_normal_and_independent():
    x = draws(0, 0, 4 * BLOCK, number=40)
    flat = x.permute(1, 0, 2, 3).flatten(1)  # one row per sample
    assert flat.mean().abs() < 4 / flat.numel() ** 0.5
    assert (flat.var() - 1).abs() < 6 / flat.numel() ** 0.5
    correlation = flat.corrcoef() - torch.eye(len(flat))
    assert correlation.abs().max() < 5.5 / flat.shape[1] ** 0.5


def test_seeds_and_streams_differ():
    assert not torch.equal(draws(0, 0, 2), draws(1, 0, 2))
    assert not torch.equal(draws(0, 0, 2), draws(0, 0, 2, stream=1))


@given(st.integers(1, 50), st.integers(1, 20))
def test_units_cover_every_sample_once(total, size):
    units = Sampling(num_samples=total, batch_size=size).units()
    assert [i for u in units for i in range(u.first, u.first + u.count)] == list(range(total))
    assert all(u.count <= size for u in units)


@pytest.mark.parametrize(
    "solver",
    [EulerMaruyama(), PredictorCorrector(), DPMSolverPP("sde"), DEIS(), ExponentialWiener(), SASolver()],
    ids=str,
)
def test_batch_of_singles(model, solver):
    model.sampling = Sampling(num_samples=9, num_steps=12, solver=solver)
    whole = model.predict_step(WorkUnit(3, 0, 9), 0)
    assert whole.shape == (9, 64, 1)
    assert whole.dtype == torch.float32
    singles = torch.cat([model.predict_step(WorkUnit(3, i, 1), 0) for i in range(9)])
    torch.testing.assert_close(singles, whole, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("solver", [EulerMaruyama(), DEIS(), ExponentialWiener("ode"), SASolver()], ids=str)
def test_run_twice_get_the_same_bit_for_bit(model, solver):
    model.sampling = Sampling(num_samples=5, num_steps=10, solver=solver)
    first, second = (model.predict_step(WorkUnit(0, 0, 5), 0) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, model.predict_step(WorkUnit(1, 0, 5), 0))


def test_steps_are_reported(model):
    seen = []
    sample(model.score, model.sde, model.score.codec, WorkUnit(0, 0, 2), Sampling(num_steps=7), seen.append)
    assert seen == list(range(7))


@pytest.mark.parametrize("name", ["num_samples", "num_steps", "batch_size"])
def test_counts_below_one_name_their_setting(name):
    with pytest.raises(ValueError, match=rf"expected {name} >= 1, got 0: set `sampling\.{name}`"):
        Sampling(**{name: 0})


def test_negative_seed_names_its_setting():
    with pytest.raises(ValueError, match=r"`sampling\.seed`"):
        Sampling(seed=-1)
