# pyright: reportOptionalMemberAccess=false
"""Rules by name: against the exact law where data are Gaussian, and to the last digit at the end."""

import numpy as np
import pytest
import torch
from known_law import Fixed as Observed
from known_law import exact_score, observed_of
from test_conditional import fitted, masks

import lightning_freqdiff as lf
from lightning_freqdiff.callbacks.identity import sampling_settings
from lightning_freqdiff.condition import Condition
from lightning_freqdiff.conditional import Known, gaussian_of
from lightning_freqdiff.diffusion import VP
from lightning_freqdiff.keywords import make
from lightning_freqdiff.sampling import (
    Bounds,
    Constrained,
    Fixed,
    GaussianPosterior,
    Mean,
    Monotone,
    Sampling,
    Sum,
    Total,
    WorkUnit,
    sample,
)
from lightning_freqdiff.sampling.rules import isotonic
from lightning_freqdiff.sampling.solvers import DPMSolverPP

FAST = {"solver": DPMSolverPP("ode"), "num_steps": 30, "grid": "edm"}


def drawn(codec, count=1500, **settings):
    sampling = Sampling(num_samples=count, **{**FAST, **settings})
    unit = WorkUnit(0, 0, count)
    z = sample(exact_score(codec, VP()), VP(), codec, unit, sampling)
    return sampling.finish(codec.decode(z), unit), codec.decode(z)


@pytest.mark.parametrize("kind", [{}, {"colour": 1.0}, {"joint": False}], ids=str)
@pytest.mark.parametrize("which", [None, 1], ids=["free", "block"])
def test_equations_give_the_exact_conditional_law(kind, which):
    codec = fitted(length=10, **kind)
    gaussian = gaussian_of(codec)
    rules = [Sum(value=40.0, channel=0), Mean(value=6.0, channel=1, start=5)]
    settings = {}
    mask = torch.zeros(10, 2) if which is None else masks(10, 2)[which]
    observed = observed_of(codec, mask)
    if which is not None:
        settings = {"condition": Observed(observed, mask), "guidance": GaussianPosterior()}
    series, before = drawn(codec, constraint=Constrained(rules), **settings)
    torch.testing.assert_close(series[..., 0].sum(1), torch.full((1500,), 40.0), atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(series[:, 5:, 1].mean(1), torch.full((1500,), 6.0), atol=1e-4, rtol=1e-5)
    assert torch.equal(series[:, mask > 0], observed[mask > 0].expand(1500, -1))
    assert (before - series).abs().max() < 0.1 * series.std(), "little was left to the end"
    # By Matheron's rule, all at once.
    weights, values = Constrained(rules).equations(10, 2)
    many = 20000
    rows = gaussian.rows(torch.randn(many, gaussian.size, generator=torch.Generator().manual_seed(2)))
    known = Known(gaussian, mask.flatten().expand(many, -1) > 0, weights, many)
    lack = values - (gaussian.mean + gaussian.series(rows)) @ weights.T
    lack = torch.cat([known.lack(rows, observed.nan_to_num().expand(many, -1, -1)), lack], dim=1)
    exact = gaussian.mean + gaussian.series(rows + known.move(lack, lambda block: block.power.unsqueeze(0)))
    scale = exact.T.cov().diagonal().max()
    found = series.flatten(1).double()
    assert (found.mean(0) - exact.mean(0)).abs().max() < 0.12 * scale.sqrt()
    assert (found.T.cov() - exact.T.cov()).abs().max() < 0.15 * scale


def test_shapes_and_equations_hold_together_at_the_end():
    codec = fitted(length=10)
    rules = [
        Bounds(low=0.0, high=9.0, channel=0),
        Monotone(channel=1, start=2, stop=8),
        Mean(value=4.0, channel=0),
        Fixed(value=1.5, channel=1, start=9),
    ]
    series, before = drawn(codec, 200, constraint=Constrained(rules))
    size = float(series.std())
    assert series[..., 0].min() > -1e-3 * size
    assert series[..., 0].max() < 9 + 1e-3 * size
    assert series[:, 2:8, 1].diff(dim=1).min() > -1e-3 * size
    torch.testing.assert_close(series[..., 0].mean(1), torch.full((200,), 4.0), atol=1e-2, rtol=0)
    torch.testing.assert_close(series[:, 9, 1], torch.full((200,), 1.5), atol=1e-4, rtol=0)
    plain, _ = drawn(codec, 200)
    assert plain[..., 0].min() < -0.1 * size
    assert (before - series).norm() < 0.2 * (plain - series).norm()


def test_bounds_alone_hold_exactly_and_channels_add_up():
    codec = fitted(length=10, channels=3)
    series, _ = drawn(codec, 100, constraint=Constrained([Bounds(low=1.0)]))
    assert series.min() >= 1.0
    series, _ = drawn(codec, 100, constraint=Constrained([Total(channel=2)]))
    torch.testing.assert_close(series[..., 2], series[..., 0] + series[..., 1], atol=1e-3, rtol=1e-4)


def test_soft_rules_and_functions_pull_without_forcing():
    codec = fitted(length=10)
    wanted = [Sum(value=60.0, channel=0)]
    far = {
        name: float((drawn(codec, 300, **settings)[0][..., 0].sum(1) - 60).abs().mean())
        for name, settings in {
            "free": {},
            "soft": {"constraint": Constrained(wanted, strength=0.3)},
            "function": {"constraint": Constrained([lambda x: (x[..., 0].sum(1) - 60).square()], weight=0.3)},
            "hard": {"constraint": Constrained(wanted)},
        }.items()
    }
    assert far["hard"] < 1e-2
    assert far["hard"] < far["soft"] < 0.7 * far["free"]
    assert far["function"] < 0.5 * far["free"]


def test_isotonic_regression_is_that_of_pooling():
    def pooled(row):
        blocks = []
        for value in row:
            blocks.append([value, 1])
            while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
                (a, n), (b, m) = blocks[-2:]
                blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
        return [value for value, count in blocks for _ in range(count)]

    rows = np.random.default_rng(0).normal(size=(20, 15))
    expected = np.array([pooled(row) for row in rows])
    np.testing.assert_allclose(isotonic(torch.from_numpy(rows), chunk=500), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ([Sum(value=1.0, channel=0), Sum(value=2.0, channel=0)], "contradict"),
        ([Bounds(high=0.0, channel=0), Mean(value=1.0, channel=0)], "contradict"),
        ([Fixed(value=3.0, start=0, stop=10)], "contradict"),  # with what is observed
        ([Sum(channel=5)], "channels below 2"),
        ([Bounds(low=0, start=4, stop=2)], "start 4, stop 2"),
        ([Bounds(low=0, stop=30)], "steps from 0 to 11"),
        ([Total()], "a channel that others below 2 add up to"),
    ],
)
def test_rules_that_cannot_hold_are_refused_before_anything_is_drawn(rules, says):
    codec, asked = fitted(), []

    class Asked:
        def __init__(self):
            self.calibration = {}

        def start(self, trajectory):
            asked.append(trajectory)

    condition = Observed(observed_of(codec, masks(11, 2)[1]), masks(11, 2)[1])
    sampling = Sampling(num_steps=5, constraint=Constrained(rules), condition=condition)
    with pytest.raises(ValueError, match=says) as caught:
        sample(Asked(), VP(), codec, WorkUnit(0, 0, 2), sampling)
    assert not asked
    assert "`sampling.constraint.rules`" in str(caught.value)


def test_rules_by_name_and_what_a_manifest_says_of_them():
    named = [{"class_path": "Bounds", "init_args": {"low": 0.0}}, {"class_path": "Mean", "init_args": {"value": 1.0}}]
    made = make(Sampling, {"constraint": {"class_path": "Constrained", "init_args": {"rules": named}}})
    assert list(made.constraint.rules) == [Bounds(low=0.0), Mean(value=1.0)]
    told = [sampling_settings(Sampling(constraint=Constrained([r]))) for r in (Sum(value=1.0), Mean(value=1.0))]
    assert told[0] != told[1]

    def mine(x):
        return x.sum((1, 2))

    assert make(Sampling, {"constraint": Constrained([mine])}).constraint.rules == [mine]
    assert "mine" in str(sampling_settings(Sampling(constraint=Constrained([mine]))))


def test_settings_that_are_none_are_refused():
    for settings, says in (({"strength": 0.0, "rules": [Sum()]}, "strength above 0"), ({}, "got none")):
        with pytest.raises(ValueError, match=says):
            Constrained(**settings)
    with pytest.raises(ValueError, match="low below high"):
        Bounds(low=2, high=1)


@pytest.mark.filterwarnings("ignore:.*every token was recomputed.*")
def test_rules_from_python_on_a_model(model, tmp_path):
    mine = lf.Model(model)
    quiet = {"num_steps": 8, "accelerator": "cpu", "enable_progress_bar": False}
    rules = Constrained([Bounds(low=-0.1, high=0.3)])
    for cache in (None, "wiener"):
        x = mine.sample(3, constraint=rules, cache=cache, **quiet)
        assert x.min() >= -0.1
        assert x.max() <= 0.3 + 1e-6
    one = mine.sample(3, constraint=rules, output=tmp_path / "it", **quiet)
    np.testing.assert_array_equal(one, mine.sample(3, constraint=rules, **quiet))
    other = Constrained([Mean(value=0.1)])
    with pytest.raises(ValueError, match="belongs to another run"):
        mine.sample(3, constraint=other, output=tmp_path / "it", **quiet)
    seen = np.full((1, 64, 1), np.nan)
    seen[:, :20] = 0.05
    filled = mine.impute(seen, 2, constraint=rules, **quiet)
    assert (filled[:, :, :20] == np.float32(0.05)).all()
    assert filled.max() <= 0.3 + 1e-6


def test_a_condition_without_a_mask_changes_nothing():
    series = torch.randn(2, 4, 1)
    assert Condition().fill(series) is series
