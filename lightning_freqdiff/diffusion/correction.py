"""What a trained network lacks, on average, in the directions in which series differ most: found, and added.

And how far its prediction is to be believed beside the linear model's. A network that learnt from few series, or for
a short time, may do worse under some noise than the covariance of the series does alone: held-out series show it.
Once values of a series are known, they may leave so little open that a network's error is large beside it, where the
linear model has hardly any.

Denoising is regression, so the error of a perfect prediction is uncorrelated with everything that it was made of.
Where the error of ``E[z_0 | z]`` still goes with ``z``, samples are too quiet or too loud: with a slope ``b`` along
one direction, ``d log x / d log σ`` is wrong by ``b``. A slope of 0.05 from where the noise drowns a direction to
where it is clear, an e-fold or two of noise, costs a tenth of the samples' deviation, and is far below what the loss
of a batch shows. Least squares over thousands of series sees it (``refit.py``), and adding what it finds removes it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from lightning_freqdiff.codec import Codec

MOST, LEVELS = 16, 12
"""Leading directions that are corrected, and noise levels at which that is measured."""


class Correction(nn.Module):
    """What is added to the prediction of the leading directions.

    Args:
        codec: Units and principal directions of the tokens; not a part of this.

    Attributes:
        slope: What is added for a unit of noisy series along each direction, at every level, ``(L, r, r)``.
        offset: What is added in any case, ``(L, r)``.
        kept: Share of the network's difference from the linear model that is kept at every level, ``(L,)``.
        partly: Whether that is less than all of it anywhere.
        trust: Share of the network's difference from the linear model's conditional prediction that is kept, along
            each direction, at every level, ``(L, n)``.
    """

    slope: Tensor
    offset: Tensor
    trust: Tensor
    kept: Tensor

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        assert codec.directions is not None
        self._codec, self._directions = [codec], [codec.directions]  # in lists, so as not to be registered
        leading = min(MOST, len(codec.directions.power))
        self.register_buffer("slope", torch.zeros(LEVELS, leading, leading))
        self.register_buffer("offset", torch.zeros(LEVELS, leading))
        self.register_buffer("kept", torch.ones(LEVELS))
        self.partly = False
        self.register_buffer("trust", torch.ones(LEVELS, len(codec.directions.power)))

    def forget(self) -> None:
        """Add nothing, and believe the network."""
        self.slope.zero_()
        self.offset.zero_()
        self.trust.fill_(1.0)
        self.keep(torch.ones(LEVELS))

    def keep(self, shares: Tensor) -> None:
        """Take over :attr:`kept`."""
        self.kept.copy_(shares)
        self.partly = bool((shares != 1).any())  # asked here and at no call, which a GPU would have to wait for

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self.keep(self.kept.clone())

    @property
    def power(self) -> Tensor:
        """Variance along each of the leading directions, the greatest last, ``(r,)``."""
        (directions,) = self._directions
        return directions.leading(self.offset.shape[1])[1]

    @property
    def basis(self) -> Tensor:
        """The leading directions of tokens over ``Λ``, in columns, ``(n, r)``."""
        (directions,) = self._directions
        return directions.leading(self.offset.shape[1])[0]

    @property
    def levels(self) -> Tensor:
        """Values of ``log(σ/α)`` at which errors are measured, from quiet to loud, ``(L,)``.

        From where the weakest direction is known to where nothing is known of the strongest.
        """
        strong, weak = self.power[-1], torch.maximum(self.power[0], 1e-4 * self.power[-1])
        low, high = weak.sqrt().log() - 1, strong.sqrt().log() + 2
        return torch.lerp(low, high, torch.linspace(0, 1, LEVELS, dtype=low.dtype, device=low.device))

    def along(self, z: Tensor) -> Tensor:
        """Return tokens ``(B, K, F)`` along the leading directions, ``(B, r)``."""
        (codec,) = self._codec
        with torch.autocast(z.device.type, enabled=False):
            basis = self.basis
            return codec.whiten(z).to(basis.dtype) @ basis

    def forward(self, z: Tensor, alpha: Tensor, level: Tensor) -> Tensor:
        """Return what the prediction of clean tokens lacks, ``(B, K, F)``.

        Args:
            z: Noisy tokens.
            alpha: ``α``, broadcastable to ``(B, 1, 1)``.
            level: ``σ``, the same.
        """
        (codec,) = self._codec
        with torch.autocast(z.device.type, enabled=False):
            basis = self.basis
            alpha, level = (x.flatten(1).to(basis.dtype) for x in (alpha, level))
            wrong = self._wrong(self.along(z) / alpha, (level / alpha).log().flatten())
            return ((wrong @ basis.T).view_as(z) * codec.noise_scale).to(z.dtype)

    def _wrong(self, along: Tensor, log_noise: Tensor) -> Tensor:
        """Return what is lacking along the leading directions, ``(B, r)``.

        Args:
            along: Noisy series along them, in the units of clean ones, ``(B, r)``.
            log_noise: ``log(σ/α)``, ``(B,)`` or ``(1,)``.
        """
        levels = self.levels
        place, below, within = self._between(log_noise)
        within = within.to(along).reshape(-1, 1)
        # Below the levels it fades over one of them; above, a prediction falls with the square of the noise.
        fade = ((1 + place).clamp(0, 1) * (-2 * (log_noise - levels[-1]).clamp(min=0)).exp()).to(along).reshape(-1, 1)
        slope, offset = (
            torch.lerp(x[below], x[below + 1], w)
            for x, w in ((self.slope.to(along), within.unsqueeze(2)), (self.offset.to(along), within))
        )
        return fade * (torch.einsum("brs,bs->br", slope.expand(len(along), -1, -1), along) + offset)

    def believed(self, log_noise: Tensor) -> Tensor:
        """Return :attr:`trust` between the levels, ``(n,)``, at ``log(σ/α)``, a scalar."""
        _, below, within = self._between(log_noise)
        return torch.lerp(self.trust[below], self.trust[below + 1], within.to(self.trust))

    def share(self, log_noise: Tensor) -> Tensor:
        """Return :attr:`kept` between the levels, at ``log(σ/α)`` of any shape."""
        _, below, within = self._between(log_noise)
        return torch.lerp(self.kept[below], self.kept[below + 1], within.to(self.kept))

    def _between(self, log_noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return a place among the levels, the level below it, and how far it is from that to the next, 0 to 1."""
        levels = self.levels
        place = (log_noise - levels[0]) / ((levels[-1] - levels[0]) / (LEVELS - 1))
        below = place.floor().clamp(0, LEVELS - 2).long()
        return place, below, (place - below).clamp(0, 1)
