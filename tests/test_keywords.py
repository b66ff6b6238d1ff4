"""Keyword arguments: whose they are, of which type, and how errors call them."""

import numpy as np
import pytest

from lightning_freqdiff.data import ArrayData
from lightning_freqdiff.keywords import allot, check, make, spelt
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.sampling import Sampling
from lightning_freqdiff.sampling.solvers import DPMSolverPP, Heun


def test_a_name_that_several_know_goes_to_each():
    parted = allot("f", {"seed": 1, "rows": 2}, sampling={"seed", "grid"}, metrics={"seed", "rows"})
    assert parted == {"sampling": {"seed": 1}, "metrics": {"seed": 1, "rows": 2}}


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(TypeError, match=r"f\(\) got an unexpected keyword argument 'max_step'; is `max_steps` meant"):
        allot("f", {"max_step": 1}, trainer={"max_steps"})
    with pytest.raises(TypeError, match="it takes settings of trainer"):
        allot("f", {"zzz": 1}, trainer={"max_steps"})


def test_components_are_instances_names_or_settings():
    network = MLP(width=8)
    assert make(ScoreModule, {"network": network}).architecture is network
    assert make(Sampling, {"solver": "Heun"}).solver == Heun()
    settings = {"class_path": "DPMSolverPP", "init_args": {"kind": "sde"}}
    assert make(Sampling, {"solver": settings}).solver == DPMSolverPP("sde")


def test_numbers_of_numpy_are_numbers():
    assert make(Sampling, {"num_samples": np.int64(5)}).num_samples == 5
    assert make(ScoreModule, {"learning_rate": np.float64(0.5)}).learning_rate == 0.5


@pytest.mark.parametrize(
    ("kind", "given", "says"),
    [
        (
            Sampling,
            {"solver": "Hein"},
            "expected `solver` as one of Chords, DDIM, .*, or your own Solver, got 'Hein'",
        ),
        (Sampling, {"solver": Heun}, "expected `solver` as one of .* got <class"),
        (Sampling, {"num_samples": 5.5}, "expected `num_samples` as int, got 5.5"),
        (Sampling, {"num_samples": "many"}, "expected `num_samples` as int, got 'many'"),
        (Sampling, {"grid": "q"}, "expected `grid` as one of 'uniform', 'logsnr', 'edm', 'tuned', got 'q'"),
        (ScoreModule, {"colour": "whte"}, "expected `colour` as one of 'equal', 'white' or float, got 'whte'"),
        (ScoreModule, {"network": {"class_path": "MLP", "init_args": {"widthh": 3}}}, "settings of MLP .*'widthh'"),
        (ArrayData, {"window": "day"}, "expected `window` as int, got 'day'"),
        (ArrayData, {"batch_size": "b"}, "expected `batch_size` as int"),
    ],
)
def test_a_wrong_value_is_told_in_one_line_with_what_it_may_be(kind, given, says):
    with pytest.raises(ValueError, match=says) as caught:
        check(kind, given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


def test_errors_call_settings_as_they_were_given():
    with (
        pytest.raises(ValueError, match="mend `x` in `series`, or set `window`, `solver.kind`"),
        spelt(**{"data.path": "series"}),
    ):
        raise ValueError("mend `x` in the file of `data.path`, or set `data.window`, `sampling.solver.kind`")
