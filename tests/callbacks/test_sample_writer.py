import csv
import json

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

from lightning_freqdiff.callbacks import RunReport, SampleWriter, SamplingProgress
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit


def predict(module, *callbacks, data=None, **sampling):
    module.sampling = Sampling(**{"num_samples": 10, "num_steps": 4, "batch_size": 4, **sampling})
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, callbacks=list(callbacks))
    trainer.reference_data = data
    trainer.predict(module, return_predictions=False)
    return trainer


def test_npy_holds_exactly_what_was_asked_for(model, tmp_path, capsys):
    predict(model, RunReport(), SampleWriter(str(tmp_path / "run")), SamplingProgress())
    samples = np.load(tmp_path / "run" / "samples.npy", mmap_mode="r")
    assert samples.shape == (10, 64, 1)
    assert samples.dtype == np.float32
    expected = model.predict_step(WorkUnit(0, 0, 10), 0)
    torch.testing.assert_close(torch.from_numpy(samples.copy()), expected, atol=1e-4, rtol=1e-4)
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["status"] == "complete"
    assert manifest["checkpoint"] == model.checkpoint_hash
    assert manifest["identity"]["sampling"]["solver"]["class_path"].endswith("EulerMaruyama")
    assert sum(u["count"] for u in manifest["units"]) == 10
    assert manifest["versions"]["torch"] == torch.__version__
    made = {"samples.npy", "manifest.json", "samples.png", "spectra.png", "report.html", "evaluation.csv"}
    assert {p.name for p in (tmp_path / "run").iterdir()} == made
    assert "samples/s" in capsys.readouterr().err


@pytest.mark.parametrize("format", ["npz", "csv", "parquet"])
def test_other_formats_hold_the_same_numbers(model, tmp_path, format):
    predict(model, SampleWriter(str(tmp_path / "npy")))
    predict(model, SampleWriter(str(tmp_path / "other"), format=format))
    expected = np.load(tmp_path / "npy" / "samples.npy")
    file = tmp_path / "other" / f"samples.{format}"
    assert {p.name for p in file.parent.iterdir()} == {file.name, "manifest.json"}
    if format == "npz":
        np.testing.assert_array_equal(np.load(file)["x"], expected)
        return
    if format == "csv":
        with file.open() as lines:
            header, *rows = csv.reader(lines)
        table = np.array(rows, dtype=np.float64)
    else:
        import pyarrow.parquet

        read = pyarrow.parquet.read_table(file)
        header, table = read.column_names, np.stack([c.to_numpy() for c in read.columns], axis=1)
    assert header == ["sample", "step", *model.channels]
    assert table[:, 0].tolist() == [i for i in range(10) for _ in range(64)]
    assert table[:, 1].tolist() == list(range(64)) * 10
    np.testing.assert_array_equal(table[:, 2].astype(np.float32).reshape(10, 64, 1), expected)


def test_only_the_rest_is_done(model, tmp_path):
    writer = SampleWriter(str(tmp_path / "run"))
    model.sampling = Sampling(num_samples=10, num_steps=4, batch_size=4)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        callbacks=[writer],
        limit_predict_batches=1,
        enable_progress_bar=False,
    )
    trainer.predict(model, return_predictions=False)
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "running"
    done = []

    class Counter(SampleWriter):
        def on_predict_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
            done.append((batch.first, batch.count))
            super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    predict(model, Counter(str(tmp_path / "run")), batch_size=3)
    assert done == [(4, 3), (7, 3)]
    predict(model, Counter(str(tmp_path / "run")))
    assert len(done) == 2
    expected = model.predict_step(WorkUnit(0, 0, 10), 0)
    samples = torch.from_numpy(np.load(tmp_path / "run" / "samples.npy"))
    torch.testing.assert_close(samples, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_a_run_killed_after_its_last_unit_is_finished(model, tmp_path):
    predict(model, RunReport(), SampleWriter(str(tmp_path / "run")))
    manifest = tmp_path / "run" / "manifest.json"
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**content, "status": "running"}))
    (tmp_path / "run" / "report.html").unlink()
    predict(model, RunReport(), SampleWriter(str(tmp_path / "run")))
    assert json.loads(manifest.read_text())["status"] == "complete"
    assert (tmp_path / "run" / "report.html").exists()


def test_samples_that_are_not_finite_are_refused(model, tmp_path):
    with torch.no_grad():
        model.score.network.out.bias.fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        predict(model, SampleWriter(str(tmp_path / "run")))
    assert json.loads((tmp_path / "run" / "manifest.json").read_text())["status"] == "running"


@pytest.mark.slow
def test_pictures_show_the_training_series_where_given(model, tmp_path):
    data = SyntheticECG(num_series=32, length=64)
    predict(model, RunReport(), SampleWriter(str(tmp_path / "with")), data=data)
    predict(model, RunReport(), SampleWriter(str(tmp_path / "without")))
    sizes = [(tmp_path / name / "samples.png").stat().st_size for name in ("with", "without")]
    assert sizes[0] > sizes[1]


def test_unknown_format_names_its_setting(tmp_path):
    with pytest.raises(ValueError, match=r"`sampling\.format`"):
        SampleWriter(str(tmp_path), format="xlsx")
