"""The field's standards: ETT, TimeGAN's stocks, energy and sines, and the UCR and UEA archives."""

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import raw_files
from conftest import real_data
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_freqdiff.__main__ import main
from lightning_freqdiff.data import ETT, UCR, Energy, Sines, Stocks
from lightning_freqdiff.data.readers.table import read_columns
from lightning_freqdiff.data.sets.sines import sines
from lightning_freqdiff.data.sets.ucr import read_ts

pytestmark = pytest.mark.filterwarnings("ignore:.*a part of the data set is used.*")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREQDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def steps(windows, series: np.ndarray) -> set[int]:
    """Numbers of the steps that windows touch, found by their first channel, which has no value twice."""
    order = np.argsort(series[:, 0])
    found = order[np.searchsorted(series[order, 0], windows[..., 0].numpy().ravel())]
    return set(found.tolist())


class TestLongSeries:
    @pytest.mark.parametrize("whole", [True, False])
    def test_ett(self, tmp_path, whole):
        values = raw_files.long_table(tmp_path / "ETTh1.csv", raw_files.ETT)
        data = ETT(path=str(tmp_path / ("ETTh1.csv" if whole else "")), test_fraction=0.2)
        assert (data.shape, data.channels) == ((24, 7), tuple(raw_files.ETT.split(",")[1:]))
        # 400 steps: 280, 40 and 80, in this order.
        counts = [len(part) for part in (data.train_series(), data.val_series(), data.test_series())]
        assert counts == [257, 17, 57]
        np.testing.assert_allclose(data.val_series()[0], values[280:304], rtol=1e-6)

    @settings(max_examples=25, deadline=None)
    @given(window=st.integers(2, 30), stride=st.integers(1, 9), test=st.sampled_from([0.0, 0.15, 0.3]))
    def test_no_step_is_in_two_parts(self, tmp_path_factory, window, stride, test):
        folder = tmp_path_factory.mktemp("ett")
        values = np.random.default_rng(0).permutation(400)[:, None].astype(np.float32)
        np.savez(folder / "etth1.npz", series=values)
        data = ETT(path=str(folder), window=window, stride=stride, test_fraction=test)
        parts = [data.train_series(), data.val_series()] + ([data.test_series()] if test else [])
        touched = [steps(part, values) for part in parts]
        assert sum(map(len, touched)) == len(set().union(*touched))

    def test_stocks_in_the_units_of_timegan(self, tmp_path):
        values = raw_files.long_table(tmp_path / "stock_data.csv", raw_files.STOCKS)
        data = Stocks(path=str(tmp_path), scale="minmax", val_fraction=0.2)
        x = np.concatenate([data.train_series(), data.val_series()])
        scaled = (values - values.min(0)) / (values.max(0) - values.min(0))
        np.testing.assert_allclose(x[0], scaled[:24], atol=1e-5)
        assert (data.shape, x.min() >= 0, x.max() <= 1) == ((24, 6), True, True)

    @pytest.mark.parametrize(("name", "names"), [("energydata_complete.csv", "date,a,b"), ("energy_data.csv", "a,b")])
    def test_energy_of_uci_or_of_timegan(self, tmp_path, name, names):
        values = raw_files.long_table(tmp_path / name, names, quote=name.startswith("energydata"))
        data = Energy(path=str(tmp_path))
        assert data.channels == ("a", "b")
        np.testing.assert_allclose(data.train_series()[0], values[:24], rtol=1e-6)

    def test_limit_keeps_the_parts(self, tmp_path):
        raw_files.long_table(tmp_path / "stock_data.csv", raw_files.STOCKS)
        data = Stocks(path=str(tmp_path), limit=50)
        assert len(data.train_series()) + len(data.val_series()) == 50

    def test_gaps(self, tmp_path):
        raw_files.long_table(tmp_path / "stock_data.csv", raw_files.STOCKS)
        path = tmp_path / "stock_data.csv"
        lines = path.read_text().splitlines()
        lines[101] = ",".join(["", *lines[101].split(",")[1:]])
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(
            ValueError, match=r"got NaN at 1 of 400, the first at step 100 .*channel 'Open'; set `data.m"
        ):
            Stocks(path=str(tmp_path)).setup()
        assert len(Stocks(path=str(tmp_path), missing="drop").train_series()) == 337 - 24
        assert Stocks(path=str(tmp_path), missing="interpolate").train_series().isfinite().all()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda t: t.replace("OT", "Oil"),
                "ETTh1.csv: expected the columns HUFL.*, got no 'OT' among date, HUFL",
            ),
            (lambda t: t.replace(",HUFL,HULL", ",HULL"), "got no 'HUFL' among"),
            (
                lambda t: t.replace("01 00:07:00,", "01 00:07:00,x"),
                r"expected numbers, got 'x.*' in row 9, column 'HUFL'",
            ),
            (
                lambda t: t[: t.rindex(",")],
                r"expected 8 columns in every row, got 7 in row 401 \(a file cut short",
            ),
            (lambda t: t.replace("01 00:07:00,", "01 00:07:00,1,"), r"in every row, got 9 in row 9 \(decimal commas"),
            (lambda t: t.split("\n")[0], "expected rows below the header, got none|expected 8 columns"),
            (lambda t: "", "ETTh1.csv: expected a table with a header, got an empty file"),
        ],
    )
    def test_faults(self, tmp_path, cache, change, message):
        raw_files.long_table(tmp_path / "ETTh1.csv", raw_files.ETT)
        path = tmp_path / "ETTh1.csv"
        path.write_text(change(path.read_text()))
        with pytest.raises(ValueError, match=message) as caught:
            ETT(path=str(tmp_path)).prepare_data()
        assert "`data.path`" in str(caught.value)
        assert not list(cache.rglob("*"))

    def test_where_to_put_the_file(self, tmp_path, cache):
        with pytest.raises(
            FileNotFoundError, match=rf"ETTm2.csv, or ettm2.npz .* in {cache}/ett; put it there, or set"
        ):
            ETT("m2").prepare_data()
        np.savez(tmp_path / "other.npz", x=np.zeros((4, 24, 1)))
        with pytest.raises(ValueError, match=r"an array named 'series' .*, got x \(4, 24, 1\); mend `data.path`"):
            ETT(path=str(tmp_path / "other.npz")).setup()

    def test_groups_are_refused(self, tmp_path):
        raw_files.long_table(tmp_path / "ETTh1.csv", raw_files.ETT)
        with pytest.raises(ValueError, match=r"expected no `data.split_by`"):
            ETT(path=str(tmp_path), split_by="date").setup()

    @pytest.mark.parametrize(
        ("data", "name", "shape", "total"),
        [
            (ETT, "etth1.npz", (24, 7), 17_420),
            (Stocks, "stock_timegan.npz", (24, 6), 3_685),
            (Energy, "energy_timegan.npz", (24, 28), 19_735),
        ],
    )
    def test_real_files(self, data, name, shape, total):
        one = data(path=str(real_data(name)))
        assert one.shape == shape
        # All windows but those that would be in both parts.
        assert len(one.train_series()) + len(one.val_series()) == total - 2 * 23


def test_columns_in_any_order_and_quoted(tmp_path):
    (tmp_path / "a.csv").write_text('"b","date","a"\n"1","x, y","2"\n"3","z",""\n')
    np.testing.assert_array_equal(read_columns(tmp_path / "a.csv", ["a", "b"]), [[2, 1], [np.nan, 3]])


class TestSines:
    def test_is_a_sine_of_one_frequency(self):
        x = sines(50, 24, 5, seed=1)
        # A sine satisfies x(t + 1) + x(t - 1) = 2 cos(w) x(t).
        rate = (x[:, 2:] + x[:, :-2]) * x[:, 1:-1]
        omega = rate.sum(1) / (2 * (x[:, 1:-1] ** 2).sum(1))
        np.testing.assert_allclose(x[:, 2:] + x[:, :-2], 2 * omega[:, None] * x[:, 1:-1], atol=1e-3)
        assert np.abs(omega).max() <= 1 + 1e-6
        assert omega.min() < -0.5 < 0.5 < omega.max()

    def test_the_codes_waves_are_slow_and_positive(self):
        x = sines(50, 24, 5, seed=1, variant="code")
        assert (x.min() >= 0, x.max() <= 1) == (True, True)
        np.testing.assert_array_less(np.abs(np.diff(x, axis=1)).max(), 0.05 + 1e-6)  # at most 0.1 a step, halved

    def test_data(self):
        data = Sines(count=40, steps=16, num_channels=2, generator_seed=3)
        assert (data.shape, data.num_train, data.channels) == ((16, 2), 36, ("sine 0", "sine 1"))
        np.testing.assert_array_equal(sines(40, 16, 2, 3), sines(40, 16, 2, 3))
        assert not np.array_equal(sines(40, 16, 2, 3), sines(40, 16, 2, 4))

    def test_the_default_data_set_hands_nothing_on(self, capfd, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", "fit", "--data", "Sines", "--print_config"])
        with pytest.raises(SystemExit):
            main()
        said = capfd.readouterr().out
        assert "count: 10000" in said
        assert "steps: 24" in said

    @pytest.mark.parametrize("setting", ["count", "steps", "num_channels"])
    def test_bad_settings(self, setting):
        with pytest.raises(ValueError, match=rf"`data.{setting}` of at least \d, got 0"):
            Sines(**{setting: 0})


class TestUCR:
    @pytest.mark.parametrize("inside", ["", "ArrowHead"])
    def test_own_test_part(self, tmp_path, inside):
        (tmp_path / inside).mkdir(exist_ok=True)
        x = raw_files.archive(tmp_path / inside)
        data = UCR("ArrowHead", path=str(tmp_path))
        assert (data.shape, data.num_train, len(data.val_series())) == ((30, 1), 18, 2)
        np.testing.assert_allclose(data.test_series()[..., 0], x[20:], rtol=1e-6)
        np.testing.assert_array_equal(data.labels("test"), [0, 1] * 4)

    def test_tables_with_tabs(self, tmp_path):
        x = np.random.default_rng(0).random((9, 12))
        for part, rows in (("TRAIN", x[:6]), ("TEST", x[6:])):
            table = np.column_stack([np.arange(len(rows)) % 2 + 1, rows])
            np.savetxt(tmp_path / f"Coffee_{part}.tsv", table, delimiter="\t")
        data = UCR("Coffee", path=str(tmp_path))
        np.testing.assert_allclose(data.test_series()[..., 0], x[6:], rtol=1e-6)
        np.testing.assert_array_equal(data.labels("test"), [0, 1, 0])

    def test_channels_and_missing_values(self, tmp_path):
        path = tmp_path / "a.ts"
        path.write_text("@classLabel true 1 2\n@data\n1,2,3:4,?,6:1\n7,8,9:10,11,12:2\n")
        x, y = read_ts(path)
        np.testing.assert_array_equal(x[0], [[1, 4], [2, np.nan], [3, 6]])
        assert (x.shape, y.tolist()) == ((2, 3, 2), ["1", "2"])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("@data\n1,2,3:a\n1,2:b\n", r"expected series of one length, 3 .* got \[2\] steps in row 3"),
            ("@data\n1,2,x:a\n", r"expected numbers in row 2, got: .*'x'"),
            ("1,2,3:a\n", "expected series below @data, got none"),
        ],
    )
    def test_faults(self, tmp_path, cache, text, message):
        raw_files.archive(tmp_path)
        (tmp_path / "ArrowHead_TRAIN.ts").write_text(text)
        with pytest.raises(ValueError, match=message):
            UCR("ArrowHead", path=str(tmp_path)).prepare_data()
        assert not list(cache.rglob("*"))

    def test_parts_that_do_not_fit(self, tmp_path):
        raw_files.archive(tmp_path)
        (tmp_path / "ArrowHead_TEST.ts").write_text("@data\n1,2,3:a\n")
        with pytest.raises(ValueError, match=r"ArrowHead_TEST.ts: expected series of \(30, 1\) .*got \(3, 1\)"):
            UCR("ArrowHead", path=str(tmp_path)).prepare_data()

    @pytest.mark.skipif(find_spec("aeon") is not None, reason="aeon is there")
    def test_without_aeon(self):
        with pytest.raises(ImportError, match=r"ArrowHead_TRAIN.ts and .*\[ucr\]\", or put the files there"):
            UCR("ArrowHead").prepare_data()

    @pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
    def test_sets_that_aeon_brings(self, cache):
        pytest.importorskip("aeon.datasets")
        data = UCR("ArrowHead")
        assert (data.shape, len(data.train_series()) + len(data.val_series())) == ((251, 1), 36)
        assert len(data.test_series()) == 175
        assert UCR("BasicMotions").shape == (100, 6)
        assert (cache / "ucr" / "ArrowHead.npz").is_file()
        with pytest.raises(FileNotFoundError, match="aeon does not bring Coffee with it; set `data.download` true"):
            UCR("Coffee").prepare_data()
        with pytest.raises(ValueError, match="expected series of one length, got several"):
            UCR("JapaneseVowels").prepare_data()

    def test_a_name_is_no_path(self):
        with pytest.raises(ValueError, match=r"`data.dataset` '\.\./x'"):
            UCR("../x")
