"""Checks, splits and loaders, on a data set that is given as an array."""

import pickle
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from conftest import series_of
from hypothesis import assume, given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, DistributedSampler

from lightning_freqdiff.data import Batch, LoadedData, Series, SeriesData
from lightning_freqdiff.data.series.series import validate


class Given(LoadedData):
    """A data set that is there already, and counts how often it is loaded."""

    def __init__(self, x: np.ndarray, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.x = x
        self.loads = 0

    def _load(self) -> Series:
        self.loads += 1
        return Series(self.x, None, tuple("abcdefgh"[: self.x.shape[-1]]), "given")


def numbered(n: int, steps: int = 3, channels: int = 2) -> np.ndarray:
    """Series that can be told apart: all values of the i-th are i."""
    return np.broadcast_to(np.arange(n, dtype=np.float32)[:, None, None], (n, steps, channels)).copy()


def ids(x: torch.Tensor) -> list[int]:
    return x[:, 0, 0].int().tolist()


def parts(data: SeriesData) -> tuple[list[int], list[int], list[int]]:
    return ids(data.train_series()), ids(data.val_series()), ids(data.test_series())


sizes = st.integers(2, 80)
fractions = st.floats(0.01, 0.6)
seeds = st.integers(0, 2**40)


@given(n=sizes, val_fraction=fractions, test_fraction=st.just(0.0) | fractions, seed=seeds)
def test_split_is_a_stable_partition(n: int, val_fraction: float, test_fraction: float, seed: int) -> None:
    settings: dict[str, Any] = {"val_fraction": val_fraction, "test_fraction": test_fraction, "seed": seed}
    num_val = max(1, round(n * val_fraction))
    num_test = max(1, round(n * test_fraction)) if test_fraction else 0
    data = Given(numbered(n), **settings)
    if num_val + num_test >= n:
        with pytest.raises(ValueError, match=r"a series to train on, but of .*`data\.val_fraction`"):
            data.setup("fit")
        return
    train, val, test = parts(data)
    assert (len(train), len(val), len(test)) == (n - num_val - num_test, num_val, num_test or num_val)
    assert sorted(train + val + (test if num_test else [])) == list(range(n))
    if not num_test:
        assert test == val
    assert parts(Given(numbered(n), **settings)) == (train, val, test)


@given(n=st.integers(10, 80), val_fraction=st.floats(0.01, 0.4), test_fraction=st.floats(0.01, 0.4), seed=seeds)
def test_validation_part_does_not_depend_on_the_test_part(
    n: int, val_fraction: float, test_fraction: float, seed: int
) -> None:
    without = Given(numbered(n), val_fraction=val_fraction, seed=seed)
    with_test = Given(numbered(n), val_fraction=val_fraction, seed=seed, test_fraction=test_fraction)
    assert ids(without.val_series()) == ids(with_test.val_series())


def test_split_is_random() -> None:
    splits = [ids(Given(numbered(1000), seed=seed).val_series()) for seed in range(20)]
    assert len({tuple(s) for s in splits}) == 20
    # The mean of 20 times 100 draws from 0..999 without replacement has a standard deviation of about 6.1.
    assert abs(np.mean(splits) - 499.5) < 30


def test_loads_once_and_by_itself() -> None:
    data = Given(numbered(10))
    assert data.shape == (3, 2)
    assert data.channels == ("a", "b")
    assert data.num_train == 9
    before = data.train_series()
    data.setup("fit")
    data.setup("validate")
    assert data.loads == 1
    assert data.train_series() is before


def test_parts_are_float32_copies() -> None:
    x = numbered(10).astype(np.float64)
    data = Given(x)
    assert {p.dtype for p in (data.train_series(), data.val_series(), data.test_series())} == {torch.float32}
    assert data.train_series().is_contiguous()
    x[:] = -1
    assert (data.train_series() >= 0).all()


@given(n=sizes, batch_size=st.integers(1, 50))
def test_an_epoch_sees_each_series_at_most_once_in_equal_batches(n: int, batch_size: int) -> None:
    data = Given(numbered(n), batch_size=batch_size)
    batches = series_of(data.train_dataloader())
    assert batches
    assert len(batches) == len(data.train_dataloader())
    assert all(isinstance(b, torch.Tensor) and b.dtype == torch.float32 for b in batches)
    assert {tuple(b.shape) for b in batches} == {(min(batch_size, data.num_train), 3, 2)}
    seen = [i for b in batches for i in ids(b)]
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(ids(data.train_series()))
    assert len(seen) > data.num_train - batch_size


@given(n=sizes, batch_size=st.integers(1, 50))
def test_validation_and_test_lose_nothing(n: int, batch_size: int) -> None:
    assume(n > 4)
    data = Given(numbered(n), batch_size=batch_size, val_fraction=0.3, test_fraction=0.3)
    torch.testing.assert_close(torch.cat(series_of(data.val_dataloader())), data.val_series(), rtol=0, atol=0)
    torch.testing.assert_close(torch.cat(series_of(data.test_dataloader())), data.test_series(), rtol=0, atol=0)


def test_training_batches_are_shuffled_anew_by_the_torch_seed() -> None:
    data = Given(numbered(100), batch_size=9)

    def epoch() -> list[int]:
        return [i for b in series_of(data.train_dataloader()) for i in ids(b)]

    torch.manual_seed(0)
    first, second = epoch(), epoch()
    torch.manual_seed(0)
    assert epoch() == first
    assert second != first
    assert first != ids(data.train_series())[: len(first)]


def test_a_batch_is_one_gather(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Given(numbered(100), batch_size=10)
    loader = data.train_dataloader()
    calls = []
    fetch = type(loader.dataset).__getitems__  # type: ignore[attr-defined]
    monkeypatch.setattr(type(loader.dataset), "__getitem__", None)
    monkeypatch.setattr(type(loader.dataset), "__getitems__", lambda s, i: calls.append(len(i)) or fetch(s, i))
    assert len(series_of(loader)) == 9
    assert calls == [10] * 9


def test_single_items_and_pickling_work() -> None:
    dataset = Given(numbered(10)).val_dataloader().dataset
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[0].series.shape == (3, 2)
    assert copy[0].series.equal(dataset[0].series)


@given(n=sizes, batch_size=st.integers(1, 50), replicas=st.integers(1, 4))
def test_each_process_of_a_distributed_run_gets_batches(n: int, batch_size: int, replicas: int) -> None:
    data = Given(numbered(n), batch_size=batch_size)
    data.trainer = SimpleNamespace(world_size=replicas, global_rank=0)  # type: ignore[assignment]
    loader = data.train_dataloader()
    for rank in range(replicas):
        sampler = DistributedSampler(loader.dataset, replicas, rank)  # type: ignore[arg-type]
        share = DataLoader(
            loader.dataset,
            batch_size=loader.batch_size,
            sampler=sampler,
            drop_last=loader.drop_last,
            collate_fn=loader.collate_fn,
        )
        assert len(list(share)) > 0


def test_two_processes_share_the_series() -> None:
    shares, train = [], set()
    for rank in range(2):
        data = Given(numbered(41), batch_size=8, seed=3)  # each process makes its own split
        data.trainer = SimpleNamespace(world_size=2, global_rank=0)  # type: ignore[assignment]
        loader = data.val_dataloader()
        dataset = data.train_dataloader().dataset
        sampler = DistributedSampler(dataset, num_replicas=2, rank=rank, shuffle=True)  # type: ignore[arg-type]
        batches = series_of(DataLoader(dataset, batch_size=8, sampler=sampler, collate_fn=loader.collate_fn))
        assert all(isinstance(b, torch.Tensor) and b.shape[1:] == (3, 2) for b in batches)
        shares.append(ids(torch.cat(batches)))
        train |= set(ids(data.train_series()))
    assert len(train) == 37
    assert [len(s) for s in shares] == [19, 19]  # one series is dealt twice, to make the shares equal
    assert set(shares[0]) | set(shares[1]) == train
    assert len(set(shares[0]) & set(shares[1])) <= 1


def test_worker_processes() -> None:
    data = Given(numbered(40), batch_size=6, num_workers=1)
    assert sorted(ids(torch.cat(series_of(data.val_dataloader())))) == sorted(ids(data.val_series()))
    assert len(series_of(data.train_dataloader())) == 6


class _Mean(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(3, 2))
        self.seen: list[torch.Size] = []

    def training_step(self, batch: Batch) -> torch.Tensor:
        self.seen.append(batch.series.shape)
        return (batch.series - self.mean).square().mean()

    def validation_step(self, batch: Batch) -> None:
        self.seen.append(batch.series.shape)

    test_step = validation_step

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_trainer_takes_it() -> None:
    module, data = _Mean(), Given(numbered(40), batch_size=6)
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    assert module.seen == [(6, 3, 2)] * 6 + [(4, 3, 2)] * 2
    assert data.loads == 1


good = np.random.default_rng(0).standard_normal((6, 4, 2)).astype(np.float32)


def changed(index: tuple[Any, ...], value: float, dtype: Any = np.float32) -> np.ndarray:
    x = good.astype(dtype)
    x[index] = value
    return x


@pytest.mark.parametrize(
    ("x", "match"),
    [
        (good[0, :, 0], r"expected 3 axes \(series, steps, channels\), got 1 in shape \(4,\)"),
        (good[None], r"expected 3 axes .*, got 4 in shape \(1, 6, 4, 2\)"),
        (good[:1], r"at least 2 series .*, got shape \(1, 4, 2\)"),
        (good[:0], r"at least 2 series .*, got shape \(0, 4, 2\)"),
        (good[:, :1], r"2 steps .*, got shape \(6, 1, 2\)"),
        (good[:, :, :0], r"1 channel, got shape \(6, 4, 0\)"),
        (good.astype(complex), r"expected real numbers, got dtype complex128; .* as two channels"),
        (good.astype(str), r"expected real numbers, got dtype <U"),
        (good.astype(object), r"expected real numbers, got dtype object"),
        (good > 0, r"expected real numbers, got dtype bool"),
        (changed((3, 1, 0), np.nan), r"got 1 that are not .*\(sample, step, channel\) = \(3, 1, 0\): nan"),
        (changed((2,), -np.inf), r"got 8 that are not .*\(sample, step, channel\) = \(2, 0, 0\): -inf"),
        (changed((5, 3, 1), 1e39, float), r"got 1 that are not .*beyond 1e\+15.* = \(5, 3, 1\): 1e\+39"),
        (np.ones((6, 4, 2)), r"series that differ, got 6 times the same one"),
        (good[:1].repeat(6, axis=0), r"series that differ, got 6 times the same one"),
    ],
)
def test_bad_values(x: np.ndarray, match: str) -> None:
    channels = tuple(f"c{i}" for i in range(x.shape[-1]))
    with pytest.raises(ValueError, match=rf"^here: .*{match}.*`data\.path`") as caught:
        validate(Series(x, None, channels, "here"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(5,), (7,), (6, 1), ()])
def test_labels_must_match(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"one label for each of the 6 series, .* mend `y` .*`data\.path`"):
        validate(Series(good, np.zeros(shape, int), ("a", "b"), "here"))


def test_channel_names_must_match() -> None:
    with pytest.raises(ValueError, match=r"each of the 2 channels, got 1; mend `columns`.*`data\.path`"):
        validate(Series(good, None, ("a",), "here"))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", ">f4", "i1", "u1", "i8", "u8"])
def test_real_numbers_become_float32(dtype: str) -> None:
    x = np.arange(12).reshape(2, 3, 2).astype(dtype)
    series = validate(Series(x, np.array([0, 1]), ("a", "b"), "here"))
    assert series.x.dtype == np.float32
    assert series.x.dtype.isnative
    np.testing.assert_array_equal(series.x, np.arange(12).reshape(2, 3, 2))
    assert (series.channels, series.source) == (("a", "b"), "here")


def test_what_is_odd_but_allowed() -> None:
    constant_channel = changed((..., 1), 7.0)
    assert validate(Series(constant_channel, None, ("a", "b"), "")).x is not None
    flat = numbered(4)  # each series constant, but not the same constant
    assert validate(Series(flat, None, ("a", "b"), "")).x.shape == (4, 3, 2)
    smallest = Given(good[:2, :2, :1])
    assert (smallest.shape, smallest.num_train, len(smallest.val_series())) == ((2, 1), 1, 1)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        *(("val_fraction", v) for v in (0.0, 1.0, -0.1, 1.5, float("nan"))),
        *(("test_fraction", v) for v in (1.0, -0.1, float("nan"))),
        *(("batch_size", v) for v in (0, -3)),
        ("seed", -1),
        ("num_workers", -1),
    ],
)
def test_bad_settings(setting: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"^expected `data\.{setting}` .*, got {value}$"):
        Given(good, **{setting: value})


def test_too_large_a_validation_part() -> None:
    data = Given(good, val_fraction=0.95)
    with pytest.raises(ValueError, match=r"of 6, 6 validate and 0 test; lower `data\.val_fraction` \(now 0\.95\)"):
        data.train_dataloader()


def test_the_base_is_abstract() -> None:
    with pytest.raises(TypeError, match="_load"):
        LoadedData()  # type: ignore[abstract]


@pytest.mark.parametrize(("names", "told"), [(("a", "a"), "'a' twice"), (("a", "\udce4"), "no text")])
def test_channel_names_that_no_table_could_have_are_refused(names: tuple[str, ...], told: str) -> None:
    x = np.random.default_rng(0).normal(size=(9, 4, 2)).astype(np.float32)
    with pytest.raises(ValueError, match=rf"that are text and differ, got {told}|got .* {told}"):
        validate(Series(x, None, names, "here"))
