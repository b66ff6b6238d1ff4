"""The sliced distance as a metric: its domains, its batches, its refusals."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.domains import Representation
from lightning_freqdiff.metrics import (
    SlicedWasserstein,
    random_directions,
    sliced_wasserstein,
)
from lightning_freqdiff.metrics.samples import coordinates


def series(n: int, seed: int = 0, length: int = 12, channels: int = 2) -> Tensor:
    x = torch.randn(n, length, channels, generator=torch.Generator().manual_seed(seed))
    return x.cumsum(1) + seed


# Domains


@pytest.mark.parametrize("length", [11, 12])
def test_half_spectrum_coordinates_keep_lengths_by_parseval(length: int) -> None:
    a, b = series(30, length=length), series(20, seed=1, length=length)
    noise = Representation("frequency", length, 2).noise_scale().flatten()
    weight = noise[noise > 0] ** -2  # 1 where a frequency is its own mirror image, else 2
    fa, fb = coordinates(a, "frequency"), coordinates(b, "frequency")
    assert fa.shape == (30, length * 2)
    assert_close((weight * fa.square()).sum(1), a.square().sum((1, 2)))
    # So each distance along a direction in time is one in frequency, along the direction's weighted image.
    u = random_directions(8, length * 2)
    image = coordinates(u.reshape(8, length, 2), "frequency") * weight
    for i in range(8):
        in_time = [x.flatten(1) @ u[i] for x in (a, b)]
        in_frequency = [x @ image[i] for x in (fa, fb)]
        for time, frequency in zip(in_time, in_frequency, strict=True):
            assert_close(time, frequency, rtol=1e-4, atol=1e-4)


def test_a_wave_is_shorter_on_the_half_spectrum() -> None:
    # All but the mean is there once instead of twice, so lengths shrink by the root of 2.
    a, wave = series(30), torch.sin(torch.arange(12) * 2 * torch.pi / 6)[:, None]
    values = {}
    for domain in ("time", "frequency"):
        metric = SlicedWasserstein(4000, domain=domain)
        metric.update(a, a + wave)
        values[domain] = metric.compute()["mean"]
    assert_close(values["time"] / values["frequency"], torch.tensor(2.0).sqrt(), rtol=0.05, atol=0)


def test_the_domain_is_that_of_the_coordinates() -> None:
    a, b = series(30), series(30, seed=1)
    values = {}
    for domain in ("time", "frequency"):
        metric = SlicedWasserstein(64, domain=domain)
        metric.update(a, b)
        values[domain] = metric.compute()["mean"]
    assert_close(values["time"], sliced_wasserstein(a, b, 64)["mean"])
    assert_close(
        values["frequency"], sliced_wasserstein(coordinates(a, "frequency"), coordinates(b, "frequency"), 64)["mean"]
    )


# The metric class


def test_batches_accumulate_however_they_come() -> None:
    a, b = series(40), series(30, seed=1)
    expected = sliced_wasserstein(a, b, 64)
    metric = SlicedWasserstein(64)
    metric.update(a[:10], b[:25])
    metric.update(a[10:11], b[25:])
    metric.update(generated=a[11:])
    assert_close(metric.compute(), expected)
    other = SlicedWasserstein(64)
    other.update(reference=b)
    other.update(generated=a)
    assert_close(other.compute(), expected)
    other.reset()
    other.update(b, b)
    assert other.compute()["max"] == 0


def test_forward_gives_the_batch_and_keeps_the_rest() -> None:
    a, b = series(40), series(30, seed=1)
    metric = SlicedWasserstein(64)
    metric.update(a[:20], b[:20])
    assert_close(metric(a[20:], b[20:]), sliced_wasserstein(a[20:], b[20:], 64))
    assert_close(metric.compute(), sliced_wasserstein(a, b, 64))


def test_inputs_may_change_after_an_update() -> None:
    a, b = series(10), series(10, seed=1)
    expected = sliced_wasserstein(a, b, 8)
    metric = SlicedWasserstein(8)
    buffer = a.clone()
    metric.update(buffer, b)
    buffer.zero_()
    assert_close(metric.compute(), expected)


# Bad input


def test_refuses_bad_arguments() -> None:
    a = series(4)
    for call, message in [
        (lambda: sliced_wasserstein(a, a, num_directions=0), "at least 1, got 0: set `num_directions`"),
        (lambda: sliced_wasserstein(a, a, chunk=0), "set `chunk`"),
        (lambda: sliced_wasserstein(a, a, p=0.9), "at least 1, got 0.9: set `p`"),
        (lambda: sliced_wasserstein(a, a, seed=-1), "set `seed`"),
        (lambda: sliced_wasserstein(a, a[:, 1:]), r"\(12, 2\) in `generated` and \(11, 2\) in `reference`"),
        (lambda: sliced_wasserstein(a[0, 0], a), r"\(n, D\) or \(n, N, M\), got \(2,\)"),
        (lambda: sliced_wasserstein(a[:0], a), "at least one sample"),
        (lambda: sliced_wasserstein(a / 0, a), "NaN or infinite of 96: clean `generated`"),
        (lambda: SlicedWasserstein(domain="space"), "expected 'time' or 'frequency', got 'space': set `domain`"),  # type: ignore[arg-type]
        (lambda: SlicedWasserstein(num_directions=0), "set `num_directions`"),
        (lambda: SlicedWasserstein(chunk=0), "set `chunk`"),
        (lambda: SlicedWasserstein(p=0), "set `p`"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_the_metric_refuses_bad_series() -> None:
    metric = SlicedWasserstein(8)
    with pytest.raises(ValueError, match="pass `generated`, `reference` or both"):
        metric.update()
    with pytest.raises(ValueError, match=r"shape \(n, N, M\), got \(5, 24\): reshape `generated`"):
        metric.update(torch.zeros(5, 24))
    metric.update(generated=series(5))
    with pytest.raises(ValueError, match=r"\(N, M\) = \(12, 2\) as before, got \(12, 3\).*`reference`"):
        metric.update(reference=series(5, channels=3))
    with pytest.raises(ValueError, match="expected `reference` series, got none"):
        metric.compute()
    metric.update(reference=series(5))
    assert np.isclose(float(metric.compute()["max"]), 0, atol=1e-5)
