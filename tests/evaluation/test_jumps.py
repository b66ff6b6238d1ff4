"""The damage of jumps, on Gaussian data whose distribution at every time is known."""

import pytest
import torch

from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import T_MIN, VE, VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.evaluation import teacher
from lightning_freqdiff.evaluation.jumps import jump_costs
from lightning_freqdiff.evaluation.teacher import Paths, teach
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling import Sampling, sample, time_grid
from lightning_freqdiff.sampling.conditions import Same
from lightning_freqdiff.sampling.grids import COSTS, TIMES, cheapest_path
from lightning_freqdiff.sampling.solvers import Heun, plan, predict_eps

N = 12
SAMPLING = Sampling(num_samples=8, seed=3)


def gaussian(sde, domain="time") -> Score:
    """The exact score of independent coordinates: the head of a new network is zero, and leaves the Wiener filter."""
    torch.manual_seed(0)
    score = Score(MLP(layers=2, width=8), sde, "wiener", Representation(domain, N, 1), colour=0.0).eval()
    score.codec.fit([torch.randn(400, N, 1) * torch.linspace(0.1, 2.0, N)[:, None] + 5])
    return score


def learn_jumps(score: Score, sampling: Sampling) -> dict[str, torch.Tensor]:
    """What tuned grids are made of, as ``calibrate`` keeps it."""
    paths = teach(score, sampling)
    return {TIMES: paths.times, COSTS: jump_costs(score, paths)}


def damage(score: Score, times: torch.Tensor, solver, monkeypatch) -> float:
    """How far the deviations of samples are from those of a fine trajectory from the same noise, in data units."""
    drawn = []
    for steps, grid in ((150, time_grid(score.sde, 150, "edm")), (len(times) - 1, times)):
        monkeypatch.setattr(type(solver), "times", lambda *_, grid=grid: grid)
        settings = Sampling(256, steps, solver, seed=9, batch_size=256)
        with torch.no_grad():
            drawn.append(score.codec.decode(sample(score, score.sde, score.codec, settings.units()[0], settings)))
    return float((drawn[0].std(0) - drawn[1].std(0)).norm())


@pytest.mark.parametrize("sde", [VP(), VE(sigma_max=20.0)], ids=["VP", "VE"])
@pytest.mark.parametrize("domain", ["time", "frequency", "wavelet", "lapped"])
def test_a_tuned_grid_does_less_damage_than_edms_with_a_solver_of_such_jumps(sde, domain, monkeypatch):
    score = gaussian(sde, domain)
    learnt = learn_jumps(score, SAMPLING)
    for steps in (4, 6, 10):
        tuned, usual = (
            damage(score, time_grid(sde, steps, grid, learnt), Heun(), monkeypatch) for grid in ("tuned", "edm")
        )
        assert tuned < 0.6 * usual


@torch.no_grad()
@pytest.mark.parametrize("end", [T_MIN, 0.2])
def test_damage_is_what_a_jump_does_to_mean_and_deviation_of_the_series(end):
    """Against the trapezoidal rule written out, and carried on by the linear part, along which ratios stay."""
    score, times = gaussian(VP()), torch.tensor([0.5, end], dtype=torch.float64)
    path = torch.randn(2, 50, N, 1)
    step = plan(score.sde, times, "cpu")[0]
    eps = [
        predict_eps(score, z, level, score.noise_scale) for z, level in zip(path, (step.now, step.then), strict=True)
    ]
    middle = score.noise_scale * (eps[0] + eps[1]) / 2
    jumped = step.then.alpha * (path[0] / step.now.alpha + (step.then.ratio - step.now.ratio) * middle)
    costs = jump_costs(score, Paths(times, path, torch.stack(eps), NOTHING))
    carry = score.codec.variance.sqrt() / score.coefficients(times[1].float()).total
    made, meant = score.codec.decode(carry * jumped), score.codec.decode(carry * path[1])
    moved = torch.cat([made.mean(0) - meant.mean(0), made.std(0, correction=0) - meant.std(0, correction=0)])
    typical = (score.codec.mean.square() + score.codec.deviation.square()).sum().sqrt()
    assert float(costs[0, 1]) == pytest.approx(float(moved.norm() / typical), rel=1e-3)
    assert costs[1, 0] == costs[0, 0] == torch.inf


def test_the_same_seed_learns_the_same_and_another_one_nearly_so():
    score = gaussian(VP())
    first, again, other = (
        learn_jumps(score, Sampling(seed=seed, batch_size=b)) for seed, b in ((0, 64), (0, 64), (1, 64))
    )
    assert all(torch.equal(first[name], again[name]) for name in (TIMES, COSTS))
    assert not torch.equal(first[COSTS], other[COSTS])
    paths = [cheapest_path(learnt[COSTS], 6)[0] for learnt in (first, other)]
    assert max(abs(a - b) for a, b in zip(*paths, strict=True)) <= 2


def test_the_teacher_draws_what_memory_holds_and_no_more_than_conditions_are_known_of(monkeypatch):
    score, drawn = gaussian(VP()), []
    monkeypatch.setattr(teacher, "sample", lambda *args: drawn.append(args[3].count) or sample(*args))

    def count(**settings):
        drawn.clear()
        learn_jumps(score, Sampling(num_samples=5, **settings))
        return sum(drawn)

    assert count() == teacher.SAMPLES
    assert count(condition=Same()) == 5
    monkeypatch.setattr(teacher, "NUMBERS", 40 * teacher.STEPS * N)
    assert count() == 40
    monkeypatch.setattr(teacher, "NUMBERS", 1)
    assert count() == teacher.LEAST


def test_samples_that_are_no_numbers_teach_nothing():
    score = gaussian(VP())
    score.codec.variance.fill_(torch.nan)
    with pytest.raises(ValueError, match="finite samples"):
        learn_jumps(score, SAMPLING)
