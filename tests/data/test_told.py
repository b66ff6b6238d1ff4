"""What a data set tells a model: labels, static covariates, covariates at every step, the calendar."""

# A part that is not there fails its test.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_freqdiff.condition import NOTHING, ConditionSizes
from lightning_freqdiff.data import ArrayData, SyntheticECG
from lightning_freqdiff.data.series.units import columns_of

RNG = np.random.default_rng(0)
N = 6


def long_table(count=40, **more):
    """A long table in which each value says which series and step it is of."""
    series, step = np.divmod(np.arange(count * N), N)
    return {
        "id": series,
        "time": np.datetime64("2024-01-01T00:00") + np.timedelta64(1, "h") * np.arange(count * N),
        "load": series + step / 10,
        "price": 100.0 * series + step,
        "kind": np.where(series % 2, "house", "office"),
        "area": 10.0 + series % 3,
        **more,
    }


def write_csv(path, table):
    rows = zip(
        *(column.tolist() if column.dtype.kind != "M" else column.astype(str) for column in table.values()),
        strict=True,
    )
    path.write_text("\n".join([",".join(table), *(",".join(map(str, row)) for row in rows)]))
    return str(path)


def batches(loader: DataLoader):
    return [(batch.series, batch.condition) for batch in loader]


def test_labels_that_are_named_are_told_and_others_are_not():
    x, y = RNG.normal(size=(30, N, 1)), np.arange(30) % 3
    named = ArrayData.of({"x": x, "kind": y}, labels="kind")
    assert named.conditions == ConditionSizes(classes=3)
    assert named.vocabulary.label == "kind"
    for data in (ArrayData.of({"x": x, "y": y}), ArrayData.of({"x": x, "kind": y}, labels="kind", conditional=False)):
        assert data.conditions == ConditionSizes()
        assert next(iter(data.train_dataloader())).condition == NOTHING


def test_labels_go_with_their_series_and_the_classes_are_named():
    y = np.array(["V", "N", "S"])[np.arange(30) % 3]
    x = np.broadcast_to((np.arange(30) % 3)[:, None, None] + RNG.normal(size=(30, N, 1)) / 100, (30, N, 1))
    data = ArrayData.of({"x": x, "y": y}, conditional=True, batch_size=8)
    assert data.vocabulary.classes == ("N", "S", "V")
    for series, known in batches(data.train_dataloader()) + batches(data.val_dataloader()):
        names = [("V", "N", "S")[round(float(value))] for value in series.mean((1, 2))]
        assert [data.vocabulary.classes[i] for i in known.label] == names


def test_a_series_without_a_label_may_be_there():
    y = np.array([0, 1, -1])[np.arange(30) % 3]
    data = ArrayData.of({"x": RNG.normal(size=(30, N, 1)), "y": y}, conditional=True)
    with pytest.warns(UserWarning, match="10 of 30 series have no label"):
        data.setup()
    assert data.conditions == ConditionSizes(classes=2)
    assert sorted(set(data._known["train"].label.tolist())) == [-1, 0, 1]


def test_labels_that_are_no_classes_are_refused_where_they_would_be_told():
    table = {"x": RNG.normal(size=(30, N, 1)), "y": RNG.normal(size=30)}
    with pytest.raises(ValueError, match="numbers that are not whole.*name the column in `data.static`"):
        ArrayData.of(table, conditional=True).setup()
    ArrayData.of(table).setup()
    assert ArrayData.of(table, static="y").conditions == ConditionSizes(static=1)


def test_static_columns_of_all_kinds_of_files(tmp_path):
    table = long_table()
    del table["price"], table["time"]
    of_frame = ArrayData.of(table, id="id", static=["kind", "area"])
    of_csv = ArrayData(write_csv(tmp_path / "t.csv", table), id="id", static=["kind", "area"])
    first = np.arange(0, 40 * N, N)
    arrays = {"x": table["load"].reshape(40, N, 1), **{k: table[k][first] for k in ("kind", "area")}}
    of_arrays = ArrayData.of(arrays, static=["kind", "area"])
    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(40):
        some = {k: table[k][i * N : (i + 1) * N] for k in ("load", "kind", "area")}
        write_csv(folder / f"{i:02}.csv", some)
    of_folder = ArrayData(str(folder), static=["kind", "area"])
    for data in (of_frame, of_csv, of_arrays, of_folder):
        assert data.conditions == ConditionSizes(static=3), data
        assert data.shape == (N, 1)
        assert [one.name for one in data.vocabulary.static] == ["kind", "area"]
        for series, known in batches(data.train_dataloader()):
            which = series[:, 0, 0].round().long()
            house = (which % 2).float()
            torch.testing.assert_close(known.static[:, :2], torch.stack([house, 1 - house], 1))
            area = known.static[:, 2] * data.vocabulary.static[1].scale + data.vocabulary.static[1].mean
            torch.testing.assert_close(area, 10.0 + which % 3)


def test_units_of_covariates_keep_their_digits_beside_a_large_offset_and_gaps():
    values = 1e6 + torch.randn(300, 7, 2, generator=torch.Generator().manual_seed(0)).double()
    values[::3, 2] = torch.nan
    values[:50, :, 1] = torch.nan
    first, second = columns_of(("a", "b"), values.split(50))
    for column, known in ((first, values[..., 0]), (second, values[50:, :, 1])):
        known = known[~known.isnan()]
        assert column.mean == pytest.approx(float(known.mean()), rel=1e-14)
        assert column.scale == pytest.approx(float(known.std(correction=0)), rel=1e-10)


def test_static_columns_are_no_steps_of_a_wide_table(tmp_path):
    table = {**{f"s{i}": RNG.normal(size=20) for i in range(N)}, "age": np.arange(20.0)}
    data = ArrayData(write_csv(tmp_path / "wide.csv", table), static="age")
    assert data.shape == (N, 1)
    assert data.conditions == ConditionSizes(static=1)


def test_covariates_are_no_channels_and_go_with_their_steps(tmp_path):
    table = long_table()
    settings = {"id": "id", "time": "time", "static": ["kind", "area"], "covariates": ["price"]}
    arrays = {"x": table["load"].reshape(40, N), "price": table["price"].reshape(40, N)}
    for data in (
        ArrayData.of(table, **settings),
        ArrayData(write_csv(tmp_path / "t.csv", table), **settings),
        ArrayData.of(arrays, covariates="price"),
    ):
        assert data.shape == (N, 1)
        assert data.conditions.covariates == 1
        assert (
            data.train_series().shape[2]
            == next(data.train_batches(8)).shape[2]
            == data.reference_series().shape[2]
            == 1
        )
        assert len(data.channels) == 1
        seen = []
        for series, known in batches(data.train_dataloader()):
            (price,) = data.vocabulary.covariates
            value = known.covariates[..., 0] * price.scale + price.mean
            which = series[:, :1, 0].round()
            torch.testing.assert_close(value, 100 * which + torch.arange(N), atol=1e-2, rtol=1e-5)
            seen.append(known.covariates)
        assert float(torch.cat(seen).mean()) == pytest.approx(0, abs=0.1)
        assert data.all_series().x.shape == (40, N, 1)


def test_covariates_of_windows_stay_with_them():
    steps = np.arange(300.0)
    data = ArrayData.of({"load": steps, "temperature": 2 * steps}, window=12, covariates="temperature")
    (column,) = data.vocabulary.covariates
    for series, known in batches(data.train_dataloader()) + batches(data.val_dataloader()):
        torch.testing.assert_close(known.covariates * column.scale + column.mean, 2 * series, atol=1e-3, rtol=1e-5)


def test_the_calendar_is_told_of_time_stamps():
    data = ArrayData.of(
        long_table(), id="id", time="time", static=["kind", "area"], covariates="price", calendar=["hour", "weekday"]
    )
    names = [one.name for one in data.vocabulary.covariates]
    assert names == ["price", "hour sin", "hour cos", "weekday sin", "weekday cos"]
    assert data.vocabulary.calendar == ("hour", "weekday")
    series, known = batches(data.val_dataloader())[0]
    units = np.array([[one.mean, one.scale] for one in data.vocabulary.covariates])
    value = known.covariates.numpy() * units[:, 1] + units[:, 0]
    hours = N * series[:, :1, 0].round().numpy() + np.arange(N)
    np.testing.assert_allclose(value[..., 1], np.sin(2 * np.pi * hours / 24), atol=1e-5)
    np.testing.assert_allclose(value[..., 4], np.cos(2 * np.pi * hours / (24 * 7)), atol=1e-5)  # a Monday


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"calendar": ["hour"], "time": None}, "a column of time stamps for `data.calendar`"),
        ({"covariates": "nothing"}, "expected a column 'nothing'.*`data.covariates`"),
        ({"static": "nothing"}, "expected a column 'nothing'.*`data.static`"),
        ({"static": "price"}, "one value of column 'price' for each series"),
        ({"covariates": ["price", "load", "area"]}, "a column of numbers, got none"),
    ],
)
def test_what_cannot_be_told(settings, says):
    table = long_table()
    del table["kind"]
    known = {"id": "id", "time": "time", "window": N} | settings
    if known["time"] is None:
        del table["time"]
    with pytest.raises(ValueError, match=says):
        ArrayData.of(table, **known).setup()


def test_arrays_of_other_steps_are_no_covariates():
    with pytest.raises(ValueError, match=r"a value of 'u' at each of 20 × 6 steps, got shape \(20, 5\)"):
        ArrayData.of({"x": RNG.normal(size=(20, N)), "u": np.ones((20, 5))}, covariates="u").setup()


def test_months_and_days_have_lengths_of_their_own():
    from lightning_freqdiff.data.series.calendar import calendar_columns

    stamps = np.array(["2024-02-15T12:00", "2023-02-15T00:00", "2024-07-01T00:00"], "datetime64[us]")
    found = calendar_columns(stamps, ("day", "month", "yearday"))
    for name, expected in {
        "day": [14.5 / 29, 14 / 28, 0],
        "month": [(1 + 14.5 / 29) / 12, (1 + 14 / 28) / 12, 6 / 12],
        "yearday": [45.5 / 366, 45 / 365, 182 / 366],
    }.items():
        place = np.arctan2(found[f"{name} sin"], found[f"{name} cos"]) / (2 * np.pi) % 1
        np.testing.assert_allclose(place, expected, atol=1e-9)


def test_examples_are_of_training_series_and_the_same_each_time():
    data = SyntheticECG(num_series=64, length=16, conditional=True)
    kept = data.examples()
    assert kept == data.examples()
    assert len(kept.parts["label"]) == data.num_train
