"""Domains: what of a series is diffused, and how it is laid out as tokens.

A domain is one class: settings (:class:`Domain`) that make a transform for a length (:class:`Transform`). All are
orthonormal, so white noise in time is white noise in all of them.
"""

from lightning_freqdiff.domains.base import Domain, Transform
from lightning_freqdiff.domains.half_spectrum import (
    HalfSpectrum,
    from_half_spectrum,
    spectral_density,
    to_half_spectrum,
)
from lightning_freqdiff.domains.lapped import Lapped
from lightning_freqdiff.domains.layout import DOMAINS, DomainName, Representation, domain_of
from lightning_freqdiff.domains.steps import TimeSteps
from lightning_freqdiff.domains.wavelet import Wavelet

__all__ = [
    "DOMAINS",
    "Domain",
    "DomainName",
    "HalfSpectrum",
    "Lapped",
    "Representation",
    "TimeSteps",
    "Transform",
    "Wavelet",
    "domain_of",
    "from_half_spectrum",
    "spectral_density",
    "to_half_spectrum",
]
