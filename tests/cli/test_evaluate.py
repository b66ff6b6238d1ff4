"""`evaluate` as a user meets it: files of every kind, what it leaves, and bad input."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_freqdiff.__main__ import main
from lightning_freqdiff.evaluation.judges import NAMES

rng = np.random.default_rng(0)
FEW = ["--metrics", "sw,histogram,correlational", "--directions=50"]
FILES = ["--generated=made.npy", "--reference=real.npy", "--holdout=fresh.npy"]


@pytest.fixture
def call(tmp_path, monkeypatch, capfd, blank_pictures):
    """Run `evaluate` in a folder with three sets: its code, and what it wrote."""
    monkeypatch.chdir(tmp_path)
    for name, count in (("made", 40), ("real", 60), ("fresh", 50)):
        np.save(f"{name}.npy", rng.normal(size=(count, 12, 2)).cumsum(1).astype(np.float32))

    def run(*args) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", "evaluate", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        out, err = capfd.readouterr()
        return code, out, err

    return run


@pytest.fixture
def refused(call):
    """Run `evaluate` into one line of error: that line."""

    def run(*args) -> str:
        code, _, err = call(*args)
        assert code in (1, 2), err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert not Path("evaluation").exists()
        return err

    return run


def test_the_report_and_its_shape(call):
    code, out, err = call(*FILES, *FEW)
    assert code == 0, err
    for words in ("sliced_wasserstein", "floor", "ceiling", "No sign of memorization", "written: evaluation/"):
        assert words in out
    text = Path("evaluation/evaluation.json").read_text()
    assert not {"NaN", "Infinity", str(Path.cwd())} & set(text.replace(",", " ").split())
    found = json.loads(text, parse_constant=pytest.fail)
    assert list(found) == ["metrics", "memorization", "settings", "machine"]
    assert tuple(found["metrics"]) == NAMES
    for name, score in found["metrics"].items():
        assert {"value", "floor", "ceiling", "higher_is_better", "note"} <= set(score)
        asked = name in ("sliced_wasserstein", "sliced_wasserstein_frequency", "histogram", "correlational")
        assert (score["value"] is not None) == asked == (score["note"] is None)
        if asked:
            assert min(score[kind] for kind in ("value", "floor", "ceiling")) > 0
    assert found["memorization"]["share_of_copies"] == 0
    assert 0 <= found["memorization"]["p_value"] <= 1
    settings = found["settings"]
    assert (settings["generated"], settings["holdout"], settings["steps"]) == ("made.npy", "fresh.npy", 12)
    assert settings["series"] == {"generated": 40, "train": 60, "held_out": 50, "compared": 40, "reference": 60}
    with open("evaluation/evaluation.csv", newline="") as file:
        rows = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(rows["histogram"]["value"]) == found["metrics"]["histogram"]["value"]
    page = Path("evaluation/report.html").read_text()
    assert page.count("<img ") == 3
    assert "Read each figure between its floor" in page
    assert "not asked for" not in page
    assert "http:" not in page
    assert "https:" not in page


def test_metrics_are_words_apart_or_with_commas_or_in_a_file(call):
    Path("settings.yaml").write_text("metrics: [sw, histogram]\ndirections: 50\n")
    for args in (["--metrics", "sw", "histogram", "--directions=50"], ["--config=settings.yaml"]):
        code, _, err = call(*FILES, *args)
        assert code == 0, err
        found = json.loads(Path("evaluation/evaluation.json").read_text())
        asked = {name for name, score in found["metrics"].items() if score["value"] is not None}
        assert asked == {"sliced_wasserstein", "sliced_wasserstein_frequency", "histogram"}
        assert found["settings"]["metrics"] == ["sw", "histogram"]


def test_an_earlier_evaluation_is_replaced_and_nothing_else(call, refused):
    assert call(*FILES, *FEW, "--output=out")[0] == 0
    assert call(*FILES, "--metrics=mmd", "--output=out")[0] == 0
    assert json.loads(Path("out/evaluation.json").read_text())["metrics"]["mmd"]["value"] is not None
    Path("out/mine.txt").write_text("mine")
    assert "holds mine.txt: set --output" in refused(*FILES, "--output=out", "--reference=none.npy")
    # What `test` leaves has names of ours.
    Path("tested").mkdir()
    Path("tested/report.html").write_text("of test")
    assert "set --output" in refused(*FILES, *FEW, "--output=tested")
    assert Path("tested/report.html").read_text() == "of test"


def test_without_a_holdout_the_floor_says_where_it_is_from(call):
    code, out, _ = call(*FILES[:2], *FEW)
    assert code == 0
    assert "note: no --holdout: the floor is that of 30 series drawn from --reference" in out
    assert "floor: a random part of the reference" in out


def test_copies_are_flagged(call):
    real = np.load("real.npy")
    np.save("made.npy", np.concatenate([np.load("made.npy"), real[:10]]))
    code, out, _ = call(*FILES, *FEW)
    assert code == 0
    assert "MEMORIZATION: copies" in out
    found = json.loads(Path("evaluation/evaluation.json").read_text())["memorization"]
    assert found["share_of_exact_copies"] == 0.2
    assert found["p_value"] < 1e-3
    assert found["copies"][0] == {"generated": 40, "training": 0, "distance": 0, "exact": True}
    assert "generated series</th><th>training series" in Path("evaluation/report.html").read_text()


def test_the_generated_file_as_its_own_reference_is_said(call):
    code, out, _ = call("--generated=real.npy", "--reference=real.npy", *FEW)
    assert code == 0
    assert "note: --generated holds the very series of --reference" in out


def table(path: str, x: np.ndarray, names: tuple[str, ...]) -> None:
    cells = [[i, t, *one] for i, series in enumerate(x) for t, one in enumerate(series)]
    Path(path).write_text("\n".join([",".join(names), *(",".join(map(str, row)) for row in cells)]) + "\n")


def test_tables_folders_and_what_predict_leaves(call):
    made, real = np.load("made.npy"), np.load("real.npy")
    table("real.csv", real, ("beat", "tick", "u", "v"))
    run = Path("samples")
    run.mkdir()
    table("samples/samples.csv", made, ("sample", "step", "u", "v"))
    (run / "evaluation.csv").write_text("metric\n")
    (run / "manifest.json").write_text('{"status": "complete", "file": "samples.csv"}')
    Path("fresh").mkdir()
    for i in range(20):
        (Path("fresh") / f"{i}.csv").write_text("tick,u,v\n" + "\n".join(f"{t},{t * i},{i - t}" for t in range(12)))
    columns = ["--data.id=beat", "--data.time=tick"]
    code, _, err = call("--generated=samples/", "--reference=real.csv", *columns, *FEW)
    assert code == 0, err
    settings = json.loads(Path("evaluation/evaluation.json").read_text())["settings"]
    assert (settings["series"]["generated"], settings["channels"]) == (40, ["u", "v"])
    code, _, err = call("--generated=fresh", "--reference=real.csv", *columns, *FEW)
    assert code == 0, err
    (run / "manifest.json").write_text('{"status": "running"}')
    code, _, err = call("--generated=samples/", "--reference=real.csv", *columns)
    assert code == 1
    assert "finish it by the same `predict`, or mend --generated" in err


def parquet(path: str, x: np.ndarray, names: tuple[str, str]) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    which, step = (index.ravel() for index in np.indices(x.shape[:2]))
    values = {name: x[..., i].ravel() for i, name in enumerate("uv")}
    pq.write_table(pa.table({names[0]: which, names[1]: step, **values}), path)


@pytest.mark.slow
def test_parquet_files_and_folders_of_them(call):
    made, real = np.load("made.npy"), np.load("real.npy")
    assert call(*FILES[:2], *FEW, "--output=plain")[0] == 0
    parquet("made.parquet", made, ("sample", "step"))
    parquet("real.parquet", real, ("beat", "tick"))
    named = ["--data.id=beat", "--data.time=tick"]
    code, _, err = call("--generated=made.parquet", "--reference=real.parquet", *named, *FEW)
    assert code == 0, err
    plain, found = (json.loads(Path(f"{d}/evaluation.json").read_text()) for d in ("plain", "evaluation"))
    assert {k: v["value"] for k, v in found["metrics"].items()} == {
        k: v["value"] for k, v in plain["metrics"].items()
    }
    assert found["settings"]["channels"] == ["u", "v"]
    code, _, err = call("--generated=made.parquet", "--reference=real.parquet", *FEW)
    assert code == 1
    assert "if it is a long table, name its columns by --data.id and --data.time" in err
    Path("beats").mkdir()
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for i, one in enumerate(made[:20]):
        pq.write_table(pa.table({"u": one[:, 0], "v": one[:, 1]}), f"beats/{i}.parquet")
    code, _, err = call("--generated=beats", "--reference=real.parquet", *named, *FEW)
    assert code == 0, err
    settings = json.loads(Path("evaluation/evaluation.json").read_text())["settings"]
    assert settings["series"]["generated"] == 20


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--generated=none.npy"], "mend --generated"),
        (["--reference=none.npy"], "mend --reference"),
        (["--holdout=none.npy"], "mend --holdout"),
        (["--generated=short.npy"], "12 steps as in --reference, got 9 in --generated"),
        (["--holdout=wide.npy"], "2 channels as in --reference, got 3 in --holdout"),
        (["--generated=nan.npy"], "nan.npy: expected finite float32 numbers, got 1"),
        (["--reference=uneven.csv"], "set --data.lengths"),
        (["--generated=empty"], "got none; mend --generated"),
        (["--generated=words.npy"], "words.npy: expected NumPy's own format"),
        (
            ["--reference=words.txt"],
            "expected a name ending in .npz, .npy, .csv or .parquet (or .jsonl), got '.txt'; mend --ref",
        ),
        (["--reference=real.npy", "--data.window=99"], "--data.window"),
        (["--data.missing=guess"], "data.missing"),
        (["--metrics=sw,fid"], "got 'fid': set --metrics"),
        (["--metrics=,"], "got none: set --metrics"),
        (["--repetitions=0"], "set --repetitions"),
        (["--rows=0"], "set --rows"),
        (["--seed=-1"], "set --seed"),
        (["--protocol=mine"], "protocol"),
        (["--output=real.npy"], "set --output"),
        (["--output=/proc/nowhere"], "set --output"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_input_ends_in_one_line_and_leaves_nothing(refused, args, says):
    real = np.load("real.npy")
    np.save("short.npy", real[:, :9])
    np.save("wide.npy", real.repeat(2, axis=2)[..., :3])
    gap = real.copy()
    gap[3, 2, 1] = np.nan
    np.save("nan.npy", gap)
    Path("uneven.csv").write_text(
        "id,time,u,v\n" + "".join(f"{i},{t},{i + t},{t}\n" for i in (0, 1) for t in range(5 + i))
    )
    Path("empty").mkdir()
    for name in ("words.npy", "words.txt"):
        Path(name).write_text("no series")
    assert says in refused(*FILES, *args)


def test_missing_generator_or_reference_is_asked_for(refused):
    assert "reference" in refused("--generated=made.npy")


def test_gaps_are_mended_by_the_flag_that_is_named(call):
    gap = np.load("made.npy")
    gap[3, 2, 1] = np.nan
    np.save("made.npy", gap)
    assert call(*FILES, *FEW, "--data.missing=drop")[0] == 0
    assert json.loads(Path("evaluation/evaluation.json").read_text())["settings"]["series"]["generated"] == 39


def test_a_second_evaluation_says_that_it_takes_the_place_of_the_first(call):
    assert "takes the place" not in call(*FILES, *FEW)[1]
    assert "note: takes the place of the evaluation that was in evaluation\n" in call(*FILES, *FEW)[1]
