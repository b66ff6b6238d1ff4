"""Missing values and unequal lengths, by the rule that is asked for."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_freqdiff.data import ArrayData

nan = np.nan


@settings(deadline=None)
@given(arrays(bool, (5, 8, 2)))
def test_gaps_in_straight_lines(gaps: np.ndarray) -> None:
    gaps[:, [0, -1]] = False  # beyond the ends nothing is known
    gaps[:2] = False
    x = np.arange(8.0)[:, None] * np.array([1, -3]) + np.arange(5.0)[:, None, None]
    holes = np.where(gaps, nan, x)
    np.testing.assert_allclose(ArrayData.of(holes, missing="interpolate")._load().x, x, atol=1e-12)
    kept = ~gaps.any(axis=(1, 2))
    series = ArrayData.of({"x": holes, "y": np.arange(5)}, missing="drop")._load()
    np.testing.assert_array_equal(series.x, x[kept])
    np.testing.assert_array_equal(series.y, np.flatnonzero(kept))  # type: ignore[arg-type]
    if gaps.any():
        with pytest.raises(
            ValueError, match=rf"got {gaps.sum()} that are not .*`data\.missing` interpolate, drop or mask"
        ):
            ArrayData.of(holes).setup()


def test_the_ends_take_the_nearest_value() -> None:
    x = np.array([[nan, nan, 2, nan, 6, nan], [0, 1, 2, 3, 4, 5]])
    filled = ArrayData.of(x, missing="interpolate")._load().x[..., 0]
    np.testing.assert_array_equal(filled[0], [2, 2, 2, 4, 6, 6])


@pytest.mark.parametrize("missing", ["interpolate", "drop"])
def test_nothing_to_fill_from(missing: str) -> None:
    x = np.ones((3, 4, 2)) * np.arange(3)[:, None, None]
    x[1:, :, 1] = nan
    match = {
        "interpolate": r"series 1: expected a value in channel 'channel 1' .*; set `data\.missing` drop",
        "drop": r"at least 2 series without missing values, got 1 of 3; set `data\.missing` interpolate",
    }
    with pytest.raises(ValueError, match=match[missing]):
        ArrayData.of(x, missing=missing).setup()


def test_infinite_values_are_not_missing() -> None:
    x = np.arange(12.0).reshape(3, 4)
    x[1, 1] = np.inf
    for missing in ("interpolate", "drop"):
        with pytest.raises(ValueError, match="got 1 that are not"):
            ArrayData.of(x, missing=missing).setup()


def test_files_on_disk_are_not_rewritten(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(9, 4, 1))
    x[[2, 5], 1] = nan
    np.save(tmp_path / "a.npy", x)
    path = str(tmp_path / "a.npy")
    data = ArrayData(path, missing="drop", in_memory=False)
    assert data.num_train == 6
    assert data.train_series().isfinite().all()
    with pytest.raises(ValueError, match=r"2 of 9 series have gaps; set `data\.in_memory` true, or"):
        ArrayData(path, missing="interpolate", in_memory=False).setup()
    with pytest.raises(ValueError, match=r"= \(2, 1, 0\): nan"):
        ArrayData(path, in_memory=False).setup()


@settings(deadline=None)
@given(st.lists(st.integers(2, 12), min_size=2, max_size=6), st.integers(1, 3))
def test_unequal_lengths(lengths: list[int], channels: int) -> None:
    rng = np.random.default_rng(0)
    series = [rng.normal(size=(n, channels)) for n in lengths]
    given_as = [torch.from_numpy(one) for one in series]
    cropped = ArrayData.of(given_as, lengths="crop")._load().x
    padded = ArrayData.of(given_as, lengths="pad")._load().x
    assert cropped.shape == (len(series), min(lengths), channels)
    assert padded.shape == (len(series), max(lengths), channels)
    for one, crop, pad in zip(series, cropped, padded, strict=True):
        np.testing.assert_array_equal(crop, one[: len(crop)])
        np.testing.assert_array_equal(pad[: len(one)], one)
        assert (pad[len(one) :] == one[-1]).all()
    if len(set(lengths)) > 1:
        with pytest.raises(ValueError, match=r"series of one length, .* set `data\.lengths` crop or pad"):
            ArrayData.of(given_as)._load()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"lengths": "pad"}, [[1, 2, 3], [4, 5, 5], [7, 8, 9]]),
        ({"lengths": "crop"}, [[1, 2], [4, 5], [7, 8]]),
        ({"missing": "interpolate"}, [[1, 2, 3], [4, 5, 5], [7, 8, 9]]),
        ({"missing": "drop"}, [[1, 2, 3], [7, 8, 9]]),
    ],
)
def test_wide_tables_with_empty_cells(tmp_path: Path, settings: dict[str, Any], expected: list[list[float]]) -> None:
    (tmp_path / "a.csv").write_text("t0,t1,t2\n1,2,3\n4,5,\n7,8,9\n")
    np.testing.assert_array_equal(ArrayData(str(tmp_path / "a.csv"), **settings)._load().x[..., 0], expected)


def test_long_tables_with_empty_cells(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,time,a,b\n0,0,1,5\n0,1,NA,5\n0,2,3,\n1,0,4,6\n1,1,5,6\n")
    series = ArrayData(str(tmp_path / "a.csv"), missing="interpolate", lengths="pad")._load()
    np.testing.assert_array_equal(series.x, [[[1, 5], [2, 5], [3, 5]], [[4, 6], [5, 6], [5, 6]]])


@pytest.mark.parametrize("gap", ["", " ", "NA", "nan", "null", "?"])
def test_gaps_are_spelt_alike_in_wide_and_long_tables(tmp_path: Path, gap: str) -> None:
    (tmp_path / "wide.csv").write_text(f"t0,t1,t2\n1,{gap},3\n4,5,9\n")
    (tmp_path / "long.csv").write_text(f"id,time,a\n0,0,1\n0,1,{gap}\n0,2,3\n1,0,4\n1,1,5\n1,2,9\n")
    for name in ("wide.csv", "long.csv"):
        series = ArrayData(str(tmp_path / name), missing="interpolate")._load()
        np.testing.assert_array_equal(series.x[..., 0], [[1, 2, 3], [4, 5, 9]])


@pytest.mark.parametrize("lengths", ["crop", "pad"])
def test_a_single_step_is_no_series(lengths: str) -> None:
    with pytest.raises(ValueError, match=r"at least 2 steps in each series, got 1 in series 1"):
        ArrayData.of([np.arange(3.0), np.arange(1.0)], lengths=lengths)._load()


def test_unknown_rules() -> None:
    with pytest.raises(ValueError, match=r"`data\.lengths` as one of refuse, crop, pad, got 'cut'"):
        ArrayData.of(np.eye(3), lengths="cut")
