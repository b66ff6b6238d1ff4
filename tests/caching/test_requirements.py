"""What every cache must satisfy, for every policy but E2CRF, which has tests of its own."""

import json
import warnings
from dataclasses import fields

import pytest
import torch
from lightning.pytorch import Trainer
from random_networks import draw, random_score

from lightning_freqdiff.caching import (
    DMD,
    E2CRF,
    L2C,
    L2P,
    AdaCorrection,
    CachedScore,
    FastCache,
    FirstBlock,
    FoCa,
    FreqCa,
    MagCache,
    PrediT,
    SpectralCache,
    Spectrum,
    SVDCache,
    TaylorSeer,
    TeaCache,
    ToMe,
    Wiener,
)
from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.presets import LONG
from lightning_freqdiff.callbacks import CacheCallback
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Lapped, Representation
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import LSTM, MLP, Transformer
from lightning_freqdiff.networks.flops import count_flops
from lightning_freqdiff.sampling import time_grid
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit
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
)

STEPS = 25
STALE = ("output", "features", "residual", "wiener")
SLOW = pytest.mark.slow  # of what is alike, some is in the default suite

SOLVERS = {
    "euler": EulerMaruyama(),
    "ddim": DDIM(0.0),
    "ancestral": DDIM(1.0),
    "heun": Heun(),
    "dpm": DPMSolverPP(),
    "corrector": PredictorCorrector(),
    "exponential": ExponentialWiener(),
    "deis": DEIS(),
    "ipndm": IPNDM(),
    "unipc": UniPC(),
    "sa": SASolver(),
}


def busy(policy, **settings):
    """A policy, and how to make it with other settings."""
    return policy, settings


# Settings under which 25 steps of a random network see some calls made and some skipped.
POLICIES = {
    "teacache": busy(TeaCache, tau=0.8),
    "teacache-polynomial": busy(TeaCache, tau=0.8, coefficients=[0.5, 0.5, 0.02]),
    "spectral": busy(SpectralCache, tau=0.8),
    "spectral-frequency": busy(SpectralCache, tau=0.8, bands="frequency"),
    "spectral-no-tads": busy(SpectralCache, tau=0.8, tads=False),
    "spectral-no-ceb": busy(SpectralCache, tau=0.8, ceb=False),
    "spectral-no-fdc": busy(SpectralCache, tau=0.8, fdc=False),
    "firstblock": busy(FirstBlock, tau=0.35),
    "fastcache": busy(FastCache, cap=0.12),
    **{f"taylor-{n}-{s}": busy(TaylorSeer, interval=3, order=n, stale=s) for n in (0, 1, 2) for s in STALE},
    "spectrum": busy(Spectrum),
    "spectrum-blend": busy(Spectrum, blend=0.5, stale="wiener"),
    "foca": busy(FoCa, interval=3, warmup=2),
    **{f"freqca-{b}": busy(FreqCa, interval=3, bands=b) for b in ("fourier", "cosine", "frequency")},
    "dmd": busy(DMD, interval=3),
    "magcache": busy(MagCache, retention=0.1),
    "predit": busy(PrediT, warmup=2),
    "svdcache": busy(SVDCache, interval=3),
    "l2p": busy(L2P, interval=3),
    "l2c": busy(L2C, interval=3, penalty=1e-3),
    "adacorrection": busy(AdaCorrection, interval=3, gain=0.02),
    "wiener": busy(Wiener, tolerance=0.1),
    "wiener-clock": busy(Wiener, tolerance=0.1, memory=1.0),
    "wiener-held": busy(Wiener, tolerance=0.1, correct=False),
}
CLOCKED = (
    "taylor",
    "spectrum",
    "wiener-clock",
    "foca",
    "freqca",
    "dmd",
    "magcache",
    "svdcache",
    "l2p",
    "l2c",
    "adacorrection",
)
"""Caches whose calls all samples make together."""
WHOLE_E2CRF = busy(E2CRF, R=6, tau_safe=0.3)
WIENER = [name for name in POLICIES if name.startswith("wiener")]
# Every policy under the papers' solver, and the Wiener caches, which treat solvers differently, under all.
CASES = [(name, solver) for name in POLICIES for solver in (SOLVERS if name in WIENER[::2] else ["euler"])]
# A cache that is attached, and never skips.
OFF = [
    ("teacache", {"tau": 0.0}),
    ("teacache-polynomial", {"tau": 0.0}),
    *[("spectral", {"tau": 0.0, "bands": b}) for b in ("channel", "frequency")],
    *[("spectral", {"tau": 0.0, part: False}) for part in ("tads", "ceb", "fdc")],
    ("spectral", {"tau": 1e9, "c_max": 0}),
    ("spectral", {"tau": 1e9, "s_min": 0.0, "s_max": 0.0}),
    ("firstblock", {"tau": 0.0}),
    ("fastcache", {"cap": 0.0}),
    *[(f"taylor-{n}-{s}", {"interval": 1}) for n in (0, 1, 2) for s in STALE],
    ("spectrum", {"window": 1.0, "growth": 0.0}),
    ("spectrum", {"warmup": 1000}),
    *[(name, {"interval": 1}) for name in POLICIES if name.startswith(("foca", "freqca", "dmd", "svdcache", "l2"))],
    ("l2c", {"penalty": 0.0}),
    ("adacorrection", {"interval": 1, "gain": 1e9}),
    *[("magcache", off) for off in ({"tau": 0.0}, {"skips": 0}, {"retention": 1.0})],
    *[("predit", off) for off in ({"tau": 0.0}, {"skips": 0}, {"warmup": 1000})],
    *[(name, {"tolerance": 0.0}) for name in WIENER],
]


def make(name, **more):
    policy, settings = WHOLE_E2CRF if name == "e2crf" else POLICIES[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*has no effect")
        return policy(**{**settings, **more})


def teach(score) -> Score:
    """Give a network what the caches that learn would have of `calibrate`, made up."""
    random = torch.Generator().manual_seed(0)
    z, t = torch.zeros(1, *score.noise_scale.shape).to(score.noise_scale), torch.tensor(0.5)
    features = score.embed(z, t, score.coefficients(t)).features
    times = torch.linspace(0, 1, 21, dtype=torch.float64)
    score.calibration["l2p.times"] = times
    score.calibration["magcache.log_magnitude"] = (3 * times).sin()
    for kind in STALE:
        width = features.shape[-1] if kind in ("features", "residual") else score.noise_scale.shape[-1]
        rows = torch.randn(width, width, generator=random)
        score.calibration[f"moments.{kind}"] = rows @ rows.T
        apart = (times.unsqueeze(0) - times.unsqueeze(1)).abs()
        score.calibration[f"l2p.gram.{kind}"] = (-4 * apart**1.5).exp()
        score.calibration[f"l2p.ridge.{kind}"] = torch.tensor(1e-4)
    layers, size = len(score.network.layers), torch.tensor([1e-3, 0.1, 0.02, 1e-3, 0.05]).view(5, 1, 1)
    rows = torch.randn(2, 5, layers, layers, generator=random) * size
    score.calibration["l2c.times"] = time_grid(score.sde, 60, "edm")
    score.calibration["l2c.places"] = torch.linspace(3, 57, 5)
    score.calibration["l2c.gaps"] = torch.tensor([1.0, 3.0])
    score.calibration["l2c.products"] = rows @ rows.mT
    return score


def cached(score, chosen, solver="euler", steps=STEPS) -> CachedScore:
    if not score.calibration:
        teach(score)
    return CachedScore(score, chosen, steps * SOLVERS[solver].calls_per_step)


def run(score, chosen, solver="euler", **more):
    wrapped = cached(score, chosen, solver)
    return draw(wrapped, score, solver=SOLVERS[solver], **more), wrapped.ledger


@pytest.mark.parametrize("shape", [(16, 1), (13, 3)], ids=str)
@pytest.mark.parametrize(("name", "off"), OFF, ids=lambda v: str(v))
def test_1_with_thresholds_at_zero_the_samples_are_those_of_no_cache_bit_for_bit(name, off, shape):
    score = random_score(*shape)
    samples, ledger = run(score, make(name, **off))
    assert torch.equal(samples, draw(score, score))
    assert ledger.totals()["hit_rate"] == 0


@pytest.mark.parametrize(("name", "off"), OFF, ids=lambda v: str(v))
def test_1_of_a_network_that_is_kept_in_part(name, off, model):
    model.score.correction.keep(torch.linspace(0.2, 0.9, 12))
    samples, _ = run(model.score, make(name, **off), count=2)
    assert torch.equal(samples, draw(model.score, model.score, count=2))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    ("name", "off"), [(n, o) for n, o in OFF if not n.startswith("taylor") or n == "taylor-2-features"], ids=str
)
def test_1_under_every_solver(name, off, solver):
    score = random_score(13, 1)
    samples, ledger = run(score, make(name, **off), solver)
    assert torch.equal(samples, draw(score, score, solver=SOLVERS[solver]))
    assert ledger.totals()["calls_skipped"] == 0


BACKBONES = {
    "plain": Transformer(preset="plain", layers=2, heads=2, width=8, feedforward=16),
    "adaptive": Transformer(layers=2, heads=2, width=8, feedforward=16),
    "hybrid": Transformer(mix=3, layers=2, heads=2, width=16, feedforward=16),
    "steps": Transformer(axis="time", group=2, layers=2, heads=2, width=8, feedforward=16),
    "lstm": LSTM(layers=1, width=8),
    "mlp": MLP(layers=1, width=8),
    "wavelets": Transformer(layers=2, heads=2, width=8, feedforward=16),
    "blocks": Transformer(layers=2, heads=2, width=8, feedforward=16),
}
DIFFUSED = {"wavelets": "wavelet", "blocks": Lapped(4)}
EVERYWHERE = ["teacache", "spectral", "firstblock", "fastcache", "taylor-1-features", "spectrum", "wiener", "e2crf"]
EVERYWHERE += [
    "foca",
    "freqca-fourier",
    "freqca-cosine",
    "dmd",
    "magcache",
    "predit",
    "svdcache",
    "l2p",
    "l2c",
    "adacorrection",
]

BANDED = ["spectral-frequency", "freqca-frequency"]


@pytest.mark.parametrize(
    "backbone",
    [name if name in ("adaptive", "steps", "lstm") else pytest.param(name, marks=SLOW) for name in BACKBONES],
)
@pytest.mark.parametrize("name", [*EVERYWHERE, *BANDED])
def test_every_requirement_on_every_backbone(name, backbone):
    if name in BANDED and backbone in ("mlp", "steps", "blocks"):
        return  # refused, see below
    score = other_network(BACKBONES[backbone], DIFFUSED.get(backbone, "frequency"))
    off = (
        {"tau_safe": 0.0}
        if name == "e2crf"
        else next(o for n, o in OFF if n in (name, name.removesuffix("-frequency")))
    )
    assert torch.equal(run(score, make(name, **off))[0], draw(score, score))
    batch, ledger = run(score, make(name), count=4, first=3)
    singles = torch.cat([run(score, make(name), count=1, first=3 + i)[0] for i in range(4)])
    torch.testing.assert_close(batch, singles, atol=1e-4, rtol=1e-4)
    assert batch.isfinite().all()
    assert ledger.totals()["calls_skipped"] > 0
    wrapped = cached(score, make(name))
    once = draw(wrapped, score)
    draw(wrapped, score, count=2, first=9)
    assert torch.equal(draw(wrapped, score), once)


@pytest.mark.parametrize(
    ("network", "domain"),
    [("mlp", "frequency"), ("steps", "wavelet"), ("plain", "time"), ("plain", "lapped")],
)
def test_bands_by_frequency_are_refused_where_tokens_are_no_frequencies(network, domain):
    score = other_network(BACKBONES[network], domain)
    for name, other, idle in zip(BANDED, ("channel", "fourier"), ({"fdc": False}, {"order": 0}), strict=True):
        with pytest.raises(ValueError, match=rf"expected tokens that are frequencies.*`policy\.bands` {other}$"):
            run(score, make(name))
        run(score, make(name, **idle))
    if domain in ("frequency", "wavelet"):  # predictions have the tokens of the layout, whatever the network works on
        run(score, make("freqca-frequency", stale="wiener"))


@pytest.mark.parametrize(
    "policy",
    [E2CRF(preset="naive"), E2CRF(preset="fixed_schedule", R=5), E2CRF(tau_safe=10.0)],
    ids=lambda p: p.preset,
)
def test_what_decides_on_whole_calls_runs_on_networks_without_tokens(policy):
    score = other_network(MLP(layers=1, width=8))
    samples, ledger = run(score, policy)
    assert samples.isfinite().all()
    assert ledger.totals()["calls_skipped"] > 0


@pytest.mark.parametrize("preset", ["paper", "no_feedback"])
def test_a_cache_of_tokens_refuses_networks_without_tokens(preset):
    with pytest.raises(ValueError, match="expected a network whose tokens can be run one by one.*got MLPBackbone"):
        run(other_network(MLP(layers=1, width=8)), E2CRF(preset=preset))


def other_network(architecture, domain="frequency") -> Score:
    torch.manual_seed(0)
    score = Score(architecture, VP(), "wiener", Representation(domain, 13, 1)).eval()
    for parameter in score.network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return score


LAZY = {
    "teacache": {"tau": 1e9},
    "spectral": {"tau": 1e9, "ceb": False},
    "firstblock": {"tau": 1e9},
    "fastcache": {"cap": 1e9},
    "taylor": {"interval": 1000},
    "spectrum": {"warmup": 1, "window": 1000.0},
    "foca": {"interval": 1000, "warmup": 1},
    "freqca": {"interval": 1000, "warmup": 1},
    "dmd": {"interval": 1000},
    "magcache": {"tau": 1e9, "skips": 1000, "retention": 0.0},
    "predit": {"tau": 1e9, "skips": 1000, "warmup": 1},
    "svdcache": {"interval": 1000, "warmup": 1},
    "l2p": {"interval": 1000, "warmup": 1},
    "l2c": {"interval": 1000},
    "adacorrection": {"interval": 1000},
    "wiener": {"tolerance": 1e9, "longest": 1.0},
}


@pytest.mark.parametrize(
    ("name", "stale"),
    [(n, s) for n in POLICIES for s in (STALE if hasattr(POLICIES[n][0], "stale") and "taylor" not in n else [None])],
)
def test_2_asked_twice_reuse_is_exact(name, stale):
    score = random_score(13, 2)
    settings = dict(LAZY[name.split("-")[0]])
    if stale:
        settings["stale"] = stale
    chosen = make(name, **settings)
    teach(score)
    torch.manual_seed(0)
    z = torch.randn(4, *score.noise_scale.shape) * score.noise_scale
    state = chosen.begin(score, Trajectory(torch.full((9,), 0.4), 1, tuple(z.shape), 0, 0))
    with torch.no_grad():
        first, state = chosen.evaluate(score, z, Call(0, torch.tensor(0.4), False, 0.4), state)
        for step in (1, 2, 3):
            again, state = chosen.evaluate(score, z, Call(step, torch.tensor(0.4), False, 0.4), state)
            assert again.work.max() <= 0.5, "it was not reuse that was asked"
            torch.testing.assert_close(again.eps, first.eps, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "solver"),
    [case if case[1] in ("euler", "exponential") else pytest.param(*case, marks=SLOW) for case in CASES],
)
def test_3_a_batch_gives_what_single_runs_give(name, solver):
    score = random_score(17, 1)
    batch, ledger = run(score, make(name), solver, count=5, first=3)
    singles, alone = zip(*[run(score, make(name), solver, count=1, first=3 + i) for i in range(5)], strict=True)
    torch.testing.assert_close(batch, torch.cat(singles), atol=1e-4, rtol=1e-4)
    assert 0 < ledger.totals()["hit_rate"] < 1
    calls = sum(one.totals()["network_calls"] for one in alone) / 5
    assert ledger.totals()["network_calls"] == pytest.approx(calls)


@pytest.mark.parametrize("name", [n for n in POLICIES if not n.startswith(CLOCKED)])
def test_3_samples_decide_for_themselves(name):
    """Otherwise the test above shows nothing: some call must be made for some samples of a batch, and not for all."""
    _, ledger = run(random_score(17, 1), make(name))
    work = ledger.curves()["recomputed"]
    assert any(0 < share < 1 and share not in (0.5,) for share in work)


@pytest.mark.parametrize(("name", "solver"), CASES)
def test_4_nothing_survives_a_trajectory(name, solver):
    score = random_score(17, 1)
    wrapped = cached(score, make(name), solver)
    once = draw(wrapped, score, solver=SOLVERS[solver])
    draw(wrapped, score, count=2, first=9, solver=SOLVERS[solver])  # another shape
    assert torch.equal(draw(wrapped, score, solver=SOLVERS[solver]), once)


# A policy, a setting, two values of it, the other settings under which it acts, and the solver.
PARAMETERS = [
    (TeaCache, "tau", 0.5, 1.0, {}),
    (TeaCache, "coefficients", [1.0, 0.0], [0.5, 0.0, 0.1], {"tau": 0.8}),
    (TeaCache, "stale", "residual", "output", {"tau": 0.8}),
    (TeaCache, "stale", "residual", "wiener", {"tau": 0.8}),
    (FirstBlock, "tau", 0.3, 0.5, {}),
    (FirstBlock, "stale", "residual", "output", {"tau": 0.35}),
    (FirstBlock, "stale", "residual", "wiener", {"tau": 0.35}),
    (SpectralCache, "tau", 0.5, 1.0, {}),
    (SpectralCache, "coefficients", [1.0, 0.0], [0.5, 0.0, 0.1], {}),
    (SpectralCache, "tads", True, False, {}),
    (SpectralCache, "ceb", True, False, {"tau": 3.0}),
    (SpectralCache, "fdc", True, False, {"gamma_low": 0.4}),
    (SpectralCache, "s_min", 0.2, 1.2, {}),
    (SpectralCache, "s_max", 0.8, 2.0, {}),
    (SpectralCache, "c_max", 1, 3, {"tau": 3.0}),
    (SpectralCache, "gamma_low", 0.4, 1.2, {}),
    (SpectralCache, "gamma_high", 0.4, 1.2, {}),
    (SpectralCache, "ratio", 0.2, 0.8, {"bands": "frequency", "gamma_low": 0.5}),
    (SpectralCache, "ratio", 0.2, 0.8, {"bands": "channel", "gamma_low": 0.5}),
    (SpectralCache, "bands", "channel", "frequency", {}),
    (SpectralCache, "stale", "residual", "output", {}),
    (SpectralCache, "stale", "residual", "wiener", {}),
    (FastCache, "significance", 0.05, 1 - 1e-6, {}),
    (FastCache, "cap", 0.08, 0.15, {}),
    (TaylorSeer, "interval", 2, 4, {}),
    (TaylorSeer, "order", 0, 1, {}),
    (TaylorSeer, "order", 1, 2, {}),
    (TaylorSeer, "stale", "features", "residual", {}),
    (TaylorSeer, "stale", "output", "wiener", {}),
    (Spectrum, "degree", 1, 3, {}),
    (Spectrum, "ridge", 0.01, 1.0, {}),
    (Spectrum, "history", 3, 100, {}),
    (Spectrum, "warmup", 2, 6, {}),
    (Spectrum, "window", 2.0, 4.0, {}),
    (Spectrum, "growth", 0.0, 1.0, {}),
    (Spectrum, "blend", 0.2, 1.0, {}),
    (Spectrum, "stale", "features", "residual", {}),
    (Spectrum, "stale", "output", "wiener", {}),
    (FoCa, "interval", 2, 4, {"warmup": 2}),
    (FoCa, "warmup", 2, 5, {}),
    (FoCa, "stale", "features", "residual", {}),
    (FreqCa, "interval", 2, 4, {}),
    (FreqCa, "warmup", 1, 4, {}),
    (FreqCa, "order", 0, 1, {}),
    (FreqCa, "order", 1, 2, {}),
    (FreqCa, "cutoff", 0.1, 0.5, {}),
    (FreqCa, "bands", "fourier", "cosine", {}),
    (FreqCa, "bands", "fourier", "frequency", {}),
    (FreqCa, "stale", "features", "residual", {}),
    (DMD, "interval", 2, 4, {}),
    (DMD, "history", 4, 6, {"interval": 2}),
    (DMD, "ridge", 1e-8, 1.0, {"interval": 2}),
    (DMD, "stale", "features", "residual", {}),
    (MagCache, "tau", 0.05, 1.0, {"retention": 0.0}),
    (MagCache, "skips", 1, 4, {"tau": 10.0}),
    (MagCache, "retention", 0.0, 0.5, {}),
    (MagCache, "stale", "residual", "output", {}),
    (PrediT, "tau", 0.2, 2.0, {}),
    (PrediT, "skips", 1, 4, {"tau": 2.0}),
    (PrediT, "correct", 0.0, 10.0, {}),
    (PrediT, "warmup", 1, 6, {}),
    (PrediT, "stale", "output", "residual", {}),
    (SVDCache, "interval", 2, 4, {}),
    (SVDCache, "warmup", 1, 4, {}),
    (SVDCache, "energy", 0.3, 1.0, {}),
    (SVDCache, "decay", 0.3, 0.9, {}),
    (SVDCache, "stale", "features", "residual", {}),
    (L2P, "interval", 2, 4, {}),
    (L2P, "warmup", 1, 4, {}),
    (L2P, "history", 1, 3, {}),
    (L2P, "ridge", 0.0, 1.0, {}),
    (L2C, "interval", 2, 4, {"penalty": 1e-3}),
    (L2C, "penalty", 1e-5, 1e-2, {}),
    (L2C, "threshold", 0.01, 0.99, {"penalty": 1e-3}),
    (AdaCorrection, "interval", 2, 4, {}),
    (AdaCorrection, "spread", 0.0, 3.0, {"gain": 0.02}),
    (AdaCorrection, "gain", 0.01, 0.1, {}),
    (AdaCorrection, "stale", "features", "residual", {}),
    (L2P, "stale", "features", "residual", {}),
    *[
        (Wiener, setting, one, other, {"tolerance": 0.1, **fixed})
        for setting, one, other, fixed in [
            ("tolerance", 0.05, 0.3, {}),
            ("caution", 0.0, 5.0, {}),
            ("longest", 0.1, 0.5, {"tolerance": 10.0}),
            ("final", 0.0, 0.3, {"tolerance": 10.0}),
            ("memory", 0.2, 1.0, {}),
            ("correct", True, False, {}),
            ("calibrated", True, False, {}),
        ]
    ],
]
HELD = [(setting, one, other, fixed) for policy, setting, one, other, fixed in PARAMETERS if policy is Wiener]


def changes(policy, setting, one, other, fixed, solver="euler") -> bool:
    score = random_score(31, 1)
    teach(score).calibration["wiener.rate"] = torch.linspace(3.0, 1.0, 5)
    a, b = (run(score, policy(**{**fixed, setting: value}), solver)[0] for value in (one, other))
    return not torch.allclose(a, b, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*has no effect")
@pytest.mark.parametrize(("policy", "setting", "one", "other", "fixed"), PARAMETERS, ids=lambda v: str(v))
def test_5_every_parameter_changes_the_samples(policy, setting, one, other, fixed):
    assert changes(policy, setting, one, other, fixed)


@pytest.mark.parametrize(("setting", "one", "other", "fixed"), [p for p in HELD if p[0] != "correct"], ids=str)
@pytest.mark.parametrize("solver", ["heun", "dpm", "corrector"])
def test_5_step_by_step_too(setting, one, other, fixed, solver):
    along_sde = SOLVERS[solver].noises_per_step > 0  # what was calibrated says nothing of an ODE
    assert changes(Wiener, setting, one, other, fixed, solver) == (setting != "calibrated" or along_sde)


@pytest.mark.parametrize("policy", sorted({p for p, *_ in POLICIES.values()}, key=lambda p: p.__name__))
def test_5_no_parameter_was_forgotten(policy):
    tested = {setting for chosen, setting, *_ in PARAMETERS if chosen is policy}
    left = {f.name for f in fields(policy)} - tested
    assert left <= {"preset"}  # which is tested below


@pytest.mark.parametrize("policy", [TeaCache, FirstBlock, SpectralCache])
def test_under_the_wiener_parametrization_held_features_are_a_held_remainder(policy):
    """The raw output is the remainder, so holding either is the same; of forecasts this is not true."""
    score = random_score(31, 1)
    a, b = (run(score, policy(tau=0.6, stale=stale))[0] for stale in ("features", "wiener"))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


PRESET = sorted({p for p, *_ in POLICIES.values() if "long" in p.PRESETS}, key=lambda p: p.__name__)


@pytest.mark.parametrize("policy", PRESET)
def test_5_the_preset_goes_by_the_number_of_steps(policy):
    def written(steps, **given):
        return vars(policy(**given).settings_for(steps))

    short, long = policy.DEFAULTS, {**policy.DEFAULTS, **policy.PRESETS["long"]}
    assert written(LONG - 1) == written(1000, preset="short")
    assert written(LONG - 1).items() >= {**short, "preset": "short"}.items()
    assert written(LONG) == written(20, preset="long")
    assert written(LONG).items() >= {**long, "preset": "long"}.items()
    assert short != long, "the preset does nothing"
    assert set(written(LONG)) == {field.name for field in fields(policy)}
    name, value = next(iter(policy.PRESETS["long"].items()))
    assert written(LONG, **{name: short[name]})[name] == short[name] != value


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        (SpectralCache, {"tads": False, "s_min": 0.2}),
        (SpectralCache, {"tads": False, "s_max": 2.0}),
        (SpectralCache, {"ceb": False, "c_max": 5}),
        (SpectralCache, {"fdc": False, "gamma_low": 0.2}),
        (SpectralCache, {"fdc": False, "gamma_high": 0.2}),
        (SpectralCache, {"fdc": False, "ratio": 0.2}),
        (SpectralCache, {"fdc": False, "bands": "frequency"}),
        (Spectrum, {"blend": 0.0, "degree": 2}),
        (Spectrum, {"blend": 0.0, "ridge": 1.0}),
        (Spectrum, {"blend": 0.0, "history": 5}),
        (FastCache, {"preset": "long", "significance": 0.01}),
        (FreqCa, {"order": 0, "cutoff": 0.5}),
        (FreqCa, {"order": 0, "bands": "cosine"}),
        *[(Wiener, {"tolerance": 0.0, k: v}) for k, v in {"caution": 1.0, "memory": 0.2, "correct": False}.items()],
    ],
    ids=str,
)
def test_5_a_setting_that_has_no_effect_is_said(policy, settings):
    off, idle = list(settings.items())
    with pytest.warns(UserWarning, match=rf"`policy\.{idle[0]}` has no effect in {policy.__name__}.*: it acts with "):
        chosen = policy(**settings)
    score = random_score(13, 2)
    assert torch.equal(run(score, chosen)[0], run(score, policy(**dict([off])))[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        policy(**dict([idle]))


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        (TeaCache, {"preset": "magic"}),
        (TeaCache, {"tau": -1.0}),
        (FirstBlock, {"tau": -1.0}),
        (SpectralCache, {"ratio": 2.0}),
        (SpectralCache, {"c_max": -1}),
        (FastCache, {"significance": 0.0}),
        (FastCache, {"cap": -1.0}),
        (TaylorSeer, {"interval": 0}),
        (TaylorSeer, {"order": -1}),
        (Spectrum, {"history": 1}),
        (Spectrum, {"blend": 1.5}),
        (Spectrum, {"ridge": float("nan")}),
        (FoCa, {"interval": 0}),
        (FreqCa, {"cutoff": 1.5}),
        (DMD, {"history": 3}),
        (MagCache, {"retention": 1.1}),
        (PrediT, {"skips": -1}),
        (SVDCache, {"energy": 1.1}),
        (L2P, {"history": 0}),
        (L2C, {"penalty": -1.0}),
        (L2C, {"threshold": 1.0}),
        (AdaCorrection, {"gain": -1.0}),
        (ToMe, {"ratio": 0.6}),
        (Wiener, {"tolerance": -0.1}),
        (Wiener, {"memory": 1.1}),
        (Wiener, {"longest": float("nan")}),
    ],
    ids=str,
)
def test_bad_settings_name_themselves(policy, settings):
    with pytest.raises(ValueError, match=rf"`policy\.{next(iter(settings))}`$"):
        policy(**settings)


@pytest.mark.parametrize(
    "policy",
    [*map(make, POLICIES), *(E2CRF(preset=p, reuse=r) for p in ("paper", "balanced") for r in ("kv", "token"))],
    ids=lambda p: str(p)[:60],
)
def test_every_cache_runs_in_bfloat16(policy):
    score = random_score(17, 1)
    with torch.autocast("cpu", torch.bfloat16):
        low, _ = run(score, policy)
    assert low.dtype == torch.float32
    assert low.isfinite().all()


@pytest.mark.parametrize("name", [*POLICIES, "e2crf"])
def test_every_cache_runs_in_double_precision(name):
    score = random_score(17, 1).double()
    double, _ = run(score, make(name))
    assert double.dtype == torch.float64
    assert double.isfinite().all()


@pytest.mark.parametrize(("name", "solver"), CASES)
def test_6_the_ledger_says_what_was_done(name, solver):
    score = random_score(17, 1)
    rows = [0] * len(score.network.layers)
    for i, block in enumerate(score.network.layers):

        def count(_, inputs, i=i):
            rows[i] += len(inputs[0])

        block.register_forward_pre_hook(count)
    wrapped = cached(score, make(name), solver)
    draw(wrapped, score, solver=SOLVERS[solver])
    totals, curves, asked = wrapped.ledger.totals(), wrapped.ledger.curves(), 5 * wrapped.ledger.calls
    if name == "firstblock":  # it looks at the first block of all, and runs it again when it calls
        assert rows[0] == asked + rows[1]
        assert totals["flops_fraction"] == pytest.approx(sum(rows) / len(rows) / asked)
        rows[0] -= asked
    else:
        ran = sum(rows) / len(rows) / asked
        assert totals["flops_fraction"] == pytest.approx(ran)
    assert 1 - totals["hit_rate"] == pytest.approx(sum(rows) / len(rows) / asked)
    if name not in ("fastcache", "l2c"):
        assert rows[0] == rows[1]
        assert totals["network_calls"] == pytest.approx(rows[1] / 5)
    assert totals["network_calls"] + totals["calls_skipped"] == pytest.approx(wrapped.ledger.calls)
    assert all(len(curve) == wrapped.ledger.calls for curve in curves.values())
    assert curves["recomputed"][0] == 1
    assert curves["recomputed"][-1] == 1
    assert (totals["probe_error"] > 0) == (name not in ("fastcache", "l2c"))  # nothing is forecast
    assert 0 < totals["hit_rate"] < 1
    json.dumps(totals)


@pytest.mark.parametrize("fitted", [(), (0,), (0, 1)], ids=str)
def test_6_fastcache_counts_the_maps_that_were_fitted(fitted):
    score = random_score(17, 1)
    for i in fitted:
        score.calibration[f"fastcache.weight.{i}"] = torch.eye(8)
        score.calibration[f"fastcache.bias.{i}"] = torch.zeros(8)
    wrapped = cached(score, make("fastcache"))
    draw(wrapped, score)
    totals, curves = wrapped.ledger.totals(), wrapped.ledger.curves()
    tokens, width = score.noise_scale.shape[0], 8
    one = count_flops(score.network.blocks, torch.zeros(1, tokens, width), None)
    most = len(fitted) * 2 * tokens * width**2 / one
    extra = totals["flops_fraction"] - (1 - totals["hit_rate"])
    assert (extra > 0) == bool(fitted)
    assert extra <= most + 1e-9
    assert curves["work"][0] == curves["work"][-1] == 1


def module() -> ScoreModule:
    torch.manual_seed(0)
    network = Transformer(preset="plain", layers=2, heads=2, width=8, feedforward=16)
    built = ScoreModule(network, VP(), shape=(17, 1))
    for parameter in built.score.network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return built.eval()


def predict(chosen, built=None, **sampling):
    built = built or module()
    built.sampling = Sampling(**{"num_samples": 6, "num_steps": STEPS, "batch_size": 4, **sampling})
    callback = CacheCallback(chosen)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    )
    return torch.cat(trainer.predict(built)), callback


@pytest.mark.parametrize(
    ("name", "off"),
    [("firstblock", {"tau": 0.0}), ("wiener", {"tolerance": 0.0})],
    ids=lambda v: str(v),
)
def test_6_a_cache_that_costs_more_than_it_saves_is_said(name, off):
    with pytest.warns(UserWarning, match=r"every token was recomputed, at 1\.\d\d times the FLOPs of no cache"):
        predict(make(name, **off))


def test_6_so_is_one_that_skips_and_still_costs_more():
    built = module()
    with pytest.warns(UserWarning, match=r"\d\d\.\d% of the tokens were recomputed, at 1\.\d\d times the FLOPs"):
        predict(FirstBlock(tau=0.2), built)


@pytest.mark.parametrize(
    ("name", "off"),
    [("teacache", {"tau": 0.0}), ("wiener", {"tolerance": 0.0}), ("fastcache", {"cap": 0.0})],
    ids=lambda v: str(v),
)
def test_6_a_trigger_that_always_fires_is_said(name, off):
    with pytest.warns(UserWarning, match="every token was recomputed.*raise its thresholds"):
        predict(make(name, **off))


@pytest.mark.parametrize(("name", "solver"), [("teacache", "euler"), ("fastcache", "euler"), ("wiener", "heun")])
def test_6_a_trigger_that_never_fires_is_said(name, solver):
    with pytest.warns(UserWarning, match="nothing was recomputed after the first call"):
        predict(make(name, **LAZY[name.split("-")[0]]), solver=SOLVERS[solver])


def test_6_a_trigger_that_decides_is_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        _, callback = predict(make("wiener"))
    assert 0 < callback.report()["hit_rate"] < 1


def test_6_the_memory_of_integrated_stretches_is_reported():
    built = module()
    one, five = (predict(make("wiener"), built, num_samples=n, batch_size=n)[1].report() for n in (1, 5))
    assert five["memory_bytes"] - one["memory_bytes"] >= 4 * 4 * built.score.noise_scale.numel()


@pytest.mark.parametrize("name", ["wiener", "teacache", "taylor-1-features"])
def test_4_an_exception_in_mid_run_leaves_the_network_as_it_was(name, monkeypatch):
    def explode(step):
        if step == 7:
            raise RuntimeError("in mid-run")

    built = module()
    built.sampling = Sampling(num_steps=STEPS)
    exact = built.predict_step(WorkUnit(0, 0, 2), 0)
    monkeypatch.setattr(CacheCallback, "on_sampling_step", lambda self, step: explode(step))
    with pytest.raises(RuntimeError, match="in mid-run"):
        predict(make(name), built, num_samples=2)
    monkeypatch.undo()
    assert built.score_function is built.score
    assert torch.equal(built.predict_step(WorkUnit(0, 0, 2), 0), exact)


def test_4_attaching_twice_is_an_error():
    built, callback = module(), CacheCallback(Wiener())
    with callback.around(built.score, built.sampling), pytest.raises(ValueError, match="in use already"):
        callback.on_predict_start(None, built)
    assert callback.score_function() is None


def test_calls_of_a_forecaster_are_placed_by_a_clock():
    score = random_score(8, 1)
    _, ledger = run(score, TaylorSeer(interval=4))
    assert ledger.curves()["called"] == [float(i % 4 == 0) for i in range(STEPS)]
    _, ledger = run(score, Spectrum(warmup=3, window=2.0, growth=1.0))
    expected, at = [0, 1, 2], 2
    for width in (2, 3, 4, 5):
        at += width
        expected.append(at)
    expected = [i for i in expected if i < STEPS] + [at + 6, STEPS - 1]
    assert [i for i, c in enumerate(ledger.curves()["called"]) if c] == sorted({i for i in expected if i < STEPS})
