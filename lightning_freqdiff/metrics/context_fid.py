"""Context-FID: Fréchet distance between learnt embeddings of whole series."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from lightning_freqdiff.metrics.contrastive import DilatedEncoder, EncoderSettings, train_encoder
from lightning_freqdiff.metrics.post_hoc import batched, standardize
from lightning_freqdiff.metrics.projections import exact_matmul
from lightning_freqdiff.metrics.protocol import LearntMetric, Protocol, check_protocol, unit_scale
from lightning_freqdiff.metrics.samples import check_pair, check_samples, widen
from lightning_freqdiff.metrics.ts2vec import TS2Vec, TS2VecEncoder, train_ts2vec

EMBEDDED = 64
"""Series that are embedded at once: of more, the layers between would leave a core's caches."""


def frechet_distance(a: Tensor, b: Tensor) -> Tensor:
    r"""Compute the Fréchet distance between Gaussians fitted to two samples.

    .. math:: \|m_a - m_b\|^2 + \mathrm{tr}\big(S_a + S_b - 2 (S_a^{1/2} S_b S_a^{1/2})^{1/2}\big)

    (Dowson and Landau 1982.) Both roots are of symmetric matrices, taken by eigen-decomposition.

    Args:
        a: Vectors, ``(n, C)``, ``n >= 2``.
        b: Vectors, ``(m, C)``, ``m >= 2``.

    Returns:
        Scalar, float64, on the CPU: some devices have no such precision, which the roots of small
        eigenvalues need.

    Examples:
        >>> x = torch.randn(50, 3)
        >>> round(float(frechet_distance(x, x + torch.tensor([1.0, 2.0, 2.0]))), 4)
        9.0
    """
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    cov_a, cov_b = (torch.cov(x.T).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean(0) - b.mean(0)).square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return distance.clamp(min=0)


def context_fid(
    generated: Tensor,
    reference: Tensor,
    settings: EncoderSettings | TS2Vec | None = None,
    encoder: DilatedEncoder | TS2VecEncoder | None = None,
    protocol: Protocol = "project",
    seed: int | None = None,
) -> Tensor:
    """Compute the Fréchet distance between embeddings of generated and of real series.

    The encoder is trained by contrast on the real series (Jeha et al., PSA-GAN, ICLR 2022; the encoder
    is a small TS2Vec). **Values are comparable only under the same encoder settings, reference
    and counts**, and not with figures published with other encoders.

    ``protocol="timegan"`` is what tables in the field report since Diffusion-TS (Yuan and Qiao, ICLR 2024): channels
    scaled to the real ``[0, 1]``, and the whole TS2Vec (:class:`~lightning_freqdiff.metrics.ts2vec.TS2Vec`, which
    tells the cost). Give as many generated series as real ones.

    Args:
        generated: Series, ``(n, N, M)``, ``n >= 2``.
        reference: Real series, ``(m, N, M)``, ``m >= 2`` and ``N >= 2``.
        settings: How the encoder is built and trained; by default as the protocol says.
        encoder: One that :func:`fit_context_encoder` trained on the same reference by the same protocol, to be used
            again.
        protocol: ``project`` or ``timegan``.
        seed: In place of the settings' seed.

    Returns:
        Scalar, lower is better.

    Examples:
        >>> x = torch.randn(64, 16, 2)
        >>> bool(context_fid(x, x, EncoderSettings(steps=2)) < 1e-6)
        True
    """
    check_pair(generated, reference)
    if min(len(generated), len(reference)) < 2:
        raise ValueError("expected at least 2 series for a covariance, got 1: add some to the smaller set")
    encoder = encoder or fit_context_encoder(reference, settings, protocol, seed)
    embedded = [context_embedding(x, reference, encoder, protocol) for x in (generated, reference)]
    return frechet_distance(*embedded).to(reference.device, torch.float32)


def context_embedding(
    x: Tensor, reference: Tensor, encoder: DilatedEncoder | TS2VecEncoder, protocol: Protocol = "project"
) -> Tensor:
    """Embed whole series, as :func:`context_fid` does.

    Args:
        x: Series, ``(n, N, M)``.
        reference: Real series that the channels' scale is taken of, ``(m, N, M)``.
        encoder: One that :func:`fit_context_encoder` trained on the reference by the same protocol.
        protocol: ``project`` or ``timegan``.

    Returns:
        Vectors ``(n, C)``, on the reference's device.
    """
    real = widen(reference)
    with exact_matmul(real.device):
        return batched(encoder.embed, _scale(protocol)(widen(x).to(real.device), real), EMBEDDED)


def fit_context_encoder(
    reference: Tensor,
    settings: EncoderSettings | TS2Vec | None = None,
    protocol: Protocol = "project",
    seed: int | None = None,
) -> DilatedEncoder | TS2VecEncoder:
    """Train the encoder of :func:`context_fid` on real series ``(m, N, M)``, ``N >= 2``; ``m >= 2`` for TS2Vec."""
    check_protocol(protocol)
    count, length, _ = check_samples(reference, "reference").shape
    if length < 2:
        raise ValueError("expected at least 2 steps to tell one from another, got 1: lengthen the series")
    chosen = settings or (TS2Vec() if protocol == "timegan" else EncoderSettings())
    if seed is not None:
        chosen = replace(chosen, seed=seed)
    real = widen(reference)
    scaled = _scale(protocol)(real, real)
    if isinstance(chosen, EncoderSettings):
        return train_encoder(scaled, chosen)
    if count < 2:
        raise ValueError("expected at least 2 series to tell one from another, got 1: add some to `reference`")
    return train_ts2vec(scaled, chosen)


def _scale(protocol: Protocol) -> Callable[[Tensor, Tensor], Tensor]:
    check_protocol(protocol)
    return unit_scale if protocol == "timegan" else standardize


class ContextFID(LearntMetric):
    """Fréchet distance between embeddings of generated and of real series (:func:`context_fid`)."""

    def compute(self) -> Tensor:
        """Return the distance, a scalar."""
        return context_fid(*self.samples(), self.settings, protocol=self.protocol, seed=self.seed)
