"""The layout of series as tokens, in any domain."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from lightning_freqdiff.domains.base import Domain
from lightning_freqdiff.domains.half_spectrum import HalfSpectrum
from lightning_freqdiff.domains.lapped import Lapped
from lightning_freqdiff.domains.steps import TimeSteps
from lightning_freqdiff.domains.wavelet import Wavelet

DomainName = Literal["frequency", "time", "wavelet", "lapped"]

DOMAINS: dict[DomainName, Domain] = {
    "frequency": HalfSpectrum(),
    "time": TimeSteps(),
    "wavelet": Wavelet(),
    "lapped": Lapped(),
}
"""The domains by name, with their own settings as they are."""


def domain_of(domain: DomainName | Domain) -> Domain:
    """Return a domain by its name, or as it is.

    Raises:
        ValueError: For a name that is none.
    """
    if isinstance(domain, Domain):
        return domain
    if domain not in DOMAINS:
        raise ValueError(f"expected a domain of {', '.join(DOMAINS)}, got {domain!r}: set `model.domain`")
    return DOMAINS[domain]


class Representation(nn.Module):
    """How a series is laid out as tokens: which transform, how many, and the scale of white noise in it.

    It has no weights; as a module, it goes to a device with what it is part of.

    Args:
        domain: A domain, or its name.
        length: Steps of the series, ``N >= 2``.
        channels: Channels of the series, ``M >= 1``.

    Attributes:
        tokens: Tokens of a series.
        parts: Numbers that a token holds of each channel.
        features: Width of a token, ``parts * M``.
        frequencies: Frequency of each token in cycles per step, increasing, ``(tokens,)``; ``None`` where tokens are
            no frequencies.
    """

    def __init__(self, domain: DomainName | Domain, length: int, channels: int) -> None:
        super().__init__()
        self.domain, self.length, self.channels = domain_of(domain), length, channels
        if length < 2 or channels < 1:
            raise ValueError(
                f"a series needs at least 2 steps and 1 channel, got (N, M) = ({length}, {channels}): "
                "check the data set (`data`)"
            )
        self.transform = self.domain.build(length)
        self.tokens, self.parts = self.transform.tokens, self.transform.parts
        self.features, self.frequencies = self.parts * channels, self.transform.frequencies

    def encode(self, x: Tensor) -> Tensor:
        """Lay out series ``(B, N, M)`` as tokens ``(B, tokens, features)``."""
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.length, self.channels):
            raise ValueError(
                f"expected series of shape (B, {self.length}, {self.channels}), got {tuple(x.shape)}: "
                "the model was built for other data (`data`, `ckpt_path`)"
            )
        return self.tokenize(x)

    def tokenize(self, x: Tensor) -> Tensor:
        """Lay out any number of channels ``(B, N, C)`` as tokens, ``(B, tokens, parts * C)``."""
        return self.transform(x)

    def decode(self, z: Tensor) -> Tensor:
        """Bring tokens ``(B, tokens, parts * C)`` back to series ``(B, N, C)``."""
        return self.transform.inverse(z)

    def noise_scale(self) -> Tensor:
        r"""Return :math:`\Lambda`, the standard deviation of white noise in each coordinate.

        Returns:
            Shape ``(tokens, features)``, float32.
        """
        return self.transform.noise_scale().repeat_interleave(self.channels, dim=1)

    def density(self, power: Tensor) -> Tensor | None:
        """Return the spectral density ``(N // 2 + 1, M)`` of mean squares ``(tokens, features)``, where they tell."""
        return self.transform.density(power)
