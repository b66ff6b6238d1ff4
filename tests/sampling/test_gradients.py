"""Methods that go through the network: exact or nearer where data are Gaussian, and refused behind a cache."""

import numpy as np
import pytest
import torch
from known_law import Fixed, exact_score, observed_of
from test_conditional import fitted, masks

import lightning_freqdiff as lf
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.diffusion import VP
from lightning_freqdiff.sampling import (
    ManifoldConstrained,
    Reconstruction,
    Replacement,
    Sampling,
    TrustSampling,
    WorkUnit,
    sample,
)
from lightning_freqdiff.sampling.solvers import DPMSolverPP

COUNT = 800
QUIET = {"num_steps": 8, "accelerator": "cpu", "enable_progress_bar": False}


def drawn(codec, mask, **settings):
    observed = observed_of(codec, mask)
    sampling = Sampling(num_samples=COUNT, condition=Fixed(observed, mask), **settings)
    unit, score = WorkUnit(0, 0, COUNT), exact_score(codec, VP())
    series = sampling.finish(codec.decode(sample(score, VP(), codec, unit, sampling)), unit)
    kept = torch.equal(series[:, mask > 0], observed[mask > 0].expand(COUNT, -1))
    assert kept == ("guidance" in settings or "constraint" in settings)
    one = observed.unsqueeze(0), mask.unsqueeze(0)
    mean = gaussian_of(codec).draw(*one)[0]
    return series, float(((series.mean(0) - mean).square().mean()).sqrt() / gaussian_of(codec).deviation), score


@pytest.mark.parametrize("colour", [0.0, 1.0])
def test_reconstruction_is_exact_where_data_are_gaussian(colour):
    codec, mask = fitted(length=10, colour=colour), masks(10, 2)[1]
    settings = {"solver": DPMSolverPP("ode"), "num_steps": 40, "grid": "edm"}
    series, off, _ = drawn(codec, mask, guidance=Reconstruction(doubt=0.0), **settings)
    assert off < 0.05
    noise = torch.randn(10000, codec.noise_scale.numel(), generator=torch.Generator().manual_seed(0))
    one = (part.expand(10000, -1, -1) for part in (observed_of(codec, mask).unsqueeze(0), mask.unsqueeze(0)))
    left = gaussian_of(codec).draw(*one, noise).flatten(1).T.cov()
    assert (series.flatten(1).T.cov() - left).abs().max() < 0.2 * left.diagonal().max()


def test_a_network_is_not_asked_for_what_only_the_linear_model_is_sure_of(model):
    """Of heartbeats of a model that has hardly trained."""
    x = np.full((2, 64, 1), np.nan, np.float32)
    x[:, :20] = 0.1
    mine, quiet = lf.Model(model), {**QUIET, "num_steps": 30}
    with pytest.raises(ValueError, match="got NaN, or a million times as much"):
        mine.impute(x, 2, Reconstruction(doubt=0.0), **quiet)
    assert np.abs(mine.impute(x, 2, Reconstruction(), **quiet)).max() < 2


def test_the_others_come_nearer_than_what_they_are_made_of():
    codec, mask = fitted(length=10), masks(10, 2)[1]
    _, free, _ = drawn(codec, mask, num_steps=100)
    _, plain, _ = drawn(codec, mask, num_steps=100, constraint=Replacement())
    _, manifold, _ = drawn(codec, mask, num_steps=100, constraint=ManifoldConstrained(weight=0.3))
    _, trust, score = drawn(codec, mask, num_steps=100, constraint=TrustSampling(weight=0.3))
    assert manifold < plain < free
    assert trust < 0.7 * free
    assert score.calls == 100 * 5


@pytest.mark.parametrize("method", [Reconstruction(weight=0.1), "ManifoldConstrained", "TrustSampling"], ids=str)
def test_through_a_network_in_the_predict_loop_and_not_through_a_cache(model, method):
    mine, x = lf.Model(model), np.full((2, 64, 1), np.nan, np.float32)
    x[:, :20] = 0.1
    filled = mine.impute(x, 2, method, **QUIET)
    assert np.isfinite(filled).all()
    assert (filled[:, :, :20] == np.float32(0.1)).all()
    one = mine.impute(x, 2, method, batch_size=1, **QUIET)
    np.testing.assert_allclose(filled, one, atol=1e-3)
    nothing = mine.impute(x[:1] * np.nan, 2, method, **QUIET)
    np.testing.assert_array_equal(nothing[0], mine.sample(2, **QUIET))
    with pytest.raises(ValueError, match="a cache in between: leave the cache out .*GaussianPosterior"):
        mine.impute(x, 2, method, cache="wiener", **QUIET)


def test_what_blows_up_says_where_and_what_to_lower(model):
    x = np.full((1, 64, 1), np.nan, np.float32)
    x[:, :20] = 0.1
    with pytest.raises(ValueError, match="from step . of 8 on: lower `guidance.weight`, or raise `num_steps`"):
        lf.Model(model).impute(x, 2, Reconstruction(weight=1e30), **QUIET)
    with pytest.raises(ValueError, match=r"a doubt of 0 or more, got -1: set `sampling\.guidance\.doubt`"):
        Reconstruction(doubt=-1)
