"""Sets that lie in many files, or in a store, are measured as those in one file are."""

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import lightning_freqdiff as lf
from lightning_freqdiff.evaluation import stored
from lightning_freqdiff.evaluation.reading import Reading, read_sets
from lightning_freqdiff.shards import SampleSet

X = np.random.default_rng(0).normal(size=(60, 8, 2)).astype(np.float32)


@pytest.fixture
def store():
    """The memory that fsspec keeps as an object store."""
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    yield fs
    fs.store.clear()


@pytest.fixture
def real(tmp_path) -> str:
    np.savez(tmp_path / "real.npz", x=X + 1)
    return str(tmp_path / "real.npz")


def draw(url: str, format: str = "npy", units: int = 3) -> str:
    samples = SampleSet(url)
    samples.open({}, (30, 8, 2), 10, format, ["channel 0", "channel 1"])
    for unit in range(units):
        samples.put(unit, X[10 * unit : 10 * unit + 10])
    return url


def generated(path: str, reference: str, **kwargs) -> np.ndarray:
    return read_sets(path, reference, **kwargs).generated.numpy()


@pytest.mark.parametrize("format", ["npy", "parquet", "zarr"])
def test_samples_of_many_workers_are_read_from_wherever_they_are(store, tmp_path, real, format):
    for url in ("memory://drawn", f"file://{tmp_path}/drawn", str(tmp_path / "beside")):
        np.testing.assert_array_equal(generated(draw(url, format), real), X[:30])


def test_a_file_at_a_url_is_read_as_one_on_disk(store, tmp_path, real):
    np.save(tmp_path / "made.npy", X)
    with store.open("/made/x.npy", "wb") as file:
        file.write((tmp_path / "made.npy").read_bytes())
    for url in ("memory://made/x.npy", f"file://{tmp_path}/made.npy"):
        np.testing.assert_array_equal(generated(url, real), X)
        np.testing.assert_array_equal(
            read_sets(real, url).train.numpy(), read_sets(real, str(tmp_path / "made.npy")).train
        )
    found, known = (lf.evaluate(made, real, X, metrics="sw", directions=50) for made in ("memory://made/x.npy", X))
    assert found.scores["sliced_wasserstein"].value == known.scores["sliced_wasserstein"].value


def test_lists_in_parquet_are_read_at_most_as_far_as_memory_goes(store, tmp_path, real, monkeypatch):
    lists = {name: pa.array(list(X[..., m])) for m, name in enumerate(("channel 1", "channel 0"))}
    (tmp_path / "lists").mkdir()
    pq.write_table(pa.table(lists), tmp_path / "lists" / "a.parquet", row_group_size=7)
    store.pipe_file("/lists/a.parquet", (tmp_path / "lists" / "a.parquet").read_bytes())
    monkeypatch.setattr(stored, "REFERENCE_BYTES", 4 * 8 * 2 * 20)
    for url in ("memory://lists", str(tmp_path / "lists")):
        some = generated(url, real)[..., ::-1]
        assert len(some) == 20
        assert {row.tobytes() for row in some} < {row.tobytes() for row in X}
    assert len(generated(draw("memory://drawn"), real)) == 20


def test_what_is_not_there_or_not_whole_is_said(store, tmp_path, real):
    with pytest.raises(ValueError, match="lacks 1 of 3 units"):
        read_sets(draw("memory://half", units=2), real)
    with pytest.raises(OSError, match=r"expected series, found nothing at memory://none/x.npy: set `generated`"):
        read_sets("memory://none/x.npy", real)
    with pytest.raises(ValueError, match=r"used as they are .*leave `data.window` out"):
        read_sets(real, draw("memory://drawn"), reading=Reading(window=4))
