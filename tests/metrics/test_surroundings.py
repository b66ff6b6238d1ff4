"""Precision, inference mode and threads around a metric: none of them may reach its value."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    SlicedWasserstein,
    SortedReference,
    sliced_wasserstein,
)
from lightning_freqdiff.metrics.projections import exact_matmul
from lightning_freqdiff.metrics.samples import coordinates


def series(n: int, seed: int = 0, length: int = 12, channels: int = 2) -> Tensor:
    x = torch.randn(n, length, channels, generator=torch.Generator().manual_seed(seed))
    return x.cumsum(1) + seed


def matmul_precision() -> list[str]:
    backends: Any = torch.backends
    return [backends.cuda.matmul.fp32_precision, backends.mkldnn.matmul.fp32_precision]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_that_of_the_samples_only(dtype: torch.dtype) -> None:
    a, b = series(60).to(dtype), series(60, seed=1).to(dtype)
    expected = sliced_wasserstein(a.double(), b.double(), 50)
    assert_close(sliced_wasserstein(a, b, 50), expected, rtol=1e-5, atol=0)
    metric = SlicedWasserstein(50, domain="frequency")
    metric.update(a, b)
    x, y = (coordinates(series.double(), "frequency") for series in (a, b))
    assert_close(metric.compute(), sliced_wasserstein(x, y, 50), rtol=1e-5, atol=0)


def test_the_precision_of_training_does_not_reach_the_projections() -> None:
    a, b = series(200, length=64), series(200, seed=1, length=64)
    expected = sliced_wasserstein(a, b, 20)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        outside = matmul_precision()
        assert torch.equal(sliced_wasserstein(a, b, 20)["mean"], expected["mean"])
        assert matmul_precision() == outside != ["ieee", "ieee"]
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(sliced_wasserstein(a, b, 20)["mean"], expected["mean"])
            assert (a[0].T @ b[0]).dtype == torch.bfloat16
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("m", [30, 23])
@pytest.mark.parametrize("threads", [1, 2])
def test_threads_inference_mode_and_gradients_do_not_matter(threads: int, m: int) -> None:
    a, b = series(30).requires_grad_(), series(m, seed=1)
    expected = sliced_wasserstein(a, b, 20)
    assert not expected["mean"].requires_grad
    metric = SlicedWasserstein(20, chunk=3)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            metric.update(a.clone(), b.clone())
            assert_close(metric.compute(), expected)
        metric.update(a, b)  # every sample twice, which changes no distribution
        assert_close(metric.compute(), expected)
        ready = SortedReference.build(b, num_directions=20)
        assert_close(sliced_wasserstein(a, ready, 20, chunk=3), expected)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_the_precision_of_training_is_given_back_after_an_error() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        outside = matmul_precision()
        with exact_matmul(torch.device("cpu")):
            assert matmul_precision() == ["ieee", "ieee"]
        with pytest.raises(RuntimeError, match="stop"), exact_matmul(torch.device("cpu")):
            raise RuntimeError("stop")
        assert matmul_precision() == outside
    finally:
        torch.set_float32_matmul_precision(before)
