"""The papers' data sets: small files in the original layout, and every way in which they can be wrong."""

import builtins
import errno
import sys
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import raw_files
from conftest import real_data

from lightning_freqdiff.data import ECG, MIMIC3, NASA, NASDAQ, NamedData, USDroughts
from lightning_freqdiff.data.readers import download as downloads
from lightning_freqdiff.data.sets.mimic import fill, standardise
from lightning_freqdiff.data.sets.nasa import CYCLES, bin_cycle

part_of_it = pytest.mark.filterwarnings("ignore:.*a part of the data set is used.*")
pytestmark = part_of_it


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FREQDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    return tmp_path / "raw"


def sizes(data: NamedData) -> list[int]:
    return [len(part) for part in (data.train_series(), data.val_series(), data.test_series())]


class TestECG:
    def test_no_row_is_lost(self, raw):
        tables = raw_files.heartbeats(raw)
        data = ECG(path=str(raw))
        assert (data.shape, data.channels, sizes(data)) == ((187, 1), ("ECG",), [27, 3, 11])
        np.testing.assert_allclose(data.test_series()[..., 0], tables["mitbih_test.csv"][:, :187], rtol=1e-6)
        both = np.concatenate([data.train_series(), data.val_series()])[..., 0]
        expected = tables["mitbih_train.csv"][:, :187].astype(np.float32)
        assert {row.tobytes() for row in both} == {row.tobytes() for row in expected}
        np.testing.assert_array_equal(data.labels("test"), tables["mitbih_test.csv"][:, 187])

    def test_ptb_is_split_at_random(self, raw):
        tables = raw_files.heartbeats(raw)
        data = ECG("ptbdb", path=str(raw), val_fraction=0.2)
        assert sizes(data) == [18, 5, 5]
        assert sum(data.labels(part).sum() for part in ("train", "val")) == sum(
            t[:, 187].sum() for name, t in tables.items() if name.startswith("ptb")
        )

    def test_full_counts_are_known(self, raw):
        raw_files.heartbeats(raw)
        with pytest.warns(UserWarning, match=r"expected 87,554 rows in .*mitbih_train.csv, as published, got 30"):
            ECG(path=str(raw)).prepare_data()

    def test_an_archive_and_its_groups(self, raw):
        x = np.random.default_rng(0).random((40, 187, 1)).astype(np.float16)
        np.savez(
            raw / "ecg_mitbih.npz", x=x, y=np.arange(40) % 5, record=np.arange(40) // 4, columns=np.array(["MLII"])
        )
        plain, split = ECG(path=str(raw)), ECG(path=str(raw / "ecg_mitbih.npz"), split_by="record", val_fraction=0.25)
        assert (plain.channels, sizes(plain)) == (("MLII",), [36, 4, 4])
        where = {row.tobytes(): i // 4 for i, row in enumerate(x.astype(np.float32))}
        train, val = ({where[row.numpy().tobytes()] for row in s} for s in (split.train_series(), split.val_series()))
        assert train
        assert val
        assert not train & val
        with pytest.raises(ValueError, match=r"`data.split_by` as one of y, record, got 'patient'"):
            ECG(path=str(raw), split_by="patient").setup()

    def test_limit(self, raw):
        raw_files.heartbeats(raw)
        assert sum(sizes(ECG(path=str(raw), limit=12))) == 12

    @pytest.mark.parametrize(
        ("name", "change", "message"),
        [
            ("mitbih_test.csv", lambda t: t[: len(t) // 2], r"mitbih_test.csv: expected (series of one|numbers)"),
            (
                "mitbih_test.csv",
                lambda t: t.replace("e-01,", "e-01,oops,", 1),
                r"got 'oops' in row 1|only names or only",
            ),
            ("mitbih_train.csv", lambda t: "\n".join(r[:-25] for r in t.split("\n")), "expected 188 columns"),
            ("mitbih_train.csv", lambda t: "", "mitbih_train.csv: expected a row for each series"),
        ],
        ids=["cut short", "text", "no label", "empty"],
    )
    def test_faults_leave_no_cache(self, raw, cache, name, change, message):
        raw_files.heartbeats(raw)
        (raw / name).write_text(change((raw / name).read_text()))
        with pytest.raises(ValueError, match=message) as caught:
            ECG(path=str(raw)).prepare_data()
        assert "\n" not in str(caught.value)
        assert "`data.path`" in str(caught.value)
        assert not list(cache.rglob("*"))

    def test_missing_files(self, raw, cache):
        with pytest.raises(
            FileNotFoundError, match=r"mitbih_train.csv and .* in \S+ecg; set `data.download` true, or put"
        ):
            ECG().prepare_data()
        raw_files.heartbeats(raw)
        (raw / "mitbih_test.csv").unlink()
        with pytest.raises(FileNotFoundError, match="but mitbih_test.csv is not there"):
            ECG(path=str(raw)).prepare_data()
        with pytest.raises(FileNotFoundError, match=r"found nothing at \S*none; mend `data.path`"):
            ECG(path=str(raw / "none")).prepare_data()
        with pytest.raises(FileNotFoundError, match=r"a file, found nothing at \S*none.npz; mend `data.path`"):
            ECG(path=str(raw / "none.npz")).setup()
        with pytest.raises(ValueError, match=r"expected a folder with .*, or a .npz file, got"):
            ECG(path=str(raw / "mitbih_train.csv")).prepare_data()


class TestCache:
    def test_files_in_the_cache_folder_are_prepared_once(self, cache, monkeypatch):
        (cache / "ecg").mkdir(parents=True)
        raw_files.heartbeats(cache / "ecg")
        ECG().prepare_data()
        kept = cache / "ecg" / "mitbih.npz"
        before = kept.stat().st_mtime_ns
        reader = "lightning_freqdiff.data.sets.heartbeats.read_wide"
        monkeypatch.setattr(reader, lambda path: pytest.fail("read again"))
        assert sizes(ECG()) == [27, 3, 11]
        assert kept.stat().st_mtime_ns == before

    def test_changed_files_are_prepared_anew(self, cache):
        (cache / "ecg").mkdir(parents=True)
        raw_files.heartbeats(cache / "ecg")
        assert sizes(ECG())[2] == 11
        kept, old = (cache / "ecg" / name for name in ("mitbih.npz", "old.npz"))
        old.hardlink_to(kept)
        before = old.read_bytes()
        with (cache / "ecg" / "mitbih_test.csv").open("a") as file:
            file.write(",".join(["0.5"] * 187 + ["1"]) + "\n")
        assert sizes(ECG())[2] == 12
        assert old.read_bytes() == before  # a new file took the name; the old one was not written over
        assert kept.stat().st_mode & 0o777 == (cache / "ecg" / "mitbih_test.csv").stat().st_mode & 0o777

    def test_a_damaged_cache_is_made_anew(self, cache):
        (cache / "ecg").mkdir(parents=True)
        raw_files.heartbeats(cache / "ecg")
        ECG().prepare_data()
        (cache / "ecg" / "mitbih.npz").write_bytes(b"PK half a file")
        assert sizes(ECG()) == [27, 3, 11]

    def test_a_full_disk_leaves_the_cache_as_it_was(self, cache, monkeypatch):
        (cache / "ecg").mkdir(parents=True)
        raw_files.heartbeats(cache / "ecg")
        ECG().prepare_data()
        kept = cache / "ecg" / "mitbih.npz"
        before = kept.read_bytes()
        (cache / "ecg" / "mitbih_test.csv").touch()

        def savez(file, **arrays):
            file.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(downloads.np, "savez", savez)
        with pytest.raises(OSError, match=r"got No space left on device; make room there, or set `data.folder`"):
            ECG().prepare_data()
        assert kept.read_bytes() == before
        assert {p.name for p in kept.parent.iterdir()} == {*raw_files.ECG_ROWS, "mitbih.npz"}

    def test_an_own_folder_does_not_replace_the_whole(self, raw, cache):
        (cache / "ecg").mkdir(parents=True)
        for folder in (cache / "ecg", raw):
            raw_files.heartbeats(folder)
        ECG().prepare_data()
        before = (cache / "ecg" / "mitbih.npz").read_bytes()
        ECG(path=str(raw)).prepare_data()
        assert (cache / "ecg" / "mitbih.npz").read_bytes() == before
        assert len(list((cache / "ecg").glob("mitbih-*.npz"))) == 1

    def test_folder_is_a_setting(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=f"{tmp_path}/mine/ecg"):
            ECG(folder=str(tmp_path / "mine")).prepare_data()


class TestDownload:
    @pytest.fixture
    def kaggle(self, raw, monkeypatch):
        """A stand-in for kagglehub, which hands out `raw` and counts."""
        asked = []
        answer = SimpleNamespace(asked=asked, error=None)

        def dataset_download(handle):
            asked.append(handle)
            if answer.error:
                raise answer.error
            return str(raw)

        monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=dataset_download))
        return answer

    @pytest.fixture
    def few(self, monkeypatch):
        monkeypatch.setitem(
            __import__("lightning_freqdiff.data.sets.heartbeats", fromlist=["FILES"]).FILES,
            "mitbih",
            {name: rows for name, rows in raw_files.ECG_ROWS.items() if name.startswith("mitbih")},
        )

    @pytest.mark.filterwarnings("error")
    def test_once_and_only_when_asked_for(self, raw, kaggle, few):
        raw_files.heartbeats(raw)
        with pytest.raises(FileNotFoundError, match="set `data.download` true"):
            ECG().prepare_data()
        with pytest.raises(FileNotFoundError, match="set `data.download` true"):
            ECG().setup()
        assert not kaggle.asked
        ECG(download=True).prepare_data()
        assert sizes(ECG(download=True)) == sizes(ECG()) == [27, 3, 11]
        assert kaggle.asked == ["shayanfazeli/heartbeat"]

    def test_a_download_cut_short(self, raw, kaggle, cache):
        raw_files.heartbeats(raw)  # whole rows, but not as many as published
        with pytest.raises(
            ValueError, match=r"87,554 rows in .*, as published, got 30 \(a download cut short.*delete"
        ):
            ECG(download=True).prepare_data()
        (raw / "mitbih_test.csv").unlink()
        with pytest.raises(ValueError, match=r"mitbih_test.csv is not there.* delete \S+raw and try again, or put"):
            ECG(download=True).prepare_data()
        assert not list(cache.rglob("*"))

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (ConnectionError("Failed to resolve\n'api.kaggle.com'"), "ConnectionError: Failed to resolve 'api"),
            (OSError(errno.ENOSPC, "No space left on device"), "No space left .*make room"),
            (RuntimeError("x" * 1000), r"RuntimeError: x{200} \.\.\."),
        ],
    )
    def test_no_network(self, kaggle, cache, error, said):
        kaggle.error = error
        with pytest.raises(OSError, match=said) as caught:
            ECG(download=True).prepare_data()
        assert "\n" not in str(caught.value)
        assert f"or put the files of https://www.kaggle.com/datasets/shayanfazeli/heartbeat into {cache}/ecg" in str(
            caught.value
        )

    def test_no_kagglehub(self, monkeypatch):
        real = builtins.__import__

        def absent(name, *args, **kwargs):
            if name == "kagglehub":
                raise ImportError(name)
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", absent)
        with pytest.raises(ImportError, match=r"pip install \"lightning-freqdiff\[kaggle\]\", or put"):
            ECG(download=True).prepare_data()

    def test_other_processes_leave_the_network_alone(self, kaggle, monkeypatch):
        monkeypatch.setattr("lightning_freqdiff.data.sets.named.rank_zero_only.rank", 1)
        with pytest.raises(FileNotFoundError):
            ECG(download=True).setup()
        assert not kaggle.asked

    def test_a_path_is_no_download(self, raw):
        with pytest.raises(ValueError, match="`data.path` or `data.download` true, got both"):
            ECG(path=str(raw), download=True)


class TestNASDAQ:
    def test_which_stocks_are_kept(self, raw):
        raw_files.stocks(raw, 4)
        days = [date(2018, 12, 31), *raw_files.TRADING_DAYS, date(2020, 1, 2)]
        folder = raw / "stocks"
        raw_files.stock(folder / "LATE.csv", days[1:])  # listed on the first trading day of the year
        raw_files.stock(folder / "GONE.csv", days[:-1])
        raw_files.stock(folder / "PAUSE.csv", days[:100] + days[101:])
        raw_files.stock(folder / "HOLE.csv", days, drop=(50, "Close"))
        expected = raw_files.stock(folder / "ZZZ.csv", days)[1:-1]
        (folder / "HEADER.csv").write_text("Date,Open,High,Low,Close,Adj Close,Volume\n")
        data = NASDAQ(path=str(raw), split_by="tickers", val_fraction=0.2)
        assert (data.shape, data.channels) == ((252, 5), ("Adj Close", "Close", "High", "Low", "Open"))
        assert sizes(data) == [4, 1, 1]
        both = np.concatenate([data.train_series(), data.val_series()])
        wanted = expected[:, [4, 3, 1, 2, 0]].astype(np.float32)
        assert sum(np.array_equal(one, wanted) for one in both) == 1

    def test_both_halves(self, raw):
        x = np.random.default_rng(0).random((7, 252, 5)).astype(np.float32)
        names = np.array([f"S{i}" for i in range(7)])
        for half, rows in (("a", slice(4)), ("b", slice(4, 7))):
            np.savez(raw / f"nasdaq_2019_{half}.npz", x=x[rows], tickers=names[rows], columns=np.array(list("abcde")))
        assert sum(sizes(NASDAQ(path=str(raw)))[:2]) == 7
        (raw / "nasdaq_2019_b.npz").unlink()
        with pytest.raises(
            FileNotFoundError, match="nasdaq_2019_a.npz and nasdaq_2019_b.npz with ready arrays, found not"
        ):
            NASDAQ(path=str(raw)).setup()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda t: t.replace("Adj Close", "Adjusted"),
                "S03.csv: expected the columns .*, got no 'Adj Close' among",
            ),
            (
                lambda t: t.replace("2019-01-03,", "2019-01-03,n/b"),
                r"S03.csv: expected numbers, got 'n/b.*' in row 4, c",
            ),
            (
                lambda t: t.replace("\n2019-06-04,", "\n2019-06-04,1,"),
                "S03.csv: expected 7 columns in every row, got 8",
            ),
        ],
    )
    def test_faults(self, raw, cache, change, message):
        raw_files.stocks(raw)
        path = raw / "stocks" / "S03.csv"
        path.write_text(change(path.read_text()))
        with pytest.raises(ValueError, match=message) as caught:
            NASDAQ(path=str(raw)).prepare_data()
        assert "`data.path`" in str(caught.value)
        assert not list(cache.rglob("*"))


class TestNASA:
    @pytest.mark.parametrize(("cycle", "shape"), [("charge", (251, 4)), ("discharge", (134, 5))])
    def test_shapes_and_groups(self, raw, cycle, shape):
        raw_files.batteries(raw)
        data = NASA(cycle, path=str(raw), split_by="battery_id", val_fraction=0.3)
        assert (data.shape, sum(sizes(data)[:2])) == (shape, 15)
        assert data.channels == CYCLES[cycle].channels
        assert NASA(cycle, path=str(raw / "cleaned_dataset")).shape == shape

    def test_bins_are_means(self, tmp_path):
        table = raw_files.battery(tmp_path / "a.csv", "discharge", 2001, 5.0)
        series = bin_cycle(tmp_path / "a.csv", CYCLES["discharge"])
        assert series is not None
        # Readings every 5 s: the first bin has that at 0 s, the next those at 5, 10 and 15 s.
        np.testing.assert_allclose(series[0], table[0, :5], rtol=1e-6)
        np.testing.assert_allclose(series[1], table[1:4, :5].mean(0), rtol=1e-6)
        np.testing.assert_allclose(series[-1], table[397:399, :5].mean(0), rtol=1e-6)  # 1985 and 1990 s of 1995

    def test_every_second_bin_of_charge_without_temperature(self, tmp_path):
        table = raw_files.battery(tmp_path / "a.csv", "charge", 5006, 5.0)
        series = bin_cycle(tmp_path / "a.csv", CYCLES["charge"])
        assert series is not None
        np.testing.assert_allclose(series[1], table[3:5, [0, 1, 3, 4]].mean(0), rtol=1e-6)  # 15 and 20 s

    @pytest.mark.parametrize(("seconds", "gap"), [(1990, 0), (2100, 10.5)])
    def test_short_cycles_and_gaps_are_left_out(self, tmp_path, seconds, gap):
        path = tmp_path / "a.csv"
        table = raw_files.battery(path, "discharge", seconds, 5.0)
        table[200:, -1] += gap
        header = path.read_text().split("\n", 1)[0]
        np.savetxt(path, table, delimiter=",", header=header, comments="")
        assert bin_cycle(path, CYCLES["discharge"]) is None

    def test_faults(self, raw, cache):
        raw_files.batteries(raw)
        inside = raw / "cleaned_dataset"
        text = (inside / "data" / "00003.csv").read_text()
        for broken, message in (
            (
                text.replace("Voltage_charge", "V"),
                "00003.csv: expected the columns .*, got no 'Voltage_charge' among",
            ),
            (text.replace("\n1", "\nx1", 1), "00003.csv: expected numbers, got 'x1.*, column 'Voltage_measured'"),
            (text[:-100], r"00003.csv: expected 6 columns in every row, got \d in row 527 \(a file cut short"),
        ):
            (inside / "data" / "00003.csv").write_text(broken)
            with pytest.raises(ValueError, match=message):
                NASA(path=str(raw)).prepare_data()
        (inside / "data" / "00003.csv").unlink()
        with pytest.raises(FileNotFoundError, match=r"but 1 are not there, the first 00003.csv; put them there"):
            NASA(path=str(raw)).prepare_data()
        assert not list(cache.rglob("*"))


class TestUSDroughts:
    def test_one_year_of_each_county(self, raw):
        values = raw_files.weather(raw)
        data = USDroughts(path=str(raw), split_by="state")
        assert (data.shape, data.channels[:5]) == ((365, 13), ("PRECTOT", "PS", "QV2M", "T2M", "T2M_RANGE"))
        assert sum(sizes(data)[:2]) == 4
        left_out = {"T2MDEW", "T2MWET", "T2M_MAX", "T2M_MIN", "TS"}
        keep = [i for i, name in enumerate(raw_files.WEATHER) if name not in left_out]
        assert set(data.channels) == set(raw_files.WEATHER) - left_out
        got = {row.tobytes() for row in np.concatenate([data.train_series(), data.val_series()])}
        assert got == {row.tobytes() for row in values[..., keep].astype(np.float32)}

    def test_table_itself(self, raw):
        raw_files.weather(raw)
        assert USDroughts(path=str(raw / "train_timeseries" / "train_timeseries.csv")).shape == (365, 13)

    def test_a_county_that_lacks_a_day_is_left_out(self, raw):
        raw_files.weather(raw)
        path = raw / "train_timeseries" / "train_timeseries.csv"
        path.write_text("".join(x for x in path.read_text().splitlines(True) if not x.startswith("4001,2011-05-05")))
        assert sum(sizes(USDroughts(path=str(raw)))[:2]) == 3

    def test_faults(self, raw, cache):
        raw_files.weather(raw)
        path = raw / "train_timeseries" / "train_timeseries.csv"
        text = path.read_text()
        row = next(x for x in text.splitlines() if x.startswith("4001,2011-05-05"))
        cells = row.split(",")
        for broken, message in (
            (text.replace(",WS50M_MAX,", ",X,", 1), "got no 'WS50M_MAX' among"),
            (
                text.replace(row, ",".join([*cells[:2], "wet", *cells[3:]])),
                "expected numbers, got 'wet' in row .*'PRECTOT'",
            ),
            (
                text.replace(row, ",".join([*cells[:2], "", *cells[3:]])),
                "no missing weather in 2011, got .* 1 missing",
            ),
            (
                text[: text.index(row) + 30],
                r"expected 21 columns in every row, got \d+ in row \d+ \(a file cut short",
            ),
        ):
            path.write_text(broken)
            with pytest.raises(ValueError, match=message):
                USDroughts(path=str(raw)).prepare_data()
        path.write_text(text)
        with pytest.raises(ValueError, match="expected rows of 1950, got none; mend `data.year`"):
            USDroughts(1950, path=str(raw)).prepare_data()
        assert not list(cache.rglob("*"))


class TestMIMIC3:
    def test_standardised_by_the_training_part_and_filled(self, raw):
        x = raw_files.stays(raw / "mimic3.npz")
        data = MIMIC3(path=str(raw), num_features=7, val_fraction=0.25)
        assert (data.shape, sizes(data)) == ((24, 7), [18, 6, 6])
        assert data.train_series().isfinite().all()
        whole = MIMIC3(path=str(raw), num_features=50, val_fraction=0.25)
        spread = whole.train_series().std(0, correction=0).mean(0)
        assert (spread.diff() <= 1e-6).all()  # those that vary most come first
        assert whole.channels[:7] == data.channels
        # The training part alone, in the file's units: patients have two stays each.
        order = [int(name[1:]) for name in whole.channels]
        z = fill(standardise(x, np.arange(24)))[..., order]
        near = [int(np.abs(z - one.numpy()).mean((1, 2)).argmin()) for one in whole.train_series()]
        assert len({i // 2 for i in near}) == 9

    def test_standardise_ignores_what_is_missing(self):
        x = np.array([[[1.0], [np.nan]], [[3.0], [np.nan]], [[100.0], [5.0]]])
        np.testing.assert_allclose(standardise(x, np.array([0, 1]))[:2, 0, 0], [-1, 1])

    def test_a_feature_never_measured(self):
        x = np.full((3, 4, 1), np.nan)
        np.testing.assert_array_equal(fill(standardise(x, np.arange(3))), 0)

    def test_there_is_no_download(self, cache):
        with pytest.raises(
            FileNotFoundError, match=rf"in {cache}/mimic3, found nothing; MIMIC-III is restricted: get acc"
        ):
            MIMIC3(download=True).prepare_data()

    @pytest.mark.filterwarnings("ignore:.*not a valid Python identifier.*", "ignore:.*will suffer from performance.*")
    def test_hourly_file(self, raw):
        pandas = pytest.importorskip("pandas")
        pytest.importorskip("tables")
        ids = [(i // 2, 100 + i, 200 + i) for i in range(6)]
        stay = ["subject_id", "hadm_id", "icustay_id"]
        hours = [40, 31, 30, 40, 40, 40]  # the third is too short
        patients = pandas.DataFrame({"max_hours": hours}, pandas.MultiIndex.from_tuples(ids, names=stay))
        rows = pandas.MultiIndex.from_tuples(
            [(*one, h) for one, n in zip(ids, hours, strict=True) for h in range(n)], names=[*stay, "hours_in"]
        )
        columns = pandas.MultiIndex.from_product(
            [["heart rate", "ph"], ["mean", "count", "std"]], names=["LEVEL2", "Aggregation Function"]
        )
        table = pandas.DataFrame(np.random.default_rng(0).normal(size=(len(rows), 6)), rows, columns)
        patients.to_hdf(raw / "all_hourly_data.h5", key="patients")
        table.to_hdf(raw / "all_hourly_data.h5", key="vitals_labs")
        data = MIMIC3(path=str(raw), val_fraction=0.3)
        assert (data.shape, set(data.channels), sum(sizes(data)[:2])) == ((24, 2), {"heart rate", "ph"}, 5)

    def test_hourly_file_needs_pandas(self, raw, monkeypatch):
        monkeypatch.setitem(sys.modules, "pandas", None)
        (raw / "all_hourly_data.h5").write_bytes(b"")
        with pytest.raises(ImportError, match=r"lightning-freqdiff\[mimic\]"):
            MIMIC3(path=str(raw)).prepare_data()


@pytest.mark.parametrize(
    ("data", "name", "shape", "count"),
    [
        (ECG, "ecg_mitbih.npz", (187, 1), 20_000),
        (ECG, "ecg_kaggle_rows.npz", (187, 1), 1_010),
        (NASA, "nasa_charge.npz", (251, 4), 2_663),
        (lambda path: NASA("discharge", path=path), "nasa_discharge.npz", (134, 5), 1_951),
        (USDroughts, "us_drought_dsci.npz", (52, 1), 1_196),
    ],
)
def test_real_files(data, name, shape, count):
    one = data(path=str(real_data(name)))
    assert (one.shape, sum(sizes(one)[:2])) == (shape, count)


def test_real_stocks():
    data = NASDAQ(path=str(real_data("nasdaq_2019_b.npz").parent))
    assert (data.shape, sum(sizes(data)[:2])) == ((252, 5), 4_897)
