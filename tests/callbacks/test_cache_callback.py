import json

import pytest
import torch
from lightning.pytorch import Trainer

from lightning_freqdiff.caching import E2CRF
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


def test_two_caches_are_refused_and_leave_nothing(model):
    with pytest.raises(ValueError, match="at most one cache"):
        predict(model, E2CRFCache(), E2CRFCache())
    assert model.score_function is model.score


def test_an_exception_in_mid_run_leaves_the_network_as_it_was(model, monkeypatch):
    def explode(self, step):
        if step == 7:
            raise RuntimeError("in mid-run")

    monkeypatch.setattr(E2CRFCache, "on_sampling_step", explode)
    with pytest.raises(RuntimeError, match="in mid-run"):
        predict(model, E2CRFCache())
    assert model.score_function is model.score
    with pytest.raises(RuntimeError, match="in mid-run"), E2CRFCache().around(model):
        model.predict_step(WorkUnit(0, 0, 2), 0)
    assert model.score_function is model.score


def test_two_calls_per_step(model):
    cache = CacheCallback(E2CRF(R=5, tau_safe=0.5))
    series = predict(model, cache, solver=Heun())
    assert series.isfinite().all()
    assert len(cache.report()["curves"]["called"]) == 60


def test_another_cache_makes_another_run(model, tmp_path):
    predict(model, E2CRFCache(tau_safe=1.0), SampleWriter(str(tmp_path / "run")))
    with pytest.raises(ValueError, match=r"caches\.0\.init_args\.R was 8 and is now 20"):
        predict(model, E2CRFCache(R=20, tau_safe=1.0), SampleWriter(str(tmp_path / "run")))
