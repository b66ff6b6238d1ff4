"""What all coordinates together say of each: the linear model of data whose frequencies depend on each other.

The Wiener filter of one coordinate takes it for independent of the others. Frequencies of heartbeats are not: a beat
or a plateau is one event in time, and a phase relation over all frequencies. The best linear prediction from all of
them is known in closed form, too, wherever the covariance ``C`` of all coordinates is: with ``y = z / Λ``, whose
noise is ``σ`` in all directions, and ``C = Q diag(p) Qᵀ`` the covariance of ``y``,

    α E[z_0 | z] = Λ Q diag(α² p / (α² p + σ²)) Qᵀ y.

So the network need not learn it: under strong noise there is little else to learn, and little data to learn it from.
There are two ways to use this. ``full`` starts from it; but where a sample turns into one series or another, the best
prediction is far from linear, and a network that has to undo a linear one learns it worse, even if it may learn how
much of it to trust. ``leading`` leaves the network alone while it learns, and corrects afterwards, by least squares
over training series, what its predictions of the leading directions lack (``refit.py``).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from lightning_freqdiff.spectral import Codec

KNOTS = 9
"""Noise levels between which the share of the linear remainder is interpolated."""

DIRECTIONS, LEVELS = 16, 12
"""Leading directions that are corrected, and noise levels at which that is measured."""

COORDINATES = 2048
"""Of more coordinates than this, the covariance is not taken: it would be larger than most networks."""


class JointGaussian(nn.Module):
    """Linear remainder of the Wiener filter: what all coordinates together say beyond what each says of itself.

    Args:
        codec: Layout, units and variances of the tokens; not a part of this.
        full: Whether all directions are predicted jointly, or the leading ones corrected and nothing else.

    Attributes:
        trust: Share of the remainder that is taken at :data:`KNOTS` levels of ``log(σ/α)``, from -4 to 4, learnt; or
            ``None``.
        basis: Principal directions ``Q`` of the tokens over ``Λ``, all or the leading ones, ``(K F, n)``.
        power: Variance along each, the greatest last, ``(n,)``.
        shrinkage: Share of the covariances that was taken for chance.
        slope: What is added to the prediction of the leading directions for a unit of noisy series along each, at
            every level, ``(L, r, r)``.
        offset: What is added in any case, ``(L, r)``.
    """

    basis: Tensor
    power: Tensor
    shrinkage: Tensor
    slope: Tensor
    offset: Tensor

    def __init__(self, codec: Codec, full: bool = True) -> None:
        super().__init__()
        self._codec = [codec]  # in a list, so as not to be registered
        alone = self._alone()
        self.trust = nn.Parameter(torch.ones(KNOTS)) if full else None
        leading = min(DIRECTIONS, len(alone))
        kept = len(alone) if full else leading
        order = alone.argsort()[-kept:]
        self.register_buffer("basis", torch.eye(len(alone))[:, order])
        self.register_buffer("power", alone[order])
        self.register_buffer("shrinkage", torch.ones(()))
        self.register_buffer("slope", torch.zeros(LEVELS, leading, leading))
        self.register_buffer("offset", torch.zeros(LEVELS, leading))

    @staticmethod
    def applies(codec: Codec) -> bool:
        """Tell whether there are few enough coordinates."""
        return codec.noise_scale.numel() <= COORDINATES

    def _alone(self) -> Tensor:
        """Return the variance of each coordinate of ``y``."""
        (codec,) = self._codec
        unit = torch.where(codec.noise_scale > 0, codec.noise_scale, torch.inf)
        return (codec.variance / unit.square()).flatten()

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Take the covariance from batches of clean tokens ``(B, K, F)``, in float64.

        Correlations are shrunk by the share of them that is expected to be chance: Schäfer and Strimmer, "A shrinkage
        approach to large-scale covariance matrix estimation" (2005), target D, their table 2.
        """
        (codec,) = self._codec
        deviation = self._alone().double().sqrt()
        unit = torch.where(deviation > 0, deviation * codec.noise_scale.flatten().double(), torch.inf)
        count, products, squares = 0, torch.zeros(()), torch.zeros(())
        for batch in batches:
            rows = batch.flatten(1).double() / unit
            count, products = count + len(rows), products + rows.T @ rows
            squares = squares + rows.square().T @ rows.square()
        correlation = products / count
        chance = (squares / count - correlation.square()) / max(1, count - 1)
        apart = 1 - torch.eye(len(unit), dtype=torch.float64, device=unit.device)
        known = (correlation.square() * apart).sum()
        shrinkage = ((chance * apart).sum() / known.clamp(min=1e-300)).clamp(0, 1)
        correlation = correlation * (1 - shrinkage * apart)
        power, basis = torch.linalg.eigh(correlation * deviation.unsqueeze(1) * deviation)
        self.basis.copy_(basis[:, -len(self.power) :])
        self.power.copy_(power[-len(self.power) :].clamp(min=0))
        self.shrinkage.copy_(shrinkage)

    def forward(self, z: Tensor, alpha: Tensor, sigma: Tensor, total: Tensor, spread: Tensor) -> Tensor:
        """Return the remainder of tokens ``(B, K, F)``, in units of what is left of each coordinate.

        Args:
            z: Noisy tokens.
            alpha: ``α``, broadcastable to ``(B, 1, 1)``.
            sigma: ``σ``, the same.
            total: Deviation ``√(α²v + σ²Λ²)`` of each coordinate.
            spread: ``α √v`` of each.
        """
        (codec,) = self._codec
        scale, noise = codec.noise_scale, sigma * codec.noise_scale
        live = (scale > 0) & (spread > 0)
        # In low precision, differences of numbers that nearly agree would be nothing but rounding.
        exact = torch.float64 if z.is_cuda or z.dtype == torch.float64 else torch.float32
        with torch.autocast(z.device.type, enabled=False):
            y = torch.where(live, z / torch.where(live, scale, 1.0), 0.0).flatten(1).to(exact)
            basis = self.basis.to(exact)
            log_noise = (sigma / alpha).log()
            leading = basis[:, -self.offset.shape[1] :]
            wrong = self._wrong(y @ leading / alpha.flatten(1), log_noise.flatten())
            found = (wrong @ leading.T).view_as(z) * scale * alpha
            if self.trust is not None:
                power = self.power.to(exact) * alpha.flatten(1).square()
                gain = power / (power + sigma.flatten(1).square())
                joint = (((y @ basis) * gain) @ basis.T).view_as(z) * scale
                found = found + self._share(self.trust, log_noise) * (joint - z * (spread / total).square())
            left = torch.where(live, noise * spread, 1.0)
            return torch.where(live, found * total / left, 0.0).to(z.dtype)

    @property
    def levels(self) -> Tensor:
        """Values of ``log(σ/α)`` at which the leading directions are corrected, from quiet to loud, ``(L,)``.

        From where the weakest of them is known to where nothing is known of the strongest.
        """
        leading = self.power[-self.offset.shape[1] :]
        strong, weak = leading[-1], torch.maximum(leading[0], 1e-4 * leading[-1])
        low, high = weak.sqrt().log() - 1, strong.sqrt().log() + 2
        return torch.lerp(low, high, torch.linspace(0, 1, LEVELS).to(leading))

    def leading(self, z: Tensor) -> Tensor:
        """Return tokens ``(B, K, F)`` along the leading directions, ``(B, r)``."""
        (codec,) = self._codec
        y = torch.where(codec.noise_scale > 0, z / torch.where(codec.noise_scale > 0, codec.noise_scale, 1.0), 0.0)
        return y.flatten(1) @ self.basis[:, -self.offset.shape[1] :]

    def _wrong(self, along: Tensor, log_noise: Tensor) -> Tensor:
        """Return what the prediction of the leading directions lacks, ``(B, r)``.

        Args:
            along: Noisy series along them, in the units of clean ones, ``(B, r)``.
            log_noise: ``log(σ/α)``, ``(B,)`` or ``(1,)``.
        """
        levels = self.levels
        step = (levels[-1] - levels[0]) / (LEVELS - 1)
        place = (log_noise - levels[0]) / step
        below = place.floor().clamp(0, LEVELS - 2).long()
        within = (place - below).clamp(0, 1).to(along).reshape(-1, 1)
        # Below the levels it fades over one of them; above, a prediction falls with the square of the noise.
        fade = ((1 + place).clamp(0, 1) * (-2 * (log_noise - levels[-1]).clamp(min=0)).exp()).to(along).reshape(-1, 1)
        slope, offset = (
            torch.lerp(x[below], x[below + 1], w)
            for x, w in ((self.slope.to(along), within.unsqueeze(2)), (self.offset.to(along), within))
        )
        return fade * (torch.einsum("brs,bs->br", slope.expand(len(along), -1, -1), along) + offset)

    @staticmethod
    def _share(trust: Tensor, log_noise: Tensor) -> Tensor:
        """Interpolate the share to take; constant beyond the ends."""
        place = ((log_noise + 4) * ((KNOTS - 1) / 8)).clamp(0, KNOTS - 1)
        below = place.detach().floor().clamp(max=KNOTS - 2)
        low = trust[below.long()]
        return low + (place - below).to(low.dtype) * (trust[below.long() + 1] - low)
