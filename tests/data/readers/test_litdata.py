"""Chunks of LitData, as a second hand writes them, and as the library does where it is."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from litdata_chunks import chunks

from lightning_freqdiff.data import ShardedData
from lightning_freqdiff.data.readers.litdata import LitDataShards
from lightning_freqdiff.data.readers.shards import Part
from lightning_freqdiff.evaluation.stored import read_stored

X = np.random.default_rng(0).normal(size=(50, 6, 3)).astype(np.float32)


def read(folder, *columns) -> np.ndarray:
    shards = LitDataShards(folder, columns)
    return Part(shards, shards.pieces).whole().numpy()


@pytest.mark.parametrize(
    ("kind", "dtype"), [("numpy", "<f4"), ("numpy", "<f8"), ("numpy", "<i4"), ("tensor", "<f4"), ("tensor", "<f8")]
)
def test_an_item_may_be_an_array_of_any_type(tmp_path, kind, dtype):
    made = chunks(tmp_path, [*(10 * X).astype(dtype)], [kind])
    np.testing.assert_array_equal(read(made), (10 * X).astype(dtype).astype(np.float32))
    assert LitDataShards(made).channels == ("0", "1", "2")


@pytest.mark.parametrize(("kind", "dtype"), [("no_header_numpy:9", "<f4"), ("no_header_tensor:3", "<f8")])
def test_a_single_channel_may_be_flat(tmp_path, kind, dtype):
    made = chunks(tmp_path, [*X[..., 0].astype(dtype)], [kind])
    np.testing.assert_array_equal(read(made), X[..., :1])


def test_entries_are_taken_by_name_in_the_order_asked_for(tmp_path):
    items = [{"ecg": x[:, 0], "id": i, "both": x[:, 1:]} for i, x in enumerate(X)]
    made = chunks(tmp_path, items, ["no_header_numpy:9", "int", "numpy"])
    np.testing.assert_array_equal(read(made), X)
    np.testing.assert_array_equal(read(made, "both", "ecg"), X[..., [1, 2, 0]])
    assert LitDataShards(made, ["ecg"]).channels == ("ecg",)
    with pytest.raises(ValueError, match=r"id is none of \['ecg', 'both'\]: set `data\.columns`"):
        ShardedData(made, columns=("id",)).setup()


def test_evaluation_reads_them(tmp_path):
    stored = read_stored(chunks(tmp_path, [*X], ["numpy"]), "reference")
    assert stored is not None
    assert {row.tobytes() for row in stored.x} == {row.tobytes() for row in X}


def test_a_pickle_is_never_opened(tmp_path):
    with pytest.raises(ValueError, match=r"expected items that hold arrays, got pickle; mend `data\.path`"):
        LitDataShards(chunks(tmp_path, [1, 2, 3], ["pickle"]))


@pytest.mark.parametrize(
    "config", [{"compression": "zstd:4"}, {"encryption": {"algorithm": "fernet"}}, {"item_loader": "TokensLoader"}]
)
def test_chunks_of_another_kind_are_refused(tmp_path, config):
    with pytest.raises(ValueError, match=r"as `optimize` writes them by default, got .*: write them without"):
        LitDataShards(chunks(tmp_path, [*X], ["numpy"], **config))


@pytest.mark.parametrize("name", ["item_loader", "compression", "encryption"])
def test_older_indices_say_less(tmp_path, name):
    made = chunks(tmp_path, [*X], ["numpy"])
    index = json.loads((tmp_path / "index.json").read_text())
    del index["config"][name]
    (tmp_path / "index.json").write_text(json.dumps(index))
    np.testing.assert_array_equal(read(made), X)


def test_an_index_of_something_else_does_not_hide_parquet(tmp_path):
    pq.write_table(pa.table({"x": [*X[..., 0]]}), tmp_path / "a.parquet")
    (tmp_path / "index.json").write_text('{"weight_map": {}}')
    assert ShardedData(str(tmp_path)).shape == (6, 1)
    stored = read_stored(str(tmp_path), "reference")
    assert stored is not None
    assert len(stored.x) == 50


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {}}', '{"chunks": [], "config": {"data_format": 3}}'])
def test_an_index_of_something_else_is_refused(tmp_path, index):
    (tmp_path / "index.json").write_text(index)
    with pytest.raises(ValueError, match=r"index\.json: expected an index of LitData"):
        LitDataShards(str(tmp_path))


@pytest.mark.parametrize(
    ("items", "kind", "message"),
    [
        ([X[0], X[1, :5]], "numpy", "all of one shape"),
        ([X[0], X[1, None]], "numpy", r"one has the shape \(1, 6, 3\)"),
        ([X[0], np.array(1.0, np.float32)], "numpy", r"one has the shape \(\)"),
        ([X[0], X[1].astype(np.complex64)], "numpy", "type 11 of numpy is none of real numbers"),
    ],
)
def test_an_item_that_does_not_fit_is_told_with_its_chunk(tmp_path, items, kind, message):
    with pytest.raises(ValueError, match=rf"chunk-0-0\.bin: expected arrays of numbers.*{message}"):
        LitDataShards(chunks(tmp_path, items, [kind]))


def test_chunks_that_are_cut_or_gone_are_named(tmp_path):
    shards = LitDataShards(chunks(tmp_path, [*X], ["numpy"]))
    path = tmp_path / "chunk-0-1.bin"
    whole = path.read_bytes()
    for size in (0, 3, 40, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match=r"chunk-0-1\.bin: expected arrays of numbers"):
            shards.read(shards.pieces[1])
    path.unlink()
    with pytest.raises(ValueError, match=r"chunk-0-1\.bin: .*it is not there"):
        shards.read(shards.pieces[1])
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "chunks": []}))
    with pytest.raises(ValueError, match="expected items that hold arrays"):
        LitDataShards(str(tmp_path))


@pytest.mark.parametrize("flat", [False, True])
def test_the_library_writes_what_is_read(tmp_path, flat):
    writer = pytest.importorskip("litdata.streaming.writer").BinaryWriter(str(tmp_path), chunk_size=20)
    for i, x in enumerate(X):
        writer[i] = {"a": x[:, 0], "b": x[:, 1], "label": 3, "c": x[:, 2]} if flat else x
    writer.done()
    writer.merge()
    np.testing.assert_array_equal(read(str(tmp_path)), X)
