import csv
import json
import re

import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import CSVLogger
from matplotlib.figure import Figure

from lightning_freqdiff.callbacks import E2CRFCache, SampleMonitor
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer
from lightning_freqdiff.reporting.page import Page

TINY = Transformer(layers=1, heads=2, width=8, feedforward=8)


def fit(tmp_path, *callbacks, epochs=3):
    seed_everything(0, verbose=False)
    module = ScoreModule(TINY)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=CSVLogger(str(tmp_path), name="", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        log_every_n_steps=1,
    )
    trainer.fit(module, datamodule=SyntheticECG(num_series=96, length=16))
    return module


def monitor(**settings) -> SampleMonitor:
    return SampleMonitor(
        **{"every_n_validations": 2, "num_samples": 10, "num_steps": 6, "num_directions": 20, **settings}
    )


def read(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_samples_are_measured_after_every_so_many_validations_and_at_the_end(tmp_path):
    watch = monitor(num_samples=12)
    fit(tmp_path, watch)
    rows = read(tmp_path / "evaluation.csv")
    assert [int(row["step"]) for row in rows] == [
        2,
        3,
    ]  # a step and a validation each epoch
    for name in ("sw_time", "sw_frequency", "marginal", "spectral"):
        assert float(rows[0][f"{name}/mean"]) > 0
        assert 0 < float(rows[0][f"{name}/floor"]) < float(rows[0][f"{name}/dummy"])
    counts = {name: float(rows[0][f"count/{name}"]) for name in ("samples", "floor", "self", "dummy")}
    assert counts == {"samples": 12, "floor": 10, "self": 43, "dummy": 1}  # of 96 series, 10 are held out
    assert float(rows[0]["sw_time/mean_at_floor_count"]) != float(rows[0]["sw_time/mean"])
    assert {"samples.png", "spectra.png"} <= {p.name for p in tmp_path.iterdir()}
    logged = [row for row in read(tmp_path / "metrics.csv") if row["samples/sw_time/mean"]]
    assert [float(r["samples/sw_time/mean"]) for r in logged] == [float(r["sw_time/mean"]) for r in rows]


@pytest.mark.slow
def test_metrics_by_name_stand_beside_floor_and_ceiling(tmp_path):
    fit(tmp_path, monitor(metrics=["sw", "mmd"]))
    for row in read(tmp_path / "evaluation.csv"):
        assert float(row["sliced_wasserstein/value"]) == pytest.approx(float(row["sw_time/mean"]), rel=1e-5)
        assert float(row["sliced_wasserstein/floor"]) == pytest.approx(float(row["sw_time/floor"]), rel=1e-5)
        assert float(row["sliced_wasserstein/ceiling"]) > 0
        assert row["mmd/value"]
    with pytest.raises(ValueError, match="got 'fid': set `metrics`"):
        SampleMonitor(metrics=["fid"])


@pytest.mark.slow
def test_watching_does_not_change_the_training(tmp_path):
    plain, watched = fit(tmp_path / "a"), fit(tmp_path / "b", monitor(every_n_validations=1))
    for a, b in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("first", ["average", "monitor"])
@pytest.mark.slow
def test_samples_come_from_the_averaged_weights_in_either_order(tmp_path, first):
    seen = []

    class Recorder(SampleMonitor):
        def _evaluate(self, trainer, module, data):
            seen.append(module.score.network.token.weight.detach().clone())
            super()._evaluate(trainer, module, data)

    watch = Recorder(every_n_validations=2, num_samples=4, num_steps=3, num_directions=5)
    # With a decay of 1 the average never moves from the first weights it was given.
    average = EMAWeightAveraging(decay=1.0)
    fit(tmp_path, *([average, watch] if first == "average" else [watch, average]), epochs=4)
    assert len(seen) == 2
    assert torch.equal(seen[0], seen[1])


@pytest.mark.slow
def test_sampling_goes_through_the_cache_in_use(tmp_path):
    cache = E2CRFCache(preset="fixed_schedule", R=2)
    watch = monitor()
    module = fit(tmp_path, watch, cache)
    assert watch.history[-1].scalars["cache/hit_rate"] == pytest.approx(0.5)
    assert "cache" in watch.history[-1].figures
    assert module.score_function is module.score
    json.dumps(watch.history[-1].scalars)


def test_reports_need_nothing_but_themselves(tmp_path):
    page = Page("<title> & more")
    page.heading("A <b>heading</b>")
    page.table(["a", "words", "numbers"], [["<x>", "lower", 0.123456], ["y", "", None], ["z", "left", "-1.2 ± 3"]])
    page.figure(Figure((10, 2)), 'a "picture"')
    page.write(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<b>" not in text
    assert "&lt;x&gt;" in text
    assert "default-src 'none'" in text  # the browser itself keeps it from fetching anything
    assert not re.findall(r"(?:src|href)=[\"'](?!data:)", text)
    assert '<td class="words">lower</td>' in text
    assert '<th class="words">words</th><th>numbers</th>' in text
    assert "<td>0.1235</td>" in text
    # What is too wide for a phone scrolls in itself, and no figure is shrunk until it cannot be read.
    assert text.count("<div><table>") == text.count("<div><img") == 1
    assert 'alt="a &quot;picture&quot;" width="1200" height="240" style="min-width: 780px"' in text


def test_bad_settings_name_themselves():
    with pytest.raises(ValueError, match="every_n_validations"):
        SampleMonitor(every_n_validations=0)


@pytest.mark.slow
def test_without_a_logger_nothing_is_written_over(tmp_path):
    (tmp_path / "samples.png").write_text("mine")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}

    def watched():
        trainer = Trainer(max_steps=1, default_root_dir=tmp_path, callbacks=[monitor()], **quiet)
        trainer.fit(ScoreModule(TINY), datamodule=SyntheticECG(num_series=96, length=16))

    watched()
    assert (tmp_path / "samples.png").read_text() == "mine"
    assert (tmp_path / "monitor" / "samples.png").stat().st_size > 1000
    watched()
    (tmp_path / "monitor" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"monitor holds .*thesis.tex.*: set `trainer\.default_root_dir`"):
        watched()
