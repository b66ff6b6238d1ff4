"""Series from files: round trips, and every way in which a file can be wrong."""

import builtins
import io
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_freqdiff.data import ArrayData, Series, SeriesData
from lightning_freqdiff.data.series.series import validate

x = np.random.default_rng(0).standard_normal((7, 5, 1)).astype(np.float32)
wide = x[..., 0]


def load(path: Path) -> Series:
    return validate(ArrayData(str(path))._load())


def rows(data: SeriesData) -> set[bytes]:
    return {row.numpy().tobytes() for part in (data.train_series(), data.val_series()) for row in part}


def write_csv(path: Path, header: str = "") -> None:
    np.savetxt(path, wide, delimiter=",", header=header, comments="")


def write_parquet(path: Path, **extra: Any) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({**{f"t{i}": wide[:, i] for i in range(5)}, **extra}), path)


def write_npz(path: Path) -> None:
    np.savez(path, x=x)


def write_npy(path: Path) -> None:
    np.save(path, x)


writers = {".npz": write_npz, ".npy": write_npy, ".csv": write_csv, ".parquet": write_parquet}


@pytest.mark.parametrize("suffix", writers)
def test_round_trip(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"series{suffix}"
    writers[suffix](path)
    series = load(path)
    np.testing.assert_array_equal(series.x, x)
    assert (series.x.dtype, series.y, series.channels, series.source) == (np.float32, None, ("channel 0",), str(path))
    data = ArrayData(str(path))
    assert (data.shape, data.channels, data.num_train) == ((5, 1), ("channel 0",), 6)
    assert rows(data) == {row.tobytes() for row in x}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    values=arrays(
        np.float32,
        st.tuples(st.integers(2, 5), st.integers(2, 6)),
        elements=st.floats(-(2.0**49), 2.0**49, width=32),
        unique=True,
    ),
    header=st.booleans(),
)
def test_csv_gives_back_any_numbers(tmp_path: Path, values: np.ndarray, header: bool) -> None:
    path = tmp_path / "series.csv"
    names = ",".join(f"t{i}" for i in range(values.shape[1])) if header else ""
    np.savetxt(path, values, delimiter=",", header=names, comments="")
    np.testing.assert_array_equal(load(path).x[..., 0], values)


def test_npz_with_labels_and_names(tmp_path: Path) -> None:
    path = tmp_path / "series.npz"
    np.savez_compressed(path, x=x.repeat(2, axis=2), y=np.arange(7), columns=np.array(["u", "v"]), other=np.eye(2))
    series = load(path)
    assert series.x.shape == (7, 5, 2)
    assert series.channels == ("u", "v")
    np.testing.assert_array_equal(series.y, np.arange(7))  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["f2", "f8", ">f4", "i2", "u1"])
def test_numbers_of_any_type(tmp_path: Path, dtype: str) -> None:
    values = np.arange(24).reshape(4, 3, 2).astype(dtype)
    np.save(tmp_path / "series.npy", values)
    np.savez(tmp_path / "series.npz", x=values)
    for suffix in (".npy", ".npz"):
        series = load(tmp_path / f"series{suffix}")
        assert series.x.dtype == np.float32
        np.testing.assert_array_equal(series.x, values.astype(np.float32))


def test_two_axes_are_one_channel(tmp_path: Path) -> None:
    np.save(tmp_path / "series.npy", wide)
    assert load(tmp_path / "series.npy").x.shape == (7, 5, 1)


def test_large_suffix_and_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "SERIES.NPY").open("wb") as file:
        np.save(file, x)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ArrayData("~/SERIES.NPY").num_train == 6


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("0,1,2\n3,4,5\n", [[0, 1, 2], [3, 4, 5]]),
        ("0.0,1.0,2.0\n0.5,4,5\n", [[0, 1, 2], [0.5, 4, 5]]),
        ("a,b\n1,2\n3,4", [[1, 2], [3, 4]]),
        ('"a","b, c"\n"1","2"\n3,4\n', [[1, 2], [3, 4]]),
        ("\ufeffa,b\r\n1,2\r\n3,4\r\n", [[1, 2], [3, 4]]),
        ("\ufeff1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("\n1, 2\n\n3,\t4\n\n", [[1, 2], [3, 4]]),
        ("\n\na,b\n\n1e3,-.5\n+3,4.\n", [[1000, -0.5], [3, 4]]),
        ("# a,b\n1,2\n3,4\n", [[1, 2], [3, 4]]),
    ],
)
def test_csv_dialects(tmp_path: Path, text: str, expected: list[list[float]]) -> None:
    path = tmp_path / "series.csv"
    path.write_text(text, encoding="utf-8", newline="")
    np.testing.assert_array_equal(load(path).x[..., 0], np.array(expected, np.float32))


def test_parquet_index_is_no_step(tmp_path: Path) -> None:
    path = tmp_path / "series.parquet"
    write_parquet(path, __index_level_0__=np.arange(7))
    np.testing.assert_array_equal(load(path).x, x)


class TestLimit:
    @pytest.fixture
    def path(self, tmp_path: Path) -> str:
        values = np.arange(100.0)[:, None] * np.ones(3)
        np.savez(tmp_path / "many.npz", x=values[..., None], y=np.arange(100))
        return str(tmp_path / "many.npz")

    def kept(self, path: str, **kwargs: Any) -> set[int]:
        data = ArrayData(path, **kwargs)
        return {int(v) for part in (data.train_series(), data.val_series()) for v in part[:, 0, 0]}

    def test_keeps_that_many_and_is_seeded(self, path: str) -> None:
        some = self.kept(path, limit=20)
        assert len(some) == 20
        assert some != set(range(20))
        assert some == self.kept(path, limit=20)
        assert some != self.kept(path, limit=20, seed=1)
        assert some < self.kept(path, limit=30)

    def test_more_than_there_are_is_all(self, path: str) -> None:
        assert self.kept(path, limit=1000) == set(range(100))

    def test_labels_follow(self, path: str) -> None:
        series = ArrayData(path, limit=10)._load()
        np.testing.assert_array_equal(series.x[:, 0, 0], series.y)  # type: ignore[arg-type]

    @pytest.mark.parametrize("limit", [1, 0, -5])
    def test_too_small(self, path: str, limit: int) -> None:
        with pytest.raises(ValueError, match=rf"^expected `data\.limit` of at least 2, got {limit}$"):
            ArrayData(path, limit=limit)

    def test_faults_are_counted_as_in_the_file(self, tmp_path: Path) -> None:
        bad = np.random.default_rng(0).standard_normal((50, 4, 1))
        bad[31, 2, 0] = np.nan
        np.savez(tmp_path / "bad.npz", x=bad)
        with pytest.raises(ValueError, match=r"= \(31, 2, 0\): nan"):
            ArrayData(str(tmp_path / "bad.npz"), limit=5).setup()


def saved(save: Callable[..., None], *args: Any, **kwargs: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **kwargs)
    return buffer.getvalue()


npz, npy = saved(np.savez, x=x), saved(np.save, x)
objects = np.array([[1.0, None], [2.0, "a"]], dtype=object)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("a.txt", b"1,2", r"ending in \.npz, \.npy, \.csv or \.parquet \(or \.jsonl\), got '\.txt'"),
        ("a", b"1,2", r"ending in .*, got ''"),
        *((f"a{suffix}", b"", "got an empty file") for suffix in writers),
        ("a.npz", npz[:-30], "damaged, cut short or pickled"),
        ("a.npz", npz[: len(npz) // 2], "damaged, cut short or pickled"),
        ("a.npz", npz[:3], "damaged, cut short or pickled"),
        ("a.npz", npz[:150] + b"????" + npz[154:], "damaged, cut short or pickled .*CRC"),
        ("a.npz", b"hello", "damaged, cut short or pickled"),
        ("a.npy", npy[:-8], "damaged, cut short or pickled"),
        ("a.npy", npy[:40], "damaged, cut short or pickled"),
        ("a.npy", npy[:5], "damaged, cut short or pickled"),
        ("a.npy", b"hello", "damaged, cut short or pickled"),
        ("a.npy", objects.dumps(), "damaged, cut short or pickled"),
        ("a.npy", saved(np.save, objects, allow_pickle=True), "got pickled Python objects, .* can run code"),
        ("a.npz", saved(np.savez, x=objects), "got pickled Python objects, .* can run code"),
        ("a.npz", saved(np.savez, x=x, y=objects), "got pickled Python objects, .* can run code"),
        ("a.npz", saved(np.savez, x, data=x), r"an array named 'x', got 'data', 'arr_0'; rename"),
        ("a.npz", saved(np.savez), r"an array named 'x', got none at all"),
        ("a.npz", saved(np.savez, x=x, y=np.arange(6)), r"each of the 7 series, got labels of shape \(6,\)"),
        ("a.npz", saved(np.savez, x=x, columns=np.array(["a", "b"])), r"each of the 1 channels, got 2"),
        ("a.npz", saved(np.savez, x=np.arange(4.0)), r"3 axes .*, got 1 in shape \(4,\)"),
        ("a.npz", saved(np.savez, x=np.float32(4.0)), r"3 axes .*, got 0 in shape \(\)"),
        ("a.npy", saved(np.save, x[None]), r"3 axes .*, got 4 in shape \(1, 7, 5, 1\)"),
        ("a.npy", saved(np.save, x[:1]), r"at least 2 series .*, got shape \(1, 5, 1\)"),
        ("a.npy", saved(np.save, x[:, :1]), r"2 steps .*, got shape \(7, 1, 1\)"),
        ("a.npy", saved(np.save, x * 1j), "real numbers, got dtype complex64"),
        ("a.npy", saved(np.save, np.where(x > 1, np.nan, x)), "got 3 that are not"),
        ("a.npy", saved(np.save, np.full((9, 4), 3.0)), "9 times the same one"),
        ("a.csv", b"\n\n", "a row for each series, got none"),
        ("a.csv", b"a,b\n", "a row for each series, got none"),
        ("a.csv", b"1,2\n", r"at least 2 series .*, got shape \(1, 2, 1\)"),
        ("a.csv", b"1\n2\n", r"2 steps .*, got shape \(2, 1, 1\)"),
        ("a.csv", b"1,2,3\n4,5,6\n\n7,8\n", r"one length, 3 as in the first, got 2 steps in row 4;"),
        ("a.csv", b"a,b\n1,2\n4,5,6\n", r"one length, 2 as in the first, got 3 steps in row 3;"),
        ("a.csv", b"1,2,3\n4,five,6\n", r"numbers, separated by commas, got 'five' in row 2, column 2;"),
        ("a.csv", b"a,b\n1,2\n4,\n", r"numbers, separated by commas, got '' in row 3, column 2;"),
        ("a.csv", b"a,b\nc,d\n", r"numbers, separated by commas, got 'c' in row 2, column 1;"),
        ("a.csv", b"1;2\n3;4\n5;6\n", r"numbers, separated by commas, got '3;4' in row 2, column 1;"),
        ("a.csv", b"1,x,3\n4,5,6\n", r"only names or only numbers in the first row, got 'x' in row 1, column 2;"),
        ("a.csv", b"1,,3\n4,5,6\n", r"only names or only numbers in the first row, got '' in row 1, column 2;"),
        ("a.csv", b",,\n4,5,6\n", r"only names or only numbers in the first row, got '' in row 1, column 1;"),
        ("a.csv", b",0,1\n0,.5,.6\n", r"got '' in row 1, column 1; .*index=False"),
        ("a.csv", b"0,1,2\n.5,.6,.7\n", r"got 0, 1, 2, \.\.\., which may be either; .*header=False"),
        ("a.csv", b"1,nan\n3,4\n", r"got 1 that are not .* = \(0, 1, 0\): nan"),
        ("a.csv", b"\xff\xfe1\x00,\x00", "a table of text, got"),
        ("a.csv", b"1,2\n3,4\n" * 9999 + b"\xff", "a table of text, got"),
        ("a.csv", npz, "a table of text, got"),
        ("a.parquet", b"hello", r"a Parquet file, got one that is damaged, or none"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, content: bytes, match: str) -> None:
    if name.endswith(".parquet") and content:
        pytest.importorskip("pyarrow")
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        ArrayData(str(path)).setup("fit")
    assert type(caught.value) is ValueError
    message = str(caught.value)
    assert message.startswith(f"{path}: expected ")
    assert "`data.path`" in message
    assert "\n" not in message


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".parquet"])
def test_a_file_cut_short_anywhere(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"series{suffix}"
    writers[suffix](path)
    content = path.read_bytes()
    for end in range(1, len(content), 7):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=r"`data\.path`"):
            load(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
@pytest.mark.parametrize("suffix", [".npz", ".npy", ".csv"])
def test_a_damaged_file_loads_or_says_so(tmp_path: Path, suffix: str, changes: list[tuple[int, int]]) -> None:
    path = tmp_path / f"series{suffix}"
    writers[suffix](path)
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    path.write_bytes(content)
    try:
        load(path)
    except ValueError as error:
        assert str(error).startswith(f"{path}: expected ")  # noqa: PT017
        assert "`data.path`" in str(error)  # noqa: PT017


def test_missing_file(tmp_path: Path) -> None:
    match = r"^expected a file or folder, found nothing at /.*none.npz; mend `data\.path`$"
    with pytest.raises(FileNotFoundError, match=match):
        ArrayData(str(tmp_path / "none.npz")).setup()


def test_text_column_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "series.parquet"
    write_parquet(path, label=list("abcdefg"))
    with pytest.raises(ValueError, match=r"got 'a' in row 1 .*, column 'label'; .*drop the column .*`data\.path`"):
        load(path)


def test_gap_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "series.parquet"
    write_parquet(path, t5=[1, 2, None, 4, 5, 6, 7])
    with pytest.raises(ValueError, match=r"got 1 that are not .* = \(2, 5, 0\): nan"):
        load(path)


def test_parquet_without_columns(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table({}), tmp_path / "series.parquet")
    with pytest.raises(ValueError, match="expected columns, got none"):
        load(tmp_path / "series.parquet")


def test_parquet_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "series.parquet"
    path.write_bytes(b"PAR1")
    real = builtins.__import__

    def without_pyarrow(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pyarrow)
    with pytest.raises(ImportError, match=r'pip install "lightning-freqdiff\[tables\]"'):
        ArrayData(str(path)).setup()


@pytest.fixture(scope="module")
def mitbih() -> ArrayData:
    path = Path(os.environ.get("FREQDIFF_DATA", "")) / "ecg_mitbih.npz"
    if not path.is_file():
        pytest.skip("FREQDIFF_DATA names no folder with ecg_mitbih.npz")
    return ArrayData(str(path))


def test_real_heartbeats(mitbih: ArrayData) -> None:
    start = time.perf_counter()
    mitbih.setup("fit")
    assert time.perf_counter() - start < 5
    assert (mitbih.shape, mitbih.channels, mitbih.num_train) == ((187, 1), ("MLII",), 18000)
    series = mitbih._load()
    assert series.x.shape == (20000, 187, 1)
    assert series.x.dtype == np.float16
    assert series.y is not None
    assert set(series.y) == {0, 1, 2, 3, 4}
    start = time.perf_counter()
    assert sum(len(b.series) for b in mitbih.train_dataloader()) == 18000 // 64 * 64
    assert time.perf_counter() - start < 2


def test_real_heartbeats_end_in_a_wall_of_zeros(mitbih: ArrayData) -> None:
    values = mitbih.val_series()[..., 0].numpy()
    end = 187 - np.argmax(values[:, ::-1] != 0, axis=1)
    assert (end < 187).mean() > 0.9
    last = values[np.arange(len(values)), end - 1]
    assert np.median(last) > 0.1  # the last step before the padding does not fall to zero by itself


@pytest.mark.parametrize("setting", ["id", "time"])
def test_an_array_has_no_columns_to_name(setting):
    series = np.random.default_rng(0).normal(size=(8, 6, 1))
    with pytest.raises(
        ValueError, match=rf"expected a table with a column 'when', got arrays; leave `data.{setting}`"
    ):
        ArrayData.of(series, **{setting: "when"}).setup()


def test_numbers_too_large_to_reckon_with_are_refused():
    series = np.random.default_rng(0).normal(size=(8, 6, 1))
    with pytest.raises(ValueError, match=r"beyond 1e\+15\), the first at"):
        ArrayData.of(series * 1e30).setup()
    ArrayData.of(series * 1e12).setup()
