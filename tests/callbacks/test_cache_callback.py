import json
import warnings
from dataclasses import fields

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_freqdiff import caching
from lightning_freqdiff.caching import E2CRF, CachePolicy, TaylorSeer
from lightning_freqdiff.callbacks import CacheCallback, E2CRFCache, SampleWriter
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit
from lightning_freqdiff.sampling.solvers import Heun


def predict(module, *callbacks, **sampling):
    module.sampling = Sampling(**{"num_samples": 6, "num_steps": 30, "batch_size": 4, **sampling})
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        callbacks=list(callbacks),
    )
    return torch.cat(trainer.predict(module))


def test_attached_for_the_run_and_gone_after(model, tmp_path):
    plain = predict(model)
    cache = E2CRFCache(R=6, tau_safe=1.0)
    cached = predict(model, cache, SampleWriter(str(tmp_path / "run")))
    assert not torch.equal(plain, cached)
    assert model.score_function is model.score
    assert torch.equal(predict(model), plain)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["identity"]["caches"][0]["init_args"]["R"] == 6
    (report,) = manifest["reports"]
    assert report["hit_rate"] == cache.report()["hit_rate"]
    assert 0 < report["hit_rate"] < 1
    assert len(report["curves"]["intensity"]) == 30
    assert report["memory_bytes"] > 0


def test_a_cache_that_is_off_changes_nothing(model):
    with pytest.warns(UserWarning, match="every token was recomputed"):
        off = predict(model, E2CRFCache(preset="paper", tau0=0.0))
    assert torch.equal(off, predict(model))


def test_a_trigger_that_never_fires_is_said(model):
    with pytest.warns(UserWarning, match="nothing was recomputed after the first call"):
        predict(model, E2CRFCache(preset="naive"))


def test_reused_pairs_are_no_single_call(model):
    """The network runs at every step, so that nothing is to be said of a trigger that never fires."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        cache = E2CRFCache(preset="naive", reuse="kv")
        predict(model, cache)
    assert cache.report()["network_calls"] == 30


def test_two_caches_are_refused_and_leave_nothing(model):
    with pytest.raises(ValueError, match="at most one cache"):
        predict(model, E2CRFCache(), E2CRFCache())
    assert model.score_function is model.score


def test_an_exception_in_mid_run_leaves_the_network_as_it_was(model, monkeypatch):
    def explode(step):
        if step == 7:
            raise RuntimeError("in mid-run")

    cache = E2CRFCache()
    cache.on_sampling_step = explode
    with pytest.raises(RuntimeError, match="in mid-run"):
        predict(model, cache)
    assert cache.score_function() is None
    assert model.score_function is model.score
    with pytest.raises(RuntimeError, match="in mid-run"), cache.around(model.score, model.sampling) as score:
        model.draw(WorkUnit(0, 0, 2), model.sampling, score, explode)
    assert cache.score_function() is None


def test_two_calls_per_step(model):
    cache = CacheCallback(E2CRF(R=5, tau_safe=0.5))
    series = predict(model, cache, solver=Heun())
    assert series.isfinite().all()
    assert len(cache.report()["curves"]["called"]) == 60


POLICIES = [
    p for name in caching.__all__ if issubclass(p := getattr(caching, name), CachePolicy) and p is not CachePolicy
]


@pytest.mark.parametrize("policy", POLICIES)
def test_every_cache_writes_all_its_settings_into_the_identity(model, policy):
    model.sampling = Sampling(num_steps=1000)
    identities = []
    for given in ({}, {"preset": "long"}, {"preset": "short"}):
        if given and "short" not in policy.PRESETS:
            continue
        callback = CacheCallback(policy(**given))
        identities.append(callback.identity(model.sampling)["init_args"])
    assert set(identities[0]) == {field.name for field in fields(policy)}
    assert all(identities[0][name] is not None for name in policy.DEFAULTS)
    if len(identities) > 1:
        auto, long, short = identities
        assert auto == long != short
        assert {k for k in short if short[k] != long[k]} == {"preset", *policy.PRESETS["long"]}


def test_the_preset_that_was_chosen_is_in_the_manifest(model, tmp_path):
    predict(model, CacheCallback(TaylorSeer()), SampleWriter(str(tmp_path / "run")))
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    settings = {"preset": "short", "interval": 4, "order": 2, "stale": "features"}
    assert manifest["identity"]["caches"][0]["init_args"] == settings


def test_another_cache_makes_another_run(model, tmp_path):
    predict(model, E2CRFCache(tau_safe=1.0), SampleWriter(str(tmp_path / "run")))
    with pytest.raises(ValueError, match=r"caches\.0\.init_args\.R was 8 and is now 20"):
        predict(model, E2CRFCache(R=20, tau_safe=1.0), SampleWriter(str(tmp_path / "run")))


class Killed(SampleWriter):
    """A process that ends at a certain unit, before or after that unit's line is in the journal."""

    def __init__(self, output, unit, after):
        super().__init__(output)
        self.unit, self.after = unit, after

    def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        last = batch.first == self.unit
        if last and not self.after:
            self.folder.write = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if last:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [True, False], ids=["written", "unwritten"])
@pytest.mark.parametrize("units", [[0], [4], [8], [0, 4]], ids=str)
def test_a_report_is_about_all_starts_of_a_run(model, tmp_path, units, after):
    many = {"num_samples": 10}
    predict(model, E2CRFCache(R=6, tau_safe=1.0), SampleWriter(str(tmp_path / "whole")), **many)
    for unit in units:
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            predict(model, E2CRFCache(R=6, tau_safe=1.0), Killed(str(tmp_path / "cut"), unit, after), **many)
    predict_rest(model, tmp_path, many)
    whole, cut = (json.loads((tmp_path / name / "manifest.json").read_text()) for name in ("whole", "cut"))
    assert cut["status"] == "complete"
    assert cut["samples_drawn"] == 10
    assert cut["seconds"] > 0
    for name in ("network_calls", "hit_rate", "flops_fraction", "memory_bytes", "probe_error"):
        assert cut["reports"][0][name] == pytest.approx(whole["reports"][0][name]), name
    assert cut["reports"][0]["curves"]["called"] == pytest.approx(whole["reports"][0]["curves"]["called"])
    assert not list((tmp_path / "cut").glob("measured-*"))


def predict_rest(model, tmp_path, many):
    model.sampling = Sampling(**{"num_steps": 30, "batch_size": 4, **many})
    callbacks = [E2CRFCache(R=6, tau_safe=1.0), SampleWriter(str(tmp_path / "cut"))]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    Trainer(accelerator="cpu", callbacks=callbacks, **quiet).predict(model, return_predictions=False)
