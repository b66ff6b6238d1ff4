"""The Fréchet distance against SciPy, and the encoder under it."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torch.nn.functional import log_softmax
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    ContextFID,
    EncoderSettings,
    context_fid,
    fit_context_encoder,
    frechet_distance,
)
from lightning_freqdiff.metrics.contrastive import (
    DilatedEncoder,
    contrast,
    overlapping_crops,
    train_encoder,
    two_views,
)

QUICK = EncoderSettings(embedding=8, hidden=8, depth=3, steps=20)


def sines(n: int, seed: int = 0, pace: float = 0.6, length: int = 16) -> Tensor:
    phase = torch.rand(n, 1, 2, generator=torch.Generator().manual_seed(seed)) * 2 * torch.pi
    return torch.sin(phase + pace * torch.arange(length)[:, None])


def test_frechet_distance_is_scipy_s() -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(60, 5, generator=generator) @ torch.randn(5, 5, generator=generator)
    b = torch.randn(40, 5, generator=generator) + 2
    first, second = (np.cov(x.double().numpy(), rowvar=False) for x in (a, b))
    means = (a.double().mean(0) - b.double().mean(0)).square().sum()
    root: Any = sqrtm(first @ second)
    expected = float(means) + np.trace(first + second - 2 * root.real)
    assert_close(frechet_distance(a, b), torch.tensor(expected), rtol=1e-8, atol=0, check_dtype=False)
    assert_close(frechet_distance(b, a), frechet_distance(a, b))


def test_frechet_distance_with_fewer_vectors_than_dimensions() -> None:
    a = torch.randn(5, 20, generator=torch.Generator().manual_seed(0))
    assert_close(frechet_distance(a, a), torch.tensor(0.0).double(), atol=1e-6, rtol=0)
    assert_close(frechet_distance(a, a + 1), torch.tensor(20.0).double(), atol=1e-5, rtol=0)
    assert_close(frechet_distance(a[:, :1], a[:, :1] + 1), torch.tensor(1.0).double())


def test_contrast_is_the_loss_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 4, generator=generator), torch.randn(2, 3, 4, generator=generator)
    terms = []
    for group in range(2):
        views = [*a[group], *b[group]]
        for i in range(6):
            others = [j for j in range(6) if j != i]
            logits = torch.stack([views[i] @ views[j] for j in others])
            terms.append(-log_softmax(logits, 0)[others.index((i + 3) % 6)])
    assert_close(contrast(a, b), torch.stack(terms).mean())


@pytest.mark.parametrize(("length", "window"), [(2, 128), (16, 128), (50, 10), (3, 2)])
def test_crops_overlap_within_the_window(length: int, window: int) -> None:
    random = torch.Generator().manual_seed(0)
    for _ in range(200):
        left, right = overlapping_crops(length, window, random)
        assert 0 <= left.start <= right.start <= left.stop - 2
        assert left.stop <= right.stop <= length
        assert right.stop - left.start <= window


def test_views_are_of_the_same_steps() -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.arange(5 * 30.0).reshape(5, 30, 1)
    hidden = []
    for _ in range(50):
        first, second = two_views(lambda crop, keep: hidden.append(keep) or crop, x, 20, random)
        assert torch.equal(first, second)
    assert abs(float(torch.cat([keep.flatten() for keep in hidden]).float().mean()) - 0.5) < 0.02


def test_training_brings_views_of_a_series_together() -> None:
    x = sines(200)

    def confusion(net: DilatedEncoder) -> float:
        """Contrast the embeddings of the two halves of each series."""
        with torch.no_grad():
            halves = [torch.nn.functional.normalize(net.embed(part), dim=-1) for part in x.split(8, dim=1)]
        return float(contrast(10 * halves[0][None], halves[1][None]))

    settings = EncoderSettings(embedding=16, hidden=16, depth=3, steps=150, lr=3e-3)
    untrained = DilatedEncoder(2, settings)
    assert confusion(train_encoder(x, settings)) < confusion(untrained) - 0.5


@pytest.mark.slow
def test_distance_orders_generators() -> None:
    real = sines(300)
    encoder = fit_context_encoder(real, EncoderSettings(embedding=16, hidden=16, depth=3, steps=150, lr=3e-3))
    same, slower, noise = (
        float(context_fid(x, real, encoder=encoder))
        for x in (sines(300, seed=1), sines(300, pace=0.4), torch.randn(300, 16, 2))
    )
    assert same < 0.3 * slower
    assert slower < 0.3 * noise


def test_units_do_not_matter() -> None:
    a, b = sines(30, seed=1), sines(25, pace=0.5)
    scale = torch.tensor([1e3, 1e-3])
    assert_close(context_fid(a * scale + 5, b * scale + 5, QUICK), context_fid(a, b, QUICK), rtol=0.02, atol=0)


def test_is_reproducible_and_leaves_no_trace() -> None:
    a, b = sines(30, seed=1), sines(25, pace=0.5)
    before = torch.get_rng_state()
    value = context_fid(a, b, QUICK)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(context_fid(a, b, QUICK), value)
    assert_close(context_fid(a, b, encoder=fit_context_encoder(b, QUICK)), value)
    assert context_fid(a, b, EncoderSettings(embedding=8, hidden=8, depth=3, steps=20, seed=1)) != value
    assert not value.requires_grad
    assert torch.isfinite(context_fid(a.half(), b.bfloat16(), QUICK))


def test_metric_trains_within_lightning_s_validation() -> None:
    a, b = sines(30, seed=1), sines(25, pace=0.5)
    expected = context_fid(a, b, QUICK)
    metric = ContextFID(QUICK)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        metric.update(a[:10].clone(), b[:20].clone())
        metric.update(a[10:].clone(), b[20:].clone())
        value = metric.compute()
    assert_close(value, expected)


def test_refuses_bad_input() -> None:
    a = sines(5)
    for call, message in [
        (lambda: EncoderSettings(depth=0), "set `depth`"),
        (lambda: EncoderSettings(batch_size=1), "at least 2, got 1: set `batch_size`"),
        (lambda: EncoderSettings(window=1), "set `window`"),
        (lambda: EncoderSettings(lr=-1.0), "set `lr`"),
        (lambda: context_fid(a[:1], a), "at least 2 series"),
        (lambda: context_fid(a[:, :1], a[:, :1]), "at least 2 steps"),
        (lambda: context_fid(a, a[..., :1]), "of one shape"),
        (lambda: fit_context_encoder(a[0]), "reshape `reference`"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
