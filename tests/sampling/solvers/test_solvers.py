"""Solvers against Gaussian data, where the exact answer is known."""

import math
from dataclasses import replace

import pytest
import torch
from oracle import GaussianScore, MixtureScore, units

from lightning_freqdiff.condition import NOTHING
from lightning_freqdiff.diffusion.sde import T_MIN, VE, VP, SubVP
from lightning_freqdiff.domains import Lapped, Representation
from lightning_freqdiff.sampling import Sampling, WorkUnit, sample, time_grid
from lightning_freqdiff.sampling.solvers import (
    DDIM,
    DEIS,
    IPNDM,
    DPMSolverPP,
    EulerMaruyama,
    ExponentialWiener,
    Heun,
    PredictorCorrector,
    SASolver,
    UniPC,
    plan,
)

SCALE = torch.tensor([[0.5, 0.0]], dtype=torch.float64)  # one token, its imaginary part masked
VARIANCE = 0.3
ALL = [EulerMaruyama(), PredictorCorrector(), DDIM(), DDIM(1.0), Heun(), DPMSolverPP(), DPMSolverPP("sde")]
ALL += [ExponentialWiener(), ExponentialWiener("ode"), ExponentialWiener("sde", correct=False)]
ALL += [DEIS(), IPNDM(), UniPC(), SASolver(), SASolver(tau=0.0)]
# With the order that each reaches: a corrector sees one call more, and without it the first steps, whose orders are
# lower, leave an error of second order.
MULTISTEP = [(ExponentialWiener("ode", correct=False, order=n), min(n, 2), "logsnr") for n in (1, 2, 3)]
MULTISTEP += [(ExponentialWiener("ode", order=n), min(n + 1, 3), "logsnr") for n in (1, 2, 3, 4)]
MULTISTEP += [(UniPC(n), min(n + 1, 3), "logsnr") for n in (1, 2, 3)]
MULTISTEP += [(SASolver(n, tau=0.0), min(n + 1, 3), "logsnr") for n in (1, 2, 3, 4)]
MULTISTEP += [(DEIS(n), min(n, 2), "logsnr") for n in (1, 2, 3, 4)]
MULTISTEP += [(IPNDM(n), n, "logsnr") for n in (1, 2)]


def oracle(sde):
    return GaussianScore(sde, SCALE, torch.diag(torch.tensor([VARIANCE, 0.0])))


def deviation(sde, t):
    t = torch.tensor(t, dtype=torch.float64)
    return math.sqrt(float(sde.alpha(t) ** 2 * VARIANCE + (sde.sigma(t) * 0.5) ** 2))


def double_plan(sde, steps, grid):
    times = time_grid(sde, steps, grid)
    planned = plan(sde, times, "cpu")
    for step, t in zip(planned, times, strict=False):  # the production plan hands times to the network in float32
        object.__setattr__(step.now, "t", t)
    object.__setattr__(planned[-1].then, "t", times[-1])
    return planned


def ode_error(solver, sde, steps, grid):
    """Error of one deterministic trajectory; the exact flow scales with the marginal deviation."""
    score, state = oracle(sde), solver.begin(units(SCALE), sde, [], {})
    z = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    for step in double_plan(sde, steps, grid):
        z, state = solver.step(score, z, step, SCALE, [], state)
    return abs(float(z[0, 0, 0]) - deviation(sde, T_MIN) / deviation(sde, 1.0))


def mixture_error(solver, sde, steps, grid):
    """Error of some trajectories: how far samples have moved within the distribution, all kept by the exact flow."""
    score, state = MixtureScore(sde, SCALE), solver.begin(units(SCALE), sde, [], {})
    one, end = torch.tensor([1.0, T_MIN], dtype=torch.float64)
    z = torch.zeros(4, 1, 2, dtype=torch.float64)
    z[:, 0, 0] = torch.tensor([-0.8, -0.4, 0.3, 1.0]) * float(sde.sigma(one)) * 0.5
    before = score.share(z, one)
    for step in double_plan(sde, steps, grid):
        z, state = solver.step(score, z, step, SCALE, [], state)
    return float((score.share(z, end) - before).abs().max())


def sde_variance_error(solver, sde, steps, grid):
    """Error of the final variance, exactly: with a linear score the variance is the sum of squared responses to each
    independent noise, so batch row j gets noise number j and no other."""
    score, state = oracle(sde), solver.begin(units(SCALE), sde, [], {})
    planned = double_plan(sde, steps, grid)
    z = torch.zeros(steps + 1, 1, 2, dtype=torch.float64)
    z[0, 0, 0] = deviation(sde, 1.0)
    for i, step in enumerate(planned):
        noise = torch.zeros_like(z)
        noise[i + 1, 0, 0] = 1
        z, state = solver.step(score, z, step, SCALE, [noise], state)
    return abs(float(z[:, 0, 0].square().sum()) - deviation(sde, T_MIN) ** 2)


@pytest.mark.parametrize(
    ("solver", "order", "grid"),
    [
        (DDIM(), 1, "uniform"),
        (Heun(), 2, "edm"),
        (DPMSolverPP(), 2, "logsnr"),
        (DDIM(), 1, "edm"),
        *MULTISTEP,
    ],
    ids=lambda v: str(v),
)
@pytest.mark.parametrize(
    "sde",
    [VP(), pytest.param(SubVP(), marks=pytest.mark.slow), pytest.param(VE(sigma_max=5.0), marks=pytest.mark.slow)],
    ids=lambda s: type(s).__name__,
)
@pytest.mark.parametrize("error", [ode_error, mixture_error], ids=["gaussian", "mixture"])
def test_convergence_order_of_ode_solvers(solver, order, grid, sde, error):
    few, many = (error(solver, sde, n, grid) for n in ((80, 320) if order == 1 or type(sde) is SubVP else (40, 160)))
    assert many < 1e-6 or math.log(few / many, 4) > order - 0.3, (few, many)


@pytest.mark.parametrize(
    ("solver", "order", "grid"),
    [
        (EulerMaruyama(), 1, "uniform"),
        (DDIM(1.0), 1, "logsnr"),
        (DPMSolverPP("sde"), 2, "logsnr"),
        (ExponentialWiener(correct=False), 1, "logsnr"),
        (ExponentialWiener(), 1, "logsnr"),
        (SASolver(2, tau=0.6, correct=False), 2, "logsnr"),
        (SASolver(2), 1, "logsnr"),
    ],
    ids=lambda v: str(v),
)
def test_weak_convergence_order_of_sde_solvers(solver, order, grid):
    steps = [100, 200, 400]
    errors = [sde_variance_error(solver, VP(), n, grid) for n in steps]
    measured = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert measured[-1] > order - 0.25, (errors, measured)


@pytest.mark.parametrize(
    ("solver", "domain", "n"),
    [
        *[(solver, "frequency", n) for solver in ALL for n in (8, 9)],
        *[(Heun(), domain, n) for domain in ("time", "wavelet", Lapped(4)) for n in (8, 9)],
    ],
    ids=str,
)
def test_moments_of_samples(solver, domain, n):
    """Correlated Gaussian series: mean and covariance of many samples against the exact ones."""
    layout = Representation(domain, n, 2)
    mix = torch.randn(n * 2, n * 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    covariance_time = 0.5 * torch.eye(n * 2) + 0.5 * mix @ mix.T / (n * 2)
    linear = layout.encode(torch.eye(n * 2, dtype=torch.float64).reshape(-1, n, 2)).flatten(1)
    score = GaussianScore(VP(), layout.noise_scale(), linear.T @ covariance_time @ linear)
    sampling = Sampling(num_samples=4000, num_steps=200, solver=solver)
    z = sample(score, VP(), units(layout.noise_scale()), WorkUnit(0, 0, 4000), sampling)
    x = layout.decode(z).flatten(1).double()
    assert score.calls == 200 * solver.calls_per_step
    # Four standard errors of a covariance from 4,000 samples, and the first-order solvers' own error at 200 steps.
    spread = torch.sqrt((covariance_time.diag().outer(covariance_time.diag()) + covariance_time**2) / 4000)
    bias = 0.12 if isinstance(solver, PredictorCorrector) else 0.05
    assert ((x.T.cov() - covariance_time).abs() < 4.5 * spread + bias * covariance_time.diag().max()).all()
    assert (x.mean(0).abs() < 4.5 * (covariance_time.diag() / 4000).sqrt()).all()


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_masked_coordinates_stay_zero(solver):
    z = sample(oracle(VP()), VP(), units(SCALE.float()), WorkUnit(0, 0, 3), Sampling(num_steps=5, solver=solver))
    assert z[..., 1].eq(0).all()
    assert z[..., 0].abs().min() > 0


@pytest.mark.parametrize("solver", [EulerMaruyama(), DDIM(1.0), DPMSolverPP("sde")], ids=str)
def test_no_noise_on_the_last_step(solver):
    last = plan(VP(), time_grid(VP(), 4), "cpu")[-1]
    z = torch.ones(2, 1, 2)
    quiet, _ = solver.step(oracle(VP()), z, last, SCALE.float(), [torch.zeros_like(z)], None)
    loud, _ = solver.step(oracle(VP()), z, last, SCALE.float(), [torch.ones_like(z)], None)
    assert torch.equal(quiet, loud)


@pytest.mark.parametrize(
    ("solver", "first_order"), [(DPMSolverPP(), DDIM()), (DPMSolverPP("sde"), DDIM(1.0))], ids=lambda v: str(v)
)
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(sigma_max=5.0)], ids=lambda s: type(s).__name__)
def test_dpm_solver_ends_with_a_step_of_first_order(solver, first_order, sde):
    """Of first order it is DDIM (Lu et al., arXiv 2211.01095, section 4), with eta = 1 for the SDE;
    extrapolated from the step before it is not, which shows at every step but the first and the last."""
    score, state = oracle(sde), None
    z = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    alike = []
    for step in double_plan(sde, 5, "uniform"):
        noise = torch.full_like(z, 0 if step.last else 1)
        expected, _ = first_order.step(score, z, replace(step, last=False), SCALE, [noise], None)
        z, state = solver.step(score, z, step, SCALE, [noise], state)
        alike.append(torch.allclose(z, expected, rtol=1e-9, atol=0))
    assert alike == [True, False, False, False, True]


@pytest.mark.parametrize("solver", ALL, ids=str)
def test_the_announced_calls_are_those_made(solver):
    class Recorder(GaussianScore):
        def __init__(self):
            super().__init__(VP(), SCALE, torch.diag(torch.tensor([VARIANCE, 0.0])))
            self.asked = []

        def __call__(self, z, t, condition=NOTHING):
            self.asked.append(float(t))
            return super().__call__(z, t)

    score = Recorder()
    sample(score, VP(), units(SCALE.float()), WorkUnit(0, 0, 1), Sampling(num_steps=6, solver=solver))
    announced = score.trajectories[0]
    assert announced.calls_per_step == solver.calls_per_step
    assert score.asked == pytest.approx(announced.times.tolist(), rel=1e-6)


@pytest.mark.parametrize("grid", ["uniform", "logsnr", "edm"])
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE()], ids=lambda s: type(s).__name__)
def test_grids_fall_from_one_to_epsilon(grid, sde):
    times = time_grid(sde, 40, grid)
    assert len(times) == 41
    assert (times.diff() < 0).all()
    assert times[0] == 1
    assert times[-1] == T_MIN
    even = {"uniform": times, "logsnr": sde.log_snr(times), "edm": (-sde.log_snr(times) / 7).exp()}[grid]
    torch.testing.assert_close(even.diff(), even.diff().mean().expand(40), rtol=1e-3, atol=0)


def test_one_step_is_allowed_and_none_is_not():
    assert len(time_grid(VP(), 1)) == 2
    with pytest.raises(ValueError, match=r"`sampling\.num_steps`"):
        time_grid(VP(), 0)
    with pytest.raises(ValueError, match=r"`sampling\.grid`"):
        time_grid(VP(), 5, "cosine")


@pytest.mark.parametrize(
    "make",
    [
        lambda: DDIM(2.0),
        lambda: DPMSolverPP("x"),
        lambda: PredictorCorrector(0),
        lambda: PredictorCorrector(1, 0),
        lambda: ExponentialWiener("x"),
        lambda: ExponentialWiener(order=5),
        lambda: ExponentialWiener(end="x"),
        lambda: DEIS(0),
        lambda: IPNDM(5),
        lambda: UniPC(4),
        lambda: SASolver(0),
        lambda: SASolver(tau=-1.0),
    ],
)
def test_bad_settings_name_themselves(make):
    with pytest.raises(ValueError, match=r"`sampling\.solver\."):
        make()


@pytest.mark.parametrize("kind", ["ode", "sde"])
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(sigma_max=5.0)], ids=lambda s: type(s).__name__)
def test_one_step_is_exact_for_independent_coordinates_of_any_variance(kind, sde):
    """Also for coordinates without variance, of which only noise is to be taken away, and without noise."""
    variance = torch.tensor([[90.0, 1.0, 0.3], [1e-6, 0.0, 1.0]], dtype=torch.float64)
    scale = torch.tensor([[1.0, 0.7, 0.5], [0.7, 0.7, 0.0]], dtype=torch.float64)
    score, (step,) = GaussianScore(sde, scale, torch.diag(variance.flatten())), double_plan(sde, 1, "uniform")
    object.__setattr__(step, "last", False)
    now, then = (
        (level.alpha**2 * variance + (level.sigma * scale).square()).sqrt() for level in (step.now, step.then)
    )
    z, noise = torch.stack([now, torch.zeros_like(now)]), torch.stack([torch.zeros_like(now), torch.ones_like(now)])
    solver = ExponentialWiener(kind)
    new, _ = solver.step(score, z, step, scale, [noise], solver.begin(units(scale, variance), sde, [], {}))
    live = scale > 0
    if kind == "ode":
        torch.testing.assert_close(new[0][live], then[live], rtol=1e-6, atol=0)
    else:  # what was known of z and what the noise adds make up the deviation at the other end
        torch.testing.assert_close(new.square().sum(0).sqrt()[live], then[live], rtol=1e-6, atol=0)


@pytest.mark.parametrize("end", ["clean", "wiener"])
def test_what_is_said_of_coordinates_without_variance_is_not_believed(end):
    variance = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    scale = torch.full((1, 2), 0.5, dtype=torch.float64)
    solver, (step,) = ExponentialWiener("ode", end=end), double_plan(VP(), 1, "uniform")
    z = torch.ones(1, 1, 2, dtype=torch.float64)
    new, _ = solver.step(lambda z, t: -5 * z, z, step, scale, [], solver.begin(units(scale, variance), VP(), [], {}))
    assert float(new[0, 0, 1]) == pytest.approx(step.then.sigma / step.now.sigma, rel=1e-12)


@pytest.mark.parametrize("kind", ["ode", "sde"])
def test_the_last_step_leaves_no_noise_where_the_estimate_is_sure(kind):
    """However long the step: the Wiener filter would take the noise for spread that is still open."""
    scale, known = torch.ones(1, 1, dtype=torch.float64), 0.3
    (step,) = double_plan(VP(), 1, "uniform")

    def sure(z, t):
        return (step.now.alpha * known - z) / step.now.sigma**2

    z = torch.randn(50, 1, 1, dtype=torch.float64)
    solver = ExponentialWiener(kind)
    new, _ = solver.step(sure, z, step, scale, [torch.zeros_like(z)], solver.begin(units(scale), VP(), [], {}))
    assert float(new.std()) < 0.002
    assert float(new.mean()) == pytest.approx(step.then.alpha * known, abs=1e-3)
    if kind == "ode":
        solver = ExponentialWiener(kind, end="wiener")
        new, _ = solver.step(sure, z, step, scale, [], solver.begin(units(scale), VP(), [], {}))
        assert float(new.std()) > 0.5


@pytest.mark.parametrize("kind", ["ode", "sde"])
def test_the_weights_of_the_remainder_integrate_time_of_its_own(kind):
    """Over a step, a remainder of 1 adds ``n' (θ - θ')`` or ``2n'² (q - q') / (α'√v)``, worked out by hand."""
    variance, scale = torch.tensor([[0.3]], dtype=torch.float64), torch.tensor([[0.7]], dtype=torch.float64)
    solver, step = ExponentialWiener(kind), double_plan(VP(), 6, "edm")[3]
    (gain,) = solver.gains([step.now], step.now, step.then, solver.begin(units(scale, variance), VP(), [], {}))
    levels = (step.now, step.then)
    q, q_then = (level.sigma * 0.7 / math.hypot(level.alpha * 0.3**0.5, level.sigma * 0.7) for level in levels)
    n = math.hypot(step.then.alpha * 0.3**0.5, step.then.sigma * 0.7)
    even = n * (math.asin(q) - math.asin(q_then))
    expected = even if kind == "ode" else 2 * n**2 * (q - q_then) / (step.then.alpha * 0.3**0.5)
    assert float(gain) * 0.3**0.5 == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("solver", "same"),
    [
        (UniPC(2, correct=False), DPMSolverPP()),  # UniP-2 with B2(h) is DPM-Solver++(2M)
        (UniPC(1, correct=False), DDIM()),
        (SASolver(1, tau=0.0, correct=False), DDIM()),
        (SASolver(1, tau=1.0, correct=False), DDIM(1.0)),
        (DEIS(1), DDIM()),
        (IPNDM(1), DDIM()),
    ],
    ids=str,
)
@pytest.mark.parametrize("sde", [VP(), SubVP(), VE(sigma_max=5.0)], ids=lambda s: type(s).__name__)
def test_what_multistep_solvers_are_at_low_order(solver, same, sde):
    a = b = torch.tensor([[[1.0, 0.0]]], dtype=torch.float64)
    state, other = solver.begin(units(SCALE), sde, [], {}), None
    for step in double_plan(sde, 6, "edm"):
        if same == DDIM(1.0):  # which ends with a step of the ODE
            step = replace(step, last=False)
        a, state = solver.step(oracle(sde), a, step, SCALE, [torch.ones_like(a)], state)
        b, other = same.step(oracle(sde), b, step, SCALE, [torch.ones_like(b)], other)
        torch.testing.assert_close(a, b, rtol=1e-8, atol=0)


@pytest.mark.parametrize(
    "solver", [DEIS(1), DEIS(3), DEIS(4), SASolver(3, correct=False), SASolver(4, correct=False)]
)
def test_predictors_integrate_polynomials_exactly(solver):
    """Of a degree one below their order: DEIS the noise in time, SA-Solver the clean estimate in half log-SNR."""
    sde, degree, planned = VP(), solver.order - 1, double_plan(VP(), 8, "edm")

    def clean(level_or_t):
        return (1 + sde.log_snr(level_or_t)) ** degree

    def score(z, t):
        if isinstance(solver, DEIS):
            return torch.full_like(z, -(float(1 + t) ** degree)) / sde.sigma(t)
        return -(z - sde.alpha(t) * clean(t)) / sde.sigma(t) ** 2

    one = torch.ones(1, 1, dtype=torch.float64)
    z, state = one[None], solver.begin(units(one), sde, [], {})
    for step in planned[:-1]:
        before = z
        z, state = solver.step(score, z, step, one, [torch.zeros_like(z)], state)
        if len(state.known) < solver.order:
            continue
        now, then = step.now, step.then
        t = torch.linspace(float(now.t), float(then.t), 20001, dtype=torch.float64)
        if isinstance(solver, DEIS):
            moved = then.alpha * torch.trapezoid((1 + t) ** degree, (-sde.log_snr(t)).exp())
            kept = then.alpha / now.alpha
        else:
            at, end = sde.log_snr(t), sde.log_snr(t[-1])
            moved = then.sigma * torch.trapezoid(2 * (2 * at - end).exp() * clean(t), at)
            kept = then.sigma / now.sigma * (then.ratio / now.ratio)
        assert float(z) == pytest.approx(float(kept * before + moved), rel=1e-5)


def test_ipndm_has_the_weights_of_adams_and_bashforth():
    step = double_plan(VP(), 8, "edm")[4]
    state = IPNDM(4).begin(units(SCALE), VP(), [], {})
    for order in (1, 2, 3, 4):
        gains = IPNDM(4).gains([step.now] * order, step.now, step.then, state)
        weights = [g / (step.then.alpha * (step.then.ratio - step.now.ratio)) for g in gains]
        for power in range(order):  # of the last calls, at 0, -1, -2, ..., to the integral of x^power from 0 to 1
            assert sum(w * (-i) ** power for i, w in enumerate(weights)) == pytest.approx(1 / (power + 1))


def test_sampling_starts_at_the_noise_level_of_the_process():
    """VE ends at sigma_max, not at 1: a start at the wrong level would show in the variance."""
    sde = VE(sigma_max=8.0)
    z = sample(oracle(sde), sde, units(SCALE.float()), WorkUnit(0, 0, 4000), Sampling(num_steps=400, grid="edm"))
    assert z[:, 0, 0].var() == pytest.approx(VARIANCE, rel=0.12)


def test_ancestral_ddim_draws_from_the_posterior_of_ddpm():
    """With eta = 1 the fresh noise has DDPM's posterior variance (Ho et al., arXiv 2006.11239, equation 7)."""
    step = plan(VP(), time_grid(VP(), 20), "cpu")[7]
    z = torch.zeros(1, 1, 2)
    with_noise, _ = DDIM(1.0).step(oracle(VP()), z, step, SCALE.float(), [torch.ones_like(z)], None)
    now, then = step.now.alpha**2, step.then.alpha**2  # the cumulative products of DDPM
    beta = 1 - now / then
    assert float(with_noise[0, 0, 0]) == pytest.approx(0.5 * math.sqrt(beta * (1 - then) / (1 - now)), rel=1e-5)


def test_the_corrector_takes_songs_step():
    """One Langevin step by the formula, delta = 2 (snr |xi| / |Lambda s|)^2, per sample and without masked ones."""
    step = plan(VP(), time_grid(VP(), 20), "cpu")[7]
    scale, score = SCALE.float(), oracle(VP())
    z = torch.tensor([[[0.7, 0.0]], [[-2.0, 0.0]]])
    noises = [torch.randn(2, 1, 2, generator=torch.Generator().manual_seed(0)) for _ in range(2)]
    moved, _ = PredictorCorrector(1, 0.2).step(score, z, step, scale, noises, None)
    predicted, _ = EulerMaruyama().step(score, z, step, scale, noises[:1], None)
    for b in range(2):
        gradient = 0.5 * float(score(predicted, step.then.t)[b, 0, 0])
        xi = float(noises[1][b, 0, 0])
        delta = 2 * (0.2 * abs(xi) / abs(gradient)) ** 2
        expected = float(predicted[b, 0, 0]) + delta * 0.5 * gradient + math.sqrt(2 * delta) * 0.5 * xi
        assert float(moved[b, 0, 0]) == pytest.approx(expected, rel=1e-4)
