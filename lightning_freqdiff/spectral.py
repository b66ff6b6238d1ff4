"""Series and their half-spectrum: the transform, its mirrored noise and its units.

A real series ``x`` of shape ``(B, N, M)`` has the unitary spectrum ``rfft(x, norm="ortho")`` over
``K = N // 2 + 1`` frequencies; the others mirror them. One token per frequency holds its real, then its
imaginary parts: ``z_k = [Re, Im]`` of width ``2M`` (E2-CRF, arXiv 2604.22901, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_freqdiff.covariance import LARGEST, Directions, JointMoments, OverRanks

Domain = Literal["frequency", "time"]
NoiseColour = Literal["equal", "white"]

COLOURS: dict[NoiseColour, float] = {"equal": 1.0, "white": 0.0}
"""The colours that have a name, see :class:`Codec`."""

# Below this share of the largest spread in its channel, a coordinate's spread is rounding and not data.
CONSTANT_TOLERANCE = 1e-6


def to_half_spectrum(x: Tensor) -> Tensor:
    """Transform series into half-spectrum tokens.

    Args:
        x: Real series, ``(B, N, M)``.

    Returns:
        Tokens ``(B, K, 2M)``, real parts before imaginary parts, ``K = N // 2 + 1``.

    Examples:
        >>> to_half_spectrum(torch.ones(1, 4, 1)).squeeze(0).tolist()
        [[2.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    # The mean goes to DC by itself: beside a large offset, float32 would leave no digits to the other frequencies.
    mean = x.mean(dim=1, keepdim=True)
    spectrum = torch.fft.rfft(x - mean, dim=1, norm="ortho")
    real = torch.cat([mean * math.sqrt(x.shape[1]), spectrum.real[:, 1:]], dim=1)
    return torch.cat([real, spectrum.imag], dim=-1)


def from_half_spectrum(z: Tensor, length: int) -> Tensor:
    """Transform half-spectrum tokens ``(B, K, 2M)`` back into series ``(B, N, M)`` with ``N = length``.

    Exact to float rounding for even and odd ``N``; the imaginary parts at DC and, for even ``N``, at the
    Nyquist frequency carry no data and are ignored.
    """
    real, imag = z.chunk(2, dim=-1)
    mean = real[:, :1] / math.sqrt(length)
    rest = torch.complex(torch.cat([torch.zeros_like(mean), real[:, 1:]], dim=1), imag)
    return torch.fft.irfft(rest, n=length, dim=1, norm="ortho") + mean


def spectral_density(x: Tensor) -> Tensor:
    """Return the energy per frequency of series ``(B, N, M)``: ``|x~_k|^2``, shape ``(B, K, M)``."""
    return torch.fft.rfft(x, dim=1, norm="ortho").abs().square()


@dataclass(frozen=True)
class Representation:
    """How a series is laid out as tokens: which transform, how many, and the scale of white noise in it.

    Args:
        domain: ``frequency`` for half-spectrum tokens, ``time`` for the steps themselves.
        length: Steps of the series, ``N >= 2``.
        channels: Channels of the series, ``M >= 1``.
    """

    domain: Domain
    length: int
    channels: int

    def __post_init__(self) -> None:
        if self.domain not in ("frequency", "time"):
            raise ValueError(f"domain must be 'frequency' or 'time', got {self.domain!r}: set `model.domain`")
        if self.length < 2 or self.channels < 1:
            raise ValueError(
                f"a series needs at least 2 steps and 1 channel, got (N, M) = ({self.length}, {self.channels}): "
                "check the data set (`data`)"
            )

    @property
    def tokens(self) -> int:
        """Tokens per series: ``N // 2 + 1`` frequencies, or ``N`` steps."""
        return self.length // 2 + 1 if self.domain == "frequency" else self.length

    @property
    def features(self) -> int:
        """Width of a token: ``2M`` (real, imaginary), or ``M``."""
        return 2 * self.channels if self.domain == "frequency" else self.channels

    def encode(self, x: Tensor) -> Tensor:
        """Lay out series ``(B, N, M)`` as tokens ``(B, tokens, features)``."""
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.length, self.channels):
            raise ValueError(
                f"expected series of shape (B, {self.length}, {self.channels}), got {tuple(x.shape)}: "
                "the model was built for other data (`data`, `ckpt_path`)"
            )
        return self.tokenize(x)

    def tokenize(self, x: Tensor) -> Tensor:
        """Lay out any number of channels ``(B, N, C)`` as tokens, ``(B, tokens, 2C)`` or ``(B, tokens, C)``."""
        return to_half_spectrum(x) if self.domain == "frequency" else x

    def decode(self, z: Tensor) -> Tensor:
        """Bring tokens ``(B, tokens, features)`` back to series ``(B, N, M)``."""
        return from_half_spectrum(z, self.length) if self.domain == "frequency" else z

    def noise_scale(self) -> Tensor:
        r"""Return :math:`\Lambda`, the standard deviation of white noise in each coordinate.

        In frequency, white noise of unit variance has deviation 1 on the real part at DC and Nyquist, 0 on
        their imaginary parts and :math:`1/\sqrt 2` elsewhere (E2-CRF appendix A.9; Crabbé et al., arXiv
        2402.05933, proposition 3.1); in time it is 1 everywhere.

        Returns:
            Shape ``(tokens, features)``, float32.
        """
        if self.domain == "time":
            return torch.ones(self.tokens, self.features)
        scale = torch.full((self.tokens, 2, self.channels), math.sqrt(0.5))
        unpaired = [0, self.tokens - 1] if self.length % 2 == 0 else [0]
        scale[unpaired, 0], scale[unpaired, 1] = 1.0, 0.0
        return scale.flatten(1)


class Moments:
    """Mean and variance of rows that come in batches, in one pass, in float64.

    Batches are merged by Chan, Golub and LeVeque's update, so the result does not depend on how they were cut, and is
    as exact as two passes over all of them in one piece.

    Attributes:
        count: Rows seen.
        mean: Their mean.
        moment: Their squared distances from the mean, summed.
    """

    def __init__(self) -> None:
        self.count, self.mean, self.moment = 0, torch.zeros((), dtype=torch.float64), torch.zeros(())

    def update(self, batch: Tensor) -> None:
        """Take in rows ``(B, ...)``."""
        rows = batch.double()
        delta, total = rows.mean(0) - self.mean, self.count + len(rows)
        self.moment = self.moment + rows.var(0, correction=0) * len(rows)
        self.moment = self.moment + delta.square() * (self.count * len(rows) / total)
        self.mean, self.count = self.mean + delta * (len(rows) / total), total

    def share(self, over_ranks: OverRanks) -> None:
        """Take in the rows of all ranks."""
        count = int(over_ranks(torch.tensor(self.count)))
        mean = over_ranks(self.mean * self.count) / count
        self.moment = over_ranks(self.moment + (self.mean - mean).square() * self.count)
        self.count, self.mean = count, mean

    @property
    def variance(self) -> Tensor:
        """Mean squared distance from the mean, of shape ``(...)``."""
        return self.moment / self.count


class Codec(nn.Module):
    """Series to standardised tokens and back: layout, units and noise scale of everything that is diffused.

    Tokens have zero mean over the training set, and in every coordinate a deviation that the *colour* decides: the
    noise that is added has the same size in all of them, so this is the colour of the noise in the data's units.
    With colour 1 every frequency drowns in noise at the same time, as in the papers of frequency diffusion; with 0
    the noise is white in the data's own units, channel by channel, as where one diffuses in time, and the finest
    frequencies drown first (Falck et al., arXiv 2505.11278: "equal" and "DDPM"). In between, a coordinate's scale
    is its deviation to that power. The mean variance of a channel's coordinates is 1 in any case.

    The statistics are buffers: they travel in the checkpoint, so that sampling needs no data set. A coordinate
    without variance keeps scale 1 and is not active.

    Args:
        layout: Which transform, and the shape of the series.
        colour: Power of the deviation, from 0 to 1.
        joint: Whether the covariance of all coordinates is taken as well, where these are not too many.

    Attributes:
        mean: Training mean of each coordinate, ``(K, F)``.
        scale: Size of a token's unit in each coordinate, in the data's units, ``(K, F)``.
        variance: Variance of each coordinate of the tokens, 1 or 0 with colour 1, ``(K, F)``.
        noise_scale: ``Λ``, see :meth:`Representation.noise_scale`.
        directions: Principal directions of the tokens over ``Λ``, in which their noise is white; or ``None``.
    """

    mean: Tensor
    scale: Tensor
    variance: Tensor
    noise_scale: Tensor

    def __init__(self, layout: Representation, colour: float = 1.0, joint: bool = False) -> None:
        super().__init__()
        if not 0 <= colour <= 1:
            raise ValueError(f"expected a colour from 0 (white) to 1 (equal), got {colour}: set `model.colour`")
        self.layout, self.colour = layout, colour
        shape = layout.tokens, layout.features
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("scale", torch.ones(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("noise_scale", layout.noise_scale(), persistent=False)
        size = layout.tokens * layout.features
        self.directions = Directions(size) if joint and size <= LARGEST else None

    def fit(self, batches: Iterable[Tensor], over_ranks: OverRanks | None = None) -> None:
        """Set all statistics from batches of series ``(B, N, M)`` in one float64 pass.

        Args:
            batches: The series.
            over_ranks: Adds up a tensor over all ranks, where each was given a share of the series.
        """
        moments = Moments() if self.directions is None else JointMoments(self.mean.shape)
        for batch in batches:
            moments.update(self.layout.encode(batch.double()))
        if over_ranks is not None:
            moments.share(over_ranks)
        if moments.count == 0:
            raise ValueError("expected at least one training series, got none: check `data`")
        deviation = moments.variance.sqrt()
        size = deviation.amax(0).reshape(-1, self.layout.channels).amax(0)
        varies = deviation > CONSTANT_TOLERANCE * size.repeat(deviation.shape[1] // self.layout.channels)
        if not varies.any():
            raise ValueError("expected series that differ, but every training series is the same: check `data`")
        scale = self._units(torch.where(varies, deviation, 0.0))
        self.mean.copy_(moments.mean)
        self.scale.copy_(torch.where(varies, scale, 1.0))
        self.variance.copy_(torch.where(varies, (deviation / scale).square(), 0.0))
        if self.directions is not None:
            assert isinstance(moments, JointMoments)
            self.directions.fit(moments, self.whiten(self.variance.sqrt().unsqueeze(0)).squeeze(0))

    def whiten(self, z: Tensor) -> Tensor:
        """Return tokens ``(B, K, F)`` over ``Λ`` as rows ``(B, n)``, whose noise is white; 0 where there is none."""
        live = self.noise_scale > 0
        return torch.where(live, z / torch.where(live, self.noise_scale, 1.0), 0.0).flatten(1)

    def along(self, z: Tensor) -> Tensor:
        """Return tokens ``(B, K, F)`` over ``Λ`` along the principal directions, ``(B, n)``; as they are without."""
        rows = self.whiten(z)
        with torch.autocast(z.device.type, enabled=False):
            return rows if self.directions is None else rows @ self.directions.basis.to(rows)

    def tokens_along(self, rows: Tensor) -> Tensor:
        """Undo :meth:`along`."""
        with torch.autocast(rows.device.type, enabled=False):
            rows = rows if self.directions is None else rows @ self.directions.basis.to(rows).T
        return rows.view(-1, *self.noise_scale.shape) * self.noise_scale

    @property
    def power(self) -> Tensor:
        """Variance of the tokens along each of these, ``(n,)``."""
        if self.directions is not None:
            return self.directions.power
        return self.whiten(self.variance.sqrt().unsqueeze(0)).squeeze(0).square()

    def predict(self, z: Tensor, alpha: Tensor, level: Tensor) -> Tensor:
        """Return what all coordinates together say of each, ``(B, K, F)``: see :meth:`Directions.predict`.

        Args:
            z: Noisy tokens, ``(B, K, F)``.
            alpha: ``α``, broadcastable to ``(B, 1, 1)``.
            level: ``σ``, the same.
        """
        assert self.directions is not None
        rows = self.directions.predict(self.whiten(z), alpha.flatten(1), level.flatten(1))
        return rows.view_as(z) * self.noise_scale

    def _units(self, deviation: Tensor) -> Tensor:
        """Return the unit of each coordinate for deviations ``(K, F)``, 0 where a coordinate does not vary."""
        varies = deviation > 0
        unit = torch.where(varies, torch.where(varies, deviation, 1.0).pow(self.colour), 1.0)
        if self.colour == 1:
            return unit
        by_channel = self.layout.tokens, -1, self.layout.channels
        power, count = ((x.view(by_channel)).sum((0, 1)) for x in ((deviation / unit).square(), varies.double()))
        size = torch.where(power > 0, power / count.clamp(min=1), 1.0).sqrt()
        return (unit.view(by_channel) * size).flatten(1)

    @property
    def active(self) -> Tensor:
        """1 where a coordinate varies, else 0, ``(K, F)``."""
        return (self.variance > 0).to(self.variance.dtype)

    @property
    def deviation(self) -> Tensor:
        """Training deviation of each coordinate in the data's units, 0 where it does not vary, ``(K, F)``."""
        return self.scale * self.variance.sqrt()

    def standardize(self, z: Tensor) -> Tensor:
        """Bring tokens ``(B, K, F)`` to mean 0 and their units; coordinates without variance become exactly 0."""
        return (z - self.mean) / self.scale * self.active

    def unstandardize(self, z: Tensor) -> Tensor:
        """Undo :meth:`standardize`; coordinates without variance return to their one value, whatever ``z`` holds."""
        return z * (self.scale * self.active) + self.mean

    def encode(self, x: Tensor) -> Tensor:
        """Turn series ``(B, N, M)`` in the data's units into standardised tokens ``(B, K, F)``."""
        return self.standardize(self.layout.encode(x))

    def decode(self, z: Tensor) -> Tensor:
        """Turn standardised tokens ``(B, K, F)`` into series ``(B, N, M)`` in the data's units."""
        return self.layout.decode(self.unstandardize(z))

    def density(self) -> Tensor | None:
        """Return the training set's mean spectral density ``(K, M)``; ``None`` where tokens are time steps."""
        if self.layout.domain != "frequency":
            return None
        power = self.mean.square() + self.deviation.square()
        return torch.stack(power.cpu().chunk(2, dim=-1)).sum(0)
