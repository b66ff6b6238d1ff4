"""Grids that are made of what was learnt of a model."""

from itertools import combinations

import pytest
import torch
from random_networks import random_score

from lightning_freqdiff.caching import CachedScore, TaylorSeer
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.diffusion.sde import VE, VP
from lightning_freqdiff.sampling import Sampling, WorkUnit, grids, sample, time_grid
from lightning_freqdiff.sampling.grids import COSTS, TIMES, cheapest_path
from lightning_freqdiff.sampling.solvers import DPMSolverPP, Fitted

POINTS = 9


def table(seed: int) -> torch.Tensor:
    costs = torch.rand(POINTS, POINTS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    forward = torch.ones_like(costs).triu(1) > 0
    return torch.where(forward, costs, torch.inf)


def learnt(seed: int = 0) -> dict[str, torch.Tensor]:
    return {TIMES: time_grid(VP(), POINTS - 1, "logsnr"), COSTS: table(seed)}


@pytest.mark.parametrize("jumps", range(1, POINTS))
@pytest.mark.parametrize("seed", range(3))
def test_no_way_of_so_many_jumps_costs_less(jumps, seed):
    costs = table(seed)

    def cost(path):
        growth = 3 ** (1 / max(1, jumps - 1))
        return sum(growth**n * float(costs[i, j]) for n, (i, j) in enumerate(zip(path, path[1:], strict=False)))

    ways = [[0, *between, POINTS - 1] for between in combinations(range(1, POINTS - 1), jumps - 1)]
    path, total = cheapest_path(costs, jumps, last=3)
    assert path == min(ways, key=cost)
    assert total == pytest.approx(cost(path))


def test_a_tuned_grid_is_the_cheapest_way():
    calibration = learnt()
    path, _ = cheapest_path(calibration[COSTS], 3)
    assert time_grid(VP(), 3, "tuned", calibration).tolist() == calibration[TIMES][path].tolist()


def test_what_was_not_learnt_is_refused():
    with pytest.raises(ValueError, match=r"run calibrate on its checkpoint, or set `sampling\.grid`"):
        time_grid(VP(), 3, "tuned")
    with pytest.raises(ValueError, match=r"`sampling\.num_steps`"):
        time_grid(VP(), 0, "tuned", learnt())


@pytest.mark.parametrize("sde", [VP(), VE()], ids=["VP", "VE"])
def test_more_steps_share_out_the_jumps(sde, monkeypatch):
    monkeypatch.setattr(grids, "MOST", 3)
    calibration = {TIMES: time_grid(sde, POINTS - 1, "logsnr"), COSTS: table(0)}
    coarse, fine, odd = (time_grid(sde, steps, "tuned", calibration) for steps in (3, 9, 7))
    assert torch.equal(fine[[0, -1]], coarse[[0, -1]])
    torch.testing.assert_close(sde.log_snr(fine[::3]), sde.log_snr(coarse))
    steps = sde.log_snr(fine).diff().view(3, 3)
    torch.testing.assert_close(steps, steps[:, :1].expand(3, 3))
    assert len(odd) == 8
    assert (odd.diff() < 0).all()


def test_a_cached_model_samples_on_its_own_grid():
    score = random_score(16, 1)
    score.calibration = learnt()
    asked = []

    class Listening(CachedScore):
        def start(self, trajectory):
            asked.extend(trajectory.times.tolist())
            super().start(trajectory)

    cached = Listening(score, TaylorSeer(interval=1), 4)
    drawn = [
        sample(s, VP(), score.codec, WorkUnit(0, 0, 2), Sampling(num_steps=4, grid="tuned")) for s in (cached, score)
    ]
    torch.testing.assert_close(drawn[0], drawn[1])
    assert asked == time_grid(VP(), 4, "tuned", score.calibration)[:-1].tolist()


def test_a_score_function_has_nothing_learnt_unless_it_says_so():
    class Zero(ScoreFunction):
        def __call__(self, z, t, condition=None):
            return torch.zeros_like(z)

    with pytest.raises(ValueError, match="run calibrate"):
        sample(Zero(), VP(), random_score(16, 1).codec, WorkUnit(0, 0, 2), Sampling(num_steps=4, grid="tuned"))


def test_a_sampling_says_whether_it_depends_on_a_calibration():
    assert Sampling(solver=Fitted()).calibrated
    assert Sampling(grid="tuned").calibrated
    assert not Sampling(solver=DPMSolverPP(), grid="edm").calibrated
