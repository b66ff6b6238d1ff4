"""The Wiener cache: its integrals against steps, its local error against series, and where it places calls."""

import math
from dataclasses import dataclass

import pytest
import torch
from random_networks import draw, random_score
from torch import Tensor, nn

from lightning_freqdiff.caching import CachedScore, Wiener
from lightning_freqdiff.caching.integrating_factor import Frame
from lightning_freqdiff.caching.local_error import expected_rate, local_error
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import VE, VP, SubVP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import MLP, Transformer
from lightning_freqdiff.networks.base import Backbone, Embedding
from lightning_freqdiff.sampling import time_grid
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.noise import normal_stream
from lightning_freqdiff.sampling.solvers import (
    DDIM,
    DPMSolverPP,
    EulerMaruyama,
    Heun,
    PredictorCorrector,
    plan,
)

STEPS = 25
AFFINE = [EulerMaruyama(), DDIM(0.0), DDIM(0.6), DDIM(1.0)]
PROCESSES = [VP(), SubVP(), VE(sigma_max=5.0)]
ONE_CALL = {"tolerance": math.inf, "longest": 1.0, "final": 1.0}
"""With no call placed by time or by error, the first call is the only one."""


class Given:
    """An architecture that is given its backbone."""

    def __init__(self, backbone):
        self.backbone = backbone

    def build(self, codec, sizes=None):
        return self.backbone


class Line(Backbone):
    """A raw output, and so a remainder, that does not depend on the input: ``level + slope t`` per coordinate."""

    def __init__(self, level: Tensor, slope: Tensor) -> None:
        super().__init__()
        self.level, self.slope, self.layers = level, slope, nn.ModuleList()

    def embed(self, z: Tensor, t: Tensor, condition=None) -> Embedding:
        return Embedding(t.reshape(-1, 1, 1).expand(*z.shape))

    def block(self, number: int, h: Tensor, context: Tensor | None) -> Tensor:
        return h

    def head(self, h: Tensor, context: Tensor | None) -> Tensor:
        return self.level + self.slope * h


def with_constant(score: Score) -> Score:
    """Give one coordinate no variance, unless its noise falls so fast that a step erases it."""
    score.codec.variance[-1, 0] = float(isinstance(score.sde, SubVP))
    return score


def line_score(sde, slope=1.0, length=9, channels=1) -> Score:
    layout = Representation("frequency", length, channels)
    shape = (layout.tokens, layout.features)
    generator = torch.Generator().manual_seed(2)
    level, rise = (torch.randn(shape, generator=generator) for _ in range(2))
    return with_constant(Score(Given(Line(level, slope * rise)), sde, "wiener", layout).eval())


def coefficients(score, solver, times):
    return [solver.affine(step) for step in plan(score.sde, times, "cpu")]


def run(score, chosen, solver=None, grid="uniform", count=4, first=0, steps=STEPS, on_step=None):
    """Samples with a cache and without one, and the ledger."""
    sampling = Sampling(num_steps=steps, solver=solver or EulerMaruyama(), grid=grid)
    wrapped = CachedScore(score, chosen, steps * sampling.solver.calls_per_step)
    unit = WorkUnit(0, first, count)
    made, exact = (sample(f, score.sde, score.codec, unit, sampling, on_step) for f in (wrapped, score))
    return made, exact, wrapped.ledger


def close(a, b, tolerance=2e-5):
    assert float((a - b).norm() / b.norm()) < tolerance


class DoubleScore(ScoreFunction):
    """The score with remainder ``held + rise (t_a - t) / (t_a - t_b)`` at each of the calls, in double precision."""

    def __init__(self, score, times, held, rise, start, stop):
        self.score, self.times, self.held, self.rise, self.ends = score, times, held, rise, (start, stop)
        self.now = start

    def __call__(self, z, t, condition=None):
        start, stop = self.ends
        t, scale, v = self.times[self.now], self.score.noise_scale.double(), self.score.codec.active.double()
        share = (self.times[start] - t) / (self.times[start] - self.times[stop])
        self.now += 1
        alpha, noise = self.score.sde.alpha(t), self.score.sde.sigma(t) * scale
        total = alpha**2 * v + noise**2
        k = alpha * (v / total.where(total > 0, torch.ones(()).double())).sqrt()
        xi = noise * z / total.where(total > 0, torch.ones(()).double()) - k * (self.held + share * self.rise)
        return -torch.where(noise > 0, xi / noise.where(noise > 0, torch.ones(()).double()), 0.0)


@pytest.mark.parametrize("grid", ["uniform", "logsnr", "edm"])
@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("solver", AFFINE, ids=str)
def test_the_tables_of_a_frame_are_the_steps_of_the_solver(solver, sde, grid):
    score = random_score(9, 2)
    score.sde = sde
    with_constant(score)
    times = time_grid(sde, STEPS, grid)
    frame = Frame.build(score, times[:-1], coefficients(score, solver, times))
    assert frame is not None
    assert frame.noisy == (getattr(solver, "eta", 1.0) > 0)
    generator = torch.Generator().manual_seed(0)
    shape = (3, *score.noise_scale.shape)
    for start, stop in ((0, 7), (3, 4), (10, STEPS - 1), (STEPS - 3, STEPS - 1)):
        z, held, rise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(3))
        z = z * score.noise_scale
        noise = torch.randn(stop - start, *shape, generator=generator, dtype=torch.float64)
        asked, exact = DoubleScore(score, times, held, rise, start, stop), z
        for i, step in enumerate(plan(sde, times, "cpu")[start:stop]):
            exact, _ = solver.step(asked, exact, step, score.noise_scale.double(), [noise[i]], None)
        y = z / frame.product[start] + frame.held(start, stop) * held
        y = y + frame.risen(torch.tensor([start] * 3), stop) * rise
        y = y + (noise * frame.noise[start:stop].unsqueeze(1)).sum(0)
        close(frame.product[stop] * y, exact)


def test_a_risen_remainder_starts_at_nothing_and_is_half_of_a_held_one_on_a_fine_grid():
    score = random_score(9, 1)
    times = time_grid(VP(), 2000)
    frame = Frame.build(score, times[:-1], coefficients(score, EulerMaruyama(), times))
    assert frame is not None
    assert frame.risen(torch.tensor([700]), 701).abs().max() < 1e-12
    live = (score.noise_scale > 0) & (score.codec.active > 0)
    share = (frame.risen(torch.tensor([700]), 740) / frame.held(700, 740))[0][live]
    torch.testing.assert_close(share, torch.full_like(share, 0.5), rtol=0.05, atol=0)


def test_a_step_that_erases_a_coordinate_is_not_put_in_a_table():
    score = random_score(9, 1)
    times = time_grid(VP(), STEPS)
    steps = coefficients(score, DDIM(0.0), times)
    assert Frame.build(score, times[:-1], steps) is not None
    assert Frame.build(score, times[:-1], [*steps[:-1], (0.0, 0.0, 0.0)]) is None
    assert Frame.build(score, times[:-1], [(1e-2 * a, 1e-2 * b, c) for a, b, c in steps]) is None


def test_where_nothing_can_be_tabled_it_goes_step_by_step(monkeypatch):
    score = random_score(9, 1)
    monkeypatch.setattr("lightning_freqdiff.caching.integrating_factor.SMALLEST_FACTOR", math.inf)
    made, exact, ledger = run(score, Wiener(tolerance=0.05))
    held, _, _ = run(score, Wiener(tolerance=0.05, correct=False))
    assert torch.equal(made, held)
    assert ledger.totals()["calls_skipped"] > 0
    assert not torch.equal(made, exact)


class LinearScore(ScoreFunction):
    """A random linear score, by way of the noise prediction ``W z``."""

    def __init__(self, scale, sigma, shape):
        self.weight = torch.randn(shape[1] * shape[2], shape[1] * shape[2], dtype=torch.float64)
        self.scale, self.sigma = scale, sigma

    def noise(self, z):
        return (z.flatten(1) @ self.weight).reshape(z.shape)

    def __call__(self, z, t, condition=None):
        return -torch.where(
            self.scale > 0, self.noise(z) / (self.sigma * self.scale.where(self.scale > 0, torch.ones(()))), 0.0
        )


@pytest.mark.parametrize("grid", ["uniform", "logsnr"])
@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("solver", AFFINE, ids=str)
def test_the_affine_form_of_a_step_is_the_step(solver, sde, grid):
    torch.manual_seed(0)
    scale = Representation("frequency", 8, 1).noise_scale().double()
    for step in plan(sde, time_grid(sde, STEPS, grid), "cpu"):
        z, noise = torch.randn(2, 3, *scale.shape, dtype=torch.float64)
        score = LinearScore(scale, step.now.sigma, z.shape)
        a, b, c = solver.affine(step)
        stepped, _ = solver.step(score, z, step, scale, [noise], None)
        torch.testing.assert_close(a * z + b * scale * score.noise(z) + c * scale * noise, stepped)
        if step.last:
            assert c == 0


@pytest.mark.parametrize("solver", [Heun(), DPMSolverPP(), DPMSolverPP("sde"), PredictorCorrector()], ids=str)
def test_solvers_that_remember_or_look_ahead_are_not_affine(solver):
    assert solver.affine(plan(VP(), time_grid(VP(), STEPS), "cpu")[3]) is None


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("solver", AFFINE, ids=str)
def test_on_gaussian_data_with_independent_frequencies_one_call_gives_the_samples(solver, sde):
    """A fresh model has a head of zeros, and so is the Wiener filter, which such data leave nothing to add to."""
    torch.manual_seed(0)
    network = Transformer(layers=2, heads=2, width=8, feedforward=16)
    score = Score(network, sde, "wiener", Representation("frequency", 13, 2)).eval()
    made, exact, ledger = run(score, Wiener(**ONE_CALL), solver)
    assert ledger.totals()["network_calls"] == pytest.approx(1)
    close(made, exact)


@pytest.mark.parametrize("grid", ["uniform", "logsnr"])
@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("solver", [*AFFINE, DPMSolverPP(), DPMSolverPP("sde")], ids=str)
def test_a_remainder_that_never_changes_needs_one_call(solver, sde, grid):
    score = line_score(sde, slope=0.0)
    made, exact, ledger = run(score, Wiener(**ONE_CALL), solver, grid)
    calls = 1 if solver in AFFINE else 2  # step by step, the last is always computed
    assert ledger.totals()["network_calls"] == pytest.approx(calls)
    close(made, exact, 1e-4 if sde.sigma(torch.ones(())) > 2 else 3e-5)


@pytest.mark.parametrize("grid", ["uniform", "logsnr"])
@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("solver", AFFINE, ids=str)
def test_a_remainder_on_a_straight_line_needs_calls_at_the_ends_of_stretches(solver, sde, grid):
    """With a call at the last step there is no stretch whose other end is unknown."""
    score = line_score(sde)
    made, exact, ledger = run(score, Wiener(tolerance=math.inf, longest=0.3, final=0.0), solver, grid)
    assert 3 <= ledger.totals()["network_calls"] <= 6
    close(made, exact, 1e-4)
    held, _, _ = run(score, Wiener(tolerance=math.inf, longest=0.3, final=0.0, correct=False), solver, grid)
    assert float((held - exact).norm() / exact.norm()) > 1e-3, "there was nothing to correct"


@pytest.mark.parametrize("parametrization", ["wiener", "eps", "score"])
@pytest.mark.parametrize("solver", AFFINE, ids=str)
def test_called_at_every_step_the_integrated_samples_are_the_uncached_ones(solver, parametrization):
    score = random_score(13, 2)
    score.parametrization = parametrization
    score.codec.variance.fill_(1)
    made, exact, ledger = run(score, Wiener(longest=0.0, tolerance=1e-9), solver)
    assert ledger.totals()["calls_skipped"] == 0
    close(made, exact, 1e-3 if parametrization == "score" else 1e-4)


@pytest.mark.parametrize("domain", ["frequency", "time", "wavelet", "lapped"])
@pytest.mark.parametrize("length", [12, 13])
def test_the_local_error_is_a_norm_in_data_units(length, domain):
    """By decoding: of the change, and of a series with the data's mean and variance."""
    layout = Representation(domain, length, 2)
    score = Score(MLP(layers=1, width=4), VP(), "wiener", layout)
    torch.manual_seed(0)
    data = 0.02 + torch.randn(500, length, 2).cumsum(1) * torch.tensor([0.01, 0.03])
    data[:, :, 1] -= data[:, :, 1].double().mean(1, keepdim=True).float()  # no variance at DC
    data[:, 0, 0] = 0.05  # in time another
    score.codec.fit([data])
    constant = (score.codec.active == 0) & (score.noise_scale > 0)
    assert int(constant.sum()) == 1
    moved = torch.randn(6, layout.tokens, layout.features)
    z = torch.randn_like(moved)
    x, y = (score.codec.decode(tokens) for tokens in (z, z + moved))
    typical = data.double().square().sum((1, 2)).mean().sqrt()
    expected = (y - x).double().flatten(1).norm(dim=1) / typical
    torch.testing.assert_close(local_error(score, moved), expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("sde", PROCESSES, ids=lambda s: type(s).__name__)
def test_the_expected_rate_is_the_slope_of_the_share_of_noise(sde):
    score = random_score(9, 1)
    score.sde = sde
    times = time_grid(sde, 40)[:-1]
    t = times[1:].clone().requires_grad_()
    q = sde.sigma(t) / (sde.alpha(t) ** 2 + sde.sigma(t) ** 2).sqrt()
    (slope,) = torch.autograd.grad(q.sum(), t)
    torch.testing.assert_close(expected_rate(score, times, True)[1:], slope.abs(), rtol=1e-3, atol=1e-9)
    low, high = torch.tensor([0.9999, 1.0], dtype=torch.float64)
    q = [sde.sigma(t) / (sde.alpha(t) ** 2 + sde.sigma(t) ** 2).sqrt() for t in (low, high)]
    rate = expected_rate(score, times, True)[0]  # at the end of time the difference is one-sided
    assert float(rate) == pytest.approx(float(q[1] - q[0]) / 1e-4, rel=2e-2)


def test_a_measured_profile_takes_the_place_of_the_expected_rate():
    score = random_score(9, 1)
    times = torch.tensor([1.0, 0.875, 0.5, 0.125, 1e-5], dtype=torch.float64)
    plain = expected_rate(score, times, True)
    score.calibration["wiener.rate"] = torch.tensor([2.0, 4.0, 0.0])
    measured = expected_rate(score, times, True)
    torch.testing.assert_close(measured, torch.tensor([0, 1, 4, 2.5, 2], dtype=torch.float64), atol=1e-3, rtol=0)
    assert torch.equal(expected_rate(score, times, False), plain)
    del score.calibration["wiener.rate"]


def test_a_measured_profile_moves_the_calls_to_where_the_error_is_made():
    score = random_score(13, 1)
    early = {}
    for name, profile in {"late": [4.0, 0.01], "early": [0.01, 4.0]}.items():
        score.calibration["wiener.rate"] = torch.tensor(profile)
        curve = run(score, Wiener(tolerance=0.05, caution=0.0, memory=1.0))[2].curves()["called"]
        early[name] = sum(curve[: STEPS // 2]) / sum(curve)
    assert early["early"] > early["late"] + 0.2


@pytest.mark.parametrize(
    ("solver", "noisy"),
    [
        (Heun(), False),
        (DPMSolverPP(), False),
        (DPMSolverPP("sde"), True),
        (PredictorCorrector(), True),
        (DDIM(0.0), False),
    ],
    ids=str,
)
def test_the_solver_decides_which_law_the_local_error_follows(solver, noisy):
    """Along an ODE it grows as ``h²``, and what was calibrated along an SDE says nothing."""
    score, begun = random_score(9, 1), []
    score.calibration["wiener.rate"] = torch.tensor([9.0, 9.0])

    class Noted(Wiener):
        def begin(self, score, trajectory):
            begun.append(super().begin(score, trajectory))
            return begun[-1]

    run(score, Noted(), solver)
    error = begun[0].local_error
    assert error.power == (1.5 if noisy else 2.0)
    assert bool((error.rate == 9).all()) == noisy


def test_a_tolerance_of_zero_calls_at_every_step_whatever_was_measured():
    score = random_score(13, 1)
    score.calibration["wiener.rate"] = torch.zeros(8)
    made, exact, ledger = run(score, Wiener(tolerance=0.0))
    assert ledger.totals()["calls_skipped"] == 0
    assert torch.equal(made, exact)


@pytest.mark.parametrize("solver", [EulerMaruyama(), DDIM(1.0), DDIM(0.0), Heun(), DPMSolverPP()], ids=str)
def test_a_tighter_tolerance_means_more_calls_and_less_distance(solver):
    score = random_score(31, 1)
    calls, distances = [], []
    for tolerance in (0.01, 0.1, 1.0):
        made, exact, ledger = run(score, Wiener(tolerance=tolerance), solver, steps=60, count=8)
        calls.append(ledger.totals()["network_calls"])
        distances.append(float((made - exact).norm() / exact.norm()))
    assert calls[0] > 1.2 * calls[1] > 1.3 * calls[2]
    assert distances[0] < 0.9 * distances[1] < 0.8 * distances[2]


def test_a_correction_brings_the_samples_closer_from_the_same_calls():
    score = random_score(31, 1)
    clock = {"tolerance": 0.05, "memory": 1.0}
    (made, exact, first), (held, _, second) = (
        run(score, Wiener(**clock, correct=correct), steps=200, count=8) for correct in (True, False)
    )
    assert first.curves()["called"] == second.curves()["called"]
    assert (made - exact).norm() < 0.5 * (held - exact).norm()


def test_every_sample_has_its_own_calls_unless_they_share_a_clock():
    score = random_score(31, 1)
    apart, together = (
        run(score, Wiener(tolerance=0.1, memory=memory), steps=60, count=8)[2].curves()["called"]
        for memory in (0.5, 1.0)
    )
    assert any(0 < share < 1 for share in apart)
    assert all(share in (0, 1) for share in together)


def test_of_samples_of_different_error_the_worse_one_is_called_more_often():
    """A network whose output wiggles in time for some inputs only."""

    class Wiggle(Line):
        def embed(self, z, t, condition=None):
            size = torch.tanh(z[:, :1, :1].abs() * 9) * torch.sin(80 * t)
            return Embedding(self.slope * size * torch.ones_like(z))

        def head(self, h, context):
            return h

    layout = Representation("frequency", 9, 1)
    shape = (layout.tokens, layout.features)
    quiet, loud = (
        run(
            Score(Given(Wiggle(torch.zeros(shape), torch.full(shape, size))), VP(), "wiener", layout).eval(),
            Wiener(tolerance=0.05, memory=0.0),
            steps=100,
        )[2].totals()["network_calls"]
        for size in (0.05, 3.0)
    )
    assert loud > 1.5 * quiet


@pytest.mark.parametrize("solver", [*AFFINE, Heun(), DPMSolverPP("sde"), PredictorCorrector()], ids=str)
def test_the_ledger_counts_the_calls_of_the_network(solver):
    score = random_score(17, 1)
    rows = []
    score.network.layers[0].register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    sampling = Sampling(num_steps=STEPS, solver=solver)
    wrapped = CachedScore(score, Wiener(tolerance=0.1), STEPS * solver.calls_per_step)
    for first in (0, 5):  # two batches into one ledger
        sample(wrapped, score.sde, score.codec, WorkUnit(0, first, 5), sampling)
    assert wrapped.ledger.totals()["network_calls"] == pytest.approx(sum(rows) / 10)
    assert sum(wrapped.ledger.curves()["called"]) == pytest.approx(sum(rows) / 10)
    assert (wrapped.ledger.sums[:, 0] == 10).all()
    assert sum(rows) < 10 * wrapped.ledger.calls


@pytest.mark.parametrize("solver", [EulerMaruyama(), DDIM(0.0), Heun()], ids=str)
def test_every_step_is_announced(solver):
    seen = []
    run(random_score(9, 1), Wiener(tolerance=0.1), solver, on_step=seen.append)
    assert seen == [*range(STEPS), *range(STEPS)]  # with the cache, then without


@pytest.mark.parametrize("solver", AFFINE, ids=str)
def test_as_many_numbers_are_drawn_as_by_the_steps(solver):
    """The noise belongs to the step, so a cache must meet the same numbers, and leave the stream where steps do."""
    score = random_score(9, 1)
    times = time_grid(VP(), STEPS)
    drawn = []

    def counted():
        for noise in normal_stream(0, 0, (2, *score.noise_scale.shape), "cpu"):
            drawn.append(1)
            yield noise

    frame_steps = coefficients(score, solver, times)
    wrapped = CachedScore(score, Wiener(tolerance=0.1), STEPS)
    z = torch.randn(2, *score.noise_scale.shape) * score.noise_scale
    before = z.clone()
    integrate = wrapped.policy.integrator(score, times[:-1], frame_steps)
    assert integrate is not None
    trajectory = Trajectory(times[:-1], 1, tuple(z.shape), 0, 0)
    integrate(trajectory, wrapped.ledger, z, counted(), None)
    assert len(drawn) == STEPS * solver.noises_per_step
    assert torch.equal(z, before), "what the caller gave was changed"


def test_the_error_that_is_reported_is_that_of_the_forecast():
    """The remainder is a known line, so what a held one was wrong by is known, too."""
    score = line_score(VP())
    ledger = run(score, Wiener(tolerance=math.inf, longest=0.2, final=0.0))[2]
    called = [i for i, share in enumerate(ledger.curves()["called"]) if share]
    times, reported = time_grid(VP(), STEPS), ledger.curves()["probe_error"]
    assert isinstance(score.network, Line)
    slope = score.network.slope
    assert math.isnan(reported[0])
    for before, now in zip(called, called[1:], strict=False):
        c = score.coefficients(times[now].float())
        wrong = c.spread / c.total * slope * float(times[now] - times[before])
        assert reported[now] == pytest.approx(float(wrong.square().mean().sqrt()), rel=1e-3)


@dataclass(frozen=True)
class Spy(Wiener):
    """Notes the local error that is measured."""

    def _measure(self, score, state, moved, start, now, rows):
        NOTED.append((moved, start, now))
        super()._measure(score, state, moved, start, now, rows)


NOTED: list = []


@pytest.mark.parametrize("correct", [True, False])
def test_the_local_error_is_measured_alike_step_by_step_and_at_once(correct):
    """For short stretches: ``G e`` from the tables, or from the present rates, against the line's known error."""
    score, steps = line_score(VP()), 400
    NOTED.clear()
    run(score, Spy(tolerance=math.inf, longest=0.02, final=0.0, correct=correct), steps=steps)
    times = time_grid(VP(), steps)
    frame = Frame.build(score, times[:-1], coefficients(score, EulerMaruyama(), times))
    assert frame is not None
    assert isinstance(score.network, Line)
    slope = score.network.slope
    live = (score.noise_scale > 0) & (score.codec.active > 0)
    middle = [note for note in NOTED if 100 < note[2] < 300]
    assert len(middle) > 10
    for moved, start, now in middle:
        e = slope * (times[now] - times[start[0]])
        exact = frame.product[now] * frame.risen(torch.tensor(start[:1]), now)[0] * e
        torch.testing.assert_close(moved[0][live].double(), exact[live].double(), rtol=0.3, atol=1e-9)


def test_a_ratio_follows_what_was_measured_as_fast_as_its_memory_lets_it():
    score, times = random_score(9, 1), time_grid(VP(), STEPS)[:-1]
    for memory in (0.0, 0.5, 1.0):
        chosen = Wiener(memory=memory)
        state = chosen._state(score, times, 3, noisy=True)
        moved = torch.randn(2, *score.noise_scale.shape)
        h = float(times[3] - times[8])
        expected = float(state.local_error.rate[5]) * h**1.5
        sizes = local_error(score, moved)
        scales = torch.tensor([2 * expected, 99 * expected]) / sizes  # the second is beyond belief
        chosen._measure(score, state, moved * scales.reshape(-1, 1, 1).float(), [3, 3], 8, torch.tensor([0, 2]))
        powers = 1 - memory
        torch.testing.assert_close(
            state.ratio, torch.tensor([2.0**powers, 1.0, 3.0**powers], dtype=torch.float64), rtol=1e-4, atol=0
        )


def test_the_last_call_is_at_the_time_given():
    """With a tolerance that asks for no more, nothing is called after ``final``, and something is at it."""
    score = random_score(9, 1)
    times = time_grid(VP(), 50)[:-1]
    for final in (0.5, 0.1, 0.0):
        curve = run(score, Wiener(tolerance=math.inf, longest=1.0, final=final), steps=50)[2].curves()["called"]
        called = [i for i, share in enumerate(curve) if share]
        assert called == [0, max(i for i, t in enumerate(times) if t >= final)]


def test_step_by_step_both_calls_of_a_step_keep_to_the_times_of_the_steps():
    score = random_score(9, 1)
    times = time_grid(VP(), 50)[:-1]
    curve = run(score, Wiener(tolerance=math.inf, longest=1.0, final=0.3), Heun(), steps=50)[2].curves()["called"]
    final = max(i for i, t in enumerate(times) if t >= 0.3)
    assert [i for i, share in enumerate(curve) if share] == [0, 1, 2 * final, 2 * final + 1, 98, 99]


def test_no_stretch_is_longer_than_the_longest():
    score = random_score(9, 1)
    curve = run(score, Wiener(tolerance=math.inf, longest=0.1, final=0.0), steps=50)[2].curves()["called"]
    called = [i for i, share in enumerate(curve) if share]
    assert max(b - a for a, b in zip(called, called[1:], strict=False)) == 5


def test_caution_asks_for_more_calls_the_earlier_it_is():
    score = random_score(9, 1)
    chosen = {"tolerance": 0.01, "memory": 1.0, "longest": 1.0, "final": 0.0}
    early, late = [], []
    for caution in (-5.0, 5.0, 8.0):
        curve = run(score, Wiener(**chosen, caution=caution), steps=100)[2].curves()["called"]
        early.append(sum(curve[:50]))
        late.append(sum(curve[90:]))
    assert early[0] < early[1] < early[2]
    assert early[2] - early[0] > max(late) - min(late)


def test_one_step_and_few_steps_are_possible():
    score = random_score(9, 1)
    for steps in (1, 2, 3):
        for solver in (EulerMaruyama(), DDIM(1.0), Heun()):
            made, exact, _ = run(score, Wiener(), solver, steps=steps)
            assert made.isfinite().all()
            if steps == 1:
                close(made, exact, 1e-3)


def test_samples_do_not_depend_on_the_batch_they_are_in():
    score = random_score(31, 1)
    whole, _, _ = run(score, Wiener(tolerance=0.1), count=6, steps=60)
    parts = [run(score, Wiener(tolerance=0.1), count=2, first=i, steps=60)[0] for i in (0, 2, 4)]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-4, rtol=1e-4)
    assert not torch.equal(whole, draw(score, score, count=6, num_steps=60))
