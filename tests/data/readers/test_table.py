"""Tables, wide and long, in files, folders and memory: they all give the same series."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_freqdiff.callbacks.table import convert
from lightning_freqdiff.data import ArrayData, Series
from lightning_freqdiff.data.readers.table import is_frame

x = np.random.default_rng(0).standard_normal((6, 5, 2)).astype(np.float32)
days = np.datetime64("2020-02-27") + np.arange(5)


def long_columns(x: np.ndarray) -> dict[str, Any]:
    n, steps, channels = x.shape
    ids, times = np.repeat([f"s{i}" for i in range(n)], steps), np.tile(days[:steps], n)
    return {"id": ids, "time": times, **{f"c{m}": x[..., m].ravel() for m in range(channels)}}


def write_csv(path: Path, columns: dict[str, Any]) -> str:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return str(path)


def write_parquet(path: Path, columns: dict[str, Any]) -> str:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.table(columns), path)
    return str(path)


def load(source: Any, **settings: Any) -> Series:
    return (ArrayData(source, **settings) if isinstance(source, str) else ArrayData.of(source, **settings))._load()


def pandas_frame(columns: dict[str, Any]) -> Any:
    return pytest.importorskip("pandas").DataFrame(columns)


def polars_frame(columns: dict[str, Any]) -> Any:
    return pytest.importorskip("polars").DataFrame(columns)


def arrow_table(columns: dict[str, Any]) -> Any:
    return pytest.importorskip("pyarrow").table(columns)


class Column:
    def __init__(self, values: Any) -> None:
        self.values = values

    def to_numpy(self) -> np.ndarray:
        return np.asarray(self.values, dtype=object)  # as pandas does for text, and for numbers that may be missing


class LooksLikePandas:
    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns, self.data = list(columns), columns

    def __getitem__(self, name: str) -> Column:
        return Column(self.data[name])


@pytest.mark.parametrize("make", [dict, LooksLikePandas, pandas_frame, polars_frame, arrow_table])
def test_tables_in_memory(make: Callable[[dict[str, Any]], Any]) -> None:
    table = make(long_columns(x))
    assert is_frame(table)
    series = load(table)
    np.testing.assert_array_equal(series.x, x)
    assert series.channels == ("c0", "c1")
    wide = load(make({f"t{i}": x[:, i, 0] for i in range(5)}))
    np.testing.assert_array_equal(wide.x, x[..., :1])


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_long_table_in_a_file(tmp_path: Path, write: Callable[..., str]) -> None:
    path = write(tmp_path / f"a{'.csv' if write is write_csv else '.parquet'}", long_columns(x))
    for named in ({}, {"id": "id", "time": "time"}):
        series = load(path, **named)
        np.testing.assert_allclose(series.x, x)
        assert series.channels == ("c0", "c1")
    data = ArrayData(path)
    assert (data.shape, data.channels) == ((5, 2), ("c0", "c1"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(2, 7), st.integers(1, 3), st.integers(0, 2**31))
def test_all_forms_give_equal_series(tmp_path: Path, n: int, steps: int, channels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, steps, channels))
    columns = long_columns(np.empty((n, steps, 0))) if steps <= 5 else {"id": np.repeat(np.arange(n), steps)}
    columns["time"] = np.tile(np.arange(steps) * 0.5, n)
    columns |= {f"c{m}": values[..., m].ravel() for m in range(channels)}
    order = rng.permutation(n * steps)
    order = order[np.argsort(columns["time"][order], kind="stable")]  # series intermingled, each in order
    mixed = {name: np.asarray(column)[order] for name, column in columns.items()}
    ids = mixed["id"][np.sort(np.unique(mixed["id"], return_index=True)[1])]
    where = [list(dict.fromkeys(np.asarray(columns["id"]).tolist())).index(i) for i in ids.tolist()]
    np.testing.assert_array_equal(load(write_csv(tmp_path / "long.csv", mixed)).x, values[where])
    folder = tmp_path / f"folder-{n}-{steps}-{channels}-{seed}"
    folder.mkdir(exist_ok=True)
    for i in range(n):
        named = {f"c{m}": values[i, :, m] for m in range(channels)}
        shuffled = {name: named[name] for name in (named if i == 0 else reversed(named))}
        write_csv(folder / f"{i}.csv", {"when": np.arange(steps), **shuffled})
    np.testing.assert_array_equal(load(str(folder), time="when").x, values)
    if channels == 1:
        np.savetxt(tmp_path / "wide.csv", values[..., 0], delimiter=",", fmt="%.17g")
        np.testing.assert_array_equal(load(str(tmp_path / "wide.csv")).x, values)


def test_folders_of_every_kind(tmp_path: Path) -> None:
    for kind in ("npy", "csv", "parquet"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / ".hidden.csv").write_text("?")
        (folder / "README.txt").write_text("?")
        for i, one in enumerate(x):
            columns = {f"channel {m}": one[:, m] for m in range(2)}
            if kind == "npy":
                np.save(folder / f"{i}.npy", one)
            else:
                (write_csv if kind == "csv" else write_parquet)(folder / f"{i}.{kind}", columns)
        series = load(str(folder))
        np.testing.assert_allclose(series.x, x)
        assert series.channels == ("channel 0", "channel 1")
        groups = load(str(folder), split_by="file").groups
        assert groups is not None
        assert groups.tolist() == [f"{i}.{kind}" for i in range(6)]


def test_windows_from_a_table_with_dates(tmp_path: Path) -> None:
    hours = np.datetime64("2016-07-01 00:00") + np.arange(200) * np.timedelta64(60, "m")
    stamps = np.char.replace(hours.astype(str), "T", " ")
    values = np.random.default_rng(0).normal(size=(200, 2))
    path = write_csv(tmp_path / "ett.csv", {"date": stamps, "HUFL": values[:, 0], "OT": values[:, 1]})
    data = ArrayData(path, window=10, time="date")
    assert (data.channels, data.shape, data.num_train) == (("HUFL", "OT"), (10, 2), 171)
    np.testing.assert_allclose(data.train_series()[7], values[7:17], rtol=1e-6)
    with pytest.raises(ValueError, match=r"got '2016-07-01 00:00' in row 2, column 'date'; .*`data\.time`"):
        ArrayData(path, window=10).setup()


@pytest.mark.parametrize("write", [write_csv, write_parquet])
def test_columns_that_are_no_steps(tmp_path: Path, write: Callable[..., str]) -> None:
    label, patient = np.array(["N", "V"] * 3), np.repeat([7, 8, 9], 2)
    columns = {"label": label, **{f"t{i}": x[:, i, 0] for i in range(5)}, "patient": patient}
    path = write(tmp_path / f"a{'.csv' if write is write_csv else '.parquet'}", columns)
    series = load(path, labels="label", split_by="patient")
    np.testing.assert_allclose(series.x, x[..., :1])
    np.testing.assert_array_equal(series.y, label)  # type: ignore[arg-type]
    np.testing.assert_array_equal(series.groups, patient)  # type: ignore[arg-type]


def test_labels_of_a_long_table() -> None:
    columns = {**long_columns(x), "kind": np.repeat(list("abcabc"), 5), "side": np.repeat(["train"] * 5 + ["val"], 5)}
    series = load(columns, labels="kind", parts="side", split_by="id", id="id", time="time")
    np.testing.assert_array_equal(series.y, list("abcabc"))  # type: ignore[arg-type]
    np.testing.assert_array_equal(series.part, ["train"] * 5 + ["val"])  # type: ignore[arg-type]
    np.testing.assert_array_equal(series.groups, [f"s{i}" for i in range(6)])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_sampling_writes_can_be_read(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "samples.npy", x)
    path = convert(tmp_path / "samples.npy", kind, ["u", "v"])  # type: ignore[arg-type]
    series = load(str(path))
    np.testing.assert_allclose(series.x, x)
    assert series.channels == ("u", "v")


def changed(**columns: Any) -> dict[str, Any]:
    return {**long_columns(x[:2]), **columns}


swapped = np.tile(days, 2)
swapped[[6, 7]] = swapped[[7, 6]]
twice = np.tile(days, 2)
twice[3] = twice[2]
without_id = {name: column for name, column in long_columns(x).items() if name != "id"}
word = [*map(str, range(9)), "seven"]


@pytest.mark.parametrize(
    ("columns", "settings", "match"),
    [
        (changed(time=swapped), {}, r"that rise, got 2020-02-28 after 2020-02-29 in row 8 .*'time'; sort .*'id' and"),
        (changed(time=twice), {}, r"once in a series, got 2020-02-29 again in row 4 .*; drop one.*`data\.id`"),
        (without_id, {"time": "time", "window": 3}, r"got 2020-02-27 after 2020-03-02 in row 6.*`data\.id`"),
        (changed(time=["Monday"] * 10), {}, r"dates such as .* in column 'time', got 'Monday'.*`data\.time` out"),
        (changed(time=np.full(10, np.nan)), {}, r"a time stamp in every row, got none in row 1 .*'time'"),
        (changed(c1=word), {}, r"got 'seven' in row 1[01].*, column 'c1'; .*`data\."),
        (changed(c1=days.repeat(2)), {}, r"got '2020-02-27' in row [12].*, column 'c1'; .*`data\.time`"),
        (changed(), {"time": "when"}, r"a column 'when', got 'id', 'time', 'c0', 'c1'; set `data\.time`"),
        (changed(), {"labels": "kind"}, r"a column 'kind', .*; set `data\.labels`"),
        (changed(), {"split_by": "patient"}, r"a column 'patient', .*; set `data\.split_by`"),
        (changed(kind=np.arange(10)), {"labels": "kind"}, r"one value of column 'kind' for each series, .* 's0'"),
        ({"id": ["a", "b"], "time": [1, 2]}, {}, r"a column of numbers, got none"),
        (
            {k: v[:8] for k, v in changed().items()},
            {},
            r"5 steps as in series s0, got 3 in series s1; set",
        ),
    ],
)
@pytest.mark.parametrize("form", ["csv", "memory"])
def test_bad_tables(tmp_path: Path, columns: dict[str, Any], settings: dict[str, Any], match: str, form: str) -> None:
    source = write_csv(tmp_path / "a.csv", columns) if form == "csv" else columns
    with pytest.raises(ValueError, match=match) as caught:
        load(source, **settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "settings", "match"),
    [
        ("id,time,a\n0,0,1\n0,1,\n1,0,1\n1,1,2\n", {}, r"got '' in row 3, column 'a'; set `data\.missing`"),
        ("id,time,a\n0,0,1\n0,1\n", {}, r"3 cells as in the first row, got 2 in row 3 \(a file cut short"),
        ("id,time,a,a\n0,0,1,1\n", {}, r"different names, got 'a' twice"),
        ("id,time,a\n", {}, r"rows of numbers, got none"),
        ("1,2\n3,4\n", {"id": "id"}, r"a column 'id', got a table without names; .*`data\.id`"),
        (
            "time,a\n0,1,5\n1,2,5\n2,3,5\n",
            {"window": 2, "time": "time"},
            r"got 3 in row 2 \(decimal commas\?\); mend",
        ),
        ("time,a\n0,1\n1,2,5\n2,3\n", {"window": 2}, r"2 cells as in the first row, got 3 in row 3 \(decimal commas"),
        ("day,a\nMon,1\n\nTue,2,5\n", {"window": 2, "time": "day"}, r"got 3 in row 4 \(decimal commas"),
        ("t0,t1\n1,2,3\n4,5,6\n", {}, r"one length, 2 as in the first, got 3 steps in row 2"),
        ("a,b\n1,2\n\xff,4\n", {"window": 2}, r"a number, got 'ÿ' in row 3, column 'a'"),
    ],
)
def test_bad_text(tmp_path: Path, text: str, settings: dict[str, Any], match: str) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=match):
        load(str(tmp_path / "a.csv"), **settings)


def test_one_long_series_wants_a_window(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "a.csv", {"when": days, "a": range(5)})
    with pytest.raises(ValueError, match=r"several series, got a single one of 5 steps; set `data\.window`"):
        load(path, time="when")
    with pytest.raises(ValueError, match=r"got '2020-02-27' in row 2, column 1; .* `data\.time`"):
        load(path)


def test_time_zones_are_compared() -> None:
    times = ["2020-03-29 01:00+01:00", "2020-03-29 03:00+02:00"]  # an hour is skipped, but one after the other
    assert load({"id": [0, 0, 1, 1], "time": times * 2, "a": range(4)}).x.shape == (2, 2, 1)


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"a file for each series, .* got none; mend `data\.path`"):
        load(str(tmp_path))
    write_csv(tmp_path / "1.csv", {"a": [1, 2], "b": [3, 4]})
    write_csv(tmp_path / "2.csv", {"a": [1, 2]})
    with pytest.raises(ValueError, match=r"the columns a, b in every file .*, got no 'b' in 2\.csv"):
        load(str(tmp_path))
    write_csv(tmp_path / "2.csv", {"a": [1, 2], "b": [1, 2], "c": [1, 2]})
    with pytest.raises(ValueError, match=r"got 'c' as well in 2\.csv"):
        load(str(tmp_path))
    write_csv(tmp_path / "2.csv", {"a": [1, 2, 3], "b": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"2 steps as in series 1\.csv, got 3 in series 2\.csv; set `data\.lengths`"):
        load(str(tmp_path))
    with pytest.raises(ValueError, match=r"`data\.id` for one table only"):
        load(str(tmp_path), id="a")
    (tmp_path / "2.csv").write_text("")
    with pytest.raises(ValueError, match=r"2\.csv: expected series, got an empty file"):
        load(str(tmp_path))
    np.save(tmp_path / "3.npy", x[0])
    with pytest.raises(ValueError, match=r"all of them .*, got \.csv and \.npy"):
        load(str(tmp_path))


def test_a_file_of_a_folder_that_is_cut_short(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", x[i])
    content = (tmp_path / "1.npy").read_bytes()
    (tmp_path / "1.npy").write_bytes(content[:-4])
    with pytest.raises(ValueError, match=r"1\.npy: expected NumPy's own format, got a file that is damaged, cut"):
        load(str(tmp_path))
    np.save(tmp_path / "1.npy", x)
    with pytest.raises(ValueError, match=r"1\.npy: expected an array \(steps, channels\) .*, got shape \(6, 5, 2\)"):
        load(str(tmp_path))
