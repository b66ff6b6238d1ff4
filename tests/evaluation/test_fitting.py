"""Fitted steps: on Gaussian data, where every step is linear, and against slow ways of doing the same."""

import itertools
import math

import pytest
import torch

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VE, VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.evaluation import fitting, teacher
from lightning_freqdiff.evaluation.fitting import fit_steps, fit_weights
from lightning_freqdiff.evaluation.placing import best_places, step_costs
from lightning_freqdiff.evaluation.teacher import teach
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling import Given, InTurn, Replacement, Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.conditions import Same
from lightning_freqdiff.sampling.solvers import DPMSolverPP, Fitted, Heun
from lightning_freqdiff.sampling.solvers.fitted import named

N = 12


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(teacher, "SAMPLES", 48)
    monkeypatch.setattr(teacher, "STEPS", 16)
    monkeypatch.setattr(fitting, "COUNTS", (2, 3, 5))


def series(count=400):
    g = torch.Generator().manual_seed(0)
    return torch.randn(count, N, 1, generator=g).cumsum(1) * torch.linspace(0.1, 2.0, N)[:, None] + 5


def trained(sde, covariance="joint", domain="frequency", bend=0.0) -> Score:
    """A score that is the Wiener filter's but for what a random head adds, ``bend`` loud."""
    torch.manual_seed(0)
    score = Score(
        MLP(layers=2, width=8), sde, "wiener", Representation(domain, N, 1), colour=0.0, covariance=covariance
    )
    score.codec.fit([series()])
    with torch.no_grad():
        for parameter in score.network.parameters():
            parameter.add_(bend * torch.randn(parameter.shape))
    return score.eval()


def draw(score, sampling, count=32, seed=9):
    with torch.no_grad():
        return sample(score, score.sde, score.codec, WorkUnit(seed, 0, count), sampling)


@pytest.mark.parametrize("sde", [VP(), VE(sigma_max=20.0)], ids=["VP", "VE"])
@pytest.mark.parametrize("domain", ["frequency", "time", "wavelet", "lapped"])
def test_fitted_steps_are_the_teachers_where_all_is_linear(sde, domain):
    """Of independent Gaussian coordinates, where two steps of any other solver are far off."""
    score = trained(sde, "diagonal", domain)
    score.calibration, distances = fit_steps(score, teach(score, Sampling()))
    exact = draw(score, Sampling(num_steps=16, solver=DPMSolverPP("ode"), grid="edm"))
    spread = (exact - exact.mean(0)).norm()
    for steps in (3, 5):
        fitted, usual = (
            float((draw(score, Sampling(num_steps=steps, solver=solver, grid="edm")) - exact).norm() / spread)
            for solver in (Fitted(), DPMSolverPP("ode"))
        )
        assert fitted < 0.05 * usual
        assert distances[steps] == pytest.approx(fitted, abs=0.02)


def test_fitted_steps_are_nearer_on_fresh_noise_than_those_they_are_shrunk_to():
    score = trained(VP(), bend=0.15)
    score.calibration, _ = fit_steps(score, teach(score, Sampling()))
    exact = draw(score, Sampling(num_steps=60, solver=Heun(), grid="edm"), 64)
    for steps in (3, 5):
        fitted, *usual = (
            float((draw(score, Sampling(num_steps=steps, solver=solver, grid=grid), 64) - exact).norm())
            for solver, grid in ((Fitted(), "uniform"), (DPMSolverPP("ode"), "edm"), (DPMSolverPP("ode"), "uniform"))
        )
        assert fitted < 0.7 * min(usual)


def test_a_batch_is_its_samples_and_a_seed_is_a_seed():
    score = trained(VP(), bend=0.15)
    (first, _), (again, _) = (fit_steps(score, teach(score, Sampling())) for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    score.calibration = first
    settings = Sampling(num_steps=3, solver=Fitted())
    together = draw(score, settings, 4)
    for i in range(4):
        with torch.no_grad():
            single = sample(score, score.sde, score.codec, WorkUnit(9, i, 1), settings)
        torch.testing.assert_close(together[i : i + 1], single, rtol=1e-4, atol=1e-5)


def test_the_last_step_gives_mean_and_deviation_of_the_teacher():
    score = trained(VP(), bend=0.15)
    paths = teach(score, Sampling())
    score.calibration, _ = fit_steps(score, paths)
    drawn = draw(score, Sampling(num_steps=2, solver=Fitted()), teacher.SAMPLES, seed=0)
    mine, theirs = (score.codec.along(z) for z in (drawn, paths.tokens[-1]))
    leading = theirs.var(0) > 0.05 * theirs.var(0).max()
    torch.testing.assert_close(mine.std(0)[leading], theirs.std(0)[leading], rtol=2e-3, atol=1e-4)
    torch.testing.assert_close(mine.mean(0)[leading], theirs.mean(0)[leading], rtol=2e-2, atol=2e-3)


def test_what_steps_leave_unexplained_is_that_of_regressions_made_one_by_one():
    g = torch.Generator().manual_seed(3)
    rows, clean = torch.randn(5, 40, 3, generator=g), torch.randn(5, 40, 3, generator=g)
    ratio, power = torch.tensor([50.0, 8.0, 2.0, 0.5, 0.01], dtype=torch.float64), torch.tensor([4.0, 1.0, 0.1])
    first, later, last = step_costs(rows, clean, ratio, power)

    def left(features, wanted, k):
        total = 0.0
        for n in range(3):
            x = torch.stack([f[:, n] for f in features], 1).double()
            solution = torch.linalg.lstsq(x, wanted[:, n : n + 1].double()).solution
            carried = float(power[n].double() / (power[n].double() + ratio[k] ** 2))
            total += carried * float((wanted[:, n : n + 1].double() - x @ solution).square().sum())
        return total

    for j, k in itertools.combinations(range(5), 2):
        assert float(first[j, k]) == pytest.approx(left([rows[j], clean[j]], rows[k], k), rel=5e-3)
        for i in range(j):
            expected = left([rows[j], clean[j], clean[i]], rows[k], k)
            assert float(later[i, j, k]) == pytest.approx(expected, rel=5e-3)
    assert later[2, 1, 3] == first[2, 1] == torch.inf
    share = float(ratio[4] / ratio[1])
    missed = (rows[4] - share * rows[1] - (1 - share) * clean[1]).double().square().sum(0)
    assert float(last[1]) == pytest.approx(float((missed * power / (power + ratio[4] ** 2)).sum()), rel=1e-4)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_the_best_places_are_those_found_by_trying_all(count):
    g = torch.Generator().manual_seed(count)
    size = 8
    order = torch.arange(size)
    on = order.unsqueeze(1) < order
    first = torch.where(on, torch.rand(size, size, generator=g), torch.inf)
    later = torch.where(on.unsqueeze(2) & on, torch.rand(size, size, size, generator=g), torch.inf)
    last = torch.rand(size, generator=g)

    def cost(way):
        middle = sum(float(later[i, j, k]) for i, j, k in zip(way, way[1:], way[2:-1], strict=False))
        return float(first[way[0], way[1]]) + middle + float(last[way[-2]])

    ways = [(0, *inner, size - 1) for inner in itertools.combinations(range(1, size - 1), count - 1)]
    assert best_places(first, later, last, count) == list(min(ways, key=cost))


def test_steps_that_were_not_learnt_are_refused():
    score = trained(VP())
    with pytest.raises(ValueError, match="run calibrate on its checkpoint"):
        draw(score, Sampling(num_steps=3, solver=Fitted()))
    score.calibration, _ = fit_steps(score, teach(score, Sampling()))
    with pytest.raises(ValueError, match=r"expected 2 to 5 steps, which were learnt, got 7: set `sampling.num_st"):
        draw(score, Sampling(num_steps=7, solver=Fitted()))
    assert draw(score, Sampling(num_steps=2, solver=Fitted())).isfinite().all()


def test_time_travel_starts_a_run_in_its_middle():
    """Without estimates behind it, a step takes its own for those: nothing jumps."""
    score = trained(VP())
    score.calibration, _ = fit_steps(score, teach(score, Sampling()))
    mask = torch.zeros(4, N, 1)
    mask[:, 3] = 1
    given = Given(torch.where(mask > 0, series(4), torch.nan), 8)
    travel = {"condition": given, "constraint": Replacement(resamplings=2, jump=2)}
    fitted, usual = (
        score.codec.decode(draw(score, Sampling(32, 5, solver, "edm", **travel))).std(0)
        for solver in (Fitted(), DPMSolverPP("ode"))
    )
    assert (fitted < 2 * usual).all()
    assert (fitted > usual / 2).all()


def test_weights_are_fitted_to_what_is_known_of_each_sample(monkeypatch):
    """The network is asked with the condition of the very samples."""
    score, asked = trained(VP()), []
    paths = teach(score, Sampling(num_samples=6, batch_size=6, condition=Same(static=[1.0])))
    monkeypatch.setattr(
        Score, "forward", lambda self, z, t, condition: asked.append(condition) or torch.zeros_like(z)
    )
    rows = torch.stack([score.codec.along(z) for z in paths.tokens])
    fit_weights(score, paths.times[[0, 8, 16]], rows[[0, 8, 16]], paths.condition, 4)
    assert [len(condition.static) for condition in asked] == [4, 2, 4, 2]


def test_a_calibration_says_where_the_steps_are():
    score = trained(VP())
    fitted, _ = fit_steps(score, teach(score, Sampling()))
    times, weights = (fitted[name] for name in named(5))
    assert len(times) == 6
    assert weights.shape == (5, 5, math.prod(score.noise_scale.shape))
    assert (times.diff() < 0).all()


def test_a_teacher_draws_as_many_as_it_wants_of_what_goes_in_turn():
    """A few examples that samples are told in turn say nothing of how many samples there are to be."""
    score = trained(VP())
    known = Condition(static=torch.tensor([[1.0], [2.0], [3.0]]))
    in_turn = teach(score, Sampling(num_samples=3, condition=InTurn(known)))
    assert in_turn.tokens.shape[1] == 48
    assert in_turn.condition.static is not None
    assert in_turn.condition.static.flatten().tolist() == [1.0, 2.0, 3.0] * 16
