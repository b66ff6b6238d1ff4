"""What the page shows, without the page: pairs from one noise, limits, pictures, the closest training series."""

import re
import socket

import numpy as np
import pytest
import torch

import lightning_freqdiff as lf
from lightning_freqdiff.app.page import Stopped, answer, check_port, teller
from lightning_freqdiff.app.show import SHOWN, figures, result
from lightning_freqdiff.app.studio import LIMITS, Studio, series_of
from lightning_freqdiff.condition import ConditionSizes
from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.model import Model
from lightning_freqdiff.module import ScoreModule

GIVEN = {"num_samples": 3, "num_steps": 12, "solver": "EulerMaruyama", "seed": 5}


def silent(what: str, share: float) -> None:
    """Tell nobody."""


@pytest.fixture(scope="module")
def studio(checkpoint) -> Studio:
    return Studio(lf.load(checkpoint), SyntheticECG(num_series=100, length=64))


def test_both_are_the_samples_of_the_front_door(studio):
    pair = studio.draw(GIVEN, "wiener", silent)
    few = {"num_steps": 12, "seed": 5, "enable_progress_bar": False, "accelerator": "cpu"}
    assert np.array_equal(series_of(pair.uncached), studio.model.sample(3, **few))
    assert np.array_equal(series_of(pair.cached), studio.model.sample(3, cache="wiener", **few))
    assert pair.ratio == pair.uncached.seconds[0] / pair.cached.seconds[0]
    assert 0 < pair.distance["relative_l2"] < 1
    assert pair.cached.totals["network_calls"] < pair.uncached.totals["network_calls"] == 12


def test_caches_that_need_another_network_are_not_offered(studio):
    mlp = ScoreModule(lf.MLP(layers=1, width=8), shape=(16, 1))
    mlp.score.codec.fit([torch.randn(32, 16, 1)])
    offered = Studio(Model(mlp.eval())).caches
    assert "e2crf-paper" in studio.caches
    assert "e2crf-paper" not in offered
    assert "wiener" in offered
    assert "wandb" not in studio.caches


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("num_samples", 0, "from 1 to 64, got 0"),
        ("num_samples", None, "got nothing"),
        ("num_steps", 10**9, "from 1 to 2,000, got 1,000,000,000"),
        ("seed", -1, "got -1"),
        ("solver", "Nobody", "'Nobody'"),
        ("cache", "nothing", "'nothing'"),
    ],
)
def test_bad_input_gets_a_message_that_names_it(studio, name, value, got):
    shown = answer(studio, {**GIVEN, "cache": "wiener", name: value}, silent)
    assert 'role="alert"' in shown
    assert name in shown
    assert got in shown.replace("&#x27;", "'")
    assert "<img" not in shown


def test_the_limits_are_within_reach(studio):
    for name, (least, most) in LIMITS.items():
        assert least <= GIVEN[name] <= most


def test_a_stop_ends_the_work_at_the_next_step(studio):
    steps = []

    def tell(what: str, share: float) -> None:
        steps.append((what, share))
        if len(steps) == 6:
            raise Stopped

    assert "Stopped" in answer(studio, {**GIVEN, "cache": "wiener"}, tell)
    assert len(steps) == 6


def test_the_bar_is_told_every_percent_once_and_a_halt_stops_it():
    told, halted = [], []
    tell = teller(lambda share, desc: told.append((desc, share)), lambda: bool(halted))
    for i in range(1000):
        tell("drawing", i / 1000)
    tell("drawing again", 0.0)
    assert len(told) == 101
    halted.append(True)
    with pytest.raises(Stopped):
        tell("drawing again", 0.5)


@pytest.mark.slow
def test_what_is_shown(studio):
    pair = studio.draw({**GIVEN, "num_samples": SHOWN + 1}, "wiener", silent)
    page = result(studio, pair)
    assert page.count("<img ") == 4
    assert f"{pair.ratio:.1f}×" in page
    assert f"{pair.uncached.seconds[0]:.2f} s" in page
    assert f"The first {SHOWN} of {SHOWN + 1} are shown" in page
    assert "cache=&quot;wiener&quot;" in page
    assert "//" not in re.sub(r'src="data:[^"]*"', "", page), "nothing is fetched"
    assert str(studio.model.checkpoint_path.parent) not in page


def test_pictures_have_the_same_axes_and_the_lines_that_were_drawn(studio):
    pair = studio.draw(GIVEN, "wiener", silent)
    relatives = studio.relatives(series_of(pair.cached))
    drawn = figures(studio, pair, relatives)
    ours, through = ([a for a in drawn[key].axes if a.get_visible()] for key in ("uncached", "cached"))
    assert len(ours) == len(through) == 3
    for axis, twin, one in zip(ours, through, series_of(pair.cached), strict=True):
        assert axis.get_ylim() == twin.get_ylim()
        assert np.array_equal(twin.lines[0].get_ydata(), one[:, 0])
    assert [line.get_label() for line in drawn["spectra"].axes[0].lines] == ["training", "every call", "wiener"]


def test_the_closest_training_series_are_found(studio):
    some = studio.train[[7, 3]]
    found = studio.relatives(some)
    assert torch.equal(found.series, some)
    assert float(found.distances.max()) < 1e-6


@pytest.mark.parametrize("channels", [1, 3])
def test_without_training_series_there_are_three_pictures(channels):
    module = ScoreModule(lf.MLP(layers=1, width=8), shape=(16, channels))
    module.score.codec.fit([torch.randn(32, 16, channels)])
    bare = Studio(Model(module.eval()))
    pair = bare.draw({**GIVEN, "num_samples": 1}, "wiener", silent)
    assert result(bare, pair).count("<img ") == 3


def test_classes_are_for_models_that_know_them(studio):
    assert studio.classes == 0
    module = ScoreModule(lf.UNet(preset="small"), shape=(16, 1), conditions=ConditionSizes(classes=3))
    module.score.codec.fit([torch.randn(32, 16, 1)])
    labelled = Studio(Model(module.eval()))
    assert labelled.classes == 3
    pair = labelled.draw({**GIVEN, "label": 2, "num_steps": 3}, "wiener", silent)
    assert pair.cached.contender.sampling.condition == lf.sampling.Same(label=2)
    assert "condition=lf.sampling.Same(label=2" in result(labelled, pair)


def test_ports_that_cannot_be():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ValueError, match="in use.*set `port`"):
            check_port("127.0.0.1", taken.getsockname()[1])
    with pytest.raises(ValueError, match="from 1 to 65535, got 0"):
        check_port("127.0.0.1", 0)
