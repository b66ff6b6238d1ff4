"""Series on disk: fetched batch by batch, in torch's own orders, with statistics as exact as in one piece."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from conftest import series_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DistributedSampler, RandomSampler

from lightning_freqdiff.codec import Moments
from lightning_freqdiff.data import ArrayData, Batch
from lightning_freqdiff.data.series.dataset import Rows, Shuffled
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer

PARTS = ("train", "val", "test")
TINY = Transformer(layers=1, heads=1, width=8, feedforward=8)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of 103 series, of which the first value is the series' number."""
    x = np.random.default_rng(0).normal(size=(103, 6, 2)).astype(np.float16)
    x[:, 0, 0] = np.arange(103)
    path = tmp_path_factory.mktemp("rows") / "x.npy"
    np.save(path, x)
    return str(path)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i2"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_on_disk_and_in_memory_are_the_same(tmp_path: Path, dtype: str, order: Any) -> None:
    x = np.asarray(np.random.default_rng(0).normal(scale=99, size=(50, 4, 3)).astype(dtype), order=order)
    np.save(tmp_path / "x.npy", x)
    here, there = (ArrayData(str(tmp_path / "x.npy"), in_memory=i, test_fraction=0.2) for i in (True, False))
    for part in PARTS:
        torch.testing.assert_close(here._series(part), there._series(part), rtol=0, atol=0)
    torch.manual_seed(0)
    first = series_of(here.train_dataloader())
    torch.manual_seed(0)
    torch.testing.assert_close(first, series_of(there.train_dataloader()), rtol=0, atol=0)
    torch.testing.assert_close(series_of(here.val_dataloader()), series_of(there.val_dataloader()), rtol=0, atol=0)


def test_nothing_is_copied(path: str) -> None:
    data = ArrayData(path, in_memory=False)
    data.setup()
    for part in data._parts.values():
        assert isinstance(part.x.base, np.memmap) or isinstance(part.x, np.memmap)
        assert part.index is not None
        assert part.index.dtype == np.int32
    assert not data._whole
    assert data.train_series() is not data.train_series()


def test_large_files_stay_on_disk(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ArrayData(path)._load().stays is False
    monkeypatch.setattr("lightning_freqdiff.data.readers.npy.ON_DISK", 1000)
    assert ArrayData(path)._load().stays is True


def test_a_mapped_file_is_sent_by_name(path: str, tmp_path: Path) -> None:
    data = ArrayData(path, in_memory=False)
    long = ArrayData(str(tmp_path / "long.npy"), in_memory=False, window=7, stride=3)
    np.save(tmp_path / "long.npy", np.random.default_rng(0).normal(size=(5000, 2)))
    for one in (data, long):
        for name in PARTS:
            rows = one._part(name)
            sent = pickle.dumps(rows)
            assert len(sent) < 1000 + rows.index.nbytes  # type: ignore[union-attr]
            back = pickle.loads(sent)
            torch.testing.assert_close(back.whole(), rows.whole(), rtol=0, atol=0)
            torch.testing.assert_close(back[0], rows[0], rtol=0, atol=0)
    (tmp_path / "raw").write_bytes(bytes(9000) + np.arange(60.0).tobytes())
    raw = Rows(np.memmap(tmp_path / "raw", float, "r", 9000, (5, 4, 3))[1:, ::2])
    torch.testing.assert_close(pickle.loads(pickle.dumps(raw)).whole(), raw.whole(), rtol=0, atol=0)
    inside = Rows(np.arange(24.0).reshape(4, 3, 2))
    torch.testing.assert_close(pickle.loads(pickle.dumps(inside)).whole(), inside.whole(), rtol=0, atol=0)


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(0, 99))
def test_order_on_one_rank_is_torchs(n: int, seed: int) -> None:
    rows = Rows(np.zeros((n, 2, 1)))
    torch.manual_seed(seed)
    expected = list(RandomSampler(rows))
    torch.manual_seed(seed)
    assert list(Shuffled(rows)) == expected


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 3))
def test_order_on_several_ranks_is_torchs(n: int, ranks: int, epoch: int) -> None:
    rows = Rows(np.zeros((n, 2, 1)))
    seen: list[int] = []
    for rank in range(ranks):
        ours = Shuffled(rows, ranks, rank)
        theirs = DistributedSampler(rows, ranks, rank, seed=ours.seed)
        for sampler in (ours, theirs):
            sampler.set_epoch(epoch)
        share = list(ours)
        assert share == list(theirs)
        assert len(share) == len(ours)
        seen += share
    assert set(seen) == set(range(n))


def test_order_of_many_rows_is_torchs() -> None:
    rows = Rows(np.broadcast_to(np.zeros(1), (200_001, 2, 1)))
    torch.manual_seed(1)
    expected = list(RandomSampler(rows))
    torch.manual_seed(1)
    assert list(Shuffled(rows)) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 400), st.integers(1, 90), st.floats(-1e6, 1e6), st.integers(0, 2**31))
def test_statistics_in_one_pass_are_those_of_one_piece(n: int, size: int, offset: float, seed: int) -> None:
    x = torch.from_numpy(np.random.default_rng(seed).normal(offset, 1, (n, 3, 2)))
    streamed = Moments()
    for batch in x.split(size):
        streamed.update(batch)
    assert streamed.count == n
    torch.testing.assert_close(streamed.mean, x.mean(0), rtol=1e-12, atol=1e-12)
    exact = (x - x.mean(0)).square().mean(0)
    # Beside an offset, float64 leaves so many digits to a deviation, whatever the method.
    torch.testing.assert_close(streamed.variance, exact, rtol=1e-12, atol=1e-12 + 1e-15 * abs(offset))


@pytest.mark.parametrize("size", [1, 7, 1000, 20_000])
def test_statistics_of_many_series_are_exact_to_twelve_digits(size: int) -> None:
    x = torch.from_numpy(np.random.default_rng(0).lognormal(0, 2, (20_000, 6))).float()
    streamed = Moments()
    for batch in x.split(size):
        streamed.update(batch)
    torch.testing.assert_close(streamed.mean, x.double().mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(streamed.variance, x.double().var(0, correction=0), rtol=1e-12, atol=0)


def test_training_batches_are_all_rows_once(path: str) -> None:
    for in_memory in (True, False):
        data = ArrayData(path, in_memory=in_memory)
        batches = list(data.train_batches(10))
        assert [len(b) for b in batches] == [10] * 9 + [3]
        numbers = torch.cat(batches)[:, 0, 0].tolist()
        assert sorted(numbers) == sorted(data.train_series()[:, 0, 0].tolist())
        assert in_memory or numbers == sorted(numbers)  # the disk is read from front to back


def test_reference_series(path: str) -> None:
    data = ArrayData(path, in_memory=False)
    torch.testing.assert_close(data.reference_series(), data.train_series(), rtol=0, atol=0)
    some = data.reference_series(20)
    assert some.shape == (20, 6, 2)
    assert set(some[:, 0, 0].tolist()) < set(data.train_series()[:, 0, 0].tolist())
    torch.testing.assert_close(some, data.reference_series(20), rtol=0, atol=0)
    assert len(data.reference_series(5, "val")) == 5
    assert len(ArrayData(path, in_memory=False, seed=1).reference_series(10_000, "test")) == 10


class Seen(ScoreModule):
    """Notes which series each rank trains on, and leaves that and the statistics in a folder."""

    folder: str
    rows: list[float]

    def on_train_epoch_start(self) -> None:
        self.rows = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.rows += batch.series[:, 0, 0].tolist()
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        name = f"{self.trainer.world_size}-{self.global_rank}-{self.current_epoch}.pt"
        torch.save((self.rows, self.score.codec.state_dict()), Path(self.folder) / name)


def fit(path: str, folder: Path, **kwargs: Any) -> None:
    module = Seen(TINY)
    module.folder = str(folder)
    data = ArrayData(path, in_memory=False, batch_size=4)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **kwargs,
    )
    trainer.fit(module, datamodule=data)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*configure_model.*", "ignore:.*deterministic validation.*", "ignore:.*barrier.*")
def test_two_processes_see_each_row_once_an_epoch(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    fit(path, tmp_path, devices=1)
    fit(path, tmp_path, devices=2, strategy="ddp_spawn")
    epochs = []
    for epoch in range(2):
        seen = [torch.load(tmp_path / f"2-{rank}-{epoch}.pt")[0] for rank in range(2)]
        assert [len(rows) for rows in seen] == [44, 44]  # of 93, dealt 47 each, in whole batches of 4
        assert len(set(seen[0]) & set(seen[1])) <= 1  # one is dealt twice, to make the shares equal
        assert len(set(seen[0] + seen[1])) >= 87
        epochs.append(seen)
    assert epochs[0] != epochs[1]
    _, one = torch.load(tmp_path / "1-0-0.pt")
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"2-{rank}-0.pt")[1], one, rtol=0, atol=0)


def test_the_share_of_a_rank_is_read_from_the_trainer(path: str) -> None:
    shares = []
    for rank in range(3):
        data = ArrayData(path, batch_size=1)
        data.trainer = SimpleNamespace(world_size=3, global_rank=rank)  # type: ignore[assignment]
        shares += torch.cat(series_of(data.train_dataloader()))[:, 0, 0].tolist()
    assert sorted(shares) == sorted(ArrayData(path).train_series()[:, 0, 0].tolist())


def test_channels_of_a_table_are_in_the_checkpoint(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(300, 2))
    data = ArrayData.of({"HUFL": values[:, 0], "OT": values[:, 1]}, window=8)
    module = ScoreModule(TINY)
    trainer = pl.Trainer(
        fast_dev_run=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(module, datamodule=data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert ScoreModule.load_from_checkpoint(tmp_path / "a.ckpt").channels == ("HUFL", "OT")


REAL = {
    "ecg_mitbih": {"split_by": "record", "test_fraction": 0.2},
    "ecg_kaggle_rows": {"parts": "split"},
    "nasdaq_2019_a": {},
    "nasa_charge": {"split_by": "battery_id"},
    "nasa_discharge": {"split_by": "battery_id", "test_fraction": 0.2},
    "us_drought_dsci": {"split_by": "state"},
    "etth1": {"window": 24, "test_fraction": 0.1},
    "stock_timegan": {"window": 24},
    "energy_timegan": {"window": 24, "stride": 12},
}


@pytest.mark.parametrize("name", REAL)
def test_real_files_train(name: str) -> None:
    path = Path(os.environ.get("FREQDIFF_DATA", "")) / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"FREQDIFF_DATA names no folder with {name}.npz")
    data = ArrayData(str(path), **REAL[name])
    trainer = pl.Trainer(
        fast_dev_run=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False
    )
    trainer.fit(ScoreModule(TINY), datamodule=data)
    assert trainer.callback_metrics["val_loss"].isfinite()
    if "split_by" in REAL[name]:
        with np.load(path) as archive:
            x, groups = archive["x"].astype(np.float32), archive[REAL[name]["split_by"]]
        owner: dict[bytes, set[Any]] = {}
        for row, group in zip(x, groups, strict=True):
            owner.setdefault(row.tobytes(), set()).add(group)
        sides = [
            {frozenset(owner[row.tobytes()]) for row in data._part(part).whole().numpy()} for part in ("train", "val")
        ]
        single = [{next(iter(s)) for s in side if len(s) == 1} for side in sides]  # a series may occur twice
        assert not single[0] & single[1]
