"""Series to standardised tokens and back: units, statistics and principal directions of what is diffused."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn

from lightning_freqdiff.covariance import Directions, JointMoments, OverRanks, groups_of
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.limits import Limits
from lightning_freqdiff.logarithm import Logarithm

NoiseColour = Literal["equal", "white"]

COLOURS: dict[NoiseColour, float] = {"equal": 1.0, "white": 0.0}
"""The colours that have a name, see :class:`Codec`."""

# Below this share of the largest spread in its channel, a coordinate's spread is rounding and not data.
CONSTANT_TOLERANCE = 1e-6
# A transform rounds rows that are the same to different numbers, in float64 by less than this share of the largest.
ROUNDING = 1e-12

CHUNK = 256
"""Directions that are brought to the time axis at once."""


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
        joint: Whether the covariance of all coordinates is taken as well, or where these are too many, that of each
            channel's, or where even these are, none.
        over_time: Whether the variance of the tokens is taken at every step of time, too.

    Attributes:
        mean: Training mean of each coordinate, ``(K, F)``.
        scale: Size of a token's unit in each coordinate, in the data's units, ``(K, F)``.
        variance: Variance of each coordinate of the tokens, 1 or 0 with colour 1, ``(K, F)``.
        noise_scale: ``Λ``, see :meth:`Representation.noise_scale`.
        directions: Principal directions of the tokens over ``Λ``, in which their noise is white; or ``None``.
        step_variance: Variance of the tokens brought to the time axis, in which their noise is white, at every step,
            ``(N, M)``; or ``None``.
        limits: Values that series meet and never pass, which are found once a model is trained.
        logarithm: Channels whose logarithm is diffused; units in what is below are then its own.
    """

    mean: Tensor
    scale: Tensor
    variance: Tensor
    noise_scale: Tensor
    step_variance: Tensor | None

    def __init__(
        self, layout: Representation, colour: float = 1.0, joint: bool = False, over_time: bool = False
    ) -> None:
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
        groups = groups_of(size, layout.channels) if joint else 0
        self.directions = Directions(size, groups) if groups else None
        steps = torch.ones(layout.length, layout.channels)
        self.register_buffer("step_variance", steps if over_time else None)
        self.limits = Limits(layout.length, layout.channels)
        self.logarithm = Logarithm(layout.channels)
        self.register_load_state_dict_pre_hook(_without_logarithm)

    def fit(self, batches: Iterable[Tensor], over_ranks: OverRanks | None = None) -> None:
        """Set all statistics from batches of series ``(B, N, M)`` in one float64 pass.

        Args:
            batches: The series.
            over_ranks: Adds up a tensor over all ranks, where each was given a share of the series.
        """
        known = self.directions
        moments = Moments() if known is None else JointMoments(self.mean.shape, known.groups)
        for batch in batches:
            moments.update(self.layout.encode(self.logarithm(batch.double())))
        if over_ranks is not None:
            moments.share(over_ranks)
        if moments.count == 0:
            raise ValueError("expected at least one training series, got none: check `data`")
        deviation = moments.variance.sqrt()
        size, magnitude = (
            x.amax(0).reshape(-1, self.layout.channels).amax(0) for x in (deviation, moments.mean.abs())
        )
        least = torch.maximum(CONSTANT_TOLERANCE * size, ROUNDING * magnitude)
        varies = deviation > least.repeat(deviation.shape[1] // self.layout.channels)
        if not varies.any():
            raise ValueError("expected series that differ, but every training series is the same: check `data`")
        scale = self._units(torch.where(varies, deviation, 0.0))
        self.mean.copy_(moments.mean)
        self.scale.copy_(torch.where(varies, scale, 1.0))
        self.variance.copy_(torch.where(varies, (deviation / scale).square(), 0.0))
        if self.directions is not None:
            assert isinstance(moments, JointMoments)
            self.directions.fit(moments, self.whiten(self.variance.sqrt().unsqueeze(0)).squeeze(0))
        if self.step_variance is not None:
            self.step_variance.copy_(self._over_time())

    def _over_time(self) -> Tensor:
        """Return the variance that directions, taken for independent, make together at every step, ``(N, M)``."""
        power, channels = self.power, self.layout.channels
        if self.directions is None:  # of single coordinates all steps are taken for alike
            return power.view(-1, channels).sum(0).expand(self.layout.length, -1) / self.layout.length
        total, groups = power.new_zeros(self.layout.length, channels), self.directions.groups
        deviation = power.view(-1, groups).sqrt()
        for numbers in torch.arange(len(deviation), device=power.device).split(CHUNK):
            one = torch.zeros(len(numbers), *deviation.shape, device=power.device)  # groups share no channel
            one[torch.arange(len(numbers), device=power.device), numbers] = deviation[numbers]
            total += self.layout.decode(self.tokens_along(one.flatten(1))).square().sum(0)
        return torch.where(total > CONSTANT_TOLERANCE**2 * total.max(), total, 0.0)  # and no rounding of constants

    def whiten(self, z: Tensor) -> Tensor:
        """Return tokens ``(B, K, F)`` over ``Λ`` as rows ``(B, n)``, whose noise is white; 0 where there is none."""
        live = self.noise_scale > 0
        return torch.where(live, z / torch.where(live, self.noise_scale, 1.0), 0.0).flatten(1)

    def along(self, z: Tensor) -> Tensor:
        """Return tokens ``(B, K, F)`` over ``Λ`` along the principal directions, ``(B, n)``; as they are without."""
        rows = self.whiten(z)
        return rows if self.directions is None else self.directions.along(rows)

    def tokens_along(self, rows: Tensor) -> Tensor:
        """Undo :meth:`along`."""
        rows = rows if self.directions is None else self.directions.back(rows)
        return rows.view(-1, *self.noise_scale.shape) * self.noise_scale

    @property
    def power(self) -> Tensor:
        """Variance of the tokens along each of these, ``(n,)``."""
        if self.directions is not None:
            return self.directions.power
        return self.whiten(self.variance.sqrt().unsqueeze(0)).squeeze(0).square()

    def to_time(self, noise: Tensor) -> Tensor:
        """Return noise in units of ``Λ``, ``(B, K, F)``, as series ``(B, N, M)``, in which white noise is white."""
        return self.layout.decode(noise * self.noise_scale)

    def from_time(self, series: Tensor) -> Tensor:
        """Undo :meth:`to_time`: ``(B, N, M)`` to ``(B, K, F)``, 0 where there is no noise."""
        live = self.noise_scale > 0
        return torch.where(live, self.layout.encode(series) / torch.where(live, self.noise_scale, 1.0), 0.0)

    def noise(self, z: Tensor, alpha: Tensor, level: Tensor) -> Tensor:
        """Return the best linear prediction of the noise in tokens ``(B, K, F)``, from all coordinates together.

        Args:
            z: Noisy tokens.
            alpha: ``α``, broadcastable to ``(B, 1, 1)``.
            level: ``σ``, the same.
        """
        assert self.directions is not None
        return self.directions.noise(self.whiten(z), alpha.flatten(1), level.flatten(1)).view_as(z)

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
        return self.standardize(self.layout.encode(self.logarithm(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Turn standardised tokens ``(B, K, F)`` into series ``(B, N, M)`` in the data's units."""
        return self.logarithm.back(self.learnt(z))

    def learnt(self, z: Tensor) -> Tensor:
        """Turn standardised tokens ``(B, K, F)`` into series ``(B, N, M)``, logarithms as they are: a linear map."""
        return self.layout.decode(self.unstandardize(z))

    def density(self) -> Tensor | None:
        """Return the training set's mean spectral density ``(K, M)``; ``None`` where tokens do not tell it."""
        if self.logarithm.channels:
            return None
        return self.layout.density((self.mean.square() + self.deviation.square()).cpu())


def _without_logarithm(codec: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Load a codec from before there were logarithms as one that has none; of a part of a codec nothing follows."""
    if prefix + "mean" in state:
        channels = cast(Codec, codec).layout.channels
        state.setdefault(f"{prefix}logarithm.taken", torch.zeros(channels))
        state.setdefault(f"{prefix}logarithm.least", torch.ones(channels))
