"""An object store that is one: S3's protocol over HTTP, served on this machine, and its client."""

import fsspec
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer

import lightning_freqdiff as lf
from lightning_freqdiff.callbacks import ShardWriter
from lightning_freqdiff.data import ShardedData
from lightning_freqdiff.evaluation.reading import read_sets
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling import Sampling
from lightning_freqdiff.shards import SampleSet, Store
from lightning_freqdiff.shards.formats import FORMATS

pytest.importorskip("s3fs")
serving = pytest.importorskip("moto.server")
pytestmark = pytest.mark.filterwarnings("ignore")  # of the server's and the client's libraries
X = np.random.default_rng(0).normal(size=(30, 8, 2)).cumsum(1).astype(np.float32)


@pytest.fixture(scope="module")
def s3():
    """A bucket on a server of its own."""
    server = serving.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    settings |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        fs.mkdir("bucket")
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield "s3://bucket"
        fsspec.get_filesystem_class("s3").clear_instance_cache()
    server.stop()


def filled(url: str, format: str = "parquet") -> str:
    samples = SampleSet(url)
    samples.open({"seed": 1}, X.shape, 10, format, ["a", "b"])
    for unit in samples.missing():
        samples.put(int(unit), X[10 * unit : 10 * unit + 10])
    return url


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_samples_are_drawn_by_two_workers_and_read(s3, format):
    torch.manual_seed(0)
    module = ScoreModule(MLP(width=8, layers=1), shape=(6, 2))
    module.score.codec.fit([torch.randn(50, 6, 2).cumsum(1)])
    module.eval()
    module.sampling = Sampling(num_samples=18, num_steps=2, batch_size=4)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    for shard in ("1/2", None):
        writer = ShardWriter(f"{s3}/{format}", format, shard)
        trainer = Trainer(accelerator="cpu", enable_model_summary=False, callbacks=[writer], **quiet)
        trainer.predict(module, return_predictions=False)
    drawn = torch.cat([module.predict_step(unit, 0) for unit in module.sampling.units()]).numpy()
    np.testing.assert_array_equal(lf.read_samples(f"{s3}/{format}"), drawn)


def test_of_two_that_begin_at_once_the_first_ones_description_stays(s3):
    store = Store(f"{s3}/begun", "sampling.output")
    store.create("run.json", b"first")
    store.create("run.json", b"second")
    assert store.read("run.json") == b"first"
    filled(f"{s3}/known")
    with pytest.raises(ValueError, match=r"another run .*seed was 1 and is now 2"):
        SampleSet(f"{s3}/known").open({"seed": 2}, X.shape, 10, "parquet", ["a", "b"])


def test_it_is_read_lazily_streamed_and_measured(s3, tmp_path):
    url = filled(f"{s3}/series")
    assert lf.read_samples(url, "polars", stop=7).collect()["sample"].to_list() == list(range(7))
    data = ShardedData(url, batch_size=4, val_fraction=0.2)
    seen = torch.cat([*(batch.series for batch in data.val_dataloader()), *data.train_batches(7)])
    assert {row.tobytes() for row in seen.numpy()} == {row.tobytes() for row in X}
    np.savez(tmp_path / "real.npz", x=X + 1)
    np.testing.assert_array_equal(read_sets(url, str(tmp_path / "real.npz")).generated.numpy(), X)


def test_a_bucket_that_is_not_there_is_said_in_a_line(s3):
    with pytest.raises((ValueError, OSError), match=r"s3://nobucket"):
        filled("s3://nobucket/run")
