"""Series in the form of GluonTS are read without it."""

import gzip
import json

import numpy as np
import pytest

from lightning_freqdiff.data import ArrayData

ENTRIES = [
    {
        "item_id": "a",
        "start": "2024-01-01 00:00",
        "target": [1.0, "NaN", 3.0, 4.0] * 5,
        "feat_dynamic_real": [[0.5] * 23],
    },
    {"item_id": "b", "start": "2024-01-02 00:00", "target": list(range(30)), "feat_dynamic_real": [list(range(33))]},
]


@pytest.mark.parametrize("place", ["train/data.json", "train/data.json.gz", "train.jsonl", "some.json"])
def test_lines_are_series_of_their_own_lengths(tmp_path, place):
    path = tmp_path / place
    path.parent.mkdir(exist_ok=True)
    text = "\n".join(json.dumps(entry) for entry in ENTRIES) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if place.endswith("gz") else text.encode())
    given = ArrayData(str(path if place == "some.json" else tmp_path)).as_given()
    assert list(given.names) == ["a", "b"]
    assert [one.shape for one in given.series] == [(20, 1), (30, 1)]
    assert np.isnan(given.series[0][1, 0])
    assert given.channels == ("target",)


def test_entries_in_memory_are_cut_into_windows_with_what_is_known():
    data = ArrayData.of(ENTRIES, window=4, val_fraction=0.3, covariates="feat_dynamic_real", missing="interpolate")
    assert data.shape == (4, 1)
    assert [one.name for one in data.vocabulary.covariates] == ["feat_dynamic_real"]
    assert data.train_series()[0, :, 0].tolist() == [1, 2, 3, 4]
    several = [{"target": np.arange(24.0).reshape(2, 12)}, {"target": np.arange(24.0, 48).reshape(2, 12)}]
    np.testing.assert_array_equal(ArrayData.of(several).as_given().series[1][:, 1], np.arange(36.0, 48))


@pytest.mark.parametrize(
    ("entries", "settings", "says"),
    [
        ([{"target": [1.0]}, {"start": 3}], {}, "numbers as 'target' of entry 1"),
        ([{"target": [1.0]}, {"target": [[1.0], [2.0]]}], {}, "1 channels .* got 2 of entry 1"),
        ([{"target": [1.0]}], {"covariates": "heat"}, "`data.covariates` feat_dynamic_real, got 'heat'"),
        ([{"target": [1.0]}], {"labels": "kind"}, "without `data.labels`"),
    ],
)
def test_faults_are_named(entries, settings, says):
    with pytest.raises(ValueError, match=says):
        ArrayData.of(entries, **settings).as_given()


def test_a_line_that_is_none_is_named(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"target": [1, 2]}\n{"target": [1,\n')
    with pytest.raises(ValueError, match="fault in line 2"):
        ArrayData(str(tmp_path / "x.jsonl")).as_given()
