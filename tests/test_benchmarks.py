"""The benchmark scripts run at tiny size, and leave what the page is written from. Nothing here is timed."""

import json
import logging
import math
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.diffusion import VP, Score
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.metrics.post_hoc import PostHoc
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import UNet
from lightning_freqdiff.sampling import Sampling

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def as_scripts(monkeypatch):
    """Let scripts import each other, and leave no settings behind."""
    logger, threads = logging.getLogger("lightning.pytorch"), torch.get_num_threads()
    level = logger.level
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    logger.setLevel(level)
    torch.set_num_threads(threads)


def run(monkeypatch, script: str, output: Path, *args: object) -> dict:
    options = [str(a) for a in ("--threads", 1, "--rounds", 1, "--device", "cpu", *args)]
    monkeypatch.setattr(sys, "argv", [script, *options, f"--output={output}"])
    runpy.run_path(str(BENCHMARKS / script), run_name="__main__")
    return strict(output)


def strict(path: Path) -> dict:
    def refuse(name: str) -> None:
        raise ValueError(f"{path} holds {name}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture
def peers(checkpoint, monkeypatch, tmp_path) -> dict:
    sizes = (
        "--batches",
        1,
        3,
        "--samples",
        3,
        "--steps",
        8,
        "--reference_steps",
        2,
        "--data",
        "none",
        "--other_ways",
        0,
    )
    return run(monkeypatch, "peers.py", tmp_path / "peers.json", "--ckpt_path", checkpoint, *sizes)


def test_peers_and_the_page(peers, monkeypatch, tmp_path):
    assert peers["complete"]
    assert not peers["paper_size"]
    one, three = (peers["batches"][batch]["rows"] for batch in ("1", "3"))
    assert len(one) == len(three) == 11
    rows = {row["kind"]: row for row in three}
    assert rows["reference"]["over_reference"]["ratio"] == 1
    assert all(rows[kind]["extrapolated_from_steps"] == 2 for kind in ("reference", "uncached", "published"))
    assert rows["best"]["extrapolated_from_steps"] is None
    assert rows["best"]["relative_l2"] < 0.5
    assert not any("relative_l2" in row for row in one)  # the uncached samples are drawn at the largest batch alone
    page(monkeypatch, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "Wiener clock" in text
    assert "not measured" in text
    assert "**does not count**" in text  # eight steps of a small network reach no goal
    assert (tmp_path / "page-peers.png").stat().st_size < 200_000


@pytest.mark.slow
def test_peers_in_other_ways(checkpoint, monkeypatch, tmp_path):
    sizes = ("--batches", 1, 3, "--samples", 3, "--steps", 8, "--reference_steps", 2, "--data", "none")
    content = run(monkeypatch, "peers.py", tmp_path / "peers.json", "--ckpt_path", checkpoint, *sizes)
    one, three = (content["batches"][batch]["rows"] for batch in ("1", "3"))
    assert [row["name"].rsplit(", ")[-1] for row in one if row["kind"] == "way"] == ["bfloat16"] * 2 + [
        "compiled"
    ] * 2
    assert [row["relative_l2"] < 0.5 for row in three if row["kind"] == "way" and "relative_l2" in row] == [True]


@pytest.mark.slow
def test_the_engine(monkeypatch, tmp_path):
    content = run(monkeypatch, "engine.py", tmp_path / "engine.json", "--batches", 1, "--steps", 1)
    assert content["complete"]
    (row,) = content["rows"]
    errors = {way["way"]: way["relative_error"] for way in row["ways"] if way["side"] == "ours"}
    assert errors["float32"] == 0
    assert 0 < errors["compiled"] < 1e-4 < errors["bfloat16"] < 0.03
    page(monkeypatch, tmp_path)
    assert "ours, compiled, bfloat16" in (tmp_path / "README.md").read_text()


def page(monkeypatch, folder: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["page.py", f"--results={folder}", f"--output={folder / 'README.md'}"])
    runpy.run_path(str(BENCHMARKS / "page.py"), run_name="__main__")


def test_the_page_that_is_kept_is_the_one_that_is_written(monkeypatch, tmp_path):
    shutil.copytree(BENCHMARKS / "results", tmp_path, dirs_exist_ok=True)
    page(monkeypatch, tmp_path)
    assert (tmp_path / "README.md").read_text() == (BENCHMARKS / "README.md").read_text()


@pytest.mark.slow
def test_limits(monkeypatch, tmp_path):
    sizes = (
        "--preset",
        "plain",
        "--length",
        16,
        "--batches",
        1,
        2,
        "--peak_size",
        32,
        "--growth_steps",
        2,
        4,
        "--tiny",
    )
    found = run(monkeypatch, "limits.py", tmp_path / "limits.json", *sizes)
    assert found["complete"]
    assert {row["what"] for row in found["growth"]} == {"length", "channels", "layers", "batch", "steps"}
    for rows in found["profile"].values():
        groups = sum(row["share"] for row in rows if not row["group"].startswith("operator "))
        assert groups == pytest.approx(1, abs=1e-6)
    one, eight = found["million_samples"][:2]
    assert one["wall_hours"] == pytest.approx(8 * eight["wall_hours"])
    page(monkeypatch, tmp_path)


def test_training(monkeypatch, tmp_path):
    sizes = ("--preset", "plain", "--length", 16, "--batch", 4, "--steps", 1, "--bf16", "--tiny")
    to_loss = ("--to_loss", "--loss_steps", 4, "--loss_every", 2, "--loss_series", 64)
    found = run(monkeypatch, "training.py", tmp_path / "training.json", *sizes, *to_loss)
    assert found["complete"]
    assert {row["against"] for row in found["rows"] if "against" in row} == {
        "reference design",
        "reference design, bf16",
    }
    assert all(math.isfinite(row["last_loss"]) for row in found["to_loss"]["rows"])
    assert found["to_loss"]["rows"][0]["reached_at"]  # the goal is this one's own best loss
    page(monkeypatch, tmp_path)


@pytest.mark.slow
def test_quality(monkeypatch, tmp_path):
    output, kept = tmp_path / "quality.json", tmp_path / "kept"
    options = ["--sets", "sines", "--networks", "transformer", "--steps", "100", "--samples", "12", "--threads", "1"]
    options += ["--scores", "0", "--directions", "16", "--device", "cpu", "--draws", "3", f"--checkpoints={kept}"]
    options += ["--large", "400"]
    for again in ("0", "1"):  # the second time, what was trained is measured again, and replaces its row
        monkeypatch.setattr(sys, "argv", ["quality.py", *options, f"--again={again}", f"--output={output}"])
        runpy.run_path(str(BENCHMARKS / "quality.py"), run_name="__main__")
        (row,) = strict(output)["runs"]
        assert row["steps"] == 100
        assert row["samples"] == row["count"] == 12
        assert row["sets"] == 3
        assert row["sw_time_two_se"] > 0
        assert row["over_floor"] == pytest.approx(row["sw_time"] / row["floor"]["sw_time"])
        assert row["ceiling"]["sw_time"] > 0
        assert row["large"]["count"] == 400
        assert 0 < row["large"]["floor_time"] < row["large"]["gaussian_time"]
    assert (tmp_path / "plate-sines-transformer.png").read_bytes().startswith(b"\x89PNG")
    page(monkeypatch, tmp_path)
    few_steps(monkeypatch, kept / "sines-transformer-frequency-0.0-0" / "best.ckpt", tmp_path / "fewer-steps-sines")
    page(monkeypatch, tmp_path)
    assert "Few steps on sines" in (tmp_path / "README.md").read_text()


def few_steps(monkeypatch, checkpoint: Path, output: Path) -> None:
    monkeypatch.setattr("lightning_freqdiff.evaluation.teacher.SAMPLES", 32)
    monkeypatch.setattr("lightning_freqdiff.evaluation.fitting.COUNTS", (4,))
    options = ["--ckpt_path", checkpoint, "--set", "sines", "--samples", 8, "--calls", 4, "--grids", "edm"]
    student = checkpoint.with_name("student.ckpt")
    quiet = {"accelerator": "cpu", "enable_progress_bar": False}
    lf.distill(lf.load(checkpoint), 4, lessons=64, max_steps=2, output=student, device="cpu", **quiet)
    options += ["--thousand", 5, "--students", student, "--threads", 1, f"--output={output}"]
    monkeypatch.setattr(sys, "argv", ["fewer_steps.py", *map(str, options)])
    runpy.run_path(str(BENCHMARKS / "fewer_steps.py"), run_name="__main__")
    rows = {row["name"]: row for row in strict(output.with_suffix(".json"))["rows"]}
    assert {"solved", "Fitted", "Heun", "DPMSolverPP", "thousand", "distilled"} < rows.keys()
    assert {row["calls"] for name, row in rows.items() if name not in ("solved", "thousand")} == {4}
    assert rows["solved"]["over_solved"] == 1
    assert rows["Fitted"]["over_solved_two_se"] >= 0  # two seeds by default


@pytest.mark.slow
def test_imputation(monkeypatch, tmp_path):
    sizes = ("--sets", "synthetic", "--steps", 100, "--rows", 2, "--samples", 3, "--num_steps", 4, "--many_steps", 5)
    sizes += ("--width", 8, "--checkpoints", tmp_path / "C")
    run(monkeypatch, "imputation.py", tmp_path / "imputation.json", *sizes)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "C").rglob("best.ckpt")}
    found = run(monkeypatch, "imputation.py", tmp_path / "imputation.json", *sizes)
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what was trained is not trained again"
    assert found["complete"]
    assert len(found["rows"]) == 7 * 4
    assert all(row["crps"] > 0 and 0 <= row["within_80"] <= 1 for row in found["rows"])
    (easy,) = [r["crps"] for r in found["rows"] if (r["method"], r["gap"]) == ("linear", "10 %")]
    (hard,) = [r["crps"] for r in found["rows"] if (r["method"], r["gap"]) == ("linear", "90 %")]
    assert easy < hard
    page(monkeypatch, tmp_path)
    assert "## Gaps filled" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_forecasting(monkeypatch, tmp_path):
    sizes = (
        "--sets",
        "synthetic",
        "--steps",
        100,
        "--horizons",
        3,
        6,
        "--origins",
        2,
        "--samples",
        4,
        "--num_steps",
        3,
    )
    sizes += ("--width", 8, "--window", 16, "--checkpoints", tmp_path / "C")
    for again in (False, True):
        found = run(monkeypatch, "forecasting.py", tmp_path / "forecasting.json", *sizes)
        assert found["complete"]
        assert [row["horizon"] for row in found["rows"]] == [3, 6], again
    names = {"model", "linear model", "seasonal naive", "ridge"}
    assert all(row["forecasters"].keys() == names for row in found["rows"])
    page(monkeypatch, tmp_path)
    assert "## Forecasts" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_pieces_for_a_gpu(monkeypatch, tmp_path):
    pytest.importorskip("safetensors")
    pytest.importorskip("ot")
    places = ("--tiny", "--checkpoints", tmp_path / "checkpoints", "--runs", tmp_path / "runs")

    def piece(name: str, *args: object) -> None:
        options = [str(a) for a in (name, "--threads", 1, "--rounds", 1, "--device", "cpu", *places, *args)]
        monkeypatch.setattr(sys, "argv", ["gpu.py", *options])
        runpy.run_path(str(BENCHMARKS / "gpu.py"), run_name="__main__")

    piece("train")
    assert strict(tmp_path / "checkpoints" / "ecg.json")["training"]["complete"]
    samples = tmp_path / "gpu-samples-ecg.json"
    for cache in ("uncached", "wiener", "wiener"):  # the second time there is nothing left to do
        piece("sample", "--cache", cache, f"--output={samples}")
    rows = strict(samples)["rows"]
    assert rows["wiener"]["samples"] == rows["uncached"]["samples"] == 32
    assert rows["wiener"]["relative_l2"] < 0.1
    assert rows["wiener"]["network_calls"] > 0
    floor, known = strict(samples)["baselines"]["floor"], rows["wiener"]
    assert known["count"] == 32
    assert known["at_floor_count"]["count"] == floor["count"] == 10  # of 96 series, 10 are held out
    assert known["over_floor"] == pytest.approx(known["at_floor_count"]["sw_time"] / floor["sw_time"])
    piece("pot", f"--output={tmp_path / 'gpu-metrics.json'}")
    piece("unpack", f"--output={tmp_path / 'ecg.ckpt'}")
    page(monkeypatch, tmp_path)
    kept, trained = (
        ScoreModule.load_from_checkpoint(path).state_dict()
        for path in (tmp_path / "ecg.ckpt", tmp_path / "runs" / "ecg" / "best.ckpt")
    )
    assert torch.equal(
        kept["score.network.context.time.frequencies"], trained["score.network.context.time.frequencies"]
    )
    assert torch.equal(kept["score.codec.mean"], trained["score.codec.mean"])
    for name, value in trained.items():
        torch.testing.assert_close(kept[name], value, rtol=2**-8, atol=0)


@pytest.mark.slow
def test_labels_are_measured(monkeypatch, tmp_path):
    monkeypatch.setattr("lightning_freqdiff.evaluation.labels.CLASSIFIER", PostHoc(hidden=4, layers=1, steps=2))
    few = ["--samples=24", "--per_class=4", "--steps=100", f"--checkpoints={tmp_path / 'C'}", "--threads=1"]
    options = ["--part=labels", "--data=synthetic", "--device=cpu", *few, f"--output={tmp_path / 'conditional.json'}"]
    monkeypatch.setattr(sys, "argv", ["conditional.py", *options])
    runpy.run_path(str(BENCHMARKS / "conditional.py"), run_name="__main__")
    found = strict(tmp_path / "conditional-labels.json")
    assert found["complete"]
    assert [run["scale"] for run in found["runs"]] == [1, 2, 3, 4, 2]
    for one in found["runs"]:
        assert one["classifier"]["balanced_chance"] == pytest.approx(1 / 3)
        assert [(part["count"], part["floor"] > 0) for part in one["classes"].values()] == [(4, True)] * 3


@pytest.mark.slow
def test_paper(monkeypatch, tmp_path):
    sizes = ("--steps", 100, "--num_steps", 40, "--samples", 4, "--table_samples", 2, "--followed", 2, "--norms", 3)
    sizes += ("--checkpoints", tmp_path / "C")
    found = run(monkeypatch, "paper.py", tmp_path / "paper.json", *sizes)
    assert found["complete"]
    for policy in found["claims"]["policies"].values():
        assert policy["bound_secant_holds"] == 1
        assert 0 <= policy["hits_early"] <= 1
    assert {row["name"] for row in found["tables"]["ablation"]} >= {"paper", "naive", "balanced"}
    assert [row["name"] for row in found["distances"]["rows"]] == ["uncached", "paper", "balanced", "real"]
    again = run(monkeypatch, "paper.py", tmp_path / "paper.json", *sizes, "--parts", "distances")
    assert again["claims"] == found["claims"]
    page(monkeypatch, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "## The claims of the E²-CRF paper" in text
    assert "2.20×, +6.8 %" in text


def test_a_step_of_the_exact_gaussian_stretches_as_its_spectrum_says():
    from claims import Course, spectral_norms, uncached  # pyright: ignore[reportMissingImports]

    data = torch.randn(300, 9, 1, generator=torch.Generator().manual_seed(0)).cumsum(1)
    score = Score(
        UNet(width=8, heads=2), VP(), "wiener", Representation("time", 9, 1), covariance="joint", colour=0.0
    )
    score.codec.fit([data])
    assert score.codec.directions is not None
    power, basis = score.codec.directions.power.double(), score.codec.directions.basis.double()

    def eps(raw, z, c, lacking=None):
        gain = c.level.flatten() / (c.alpha.flatten() ** 2 * power + c.level.flatten() ** 2)
        return (z.flatten(1).double() @ basis * gain @ basis.T).view_as(z).to(z)

    score.eps = eps  # a network that is right
    course = Course(score.eval(), Sampling(num_samples=2, num_steps=50, batch_size=2))
    reference, changes = uncached(course)
    assert len(changes) == 50
    places = [0, 20, 35, 45]
    for place, found in zip(places, spectral_norms(course, reference, places), strict=True):
        step = course.steps[place]
        affine = course.solver.affine(step)
        alpha, level = float(step.now.alpha), float(step.now.sigma)
        expected = (affine[0] + affine[1] * level / (alpha**2 * power + level**2)).abs().max()
        torch.testing.assert_close(found, expected.float().expand(2), rtol=5e-3, atol=0)


def test_a_bound_is_the_sum_of_what_each_error_grows_to():
    from paper import spectral_bound  # pyright: ignore[reportMissingImports]

    local, norms = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[2.0], [2.0]])
    assert 10 ** spectral_bound(local, norms, [0, 2]) == pytest.approx(1 * 4 + 2 * 2 + 4)
