"""Series that are streamed from many files: all of them, each once an epoch, well mixed, from where a run was cut."""

from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from threading import Barrier

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from litdata_chunks import chunks

import lightning_freqdiff as lf
from lightning_freqdiff.data import ShardedData
from lightning_freqdiff.data.readers.shards import Part
from lightning_freqdiff.data.series.stream import Stream
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def series(count=600, steps=8):
    """Series whose first value is their number."""
    x = np.random.default_rng(0).normal(size=(count, steps, 2)).cumsum(1).astype(np.float32)
    x[:, 0, 0] = np.arange(count)
    return x


def write(folder):
    """Parquet, in row groups of a few."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, x in enumerate(np.split(series(), 6)):
        columns = {name: pa.array(list(x[..., m])) for m, name in enumerate("ab")}
        pq.write_table(pa.table({"id": range(100), **columns}), folder / f"{file:03d}.parquet", row_group_size=20)
    return str(folder)


def write_chunks(folder):
    """The same in chunks of LitData, of a few."""
    folder.mkdir(parents=True, exist_ok=True)
    items = [{"a": x[:, 0], "b": x[:, 1], "id": i} for i, x in enumerate(series())]
    return chunks(folder, items, ["no_header_numpy:9", "no_header_numpy:9", "int"])


@pytest.fixture(params=[write, write_chunks], ids=["parquet", "litdata"])
def data(tmp_path, request):
    return ShardedData(request.param(tmp_path / "set"), batch_size=16, val_fraction=0.2, test_fraction=0.1)


@pytest.fixture
def parquet(tmp_path):
    return ShardedData(write(tmp_path / "set"), batch_size=16, val_fraction=0.2, test_fraction=0.1)


def numbers(batches) -> list[int]:
    return [int(i) for batch in batches for i in getattr(batch, "series", batch)[:, 0, 0]]


def stream(data, window=64, seed=0, ranks=1, rank=0, part="train"):
    return Stream(data._part(part), 16, window, seed, ranks, rank)


def test_parts_share_nothing_and_lack_nothing(data):
    parts = [numbers([data._part(name).whole()]) for name in ("train", "val", "test")]
    assert [len(part) for part in parts] == [420, 120, 60]
    assert sorted(chain(*parts)) == list(range(600))
    assert data.shape == (8, 2)
    assert data.channels == ("a", "b")
    assert data.num_train == 420
    again = ShardedData(data.path, val_fraction=0.2, test_fraction=0.1)
    assert numbers([again.val_series()]) == parts[1]
    assert numbers([ShardedData(data.path, val_fraction=0.2).val_series()]) == parts[1]


@pytest.mark.parametrize("ranks", [1, 3])
def test_an_epoch_has_every_series_once(data, ranks):
    streams = [stream(data, ranks=ranks, rank=rank) for rank in range(ranks)]
    assert len({len(one) for one in streams}) == 1
    seen = [[*one] for one in streams]
    assert [len(batches) for batches in seen] == [len(one) for one in streams]
    assert all(len(batch.series) == 16 for batches in seen for batch in batches)
    first = numbers(chain(*seen))
    assert len(set(first)) == len(first) >= 420 - 16 * ranks
    assert set(first) <= set(numbers([data.train_series()]))
    second = numbers(chain(*streams))
    assert second != first
    assert first == numbers(chain(*(stream(data, ranks=ranks, rank=rank) for rank in range(ranks))))


def test_batches_are_mixed(data):
    """Of the other 419 series, 19 are of the same row group: so seldom is the next one of it."""
    order = np.array(numbers(stream(data, window=10**6)))
    first = numbers(stream(data, window=10**6))
    together = np.mean(np.abs(np.diff(order)) < 20)
    assert together < 0.15
    assert np.corrcoef(order, np.arange(len(order)))[0, 1] == pytest.approx(0, abs=0.2)
    assert first == order.tolist()


def test_a_window_is_all_that_is_read(data, monkeypatch):
    read = []
    whole = Part.whole
    monkeypatch.setattr(Part, "whole", lambda self, pool=None: (read.append(len(self)), whole(self, pool))[1])
    batches = iter(stream(data, window=64))
    next(batches)
    assert max(read) == 64
    assert len(read) <= 2
    batches.close()


def test_the_order_of_evaluation_is_that_of_the_part(data):
    batches = [*stream(data, seed=None, part="val")]
    assert numbers(batches) == numbers([data.val_series()])
    assert len(batches[-1].series) == 120 - 7 * 16


@pytest.mark.parametrize("done", [0, 3, 4, 17, 26])
def test_any_place_of_an_epoch_is_taken_up(data, done):
    one = stream(data)
    list(one)
    batches = iter(one)
    for _ in range(done):
        next(batches)
    other = stream(data)
    other.load_state_dict(one.state_dict())
    assert numbers(batches) == numbers(other)
    assert numbers(one) == numbers(other)


class Seen(LightningModule):
    """Notes the numbers of the series it is trained on."""

    def __init__(self):
        super().__init__()
        self.weight, self.seen = torch.nn.Parameter(torch.zeros(())), []

    def training_step(self, batch, batch_idx):
        self.seen.append(numbers([batch]))
        return self.weight**2

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.filterwarnings(
    "ignore:.*val_dataloader.*", "ignore:.*validation_step.*", "ignore:.*dirpath has changed.*"
)
def test_training_goes_on_in_the_middle_of_an_epoch(tmp_path, data):
    def train(steps, ckpt=None):
        module = Seen()
        saved = ModelCheckpoint(tmp_path / f"{steps}{ckpt is None}", every_n_train_steps=33, save_top_k=-1)
        again = ShardedData(data.path, batch_size=16, val_fraction=0.2, test_fraction=0.1)
        trainer = Trainer(max_steps=steps, callbacks=[saved], limit_val_batches=0, **QUIET)
        trainer.fit(module, datamodule=again, ckpt_path=ckpt, weights_only=True)
        return module.seen, saved.best_model_path or saved.last_model_path

    whole, _ = train(40)
    begun, path = train(33)  # in the second epoch of 26 batches
    rest, _ = train(40, path)
    assert begun + rest == whole
    assert len(rest) == 7


def test_a_model_is_trained_as_from_memory(tmp_path, data):
    model = lf.fit(data, max_steps=4, network=MLP(width=8, layers=1), folder=tmp_path / "run", **PLAIN)
    assert model.shape == (8, 2)
    assert model.module.data_facts["num_train"] == 420
    assert model.sample(2, num_steps=2, enable_progress_bar=False).shape == (2, 8, 2)


PLAIN = {"enable_progress_bar": False, "accelerator": "cpu"}


def statistics(data, ranks=1):
    """What a rank knows in the end, with a thread for each rank in place of a process."""
    barrier, parts, modules = Barrier(ranks), [torch.zeros(())] * ranks, []
    for _ in range(ranks):
        modules.append(ScoreModule(MLP(width=8, layers=1), shape=data.shape))

    def fit(rank):
        def over_ranks(x):
            parts[rank] = x
            barrier.wait(20)
            total = torch.stack(parts).sum(0)
            barrier.wait(20)
            return total

        modules[rank].score.codec.fit(data.train_batches(64, rank, ranks), over_ranks if ranks > 1 else None)

    with ThreadPoolExecutor(ranks) as pool:
        list(pool.map(fit, range(ranks)))
    return modules[0].score.codec


def test_ranks_share_the_statistics(data):
    one, shared = statistics(data), statistics(data, 3)
    for name in ("mean", "scale", "variance"):
        torch.testing.assert_close(getattr(shared, name), getattr(one, name), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(shared.directions.power, one.directions.power, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(shared.directions.shrinkage, one.directions.shrinkage, rtol=1e-4, atol=1e-6)


def test_some_series_to_compare_with_are_drawn_of_more_row_groups_than_one(data):
    some = numbers([data.reference_series(60)])
    assert len(set(some)) == 60
    assert set(some) < set(numbers([data.train_series()]))
    assert some == numbers([data.reference_series(60)])
    assert len({number // 20 for number in some}) == 3


def test_a_data_set_of_files_is_described_as_one_in_memory(data):
    found = lf.describe(data)
    assert found["series"] == {"train": 420, "val": 120, "test": 60}
    assert found["steps"] == 8


def test_an_object_store_is_streamed_as_a_disk(tmp_path, data):
    fs = fsspec.filesystem("memory")
    for file in (tmp_path / "set").iterdir():
        fs.pipe_file(f"/series/{file.name}", file.read_bytes())
    remote = ShardedData("memory://series", batch_size=16, val_fraction=0.2, test_fraction=0.1)
    assert numbers(stream(remote)) == numbers(stream(data))
    fs.store.clear()


def test_what_predict_leaves_can_be_trained_on(tmp_path):
    from lightning_freqdiff.shards import SampleSet

    samples, x = SampleSet(str(tmp_path)), np.random.default_rng(0).normal(size=(30, 8, 2)).astype(np.float32)
    samples.open({}, (30, 8, 2), 10, "parquet", ["a", "b"])
    for unit in range(3):
        samples.put(unit, x[10 * unit : 10 * unit + 10])
    data = ShardedData(str(tmp_path))
    assert data.channels == ("a", "b")
    assert data.num_train == 27


def spoil(path, **columns):
    pq.write_table(pa.table(columns), path / "set" / "003.parquet")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"c": [1.0, 2.0]}, r"003\.parquet: expected lists of numbers"),
        (
            {"a": [[1.0] * 8, [1.0] * 7], "b": [[1.0] * 8] * 2},
            r"003\.parquet: expected lists .*there are lists of 7 and",
        ),
        ({"a": [[1.0] * 7], "b": [[1.0] * 7]}, r"003\.parquet: expected series of 8 steps, got 7"),
        ({"a": [[1.0] * 8, None], "b": [[1.0] * 8] * 2}, r"003\.parquet: expected lists .*a row has none"),
        ({"a": [[float("nan")] * 8], "b": [[1.0] * 8]}, r"003\.parquet: expected finite numbers"),
    ],
)
def test_a_file_that_does_not_fit_is_named(tmp_path, parquet, columns, message):
    spoil(tmp_path, **columns)
    parquet.setup()
    with pytest.raises(ValueError, match=message):
        parquet._streams["train"].shards.read(np.array([3, 0, 0, 2]))


def test_bad_input_is_refused_in_a_line(tmp_path, parquet):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"expected Parquet files, or .*, found none at .*`data\.path`"):
        ShardedData(str(tmp_path / "empty")).setup()
    with pytest.raises(ValueError, match=r"expected columns that are lists, z is none of .*`data\.columns`"):
        ShardedData(parquet.path, columns=("z",)).setup()
    with pytest.raises(TypeError, match="conditional"):
        ShardedData(parquet.path, conditional=True)
    (tmp_path / "set" / "003.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match=r"003\.parquet: expected a whole Parquet file"):
        ShardedData(parquet.path).setup()
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "empty" / "a.parquet")
    with pytest.raises(ValueError, match=r"expected a column with a list of values for each series, got x"):
        ShardedData(str(tmp_path / "empty")).setup()
