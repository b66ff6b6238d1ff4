"""One way to measure samples: the same values alone, under DDP, and direction by direction."""

# A figure that is not there fails its test.
# pyright: reportOptionalOperand=false, reportOperatorIssue=false

import dataclasses
import math
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from lightning_freqdiff.callbacks.monitor import gather
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.evaluation.evaluate import EvaluateSettings, evaluate
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.judges import Judges
from lightning_freqdiff.evaluation.result import Measured
from lightning_freqdiff.metrics import marginal_wasserstein, sliced_wasserstein, spectral_density_distance
from lightning_freqdiff.metrics.samples import coordinates

CHANNELS = ("a", "b")


def series(*counts: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(n, 9, 2, generator=generator) for n in counts]


def evaluator(**settings) -> Evaluator:
    train, real = series(200, 12)
    return Evaluator(train, real, num_directions=40, **settings)


def samples() -> Tensor:
    return series(200, 12, 30)[2]


def test_values_are_those_of_the_metrics() -> None:
    train, real, ours = series(200, 12, 30)
    measured = evaluator().measure(ours)
    for found, drawn in ((measured.samples, ours), (measured.at_floor_count, ours[:12])):
        assert found is not None
        assert found.count == len(drawn)
        expected = {
            **{
                f"sw_{d}": sliced_wasserstein(coordinates(drawn, d), coordinates(train, d), 40)
                for d in ("time", "frequency")
            },
            "marginal": marginal_wasserstein(drawn, train),
            "spectral": spectral_density_distance(drawn, train),
        }
        assert found.values.keys() == expected.keys()
        for name, value in expected.items():
            assert found.values[name] == pytest.approx({k: float(v) for k, v in value.items()}, rel=1e-6)
    along = evaluator().distances(ours)
    assert float(along["time"].mean()) == pytest.approx(measured.samples.values["sw_time"]["mean"], rel=1e-6)
    floor = evaluator().baselines(30)["floor"]
    exact = sliced_wasserstein(real, train, 40)["mean"]
    assert (floor.count, floor.values["sw_time"]["mean"]) == (12, pytest.approx(float(exact), rel=1e-5))


def test_a_change_is_taken_along_the_same_directions() -> None:
    base = {"time": torch.tensor([1.0, 3.0]), "frequency": torch.tensor([2.0, 2.0])}
    ours = {"time": torch.tensor([1.1, 3.3]), "frequency": torch.tensor([2.0, 2.0])}
    found = Evaluator.changes(ours, base)  # type: ignore[arg-type]
    assert found["sw_time_change"] == pytest.approx(0.1)
    assert found["sw_time"] == pytest.approx(2.2)
    assert found["sw_frequency_change"] == 0
    assert found["sw_time_change_two_se"] == pytest.approx(2 * 0.1 / 2)


def test_every_figure_stands_with_its_count() -> None:
    subject = evaluator()
    result = subject.evaluate(subject.measure(samples()), samples().numpy(), CHANNELS)
    assert result.columns == (
        "metric",
        "samples (30)",
        "samples (12)",
        "floor, real series (12)",
        "half against half (100)",
        "mean series (1)",
    )
    counts = {"samples": 30, "floor": 12, "self": 100, "dummy": 1}
    assert {k: v for k, v in result.scalars.items() if k.startswith("count/")} == {
        f"count/{name}": count for name, count in counts.items()
    }
    for name, *cells in result.rows:
        keys = ("mean", "mean_at_floor_count", "floor", "self", "dummy")
        assert cells == [result.scalars[f"{name}/{key}"] for key in keys]
    # These samples are as good as real series: at one count the two agree, at two they would not.
    row = result.scalars
    assert row["sw_time/mean_at_floor_count"] == pytest.approx(row["sw_time/floor"], rel=0.1)
    assert row["sw_time/mean"] < 0.75 * row["sw_time/floor"]


def test_with_enough_real_series_there_is_one_count() -> None:
    subject = evaluator()
    ours = samples()[:10]
    result = subject.evaluate(subject.measure(ours), ours.numpy(), CHANNELS)
    assert result.columns[1:3] == ("samples (10)", "floor, real series (10)")
    assert result.scalars["sw_time/mean_at_floor_count"] == result.scalars["sw_time/mean"]


@pytest.mark.parametrize("real", [None, torch.empty(0, 9, 2)])
def test_without_held_out_series_a_bootstrap_goes_by_its_name(real: Tensor | None) -> None:
    subject = Evaluator(series(200)[0], real, num_directions=20)
    measured = subject.measure(samples())
    assert measured.at_floor_count is None
    result = subject.evaluate(measured, samples().numpy(), CHANNELS)
    assert result.columns[:3] == ("metric", "samples (30)", "bootstrap of the training set (30)")
    assert not any("floor" in name for name in result.scalars)
    assert result.scalars["count/bootstrap"] == 30
    assert math.isfinite(result.scalars["sw_frequency/bootstrap"])


def test_named_metrics_stand_between_floor_and_ceiling_which_are_taken_once(monkeypatch) -> None:
    taken, take = [], Judges.take

    def counted(self, name, x):
        taken.append((name, len(x), len(self.reference)))
        return take(self, name, x)

    monkeypatch.setattr(Judges, "take", counted)
    train, real, ours = series(200, 12, 30)
    asked = EvaluateSettings(("sw", "mmd"), directions=40)
    subject = evaluator()
    first, again = subject.scores(ours, asked), subject.scores(ours + 1, asked)
    kinds = 3 * [("sliced_wasserstein", 12, 200)] + 3 * [("mmd", 12, 200)]
    assert taken == [*kinds, kinds[0], kinds[-1]]
    whole = evaluate(ours, train, real, asked)
    for name in ("sliced_wasserstein", "sliced_wasserstein_frequency", "mmd"):
        assert first[name] == dataclasses.replace(whole.scores[name], seconds=first[name].seconds)
        assert (again[name].floor, again[name].ceiling) == (first[name].floor, first[name].ceiling)
        assert again[name].value > 2 * first[name].value
    assert subject.findings(ours, asked).memorization == whole.memorization


def test_a_metric_has_one_floor_however_it_is_asked_for() -> None:
    train, real, ours = series(200, 40, 30)
    subject = Evaluator(train, real, num_directions=40)
    named = subject.scores(ours, EvaluateSettings(("sw",), directions=40))["sliced_wasserstein"]
    table = subject.baselines(30)["floor"].values["sw_time"]["mean"]
    assert named.floor == pytest.approx(table, rel=1e-6)
    assert named.value == pytest.approx(subject.measure(ours).samples.values["sw_time"]["mean"], rel=1e-6)


def test_published_tables_judge_all_samples() -> None:
    train, _, ours = series(200, 12, 30)
    asked = EvaluateSettings(("sw",), directions=40)
    score = evaluator().scores(ours, asked, equal=False)["sliced_wasserstein"]
    exact = sliced_wasserstein(ours.flatten(1), train.flatten(1), 40)["mean"]
    assert score.value == pytest.approx(float(exact), rel=1e-5)
    assert score.floor == evaluator().scores(ours, asked)["sliced_wasserstein"].floor


def test_named_metrics_without_held_out_series_take_a_part_of_the_reference() -> None:
    train, _, ours = series(200, 12, 30)
    score = Evaluator(train).scores(ours, EvaluateSettings(("histogram",)))["histogram"]
    assert score.floor == evaluate(ours, train, settings=EvaluateSettings(("histogram",))).scores["histogram"].floor


def test_a_data_set_brings_its_own_parts() -> None:
    data = SyntheticECG(num_series=96, length=16)
    subject = Evaluator(data, num_directions=20)
    assert torch.equal(subject.reference, data.train_series())
    assert subject.held_out == len(data.test_series())


def shares(rank: int, split: str) -> tuple[Tensor, Tensor]:
    """Share out 30 samples in units of four, or leave rank 1 without any."""
    numbers = torch.arange(30)
    mine = numbers // 4 % 2 == rank if split == "in turn" else numbers >= 30 * rank
    return samples()[mine], numbers[mine]


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    results = {}
    for split in ("in turn", "all on one rank"):
        mine, numbers = shares(rank, split)
        found = evaluator().measure(mine, numbers, 30)
        results[split] = as_plain(found)
        assert torch.equal(gather(mine, numbers), samples())  # for metrics that one rank takes
    if rank == 1:  # one rank by itself: the other is not waited for
        results["alone"] = as_plain(evaluator(alone=True).measure(samples()))
    torch.save(results, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def as_plain(found: Measured) -> dict:
    assert found.at_floor_count is not None
    both = {"all": found.samples, "fewer": found.at_floor_count}
    return {
        f"{which}/{name}/{key}": value
        for which, measurement in both.items()
        for name, values in measurement.values.items()
        for key, value in values.items()
    }


@pytest.mark.slow
def test_two_processes_measure_what_one_does() -> None:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run_rank, args=(folder,), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
        ranks = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]
    expected = as_plain(evaluator().measure(samples()))
    assert set(ranks[1]) == {"in turn", "all on one rank", "alone"}
    for results in ranks:
        for split, found in results.items():
            assert found == pytest.approx(expected, rel=1e-5), split
