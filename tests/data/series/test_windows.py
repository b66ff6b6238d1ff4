"""Windows of long series: no step on two sides of the split, and none lost but the documented remainder."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lightning_freqdiff.data import ArrayData
from lightning_freqdiff.data.series.windows import starts

PARTS = ("train", "val", "test")


def numbered(lengths: list[int], channels: int = 1) -> list[np.ndarray]:
    """Long series of which every step has a number of its own, over all of them; channel m adds m / 4."""
    ends = np.cumsum(lengths)
    return [
        np.arange(end - n, end, dtype=float)[:, None] + np.arange(channels) / 4
        for n, end in zip(lengths, ends, strict=True)
    ]


def windows(data: ArrayData, part: str) -> np.ndarray:
    """Numbers of the steps of each window, `(n, N)`."""
    x = data._part(part).whole().numpy()
    np.testing.assert_array_equal(x - x[..., :1], np.broadcast_to(np.arange(x.shape[2]) / 4, x.shape))
    return x[..., 0].astype(int)


lengths_of_series = st.lists(st.integers(20, 90), min_size=1, max_size=4)
sizes = st.integers(2, 9)
strides = st.integers(1, 12)
fractions = st.floats(0.05, 0.4)


@settings(deadline=None)
@given(lengths_of_series, sizes, strides, fractions, st.just(0.0) | fractions, st.integers(1, 3))
def test_parts_share_no_step_and_lose_no_more_than_the_remainder(
    lengths: list[int], window: int, stride: int, val: float, test: float, channels: int
) -> None:
    fields: dict[str, Any] = {"window": window, "stride": stride, "val_fraction": val, "test_fraction": test}
    data = ArrayData.of(numbered(lengths, channels), **fields)
    cut = [{"val": round(n * val), "test": round(n * test)} for n in lengths]
    assume(any(c["val"] >= window for c in cut))
    assume(not test or any(c["test"] >= window for c in cut))
    assume(any(n - sum(c.values()) >= window for n, c in zip(lengths, cut, strict=True)))
    assume(sum(len(starts(n - sum(c.values()), window, stride)) for n, c in zip(lengths, cut, strict=True)) > 0)
    names = PARTS if test else PARTS[:2]
    found = {name: windows(data, name) for name in names}
    for x in found.values():
        np.testing.assert_array_equal(np.diff(x, axis=1), 1)  # consecutive steps, in order
    seen = {name: set(x.ravel().tolist()) for name, x in found.items()}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen.get("test", set())
    assert not seen["val"] & seen.get("test", set())
    first = 0
    for n, c in zip(lengths, cut, strict=True):
        stretch = {"train": n - c["val"] - c["test"], **c}
        for name in names:  # in time: train, then val, then test
            here = found[name][:, 0]
            here = np.sort(here[(here >= first) & (here < first + stretch[name])])
            # Every window that fits is there once; steps left over are fewer than a stride.
            np.testing.assert_array_equal(here, np.arange(first, first + stretch[name] - window + 1, stride))
            if len(here) and stride <= window:
                assert first + stretch[name] - (here[-1] + window) == (stretch[name] - window) % stride
            first += stretch[name]
        first += 0 if test else c["test"]
    if not test:
        np.testing.assert_array_equal(windows(data, "test"), found["val"])


@settings(deadline=None)
@given(st.lists(st.integers(9, 40), min_size=3, max_size=12), sizes, strides, st.integers(0, 99), fractions)
def test_with_groups_whole_series_go_to_one_side(
    lengths: list[int], window: int, stride: int, seed: int, val: float
) -> None:
    long = max(lengths)
    series = np.stack([np.arange(long)[:, None] + 1000 * i for i in range(len(lengths))])
    patient = np.arange(len(lengths)) // 2
    fields: dict[str, Any] = {"window": window, "stride": stride, "val_fraction": val, "seed": seed}
    data = ArrayData.of({"series": series, "patient": patient}, split_by="patient", **fields)
    owners = {name: set((windows(data, name) // 1000).ravel().tolist()) for name in ("train", "val")}
    assert owners["train"] | owners["val"] == set(range(len(lengths)))
    patients = {name: {i // 2 for i in owner} for name, owner in owners.items()}
    assert not patients["train"] & patients["val"]
    count = len(windows(data, "train")) + len(windows(data, "val"))
    assert count == len(lengths) * len(starts(long, window, stride))


def test_parts_that_are_given_are_kept_and_the_rest_is_cut_in_time() -> None:
    series, part = np.stack(numbered([40] * 4)), np.array(["train", "test", "train", "test"])
    data = ArrayData.of({"series": series, "side": part}, window=4, parts="side", val_fraction=0.25)
    train, val, test = (set(windows(data, name).ravel().tolist()) for name in PARTS)
    assert train == {*range(30), *range(80, 110)}
    assert val == {*range(30, 40), *range(110, 120)}
    assert test == {*range(40, 80), *range(120, 160)}


@settings(deadline=None)
@given(st.integers(2, 60), st.integers(0, 5))
def test_a_limit_keeps_some_of_each_part(limit: int, seed: int) -> None:
    fields: dict[str, Any] = {"window": 5, "val_fraction": 0.2, "seed": seed}
    whole = ArrayData.of(np.arange(100.0), **fields)
    some = ArrayData.of(np.arange(100.0), limit=limit, **fields)
    assert some.num_train + len(some._part("val")) == limit
    for part in ("train", "val"):
        kept = {tuple(row) for row in windows(some, part)}
        assert kept
        assert kept <= {tuple(row) for row in windows(whole, part)}


@settings(deadline=None)
@given(st.sets(st.integers(0, 199), max_size=12), sizes)
def test_gaps(gaps: set[int], window: int) -> None:
    x = np.arange(200.0)
    holes = x.copy()
    holes[list(gaps)] = np.nan
    assume(not {0, 149, 150, 199} & gaps)
    filled = ArrayData.of(holes, window=window, missing="interpolate", val_fraction=0.25)
    whole = ArrayData.of(x, window=window, val_fraction=0.25)
    for part in ("train", "val"):  # a straight line is filled exactly, from its own part alone
        np.testing.assert_allclose(filled._part(part).whole(), whole._part(part).whole(), rtol=1e-6)
    if gaps:
        with pytest.raises(ValueError, match=rf"NaN at {len(gaps)} of 200, .* at step {min(gaps)} of the series"):
            ArrayData.of(holes, window=window).setup()
    dropped = ArrayData.of(holes, window=window, missing="drop", val_fraction=0.25)
    for part in ("train", "val"):
        expected = [row for row in windows(whole, part) if not gaps & set(row.tolist())]
        np.testing.assert_array_equal(windows(dropped, part), expected)


def test_no_gap_is_filled_from_the_other_side_of_the_split() -> None:
    x = np.arange(100.0)
    x[88:92] = np.nan  # the validation part begins at 90
    data = ArrayData.of(x, window=4, missing="interpolate")
    assert data._part("train").whole().max() == 87
    assert data._part("val").whole().min() == 92


def test_windows_are_views() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 3)).astype(np.float32)
    data = ArrayData.of(x, window=100)
    assert all(np.shares_memory(data._part(name).x, x) for name in PARTS)
    assert data.shape == (100, 3)
    assert data.train_series().shape == (801, 100, 3)


def test_a_file_on_disk_stays_there(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(500, 2))
    np.save(tmp_path / "long.npy", x)
    kinds = [ArrayData(str(tmp_path / "long.npy"), window=9, in_memory=here) for here in (True, False)]
    assert isinstance(kinds[1]._load().x.base, object)
    for part in PARTS:
        np.testing.assert_array_equal(*(data._part(part).whole() for data in kinds))
    x[7] = np.nan
    np.save(tmp_path / "long.npy", x)
    path = str(tmp_path / "long.npy")
    assert ArrayData(path, window=9, in_memory=False, missing="drop").num_train == kinds[0].num_train - 8
    with pytest.raises(ValueError, match=r"1 of 500 steps have gaps; set `data\.in_memory` true"):
        ArrayData(path, window=9, in_memory=False, missing="interpolate").setup()


@pytest.mark.parametrize(
    ("values", "settings", "match"),
    [
        (
            np.arange(30.0),
            {"window": 31},
            r"at least 31 steps .*, got 30 in the series; lower `data\.window`",
        ),
        (numbered([30, 8, 30]), {"window": 9}, r"at least 9 steps .*, got 8 in series 1; .* take the series out of"),
        (np.arange(30.0), {"window": 9}, r"a window of 9 steps in the val part, .* 3 steps .*`data\.val_fraction`"),
        (
            np.arange(90.0),
            {"window": 9, "test_fraction": 0.05},
            r"a window of 9 steps in the test part.*`data\.test_fraction` \(now 0\.05\)",
        ),
        (np.arange(90.0), {"window": 9, "val_fraction": 0.95}, r"in the train part, got none: .* 4 steps"),
        (np.arange(90.0), {"window": 1}, r"`data\.window` of at least 2, got 1"),
        (np.arange(90.0), {"window": 5, "stride": 0}, r"`data\.stride` of at least 1, got 0"),
        (np.full(90, np.nan), {"window": 5, "missing": "drop"}, r"in the train part, got none"),
        (
            np.full(90, np.nan),
            {"window": 5, "missing": "interpolate"},
            r"value in channel 'channel 0' to fill",
        ),
        (np.ones(90), {"window": 5}, "series that differ"),
        (np.array(["a"] * 90), {"window": 5}, "real numbers, got dtype <U1"),
        (np.arange(90.0), {"window": 5, "split_by": "patient"}, r"an array named 'patient', .*`data\.split_by`"),
        ({"series": np.eye(40), "y": np.zeros(40)}, {}, r"set `data\.window` to cut windows from 'series'"),
        (
            {"series": np.eye(40), "columns": list("ab")},
            {"window": 4},
            "each of the 40 channels, got 2; mend",
        ),
        (np.arange(90.0), {"window": 5, "missing": "guess"}, r"`data\.missing` as one of refuse, interpolate, drop"),
    ],
)
def test_what_cannot_be_cut(values: Any, settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        ArrayData.of(values, **settings).setup()
    assert "\n" not in str(caught.value)


def test_one_named_channel_makes_rows_series() -> None:
    data = ArrayData.of({"series": np.random.default_rng(0).normal(size=(5, 90)), "columns": ["DSCI"]}, window=8)
    assert (data.shape, data.channels) == ((8, 1), ("DSCI",))
    assert data.num_train == 5 * (81 - 7)


def hourly(*runs: tuple[int, int]) -> dict[str, np.ndarray]:
    """A table of hours from one to another, each value being its hour."""
    hours = np.concatenate([np.arange(first, last) for first, last in runs])
    stamps = (np.datetime64("2020-01-01T00") + hours.astype("timedelta64[h]")).astype(str)
    return {"date": stamps, "load": hours.astype(float)}


def hours_of(data: ArrayData) -> np.ndarray:
    return np.concatenate([data.train_series(), data.val_series()])[..., 0]


def test_no_window_crosses_a_break_in_time() -> None:
    data = ArrayData.of(hourly((0, 60), (260, 300)), time="date", window=8, stride=3)
    told = "1 break in the time stamps, the first in the series from 2020-01-03T11 to 2020-01-11T20; .*`data.breaks`"
    with pytest.warns(UserWarning, match=told):
        hours = hours_of(data)
    assert (np.diff(hours, axis=1) == 1).all()
    # The first stretch is trained on, and so is the second up to the 90th of 100 steps, from the break on.
    assert sorted(hours[:, 0]) == [*range(0, 53, 3), *range(260, 283, 3), 290]
    crossing = hours_of(ArrayData.of(hourly((0, 60), (260, 300)), time="date", window=8, stride=3, breaks="cross"))
    assert (np.diff(crossing, axis=1) > 1).any()


def test_breaks_belong_to_their_series(tmp_path: Path) -> None:
    whole, broken = hourly((0, 40)), hourly((0, 20), (90, 120))
    for name, table in (("a", broken), ("b", whole)):
        rows = [f"{date},{load}" for date, load in zip(*table.values(), strict=True)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["date,load", *rows]))
    both = {k: np.concatenate([broken[k], whole[k]]) for k in whole} | {"id": np.repeat([1, 2], [50, 40])}
    for data in (
        ArrayData(str(tmp_path), time="date", window=8, val_fraction=0.25),
        ArrayData.of(both, id="id", time="date", window=8, val_fraction=0.25),
    ):
        with pytest.warns(UserWarning, match=r"1 break .* in series (a.csv|1) from 2020-01-01T19"):
            hours = hours_of(data)
        assert (np.diff(hours, axis=1) == 1).all()


@pytest.mark.parametrize("unit", ["M", "Y"])
def test_months_and_years_have_no_breaks(unit: str) -> None:
    stamps = np.arange(60).astype(f"datetime64[{unit}]").astype("datetime64[D]").astype(str)
    ArrayData.of({"date": stamps, "load": np.arange(60.0)}, time="date", window=6).setup()


def test_trading_days_say_what_mends_them() -> None:
    days = np.arange(np.datetime64("2020-01-01"), np.datetime64("2020-06-01"))
    days = days[np.is_busday(days)]
    table = {"date": days.astype(str), "price": np.arange(len(days), dtype=float)}
    with (
        pytest.warns(UserWarning, match="as with trading days"),
        pytest.raises(ValueError, match=r"longest stretch has 0 steps .*for `data\.breaks` cross"),
    ):
        ArrayData.of(table, time="date", window=24).setup()
    ArrayData.of(table, time="date", window=10, breaks="cross").setup()


def test_gaps_are_filled_from_this_side_of_a_break() -> None:
    table = hourly((0, 60), (260, 300))
    table["load"][[59, 60]] = np.nan
    data = ArrayData.of(table, time="date", window=8, missing="interpolate")
    with pytest.warns(UserWarning, match="1 break"):
        hours = hours_of(data)
    assert 58 in hours  # the last value before the break, and again in place of the gap
    assert set(hours.ravel()) <= {*range(60), *range(260, 300)}
