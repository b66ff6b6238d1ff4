"""The race on fresh noise, precisions beside the one that is set, time, and what is left of a search."""

import json
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from random_networks import random_score
from rich.console import Console

from lightning_freqdiff.caching import Wiener
from lightning_freqdiff.evaluation.arithmetic import arithmetic
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.damage import Damage, Yardstick
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.evaluation.families import Family, families, file_name, named
from lightning_freqdiff.evaluation.presets import as_yaml
from lightning_freqdiff.evaluation.trials import Trial, beside
from lightning_freqdiff.evaluation.tune import Tuner
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.solvers import DDIM, IPNDM, DPMSolverPP

FEW = Sampling(num_samples=4, num_steps=20, batch_size=8)


@pytest.fixture
def small() -> ScoreModule:
    module = ScoreModule(MLP(layers=1, width=8), shape=(8, 1)).eval()
    module.score = random_score(8, 1)
    return module


def tuner(module, confirm=16, sampling=FEW, **more) -> Tuner:
    return Tuner(Bench(module, sampling), 0.1, confirm=confirm, console=Console(quiet=True), **more)


def family(name: str) -> Family:
    return Family(name, lambda knob: Wiener(tolerance=knob), 1e-3, 0.5)


class Law:
    """Measures as a law says: time and damage of a knob, and luck that shrinks with the samples."""

    def __init__(self, search: Tuner, monkeypatch, fast: dict[str, float], luck: dict[str, float]) -> None:
        self.search, self.fast, self.luck, self.measured = search, fast, luck, []
        monkeypatch.setattr(search, "measure", self)

    def __call__(self, family, knob, sampling):
        count = sampling.num_samples
        self.measured.append((family.name, count))
        value = knob + self.luck.get(family.name, 0.0) / count
        error = 0.2 * knob / math.sqrt(count)
        seconds = 1e-9 * count / self.fast[family.name] / knob
        trial = Trial(family, knob, seconds, count, 1.0, Damage(value, error, value + 1.7 * error), True)
        self.search.trials.append(trial)
        return trial


def start(name: str, knob: float) -> Trial:
    return Trial(family(name), knob, 1.0 / knob, 4, 1.0, Damage(knob, 0.0, knob))


def test_the_faster_half_goes_on_to_twice_as_many_samples(small, monkeypatch):
    search = tuner(small)
    law = Law(search, monkeypatch, dict(zip("abcd", (1.0, 2.0, 3.0, 4.0), strict=True)), {})
    winner = search.race([start(name, 0.08) for name in "abcd"])
    assert winner is not None
    assert winner.family.name == "d"
    assert winner.upper <= 0.1
    counted = {count: [n for n, c in law.measured if c == count] for count in (4, 8, 16)}
    assert sorted(counted[4]) == ["a", "b", "c", "d"]
    assert set(counted[8]) == {"c", "d"}
    assert set(counted[16]) == {"d"}


def test_who_was_lucky_in_the_search_is_tightened_and_then_judged_by_its_time(small, monkeypatch):
    """`a` seems the fastest at a knob that it cannot keep; tightened to what it can, it is slower than `b`."""
    search = tuner(small, confirm=4)
    Law(search, monkeypatch, {"a": 1.0, "b": 1.3}, {"a": 0.2})
    winner = search.race([start("a", 0.095), start("b", 0.08)])
    assert winner is not None
    assert winner.family.name == "b"
    fresh = [t for t in search.trials if t.family.name == "a"]
    assert fresh[-1].knob < 0.095


def test_nothing_is_confirmed_that_keeps_to_it_by_value_alone(small, monkeypatch):
    search = tuner(small)
    law = Law(search, monkeypatch, {"a": 1.0}, {"a": 10.0})
    assert search.race([start("a", 0.099)]) is None
    assert {count for _, count in law.measured} == {16}  # one alone has nobody to race


def test_time_that_is_up_ends_the_search_and_is_told_before_where_it_cannot_do(small, monkeypatch, capsys):
    with pytest.raises(ValueError, match="expected time enough to confirm on 16 samples.*`minutes`.*`confirm`"):
        tuner(small, minutes=1e-7).run(families())
    with pytest.raises(ValueError, match="more than 0 minutes, got -1: set `minutes`"):
        tuner(small, minutes=-1)
    search = tuner(small, minutes=60)
    over = iter([False, False, True, True, True, True])
    monkeypatch.setattr(search.pace, "over", lambda reserve=0.0: next(over, True))
    search.console = Console(width=200)
    best, _ = search.run([f for f in families() if f.name in ("fixed", "teacache", "wiener")])
    assert len(best) <= 1
    assert "time is up: e2crf" not in (said := capsys.readouterr().out)
    assert "time is up: fixed, teacache were not searched" in said.replace("\n", " ")


def test_all_trials_are_left_beside_the_preset(small, calls_for_seconds, tmp_path):
    search = tuner(small, confirm=8)
    search.tolerance = 0.9
    _, confirmed = search.run([f for f in families() if f.name in ("fixed", "wiener-clock")])
    search.write(tmp_path / "mine.yaml", confirmed)
    picture, table = beside(tmp_path / "mine.yaml")
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = json.loads(table.read_text())
    assert len(found["trials"]) == len(search.trials)
    assert found["uncached"]["milliseconds"] == pytest.approx(1000 * 20 / 4)
    assert confirmed is not None
    (winner,) = (row for row in found["trials"] if row["winner"])
    assert winner["fresh"]
    assert winner["damage"] == confirmed.value
    assert winner["milliseconds_alone"] > 0
    assert winner["settings"]["cache"]["class_path"]


def test_an_ode_of_few_steps_has_a_distance_to_one_of_many(small):
    many = replace(FEW, solver=DDIM(), grid="logsnr", num_steps=60)
    ode = Family("ipndm", lambda k: IPNDM(2), 2, 250, "logsnr")
    near, far = (tuner(small, sampling=many).measure(ode, k, many).value for k in (3, 20))
    assert 0 < near < far
    with pytest.raises(ValueError, match="set `metric` sw"):
        tuner(small).measure(ode, 3, FEW)


def test_solvers_without_noise_are_held_against_their_own_ode(small):
    """Which shares their luck: the bound is a fraction of the one against other samples."""
    data = torch.randn(200, 8, 1, generator=torch.Generator().manual_seed(1)).cumsum(1)
    stick = Yardstick(Bench(small, replace(FEW, num_samples=16)), "sw", Evaluator(data, num_directions=50))
    few = Contender(
        "few", "solver", replace(FEW, num_samples=16, num_steps=12, solver=DPMSolverPP("ode"), grid="edm")
    )
    run = Run(few)
    stick.bench.draw(run)
    paired = stick.measure(few, run.series)
    other = stick.change(run.series, stick.uncached(few.sampling))
    assert paired.error < 0.5 * other.error
    assert paired.value < paired.upper
    assert stick.drift(few.sampling).error > paired.error


def test_solvers_are_left_out_where_their_ode_is_another_law(small, monkeypatch, capsys):
    search = tuner(small, metric="sw", evaluator=Evaluator(torch.randn(50, 8, 1), num_directions=20))
    search.console = Console(width=200)
    ode, cache = Family("ipndm", lambda k: IPNDM(2), 2, 250, "edm"), family("wiener")
    for drift, left in ((Damage(0.5, 0.1, 0.67), [cache]), (Damage(0.15, 0.1, 0.32), [ode, cache])):
        monkeypatch.setattr(search.yardstick, "drift", lambda _, d=drift: d)
        assert search._comparable([ode, cache]) == left
    assert "solved to the end, is 50.0% (± 20.0%)" in capsys.readouterr().out
    few, cached = (Trial(one, 4.0, 1.0, 4, 1.0, Damage(0.1, 0.0, 0.1)) for one in (ode, cache))
    assert search.against(few) == "the same ODE solved to the end, which is 15.0% from the uncached samples"
    assert search.against(cached) == "the uncached samples"


def test_an_arithmetic_is_searched_where_it_is_faster(small, monkeypatch):
    search = tuner(small, also=(("bf16-mixed", False),))
    seconds = {None: 1.0, "bf16-mixed": 1.0}
    monkeypatch.setattr(search.bench, "draw", lambda run: run.seconds.append(seconds[run.contender.precision]))
    for gain, expected in ((1.0, ["a"]), (1.5, ["a", "a bf16"])):
        seconds[None] = gain
        assert [t.family.label for t in search._in_other_precisions([start("a", 0.1)])] == expected


def test_a_draw_has_the_arithmetic_of_its_contender(small):
    assert not torch.is_autocast_enabled("cpu")
    with arithmetic(small, "bf16-mixed", True):
        assert torch.is_autocast_enabled("cpu")
        assert small.score.network.compiled
        with arithmetic(small, "32-true"):
            assert not torch.is_autocast_enabled("cpu")
        with arithmetic(small):
            assert torch.is_autocast_enabled("cpu")
    assert not small.score.network.compiled
    runs = [Run(Contender("x", "uncached", FEW, None, precision)) for precision in (None, "bf16-mixed")]
    for run in runs:
        Bench(small, FEW).draw(run)
    assert not torch.equal(runs[0].series, runs[1].series)


def test_precision_and_compilation_are_a_part_of_the_preset():
    text = as_yaml(Contender("x", "cache", FEW, Wiener(), "bf16-mixed", True), ["one"])
    read: Any = OmegaConf.to_container(OmegaConf.create(text))
    assert read["trainer"]["precision"] == "bf16-mixed"
    assert read["trainer"]["callbacks+"][0]["class_path"] == "CacheCallback"
    assert read["model"] == {"compile": True}
    solver: Any = OmegaConf.to_container(
        OmegaConf.create(as_yaml(Contender("x", "solver", FEW, None, "bf16-mixed"), []))
    )
    assert solver["trainer"] == {"precision": "bf16-mixed"}
    assert solver["sampling"]["num_steps"] == 20


def test_a_name_stands_for_all_its_grids():
    found = named(["deis", "wiener"], "sw", calibrated=True)
    assert [f.label for f in found] == ["wiener", "deis edm", "deis logsnr", "deis tuned", "deis"]
    assert len({file_name(f) for f in found}) == 5
    assert "tuned" not in {f.grid for f in named(["deis"], "sw", calibrated=False)}
    assert all(f.name != "deis" for f in named([], "relative_l2", True))
    assert any(f.name == "deis" for f in named([], "sw", True))
    with pytest.raises(ValueError, match="expected families of wiener, .*heun, got nothing: set --families"):
        named(["nothing"], "sw", True)


def test_the_error_of_a_learnt_score_is_that_of_its_seeds(small, monkeypatch):
    from lightning_freqdiff.evaluation.findings import Score

    stick = Yardstick(Bench(small, FEW), "discriminative", Evaluator(torch.randn(50, 8, 1)))
    scores = iter([Score(False, value=0.3, value_two_se=0.04), Score(False, value=0.2, value_two_se=0.03)])
    monkeypatch.setattr(stick, "_named", lambda series: next(scores))
    found = stick.measure(Contender("x", "cache", FEW, Wiener()), torch.zeros(4, 8, 1))
    assert found.value == pytest.approx(0.5)
    assert found.error == pytest.approx(0.125)
    assert found.upper > found.value + 2 * found.error
