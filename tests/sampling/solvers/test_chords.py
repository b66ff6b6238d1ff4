import os
from dataclasses import replace

import pytest
import torch
import torch.multiprocessing as mp

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling import ClassifierFree, Constrained, Fixed
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.noise import normal_stream
from lightning_freqdiff.sampling.solvers import DDIM, Chords, Step, plan

FIFTY = Sampling(num_steps=50, solver=Chords(), grid="logsnr")
UNIT = WorkUnit(0, 0, 3)


class Bumpy(ScoreFunction):
    """A score that is far from linear, the same for a row whatever the batch, and counts its calls."""

    def __init__(self) -> None:
        self.rounds, self.rows = 0, 0

    def __call__(self, z, t, condition=NOTHING):
        self.rounds, self.rows = self.rounds + 1, self.rows + len(z)
        t = t.reshape(-1, 1, 1)
        return -z / (0.2 + t) + 2 * torch.tanh(3 * z) / (1 + t)


def codec():
    made = Codec(Representation("frequency", 8, 1))
    made.fit([torch.randn(64, 8, 1, generator=torch.Generator().manual_seed(0))])
    return made


def draw(sampling, score=None, unit=UNIT):
    return sample(score or Bumpy(), VP(), codec(), unit, sampling)


@pytest.mark.parametrize("starts", [(0.0,), (0.0, 0.5), Chords().starts])
@pytest.mark.parametrize("steps", [1, 7, 50])
def test_when_all_have_arrived_it_is_ddim_to_the_last_bit(starts, steps):
    solver = Chords(starts, arrivals=len(starts))
    one, other = (draw(replace(FIFTY, num_steps=steps, solver=s)) for s in (solver, DDIM()))
    assert torch.equal(one, other)


@pytest.mark.parametrize(("arrivals", "rounds"), [(1, 17), (2, 24), (4, 38), (8, 50)])
def test_rounds_and_calls_are_those_that_are_told(arrivals, rounds):
    score, solver = Bumpy(), Chords(arrivals=arrivals)
    told = []
    sample(score, VP(), codec(), UNIT, replace(FIFTY, solver=solver), told.append)
    assert score.rounds == solver.rounds(50) == rounds
    assert score.rows == solver.calls(50) * UNIT.count
    assert told == list(range(50))
    sampling = replace(FIFTY, solver=solver)
    assert (sampling.num_rounds, sampling.num_calls) == (rounds, solver.calls(50))


def test_every_arrival_is_nearer_to_ddim_than_a_long_step():
    exact = draw(replace(FIFTY, solver=DDIM()))
    apart = [float((draw(replace(FIFTY, solver=Chords(arrivals=n))) - exact).norm()) for n in (1, 3, 6)]
    few = float((draw(replace(FIFTY, solver=DDIM(), num_steps=17)) - exact).norm())
    assert few > apart[0] > apart[1] > apart[2]


def test_a_core_is_put_right_as_published():
    """Two cores of four steps, by hand: the second starts before step 2, and is put right when the first is there."""
    score, known, sampling = Bumpy(), codec(), replace(FIFTY, num_steps=4)
    steps = plan(VP(), DDIM().times(VP(), 4, "logsnr", {}), "cpu")
    levels, scale = [*(step.now for step in steps), steps[-1].then], known.noise_scale

    def jump(z, at, to):
        return DDIM().step(score, z, Step(levels[at], levels[to], 0.0, False), scale, [], None)[0]

    start = levels[0].sigma * scale * next(normal_stream(0, [(0, 3)], (3, *scale.shape), "cpu"))
    first = jump(jump(start, 0, 1), 1, 2)
    own = jump(start, 0, 2)
    there = jump(own, 2, 3)
    by_hand = jump(there, 3, 4) - jump(own, 2, 4) + jump(first, 2, 4)
    chords = Bumpy()
    found = draw(replace(sampling, solver=Chords((0.0, 0.5))), chords)
    assert chords.rounds == 3
    assert torch.allclose(found, by_hand, atol=1e-6)


def test_it_ends_where_two_arrivals_agree():
    eager, patient = Bumpy(), Bumpy()
    solver = Chords(arrivals=8, residual=1e3)
    early = draw(replace(FIFTY, solver=solver), eager)
    draw(replace(FIFTY, solver=replace(solver, residual=1e-30)), patient)
    assert eager.rounds == 17
    assert 45 < patient.rounds <= 50  # the last arrivals may be the same
    assert torch.equal(early, draw(FIFTY))


def test_a_sample_does_not_depend_on_its_batch():
    """Nor when it is settled before the others are."""
    arrivals = [draw(replace(FIFTY, solver=Chords(arrivals=n))) for n in (1, 2)]
    apart = (arrivals[1] - arrivals[0]).flatten(1).norm(dim=1) / arrivals[0][0].numel()
    sampling = replace(FIFTY, solver=Chords(arrivals=8, residual=float(apart.median())))
    whole = draw(sampling)
    singles = torch.cat([draw(sampling, unit=WorkUnit(0, i, 1)) for i in range(3)])
    assert torch.equal(whole, singles)


def test_a_network_is_asked_at_the_times_of_its_rows():
    layout = Representation("frequency", 8, 1)
    score = Score(MLP(layers=1, width=8), VP(), "wiener", layout).eval()
    score.codec.fit([torch.randn(64, 8, 1, generator=torch.Generator().manual_seed(0))])
    for weight in score.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    one, other = (
        sample(score, VP(), score.codec, UNIT, replace(FIFTY, solver=s)) for s in (Chords(arrivals=8), DDIM())
    )
    assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.parametrize(
    "more", [{"guidance": ClassifierFree(2.0)}, {"constraint": Constrained(rules=(Fixed(stop=1),))}], ids=str
)
def test_what_goes_step_by_step_is_refused(more):
    with pytest.raises(ValueError, match="expected Chords without a cache.*`sampling.solver`"):
        draw(replace(FIFTY, **more))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"starts": (0.1, 0.5)}, "starts that rise from 0"),
        ({"starts": (0.0, 0.5, 0.5)}, "starts that rise"),
        ({"starts": (0.0, 1.0)}, "less than 1"),
        ({"arrivals": 9}, "arrivals from 1 to the 8 starts, got 9"),
        ({"residual": 0.0}, "residual above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, says):
    with pytest.raises(ValueError, match=says + ".*`sampling.solver"):
        Chords(**settings)


def test_ranks_are_wanted_only_where_there_are_some():
    with pytest.raises(ValueError, match="`sampling.solver.over_ranks` false"):
        draw(replace(FIFTY, solver=Chords(over_ranks=True)))


def _rank(rank: int, folder: str) -> None:
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    score = Bumpy()
    drawn = draw(replace(FIFTY, solver=Chords(over_ranks=True)), score)
    torch.save({"drawn": drawn, "rows": torch.tensor(score.rows)}, f"{folder}/{rank}.pt")
    with pytest.raises(ValueError, match="all processes to draw the same samples"):
        draw(replace(FIFTY, solver=Chords(over_ranks=True)), unit=WorkUnit(rank, 0, 3))
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_draw_what_one_does_with_half_the_calls_each(tmp_path):
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    mp.spawn(_rank, (str(tmp_path),), nprocs=2)
    one, two = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    assert torch.equal(one["drawn"], two["drawn"])
    assert torch.equal(one["drawn"], draw(FIFTY))
    assert max(int(one["rows"]), int(two["rows"])) < 0.6 * Chords().calls(50) * UNIT.count
