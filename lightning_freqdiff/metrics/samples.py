"""What every metric asks of its samples: their shape, their values and their coordinates."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from lightning_freqdiff.domains import Representation, to_half_spectrum

Domain = Literal["frequency", "time"]
"""Where samples are looked at, whatever was diffused."""


def check_samples(x: Tensor, name: str, ndim: tuple[int, ...] = (3,)) -> Tensor:
    """Return samples as they came if they are a non-empty, finite tensor of one of the ranks ``ndim``.

    Args:
        x: Samples along the first axis.
        name: What the error calls them: the argument they were passed as.
        ndim: Ranks that are allowed.

    Raises:
        ValueError: On the wrong rank, no sample, no coordinate, NaN or infinity.
    """
    if x.ndim not in ndim:
        wanted = " or ".join({1: "(n,)", 2: "(n, D)", 3: "(n, N, M)"}[rank] for rank in ndim)
        raise ValueError(f"expected samples of shape {wanted}, got {tuple(x.shape)}: reshape `{name}`")
    if x.numel() == 0:
        raise ValueError(f"expected at least one sample and coordinate, got {tuple(x.shape)}: fill `{name}`")
    if not torch.isfinite(x).all():
        bad = int((~torch.isfinite(x)).sum())
        raise ValueError(f"expected finite values, got {bad} NaN or infinite of {x.numel()}: clean `{name}`")
    return x


def check_pair(generated: Tensor, reference: Tensor, ndim: tuple[int, ...] = (3,)) -> None:
    """Raise a ``ValueError`` unless both are valid samples of one shape, whatever their counts."""
    check_samples(generated, "generated", ndim)
    check_samples(reference, "reference", ndim)
    if generated.shape[1:] != reference.shape[1:]:
        raise ValueError(
            f"expected samples of one shape, got {tuple(generated.shape[1:])} in `generated` and "
            f"{tuple(reference.shape[1:])} in `reference`: cut or resample one of them"
        )


def check_least(x: Tensor, name: str, least: int, ndim: tuple[int, ...] = (3,)) -> None:
    """Raise a ``ValueError`` unless the argument ``name`` holds at least ``least`` valid samples."""
    if len(check_samples(x, name, ndim)) < least:
        raise ValueError(f"expected at least {least} samples, got {len(x)}: add rows to `{name}`")


def check_count(value: int, name: str, least: int = 1) -> None:
    """Raise a ``ValueError`` unless the argument ``name`` is an integer of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"expected an integer of at least {least}, got {value!r}: set `{name}`")


def coordinates(x: Tensor, domain: Domain) -> Tensor:
    """Lay series out as vectors, in time or on the half-spectrum.

    ``time`` flattens; ``frequency`` takes real and imaginary parts of the unitary half-spectrum and drops those
    that are identically zero (the imaginary parts at DC and, for even ``N``, at Nyquist), so both have the
    same dimension ``N * M``.

    Args:
        x: Series, ``(n, N, M)``.
        domain: ``time`` or ``frequency``.

    Returns:
        Vectors ``(n, N * M)``.

    Examples:
        >>> coordinates(torch.ones(1, 4, 1), "frequency").tolist()
        [[2.0, 0.0, 0.0, 0.0]]
    """
    check_domain(domain)
    if domain == "time":
        return x.flatten(1)
    live = Representation("frequency", x.shape[1], x.shape[2]).noise_scale().flatten() > 0
    # Half precision has no transform on the CPU, and too little resolution anywhere.
    return to_half_spectrum(widen(x)).flatten(1)[:, live.to(x.device)]


def check_domain(domain: str) -> None:
    """Raise a ``ValueError`` unless the domain is ``time`` or ``frequency``."""
    if domain not in get_args(Domain):
        raise ValueError(f"expected 'time' or 'frequency', got {domain!r}: set `domain`")


def widen(x: Tensor) -> Tensor:
    """Return ``x`` in float64 if it is, else in float32, without gradient."""
    return x.detach() if x.dtype == torch.float64 else x.detach().float()
