"""Data sets of samples that many workers fill: whole, once, the same bytes, whatever happens to the workers."""

import errno
import json
import os
import random
import signal
import sys
import time
from copy import deepcopy
from functools import partial
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from faulty import FaultyFileSystem
from lightning.pytorch import Trainer
from tenacity import wait_none

import lightning_freqdiff as lf
from lightning_freqdiff.callbacks import ShardWriter, shard_writer
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling import Sampling, WorkUnit
from lightning_freqdiff.shards import SampleSet, store
from lightning_freqdiff.shards.formats import FORMATS


@pytest.fixture(scope="module")
def module() -> ScoreModule:
    torch.manual_seed(0)
    module = ScoreModule(MLP(width=8, layers=1), shape=(6, 2))
    module.score.codec.fit([torch.randn(50, 6, 2).cumsum(1)])
    return module.eval()


@pytest.fixture
def remote(request):
    """An empty folder of an object store."""
    url = f"memory://{random.randrange(10**9)}"
    yield url
    fsspec.filesystem("memory").store.clear()


def predict(module, url, format="npy", shard=None, num_samples=40, batch_size=4, **settings):
    module.sampling = Sampling(num_samples=num_samples, num_steps=2, batch_size=batch_size)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    writer = ShardWriter(url, format, shard)
    trainer = Trainer(accelerator="cpu", enable_model_summary=False, callbacks=[writer], **quiet, **settings)
    trainer.predict(module, return_predictions=False)
    return writer


def expected(module, num_samples=40, batch_size=4):
    module.sampling = Sampling(num_samples=num_samples, num_steps=2, batch_size=batch_size)
    return torch.cat([module.predict_step(unit, 0) for unit in module.sampling.units()]).numpy()


def tree(url: str) -> dict[str, bytes]:
    """Every file below a URL."""
    fs, root = fsspec.core.url_to_fs(url)
    return {path.removeprefix(root): fs.cat_file(path) for path in fs.find(root)}


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_format_gives_the_samples_back(module, remote, format):
    predict(module, remote, format, num_samples=38)
    x = expected(module, 38)
    np.testing.assert_array_equal(lf.read_samples(remote), x)
    np.testing.assert_array_equal(lf.read_samples(remote, start=3, stop=-5), x[3:-5])


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_parts_make_the_same_files_as_a_whole(module, tmp_path, format):
    for i in (2, 0, 1):
        predict(module, f"file://{tmp_path}/parts", format, f"{i}/3", num_samples=38)
    predict(module, f"file://{tmp_path}/whole", format, num_samples=38)
    parts, whole = (tree(f"file://{tmp_path}/{name}") for name in ("parts", "whole"))
    assert parts == whole
    assert len([name for name in whole if "_units" in name]) == 10


def test_zarr_is_read_by_its_library(module, tmp_path):
    import zarr

    predict(module, str(tmp_path / "run"), "zarr", num_samples=38)
    array = zarr.open_array(tmp_path / "run" / "samples.zarr", mode="r")
    np.testing.assert_array_equal(array[:], expected(module, 38))
    assert array.attrs["channels"] == list(module.channels)


def test_parquet_is_read_lazily(module, tmp_path):
    import polars

    predict(module, f"file://{tmp_path}", "parquet")
    frame, x = lf.read_samples(tmp_path, "polars", stop=10), expected(module)
    assert isinstance(frame, polars.LazyFrame)
    rows = frame.collect()
    assert rows.columns == ["sample", *module.channels]
    assert rows["sample"].to_list() == list(range(10))
    np.testing.assert_array_equal(
        np.stack([np.array(rows[c].to_list(), np.float32) for c in module.channels], -1), x[:10]
    )
    hive = polars.scan_parquet(tmp_path / "shard=*" / "*.parquet", hive_partitioning=True).collect()
    assert hive["shard"].unique().to_list() == [0]
    assert len(hive) == 40


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_rows_are_streamed(module, remote, format):
    predict(module, remote, format)
    rows, x = lf.read_samples(remote, "datasets", start=2), expected(module)
    assert rows.num_shards == 10
    read = list(rows)
    assert [row["sample"] for row in read] == list(range(2, 40))
    np.testing.assert_array_equal(np.array([row["channel_1"] for row in read], np.float32), x[2:, :, 1])


def test_a_single_file_is_read_by_the_same_call(tmp_path):
    np.save(tmp_path / "samples.npy", np.arange(12.0).reshape(4, 3, 1))
    np.testing.assert_array_equal(lf.read_samples(tmp_path, start=1)[:, 0, 0], [3, 6, 9])


def test_a_store_that_fails_one_call_in_ten_gets_every_sample_once(module, remote, monkeypatch):
    monkeypatch.setattr(store, "wait_exponential", lambda **_: wait_none())
    monkeypatch.setattr(store, "wait_random", lambda *_: wait_none())
    FaultyFileSystem.store.clear()
    FaultyFileSystem.calls = FaultyFileSystem.failed = 0
    for shard in ("1/2", None):
        predict(module, "faulty://run", "parquet", shard, num_samples=200)
    assert FaultyFileSystem.failed > 10
    predict(module, remote, "parquet", num_samples=200)
    bad = {name.partition("run/")[2]: file.getvalue() for name, file in FaultyFileSystem.store.items()}
    good = {name.removeprefix("/"): content for name, content in tree(remote).items()}
    assert bad == good
    np.testing.assert_array_equal(lf.read_samples("faulty://run"), expected(module, 200))


def test_what_another_try_does_not_mend_is_not_tried_again(monkeypatch, tmp_path):
    place, calls = SampleSet(str(tmp_path)).store, []

    def full(*_):
        calls.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(place, "_replace", full)
    with pytest.raises(OSError, match=r"No space left on device.*`sampling.output`"):
        place.write("a", b"1")
    assert len(calls) == 1


def test_a_full_disk_leaves_no_half_of_a_unit(module, tmp_path, monkeypatch):
    """The disk is full after five units; with room again, the same command does the rest."""
    write, done = SampleSet.put, []

    def put(samples, unit, series):
        if len(done) == 5:
            monkeypatch.setattr(os, "fsync", full)
        write(samples, unit, series)
        done.append(unit)

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SampleSet, "put", put)
        with pytest.raises(OSError, match="No space left on device"):
            predict(module, f"file://{tmp_path}/run", "parquet")
    monkeypatch.undo()
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".parquet"]) == 5
    assert not [path for path in files if "partial" in path.name]
    predict(module, f"file://{tmp_path}/run", "parquet")
    predict(module, f"file://{tmp_path}/whole", "parquet")
    assert tree(f"file://{tmp_path}/run") == tree(f"file://{tmp_path}/whole")


@pytest.mark.slow
def test_workers_killed_at_random_leave_every_sample_once(module, tmp_path, monkeypatch):
    """Two at a time, of which one has a clock that is years off, killed twenty times at any moment."""
    chance, url, fsync = random.Random(0), f"file://{tmp_path}/run", os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: (time.sleep(0.005), fsync(file)))
    predict(module, f"file://{tmp_path}/whole", "parquet", num_samples=160)
    kills, off = 0, lambda now, clock: now() + clock
    while kills < 20:
        workers = []
        for clock in (0, 10**8):
            if (pid := os.fork()) == 0:
                try:
                    monkeypatch.setattr(time, "time", partial(off, time.time, clock))
                    predict(module, url, "parquet", num_samples=160)
                finally:
                    os._exit(0)
            workers.append(pid)
        time.sleep(chance.uniform(0.02, 0.25))
        for pid in workers:
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            kills += os.WIFSIGNALED(status)
        if kills < 20 and len(list((tmp_path / "run").rglob("*.parquet"))) == 40:
            for path in list((tmp_path / "run" / "_units").rglob("0*"))[::2]:
                path.unlink()  # all done before the last kill: half of it again
    predict(module, url, "parquet", num_samples=160)
    left = {name: content for name, content in tree(url).items() if not name.endswith(".partial")}
    assert left == tree(f"file://{tmp_path}/whole")
    np.testing.assert_array_equal(lf.read_samples(url), expected(module, 160))


def test_workers_share_the_work_without_a_word(module, remote, monkeypatch):
    """What another worker has drawn since the start is not drawn again."""
    other = Sampling(num_samples=40, num_steps=2, batch_size=4)
    draw, drawn = ScoreModule.draw, []

    def shared(self, unit, sampling, *args):
        if unit.count:
            drawn.append(unit.first)
            if len(drawn) == 1:  # meanwhile, elsewhere
                samples = SampleSet(remote)
                samples.read()
                for first in range(0, 24, 4):
                    samples.put(first // 4, draw(self, WorkUnit(0, first, 4), other).numpy())
        return draw(self, unit, sampling, *args)

    monkeypatch.setattr(ScoreModule, "draw", shared)
    predict(module, remote)
    assert set(drawn[1:]) - set(range(24, 40, 4)) == set()
    np.testing.assert_array_equal(lf.read_samples(remote), expected(module))


def test_workers_that_draw_at_the_same_time_leave_each_other_theirs(module, remote, monkeypatch):
    """A whole second worker comes while the first one draws its third unit; it ends with what that one claimed."""
    draw, drawn, other = ScoreModule.draw, [], deepcopy(module)

    def watched(self, unit, *args):
        if unit.count:
            drawn.append(unit.first)
            if len(drawn) == 3:
                predict(other, remote)
        return draw(self, unit, *args)

    monkeypatch.setattr(ScoreModule, "draw", watched)
    predict(module, remote)
    assert len(drawn) == 11
    assert sorted({*drawn}) == [*range(0, 40, 4)]
    assert drawn[2] == drawn[-1]
    np.testing.assert_array_equal(lf.read_samples(remote), expected(module))
    assert not [name for name in tree(remote) if "claimed" in name]


def test_what_a_worker_that_is_gone_has_claimed_comes_last(module, remote, monkeypatch):
    predict(module, remote, limit_predict_batches=1)
    assert not [name for name in tree(remote) if "claimed" in name]
    samples = SampleSet(remote)
    samples.read()
    gone = samples.missing()[:8]
    for unit in gone:
        samples.claim(int(unit), "gone")
    draw, drawn = ScoreModule.draw, []
    monkeypatch.setattr(
        ScoreModule, "draw", lambda self, unit, *rest: drawn.append(unit.first // 4) or draw(self, unit, *rest)
    )
    predict(module, remote)
    assert sorted(drawn[1:]) == [*gone]
    assert not [name for name in tree(remote) if "claimed" in name]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionError(13, "Permission denied"), "Permission denied"),
        (NotImplementedError(), "has no way to delete"),
    ],
)
def test_a_store_that_lets_nobody_delete_gets_every_sample_and_says_what_stays(
    module, remote, monkeypatch, caplog, error, reason
):
    def refused(self, path):
        raise error

    monkeypatch.setattr(type(fsspec.filesystem("memory")), "rm_file", refused)
    with caplog.at_level("INFO"):
        predict(module, remote)
    np.testing.assert_array_equal(lf.read_samples(remote), expected(module))
    (said,) = (record.message for record in caplog.records if "cannot be deleted" in record.message)
    assert reason in said


def test_who_is_interrupted_takes_its_claims_back(module, remote, monkeypatch):
    def interrupted(self, unit, *rest):
        raise KeyboardInterrupt

    monkeypatch.setattr(ScoreModule, "draw", interrupted)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        predict(module, remote)
    assert [name for name in tree(remote) if name.startswith("/_units")] == []


def test_two_starts_at_the_same_time_are_one_run(module, remote, monkeypatch):
    """The second finds nothing when it looks, and the first one's description when it writes its own."""
    predict(module, remote, limit_predict_batches=1)
    names = store.Store.names
    monkeypatch.setattr(store.Store, "names", lambda self, folder="": names(self, folder) if folder else [])
    with pytest.raises(ValueError, match=r"batch_size was 4 and is now 8"):
        predict(module, remote, batch_size=8)
    predict(module, remote)
    np.testing.assert_array_equal(lf.read_samples(remote), expected(module))


def test_memory_does_not_grow_with_the_number_of_samples(module):
    """Ten billion samples: what is remembered of each of the 2.4 million units is a few bytes."""
    sampling = Sampling(num_samples=10**10, num_steps=2, batch_size=4096)
    todo = shard_writer._Numbered(sampling, np.arange(-(-(10**10) // 4096)))
    assert todo.numbers.nbytes < 2e7
    assert todo[len(todo) - 1] == WorkUnit(0, 4096 * (len(todo) - 1), 10**10 - 4096 * (len(todo) - 1))


BAD = {
    "another run": ({"num_samples": 44}, r"another run .*num_samples was 40 and is now 44.*`sampling.output`"),
    "other units": ({"batch_size": 5}, r"another run .*batch_size was 4 and is now 5"),
    "other format": ({"format": "zarr"}, r"another run .*format was npy and is now zarr"),
}


@pytest.mark.parametrize("what", BAD)
def test_another_run_is_refused(module, remote, what):
    predict(module, remote)
    before, (settings, message) = tree(remote), BAD[what]
    with pytest.raises(ValueError, match=message):
        predict(module, remote, **settings)
    assert tree(remote) == before


def test_a_folder_of_other_things_is_refused(module, remote):
    fsspec.filesystem("memory").pipe_file(f"{remote}/thesis.tex", b"1")
    with pytest.raises(ValueError, match=r"holds thesis\.tex: set `sampling\.output`"):
        predict(module, remote)
    assert tree(remote) == {"/thesis.tex": b"1"}


@pytest.mark.parametrize("shard", ["5/4", "4/4", "-1/4", "1", "a/b", "0/0"])
def test_a_shard_that_cannot_be_is_refused(shard):
    with pytest.raises(ValueError, match=r"expected a shard i/n .*`sampling\.shard`"):
        ShardWriter("memory://x", "npy", shard)


@pytest.mark.parametrize("format", ["csv", "npz", "xlsx"])
def test_a_format_that_cannot_be_is_refused(format):
    with pytest.raises(ValueError, match=r"expected a format of parquet, npy, zarr.*`sampling\.format`"):
        ShardWriter("memory://x", format)


def test_a_url_without_its_library_names_the_extra(monkeypatch):
    found = sys.modules["fsspec.registry"]._registry  # the package's own attribute is a view of it
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(found, "s3", raising=False)  # what was found before stays known
    with pytest.raises(ValueError, match=r"s3:// needs a library.*lightning-freqdiff\[s3\].*`sampling.output`"):
        SampleSet("s3://bucket/run")
    with pytest.raises(ValueError, match=r"expected a path or a URL that fsspec knows, got nosuch://x"):
        SampleSet("nosuch://x")


def test_a_description_cut_in_half_is_refused(module, tmp_path):
    predict(module, f"file://{tmp_path}")
    run = tmp_path / "run.json"
    run.write_text(run.read_text()[:99])
    before = tree(f"file://{tmp_path}")
    for use in (lambda: lf.read_samples(tmp_path), lambda: predict(module, f"file://{tmp_path}")):
        with pytest.raises(ValueError, match=r"run\.json is damaged"):
            use()
    assert tree(f"file://{tmp_path}") == before


def test_reading_says_what_is_missing(module, remote, tmp_path):
    predict(module, remote, shard="0/2")
    assert lf.read_samples(remote, stop=20).shape == (20, 6, 2)
    with pytest.raises(ValueError, match=r"lacks 5 of 10 units, the first that of sample 20"):
        lf.read_samples(remote)
    with pytest.raises(ValueError, match=r"expected a data set of samples.*found none at .*`source`"):
        lf.read_samples(tmp_path)


def test_parquet_with_other_columns_is_refused(module, tmp_path):
    import pyarrow
    import pyarrow.parquet

    predict(module, f"file://{tmp_path}", "parquet")
    file = tmp_path / "shard=00000" / "000000000004.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"a": [1]}), file)
    with pytest.raises(ValueError, match=r"000000000004\.parquet is of no use \(expected columns sample, .* got a\)"):
        lf.read_samples(tmp_path)


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_damaged_unit_is_named_and_drawn_again(module, tmp_path, format):
    url = f"file://{tmp_path}"
    predict(module, url, format)
    (file,) = [path for path in tmp_path.rglob("*") if path.stem == "000000000004" or path.parts[-3:-2] == ("1",)]
    whole = file.read_bytes()
    for spoilt in (whole[:-9], whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(spoilt)
        with pytest.raises(ValueError, match="is of no use .*delete its entry"):
            lf.read_samples(url)
    next((tmp_path / "_units").rglob("000000000004-*")).unlink()
    predict(module, url, format)
    assert file.read_bytes() == whole


def test_the_entry_is_written_after_the_file(module, remote, monkeypatch):
    names = []
    write = store.Store.write
    monkeypatch.setattr(
        store.Store, "write", lambda self, name, content: (names.append(name), write(self, name, content))
    )
    predict(module, remote, num_samples=4)
    assert [name.split("/")[0] for name in names] == ["_units", "shard=00000", "_units"]
    assert "claimed" in names[0]


def test_the_description_says_how_it_was_drawn(module, remote):
    predict(module, remote)
    run = json.loads(tree(remote)["/run.json"])
    assert run["shape"] == [40, 6, 2]
    assert run["identity"]["sampling"]["num_steps"] == 2
    assert Path(run["format"]).name == "npy"
