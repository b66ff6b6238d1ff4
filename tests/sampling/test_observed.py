"""Methods that keep to observed values, where the conditional law is known: Gaussian data and their exact score."""

# A part that is not there fails its test.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import numpy as np
import pytest
import torch
from known_law import Fixed, exact_score, observed_of
from test_conditional import fitted, masks

from lightning_freqdiff.caching import Wiener
from lightning_freqdiff.caching.base import CachedScore
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.diffusion import VE, VP, SubVP
from lightning_freqdiff.sampling import (
    Conditions,
    GaussianPosterior,
    Guided,
    Replacement,
    Sampling,
    WorkUnit,
    sample,
)
from lightning_freqdiff.sampling.observed import Estimate
from lightning_freqdiff.sampling.solvers import (
    DDIM,
    DPMSolverPP,
    EulerMaruyama,
    ExponentialWiener,
    Heun,
    UniPC,
)

COUNT = 1500


def drawn(codec, sde, mask, count=COUNT, **settings):
    observed = observed_of(codec, mask)
    sampling = Sampling(num_samples=count, condition=Fixed(observed, mask), **settings)
    unit = WorkUnit(0, 0, count)
    score = exact_score(codec, sde)
    series = sampling.finish(codec.decode(sample(score, sde, codec, unit, sampling)), unit)
    return series, observed, score


def distance(codec, series, observed, mask):
    """Errors of mean and covariance, over the deviation and variance of what is not known."""
    gaussian = gaussian_of(codec)
    one = observed.unsqueeze(0), mask.unsqueeze(0)
    noise = torch.randn(20000, codec.noise_scale.numel(), generator=torch.Generator().manual_seed(1))
    exact = gaussian.draw(*(part.expand(20000, -1, -1) for part in one), noise).flatten(1)
    mean, left = gaussian.draw(*one).flatten(), exact.T.cov()
    rows, size = series.flatten(1), left.diagonal().max()
    return float((rows.mean(0) - mean).abs().max() / size.sqrt()), float((rows.T.cov() - left).abs().max() / size)


SOLVERS = {
    "euler-maruyama": (EulerMaruyama(), 400, "uniform"),
    "ddim": (DDIM(), 60, "logsnr"),
    "dpm": (DPMSolverPP("ode"), 40, "edm"),
    "heun": (Heun(), 40, "edm"),
    "unipc": (UniPC(), 40, "edm"),
    "exponential": (ExponentialWiener("ode"), 40, "edm"),
    "exponential-sde": (ExponentialWiener("sde"), 150, "edm"),
}


@pytest.mark.parametrize("name", SOLVERS)
def test_the_posterior_is_exact_where_data_are_gaussian(name):
    solver, steps, grid = SOLVERS[name]
    codec, mask = fitted(length=10), masks(10, 2)[0]
    settings = {"solver": solver, "num_steps": steps, "grid": grid, "guidance": GaussianPosterior()}
    series, observed, score = drawn(codec, VP(), mask, **settings)
    mean, covariance = distance(codec, series, observed, mask)
    assert mean < 0.1
    assert covariance < 0.12
    assert torch.equal(series[:, mask > 0], observed[mask > 0].expand(COUNT, -1))
    assert score.calls == steps * solver.calls_per_step


@pytest.mark.parametrize(
    ("kind", "sde"),
    [
        ({"colour": 1.0}, VP()),
        ({"colour": 0.5, "length": 9}, VE()),
        ({"domain": "time", "colour": 1.0}, SubVP()),
        ({"domain": "wavelet", "colour": 0.5}, VP()),
        ({"domain": "lapped", "colour": 0.5}, VP()),
        ({"joint": False, "colour": 0.0}, VP()),
        ({"joint": False, "colour": 1.0}, VP()),
    ],
    ids=str,
)
@pytest.mark.parametrize("which", [1, 3], ids=["block", "tail"])
def test_it_is_so_in_every_colour_domain_and_process(kind, sde, which):
    codec = fitted(**{"length": 10, **kind})
    mask = masks(*(codec.layout.length, codec.layout.channels))[which]
    settings = {"solver": DPMSolverPP("ode"), "num_steps": 40, "grid": "edm"}
    series, observed, _ = drawn(codec, sde, mask, guidance=GaussianPosterior(), **settings)
    mean, covariance = distance(codec, series, observed, mask)
    assert mean < 0.12
    assert covariance < 0.15
    plain, _, _ = drawn(codec, sde, mask, **settings)
    assert distance(codec, plain, observed, mask)[0] > 0.3


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_replacement_keeps_pure_noise_pure(colour):
    """At the start there is nothing but noise, of which a part is put in place of another."""
    codec, mask = fitted(colour=colour), masks(11, 2)[0]
    condition = Fixed(observed_of(codec, mask), mask).rows(0, 4000)
    constraint = Replacement().begin(codec, VP(), condition)
    from lightning_freqdiff.sampling.solvers import plan

    level = plan(VP(), torch.tensor([1.0, 0.999], dtype=torch.float64), "cpu")[0].now
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4000, *codec.noise_scale.shape, generator=generator)
    z = level.sigma * codec.noise_scale * first
    put = constraint.apply(z, level, condition, codec, second)
    live = ((codec.noise_scale > 0) & (codec.variance > 0)).flatten()
    rows = codec.whiten(put)[:, live]
    assert (rows.T.cov() - torch.eye(int(live.sum()))).abs().max() < 0.12
    assert (put - z).abs().max() > 0.1


@pytest.mark.slow
def test_replacement_comes_nearer_with_time_travel():
    codec, mask = fitted(length=10), masks(10, 2)[1]
    found = []
    for constraint in (Replacement(), Replacement(resamplings=6, jump=5)):
        series, observed, score = drawn(codec, VP(), mask, num_steps=100, constraint=constraint)
        found.append(sum(distance(codec, series, observed, mask)))
        assert torch.equal(series[:, mask > 0], observed[mask > 0].expand(COUNT, -1))
        assert score.calls == 100 * constraint.resamplings
        assert len(score.trajectories[0].times) == score.calls
    plain, observed, _ = drawn(codec, VP(), mask, num_steps=100)
    assert found[1] < 0.5 * found[0]
    assert found[0] < 0.7 * sum(distance(codec, plain, observed, mask))


@pytest.mark.parametrize("way", [{"guidance": GaussianPosterior()}, {"constraint": Replacement(3, 4)}], ids=str)
def test_nothing_observed_is_unconditional_bit_for_bit(way, model):
    codec, unit = model.score.codec, WorkUnit(0, 0, 5)
    nothing = Fixed(torch.full((64, 1), torch.nan), torch.zeros(64, 1))
    plain = Sampling(num_steps=12)
    settings = Sampling(num_steps=12, condition=nothing, **way)
    assert torch.equal(model.draw(unit, settings), model.draw(unit, plain))
    cached = [
        sample(CachedScore(model.score, Wiener(), 12), model.sde, codec, unit, one)
        for one in (plain, Sampling(num_steps=12, condition=nothing, guidance=way.get("guidance")))
    ]
    assert torch.equal(*cached)


def test_caches_see_through_the_posterior_and_no_cache_travels_in_time(model):
    mask = (torch.arange(64) < 32).float().view(64, 1)
    settings = Sampling(
        num_steps=40, condition=Fixed(torch.zeros(64, 1), mask), guidance=GaussianPosterior(), num_samples=6
    )
    cached = CachedScore(model.score, Wiener(tolerance=0.02), 40)
    exact, quick = (model.draw(WorkUnit(0, 0, 6), settings, score) for score in (model.score, cached))
    assert (exact[:, :32] == 0).all()
    assert (quick[:, :32] == 0).all()
    assert cached.ledger.totals()["network_calls"] < 38
    assert (exact - quick).norm() < 0.3 * exact.norm()
    travelling = Sampling(num_steps=12, condition=settings.condition, constraint=Replacement(2, 3))
    with pytest.raises(ValueError, match="goes back in time.*`sampling.constraint.resamplings` 1"):
        model.draw(WorkUnit(0, 0, 2), travelling, CachedScore(model.score, Wiener(), travelling.num_calls))


def test_a_mask_of_another_length_is_refused(model):
    wrong = Fixed(torch.zeros(60, 1), torch.ones(60, 1))
    with pytest.raises(ValueError, match=r"\(64, 1\) as the model was trained on, got \(60, 1\)"):
        model.draw(WorkUnit(0, 0, 2), Sampling(num_steps=3, condition=wrong, guidance=GaussianPosterior()))


@pytest.mark.parametrize("setting", ["resamplings", "jump"])
def test_time_travel_of_no_steps_is_refused(setting):
    with pytest.raises(ValueError, match=rf"{setting} >= 1, got 0: set `sampling.constraint.{setting}`"):
        Replacement(**{setting: 0})


def test_mixed_masks_are_their_singles(model):
    """Rows of which different values are observed, and one of which none is."""
    generator = np.random.default_rng(0)
    values = torch.from_numpy(generator.normal(size=(4, 64, 1)).astype(np.float32))
    mask = torch.from_numpy((generator.random((4, 64, 1)) < 0.3).astype(np.float32))
    mask[2], mask[3] = 0, mask[0]

    class Own(Conditions):
        def rows(self, first, count):
            return Condition(observed=values, mask=mask).take(slice(first, first + count))

    for way in ({"guidance": GaussianPosterior()}, {"constraint": Replacement()}):
        settings = Sampling(num_steps=12, condition=Own(), **way)
        whole = model.draw(WorkUnit(0, 0, 4), settings)
        singles = torch.cat([model.draw(WorkUnit(0, i, 1), settings) for i in range(4)])
        torch.testing.assert_close(whole, singles, atol=1e-4, rtol=1e-4)
        assert torch.equal(whole[mask > 0], values[mask > 0])


def test_a_doubted_network_is_doubted_under_caches_and_guidance_too(model):
    """What lies around a score tells how far it is to be believed, as it tells all else."""
    mask = (torch.arange(64) < 32).float().view(64, 1)
    settings = Sampling(num_steps=12, condition=Fixed(torch.zeros(64, 1), mask), guidance=GaussianPosterior())
    unit, trust = WorkUnit(0, 0, 4), model.score.correction.trust
    believed = model.draw(unit, settings)
    trust.fill_(0.3)
    doubted = model.draw(unit, settings)
    cached = model.draw(unit, settings, CachedScore(model.score, Wiener(tolerance=0.0), 12))
    guided = Guided(model.score, GaussianPosterior()).believed(torch.tensor(0.5))
    trust.fill_(1.0)
    assert (believed - doubted).norm() > 0.01 * believed.norm()
    torch.testing.assert_close(cached, doubted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(guided, torch.full_like(guided, 0.3))


def test_an_estimate_that_is_doubted_agrees_with_what_was_observed():
    codec, sde = fitted(), VP()
    mask = masks(11, 2)[:1]
    observed = observed_of(codec, mask[0]).unsqueeze(0)
    condition = Condition(observed=observed, mask=mask)
    posterior, gaussian = GaussianPosterior().begin(codec, sde, condition), gaussian_of(codec)
    t = torch.tensor(0.4, dtype=torch.float64)
    alpha, sigma = (f(t).view(1, 1) for f in (sde.alpha, sde.sigma))
    rows, noisy = torch.randn(2, 1, gaussian.size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    believed = torch.linspace(0, 1, gaussian.size)
    moved = posterior.move(Estimate(rows, noisy, alpha, sigma, believed), condition)
    series = (gaussian.series(rows + moved) + gaussian.mean).view(1, 11, 2)
    torch.testing.assert_close(series[mask > 0], observed.double()[mask > 0], atol=1e-3, rtol=0)
