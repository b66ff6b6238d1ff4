# A figure that is not there fails its test.
# pyright: reportOperatorIssue=false

from dataclasses import replace

import pytest
from omegaconf import OmegaConf
from rich.console import Console

from lightning_freqdiff.caching import E2CRF, TaylorSeer, Wiener
from lightning_freqdiff.callbacks.presets import read_preset
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.damage import Damage
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.families import Family, families, solvers
from lightning_freqdiff.evaluation.findings import EvaluateSettings
from lightning_freqdiff.evaluation.presets import as_yaml
from lightning_freqdiff.evaluation.trials import Trial
from lightning_freqdiff.evaluation.tune import Tuner
from lightning_freqdiff.metrics import relative_l2
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.solvers import ExponentialWiener

SAMPLING = Sampling(num_samples=4, num_steps=40, batch_size=4)


def tuner(model, tolerance, **more):
    return Tuner(Bench(model, SAMPLING), tolerance, confirm=6, console=Console(quiet=True), **more)


@pytest.mark.parametrize("family", families(), ids=lambda f: f.name)
def test_a_higher_knob_means_fewer_calls(model, calibrated, family):
    search = tuner(calibrated if family.name in ("l2c", "l2p", "svdcache") else model, 1.0)
    if family.name == "deepcache":  # of which a transformer has no levels
        with pytest.raises(ValueError, match="above its coarsest, such as UNet"):
            search.measure(family, family.low, SAMPLING)
        return
    low, high = (search.measure(family, knob, SAMPLING) for knob in (family.low, family.high))
    assert high.calls <= low.calls
    assert low.value <= high.value + 1e-6


def test_the_search_finds_the_fastest_setting_within_the_tolerance(model):
    (family,) = (f for f in families() if f.name == "wiener-clock")
    best = tuner(model, 0.05).search(family)
    assert best is not None
    assert best.value <= 0.05
    assert best.calls < 40
    assert tuner(model, 1e-9).search(family) is None


def test_what_is_promised_holds_on_noise_that_was_not_seen(model, calls_for_seconds):
    search = tuner(model, 0.1)
    wanted = [f for f in families() if f.name in ("wiener-clock", "taylorseer-1")]
    best, confirmed = search.run(wanted)
    assert best
    assert confirmed is not None
    assert confirmed.upper <= 0.1
    sampling = Sampling(num_samples=16, num_steps=40, batch_size=16, seed=99)
    found = confirmed.family.contender(confirmed.knob, SAMPLING).policy
    runs = [Run(Contender("x", "cache", sampling, policy)) for policy in (None, found)]
    for run in runs:
        Bench(model, sampling).draw(run)
    assert relative_l2(runs[1].series, runs[0].series)["relative_l2"] < 0.15


def test_a_winner_that_fresh_noise_does_not_confirm_is_dropped(model, monkeypatch):
    search = tuner(model, 0.1)
    (family,) = (f for f in families() if f.name == "wiener")
    knobs = []

    def measure(family, knob, sampling):
        knobs.append(knob)
        return Trial(family, knob, 1.0, 4, 1.0, Damage(0.05, 0.1, 0.2))

    monkeypatch.setattr(search, "measure", measure)
    assert search.confirm(Trial(family, 0.1, 1.0, 4, 1.0, Damage(0.05, 0.0, 0.05))) is None
    assert knobs == sorted(knobs, reverse=True)
    assert len(set(knobs)) == len(knobs)


def test_a_cache_that_the_network_cannot_use_is_left_out_of_the_search():
    """SpectralCache wants tokens that are frequencies, and an MLP has one token."""
    search = tuner(ScoreModule(MLP(layers=1, width=8), shape=(16, 1)).eval(), 1.0)
    fixed, spectral = (next(f for f in families() if f.name == name) for name in ("fixed", "spectralcache-frequency"))
    best, _ = search.run([spectral, fixed])
    assert [trial.family.name for trial in best] == ["fixed"]
    with pytest.raises(ValueError, match="tokens that are frequencies"):
        search.run([spectral])


def test_sliced_wasserstein_as_the_measure(model):
    evaluator = Evaluator(SyntheticECG(num_series=256, length=64))
    (family,) = (f for f in families() if f.name == "wiener-clock")
    trial = tuner(model, 0.5, metric="sw", evaluator=evaluator).measure(family, 0.01, SAMPLING)
    assert 0 <= trial.value <= trial.upper
    with pytest.raises(ValueError, match="`data`"):
        tuner(model, 0.5, metric="sw")
    with pytest.raises(ValueError, match="`tolerance`"):
        tuner(model, 0.0)


def test_any_metric_as_the_measure(model):
    evaluator = Evaluator(SyntheticECG(num_series=256, length=64))
    (family,) = (f for f in families() if f.name == "fixed")
    search = tuner(model, 0.5, metric="histogram", evaluator=evaluator)
    trial = search.measure(family, 8, SAMPLING)
    runs = [Run(Contender("x", "cache", SAMPLING, policy)) for policy in (None, family.make(8))]
    for run in runs:
        Bench(model, SAMPLING).draw(run)
    asked = EvaluateSettings(("histogram",))
    base, ours = (evaluator.scores(run.series, asked)["histogram"].value for run in runs)
    assert trial.value == pytest.approx(abs(ours - base) / base)
    assert trial.upper == trial.value > 0
    assert search.damage(trial) == f"{trial.value:.4f}"  # no bound is made up
    with pytest.raises(ValueError, match="histogram against: set `data`"):
        tuner(model, 0.5, metric="histogram")
    with pytest.raises(ValueError, match="expected one of relative_l2, sw, .* got 'fid': set `metric`"):
        tuner(model, 0.5, metric="fid", evaluator=evaluator)
    with pytest.raises(ValueError, match="recall: expected at least 6 samples, got 4.*`sampling.num_samples`"):
        tuner(model, 0.5, metric="recall", evaluator=evaluator).measure(family, 8, SAMPLING)


@pytest.mark.parametrize(
    "policy", [Wiener(tolerance=0.0123456), TaylorSeer(interval=7, order=0), E2CRF(R=12), Wiener()]
)
def test_the_preset_that_is_written_is_the_cache_that_was_found(policy, tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(as_yaml(Contender("x", "cache", SAMPLING, policy), ["one", "two"]))
    assert OmegaConf.load(path).trainer
    read = read_preset(path)
    assert type(read) is type(policy)
    for name, value in vars(policy).items():
        if isinstance(value, float):
            assert getattr(read, name) == pytest.approx(value, rel=1e-3)


def test_the_preset_of_a_solver_is_taken_by_predict(tmp_path):
    family = Family("x", lambda knob: ExponentialWiener("ode"), 2, 250, "edm")
    found = family.contender(8, replace(SAMPLING, num_steps=40))
    (tmp_path / "x.yaml").write_text(as_yaml(found, ["one"]))
    read = OmegaConf.to_container(OmegaConf.load(tmp_path / "x.yaml"))
    assert read == {
        "sampling": {
            "solver": {"class_path": "ExponentialWiener", "init_args": {"kind": "ode"}},
            "grid": "edm",
            "num_steps": 5,
        }
    }


def test_solvers_are_searched_by_the_distribution_of_their_samples(model, calls_for_seconds):
    """They draw other samples, so that chance is a part of the change, and of its bound."""
    sampling = replace(SAMPLING, num_samples=16, batch_size=16)
    evaluator = Evaluator(SyntheticECG(num_series=256, length=64))
    search = Tuner(Bench(model, sampling), 0.8, "sw", evaluator, confirm=16, console=Console(quiet=True))
    wanted = [family for family in solvers() if family.label in ("dpm++2m edm", "fitted")]
    best, confirmed = search.run(wanted)
    assert [trial.family.name for trial in best] == ["dpm++2m"]  # no steps were learnt for the other
    assert confirmed is not None
    assert confirmed.calls < 40
    assert confirmed.value < confirmed.upper <= 0.8
    with pytest.raises(ValueError, match="others than the uncached ones: set `metric` sw"):
        tuner(model, 0.5).measure(wanted[1], 4, SAMPLING)
    fitted = wanted[0].contender(4, sampling)
    assert fitted.sampling.num_steps == 10
    assert wanted[0].contender(1, replace(sampling, num_steps=1000)).sampling.num_steps == 12
