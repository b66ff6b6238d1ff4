import csv
import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from lightning_freqdiff.caching import E2CRF, TaylorSeer, Wiener
from lightning_freqdiff.callbacks.presets import read_plugged, read_preset, read_presets
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.evaluation.bench import Bench, Run, speedup
from lightning_freqdiff.evaluation.compare import Comparison
from lightning_freqdiff.evaluation.contenders import Contender, at_once, fewer_steps
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.findings import EvaluateSettings
from lightning_freqdiff.sampling import Constrained, Fixed, Sampling, time_grid
from lightning_freqdiff.sampling.solvers import Fitted
from lightning_freqdiff.sampling.solvers.fitted import named

SAMPLING = Sampling(num_samples=6, num_steps=30, batch_size=4)


def preset(path, text):
    path.write_text(text)
    return str(path)


TAYLOR = """
trainer:
  callbacks+:
    - class_path: CacheCallback
      init_args:
        policy: {class_path: TaylorSeer, init_args: {interval: 3, order: 1}}
"""


def test_presets_are_read_and_named_by_their_files(tmp_path):
    path = preset(tmp_path / "mine.yaml", TAYLOR)
    assert read_preset(path) == TaylorSeer(interval=3, order=1)
    assert [c.name for c in read_presets([path], SAMPLING)] == ["mine"]
    with pytest.raises(ValueError, match="mine twice"):
        read_presets([path, path], SAMPLING)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "expected a preset of the form"),
        ("trainer: {callbacks+: []}", "expected one cache, a network in integers, or one of each, got 0 and 0"),
        ("trainer: {callbacks+: [{class_path: Quantize}, {class_path: Quantize}]}", "one of each, got 0 and 2"),
        (TAYLOR + TAYLOR.split("callbacks+:")[1].lstrip("\n"), "one of each, got 2 and 0"),
        (TAYLOR.replace("interval: 3", "interval: 0"), "expected interval from 1"),
        (TAYLOR.replace("TaylorSeer", "TaylorSir"), "expected the settings of a cache"),
        ("trainer: {callbacks+: [{class_path: SampleMonitor}]}", "expected the settings of a cache"),
        ("trainer: [", "expected a preset of the form"),
    ],
)
def test_what_is_no_preset_says_so(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_preset(preset(tmp_path / "bad.yaml", text))
    with pytest.raises(FileNotFoundError, match="`callbacks`"):
        read_preset(tmp_path / "none.yaml")


def test_speedup_is_the_ratio_of_medians():
    assert speedup([1.0, 2.0, 4.0], [8.0, 8.0, 6.0]) == {"speedup": 4.0, "speedup_low": 1.5, "speedup_high": 8.0}


def test_the_bench_draws_what_predict_draws(model):
    run = Run(Contender("uncached", "uncached", SAMPLING))
    Bench(model, SAMPLING).draw(run)
    model.sampling = SAMPLING
    expected = torch.cat([model.predict_step(unit, 0) for unit in SAMPLING.units()])
    assert torch.equal(run.series, expected)
    assert run.totals["network_calls"] == 30


def test_the_compilers_draw_is_not_timed(model, monkeypatch):
    drawn = []
    monkeypatch.setattr(Bench, "_draw", lambda bench, run: (drawn.append(1), run.seconds.append(1.0)))
    for compiled, expected in ((False, 2), (True, 3)):
        drawn.clear()
        model.score.network.compiled = compiled
        run = Run(Contender("x", "uncached", Sampling(num_samples=2, num_steps=2)))
        bench = Bench(model, run.contender.sampling)
        bench.draw(run)
        bench.draw(run)
        assert len(drawn) == expected
        assert len(run.seconds) == 2


@pytest.mark.slow
def test_a_comparison_measures_everyone_and_leaves_it_on_disk(model, tmp_path):
    caches = [
        Contender("wiener", "cache", SAMPLING, Wiener(tolerance=0.2)),
        Contender("all", "cache", SAMPLING, E2CRF(preset="fixed_schedule", R=1)),
    ]
    data = SyntheticECG(num_series=256, length=64)
    out = tmp_path / "out"
    log = io.StringIO()
    console = Console(file=log, width=150)
    rows = Comparison(model, caches, SAMPLING, out, data, rounds=2, console=console).run()
    assert "wiener" in log.getvalue()
    saved = json.loads((out / "compare.json").read_text())
    assert saved["complete"]
    runs = {run["name"]: run for run in saved["runs"]}
    assert set(runs) == {row["name"] for row in rows}
    assert len(runs) > 3 + 5
    assert runs["uncached"]["speedup"] == 1
    assert runs["all"]["relative_l2"] == 0  # the same noise: a cache that skips nothing is no cache
    assert runs["all"]["sw_time_change"] == 0
    assert 0 < runs["wiener"]["relative_l2"] < 1
    assert runs["wiener"]["network_calls"] < 30
    for run in runs.values():
        assert len(run["seconds_all"]) == 2
        for key in (
            "name",
            "seconds",
            "speedup",
            "network_calls",
            "flops_fraction",
            "hit_rate",
            "sw_time",
            "sw_frequency",
        ):
            assert run[key] is not None, key
        assert run["seconds_single"] > 0
        assert (run["relative_l2"] is None) == (run["kind"] == "solver")  # another path has none
    exact = Evaluator(data.train_series()).distances(uncached_samples(model))
    assert runs["uncached"]["sw_time"] == pytest.approx(float(exact["time"].mean()), rel=1e-5)
    table = list(csv.DictReader((out / "compare.csv").read_text().splitlines()))
    assert [row["name"] for row in table] == [run["name"] for run in saved["runs"]]
    assert "<table>" in (out / "report.html").read_text()
    assert (out / "trade-off.png").stat().st_size > 1000


def test_metrics_by_name_are_columns_between_floor_and_ceiling(model, tmp_path):
    data = SyntheticECG(num_series=256, length=64)
    caches = [Contender("taylor", "cache", SAMPLING, TaylorSeer(interval=3))]
    log = io.StringIO()
    settings = {"rounds": 1, "solvers": False, "console": Console(file=log, width=200)}
    Comparison(model, caches, SAMPLING, tmp_path / "out", data, **settings, metrics=("histogram", "prdc")).run()
    saved = json.loads((tmp_path / "out" / "compare.json").read_text())
    series = uncached_samples(model)
    expected = Evaluator(data).scores(series, EvaluateSettings(("histogram", "prdc")))
    for name in ("histogram", "recall"):
        assert saved["runs"][0][name] == expected[name].value
        assert saved["metrics"][name]["floor"] == expected[name].floor
        assert saved["metrics"][name]["ceiling"] == expected[name].ceiling
    assert saved["runs"][1]["histogram"] != saved["runs"][0]["histogram"]
    (row,) = (line.split() for line in log.getvalue().splitlines() if line.startswith(" floor"))
    assert f"{expected['histogram'].floor:.4f}" in row
    assert "ceiling: Gaussian" in (tmp_path / "out" / "report.html").read_text()
    with pytest.raises(ValueError, match="a data set to take histogram against: set `data`"):
        Comparison(model, [], SAMPLING, tmp_path / "new", metrics=("histogram",))
    with pytest.raises(ValueError, match="got 'fid': set `metrics`"):
        Comparison(model, [], SAMPLING, tmp_path / "new", data, metrics=("fid",))
    with pytest.raises(ValueError, match="repetitions"):
        Comparison(model, [], SAMPLING, tmp_path / "new", data, metrics=("histogram",), repetitions=0)


def test_networks_trained_several_times_say_how_sure_a_score_is(model, tmp_path):
    data = SyntheticECG(num_series=256, length=64)
    log = io.StringIO()
    settings = {"rounds": 1, "solvers": False, "console": Console(file=log, width=200), "repetitions": 2}
    Comparison(model, [], SAMPLING, tmp_path / "out", data, **settings, metrics=("discriminative",)).run()
    (run,) = json.loads((tmp_path / "out" / "compare.json").read_text())["runs"]
    once = EvaluateSettings(("discriminative",), repetitions=2)
    expected = Evaluator(data).scores(uncached_samples(model), once)["discriminative"]
    assert (run["discriminative"], run["discriminative_two_se"]) == (expected.value, expected.value_two_se)
    assert f"{expected.value:.4f} ± {expected.value_two_se:.4f}" in log.getvalue()


def test_a_metric_that_few_samples_do_not_allow_is_left_out(model, tmp_path):
    few = Sampling(num_samples=4, num_steps=5, batch_size=4)
    log = io.StringIO()
    data = SyntheticECG(num_series=256, length=64)
    settings = {"rounds": 1, "solvers": False, "console": Console(file=log, width=200)}
    Comparison(model, [], few, tmp_path / "out", data, **settings, metrics=("recall", "mmd")).run()
    assert "recall left out: expected at least 6 samples, got 4" in log.getvalue()
    saved = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert saved["runs"][0]["recall"] is None
    assert saved["runs"][0]["mmd"] is not None


def uncached_samples(model):
    run = Run(Contender("uncached", "uncached", SAMPLING))
    Bench(model, SAMPLING).draw(run)
    return run.series


def test_a_comparison_that_is_interrupted_keeps_what_it_has(model, tmp_path, monkeypatch):
    caches = [Contender(name, "cache", SAMPLING, TaylorSeer(interval=3)) for name in ("a", "b")]
    comparison = Comparison(model, caches, SAMPLING, tmp_path / "out", rounds=1, console=Console(quiet=True))
    draw, count = comparison.bench.draw, []

    def interrupted(run):
        count.append(run)
        if len(count) == 3:
            raise KeyboardInterrupt
        draw(run)

    monkeypatch.setattr(comparison.bench, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        comparison.run()
    saved = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert not saved["complete"]
    assert [run["name"] for run in saved["runs"]] == ["uncached", "a"]
    assert "UNFINISHED" in (tmp_path / "out" / "report.html").read_text()


def test_an_output_folder_in_use_is_refused(model, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="set `output`"):
        Comparison(model, [], SAMPLING, tmp_path)
    with pytest.raises(ValueError, match="`rounds`"):
        Comparison(model, [], SAMPLING, tmp_path / "new", rounds=0)


def _seven_steps(model) -> tuple[torch.Tensor, torch.Tensor]:
    weights = torch.zeros(7, 5, model.score.noise_scale.numel())
    weights[:, 2] = 1  # each step goes to the clean estimate
    return time_grid(model.sde, 7), weights


def test_solvers_with_fewer_steps_make_the_calls_they_are_given(model, monkeypatch):
    learnt = dict(zip(named(7), _seven_steps(model), strict=True))
    monkeypatch.setattr(model.score, "calibration", learnt)
    usual, contenders = fewer_steps(SAMPLING, 7), fewer_steps(SAMPLING, 7, learnt)
    assert [c.sampling.solver for c in contenders[len(usual) :]] == [Fitted()]
    for contender in contenders:
        assert contender.name.endswith("-7")
        run = Run(contender)
        Bench(model, SAMPLING).draw(run)
        assert run.totals["network_calls"] == 7
        assert run.series is not None
        assert math.isfinite(float(run.series.sum()))


def test_several_calls_at_once_take_part_with_their_rounds(model, tmp_path):
    run = Run(at_once(SAMPLING))
    Bench(model, SAMPLING).draw(run)
    assert (run.totals["rounds"], run.totals["network_calls"]) == (17, 108)
    for steps, name in ((150, ["chords-50"]), (149, []), (150, [])):
        constraint = None if name or steps < 150 else Constrained(rules=(Fixed(stop=1),))
        compared = Comparison(model, [], replace(SAMPLING, num_steps=steps, constraint=constraint), tmp_path / "out")
        assert [c.name for c in compared._matched() if c.name.startswith("chords")] == name


PRESETS = sorted(p for p in (Path(__file__).parents[2] / "callbacks").glob("*.yaml") if p.stem != "wandb")


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_preset_that_comes_with_the_package_samples(model, calibrated, path):
    run = Run(Contender(path.stem, "cache", SAMPLING, *read_plugged(path)))
    if path.stem == "deepcache":  # of which a transformer has no levels
        with pytest.raises(ValueError, match="above its coarsest, such as UNet"):
            Bench(model, SAMPLING).draw(run)
        return
    model = calibrated if "Run calibrate first." in path.read_text() else model
    Bench(model, SAMPLING).draw(run)
    assert torch.isfinite(run.series).all()
    assert run.totals["network_calls"] >= 1
