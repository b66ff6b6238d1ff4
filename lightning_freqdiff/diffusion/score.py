"""What the network's raw output means: the one place that turns it into a score.

Write ``s = σ(t) Λ`` for the deviation of the noise and ``v`` for the variance of a coordinate, which is 1 or 0 unless
the noise has another colour (:class:`~lightning_freqdiff.codec.Codec`). Every parametrisation is a way to write
the noise prediction ``eps``, and ``score = -eps / s``:

| name | raw output ``F`` | ``eps`` |
|---|---|---|
| ``wiener`` | unit-variance remainder of the Wiener filter | ``s z / (α²v + s²) - α √(v / (α²v + s²)) F`` |
| ``steps`` | the same of every step of time | see below |
| ``eps`` | the noise itself | ``F`` |
| ``x0`` | ``z_0`` | ``(z - α F) / s`` |
| ``score`` | score | ``-s F`` |

``wiener`` is the preconditioning of Karras et al. (EDM, arXiv 2206.00364, section 5) per frequency: with
``c_skip = αv / (α²v + s²)``, ``c_out = s √(v / (α²v + s²))`` and ``c_in = 1 / √(α²v + s²)`` the denoised
signal is ``c_skip z + c_out F(c_in z, t)``. The linear part is exact and free, and is all of it for Gaussian
data with independent frequencies. ``F`` is the network's output, plus what it was found to lack in the leading
directions (``correction.py``).

``steps`` is ``wiener`` of tokens that went to the time axis, ``D z``, where their noise is white and has deviation
``σ``, and ``v`` is their variance at every step; what it says of the noise there goes back to the tokens. A network
that sees time is so asked for what it sees: an error at one step is not spread over all, and where series hardly
differ, as on the flat tail of a heartbeat, small errors count.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.covariance import groups_of
from lightning_freqdiff.diffusion.correction import Correction
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import Architecture, Backbone, Compiled, Embedding

Parametrization = Literal["wiener", "steps", "eps", "x0", "score"]
Covariance = Literal["joint", "diagonal"]
LINEAR: tuple[Parametrization, ...] = ("wiener", "steps")
"""Those whose raw output is a remainder of unit variance."""


def suitable(architecture: Architecture, layout: Representation, covariance: Covariance) -> Parametrization:
    """Return ``steps`` where a network sees time and it is known how much varies at each step, else ``wiener``."""
    known = covariance == "joint" and groups_of(layout.tokens * layout.features, layout.channels)
    return "steps" if architecture.sees_time and known else "wiener"


class Coefficients(NamedTuple):
    """Scales at one time, each broadcastable to ``(B, K, F)``.

    ``alpha`` is ``α``, ``level`` is ``σ``, ``sigma`` is ``s = σΛ``, ``total`` is ``√(α²v + s²)``, the deviation of
    ``z_t``, or 1 where that is 0 (masked coordinates) and could not be divided by, and ``spread`` is ``α√v``.
    """

    alpha: Tensor
    level: Tensor
    sigma: Tensor
    total: Tensor
    spread: Tensor


class Score(nn.Module, ScoreFunction):
    """A backbone, the units it works in, and the meaning of its output.

    Args:
        architecture: Settings of the backbone, built here for the layout's shape.
        sde: Forward process.
        parametrization: Meaning of the raw output.
        layout: Layout of the tokens.
        sizes: Which conditions the backbone will be given.
        colour: Colour of the noise, see :class:`~lightning_freqdiff.codec.Codec`.
        covariance: Whether the covariance of all coordinates is known (``joint``), so that the network is shown the
            best linear prediction, and its own is corrected in the leading directions; or their variances alone.

    Attributes:
        correction: What the network's predictions lack in the leading directions, or ``None``.
        calibration: What was fitted to this network, by name; see ``checkpoint.py``.
    """

    def __init__(
        self,
        architecture: Architecture,
        sde: SDE,
        parametrization: Parametrization,
        layout: Representation,
        sizes: ConditionSizes = UNCONDITIONAL,
        colour: float = 1.0,
        covariance: Covariance = "diagonal",
    ) -> None:
        super().__init__()
        if parametrization not in get_args(Parametrization):
            raise ValueError(
                f"expected a parametrization of {', '.join(get_args(Parametrization))}, got "
                f"{parametrization!r}: set `model.parametrization`"
            )
        self.sde: SDE = sde
        self.parametrization: Parametrization = parametrization
        if covariance not in get_args(Covariance):
            raise ValueError(
                f"expected a covariance of {', '.join(get_args(Covariance))}, got {covariance!r}: set "
                "`model.covariance`"
            )
        linear, over_time = parametrization in LINEAR, parametrization == "steps"
        self.codec, self.sizes = Codec(layout, colour, covariance == "joint" and linear, over_time), sizes
        self.correction = None if self.codec.directions is None else Correction(self.codec)
        self.network: Backbone = architecture.build(self.codec, sizes)
        if over_time and self.network.along_tokens:
            raise ValueError(
                "expected a network that sees time, such as UNet, for parametrization steps, got "
                f"{type(architecture).__name__} over tokens: set `model.parametrization` wiener"
            )
        self.calibration: dict[str, Tensor] = {}  # pyright: ignore[reportIncompatibleVariableOverride]
        self._compiled, self._doubted = Compiled(self._call), False

    def start(self, trajectory: Trajectory) -> None:
        """Refuse a condition that the network was not built for, before anything is drawn."""
        self.sizes.check(trajectory.condition)
        # Looked at here, so that no step of the loop has to wait for a GPU.
        self._doubted = self.correction is not None and bool((self.correction.trust != 1).any())

    @property
    def noise_scale(self) -> Tensor:
        """``Λ``, ``(K, F)``."""
        return self.codec.noise_scale

    def coefficients(self, t: Tensor) -> Coefficients:
        """Return the scales at time ``t``, a scalar or ``(B,)``."""
        t = t.reshape(-1, 1, 1)
        alpha, level = self.sde.alpha(t), self.sde.sigma(t)
        sigma = level * self.noise_scale
        variance = self.codec.variance
        total = (alpha.square() * variance + sigma.square()).sqrt()
        return Coefficients(alpha, level, sigma, torch.where(total > 0, total, 1.0), alpha * variance.sqrt())

    def embed(self, z: Tensor, t: Tensor, c: Coefficients, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)``, scaled to unit variance (EDM's ``c_in``), as features ``h⁰`` and context."""
        seen = z / c.total if self.codec.step_variance is None else self._level_over_time(z, c)
        if self.network.sees_linear:
            seen = torch.cat([seen, self.codec.predict(z, c.alpha, c.level).to(seen)], dim=-1)
        return self.network.embed(seen, t, condition)

    def _over_time(self, c: Coefficients) -> tuple[Tensor, Tensor]:
        """Return the deviation of noisy tokens at every step of time, and the part of it that is not noise."""
        assert self.codec.step_variance is not None
        clean = c.alpha * self.codec.step_variance.sqrt()
        return (clean.square() + c.level.square()).sqrt(), clean

    def _level_over_time(self, z: Tensor, c: Coefficients) -> Tensor:
        """Return the tokens of series that have unit variance at every step."""
        return self.codec.layout.tokenize(self.codec.layout.decode(z) / self._over_time(c)[0])

    def wiener_eps(self, z: Tensor, c: Coefficients) -> Tensor:
        """Return the Wiener filter's noise prediction ``s z / (α²v + s²)``: the best linear one."""
        return c.sigma * z / c.total.square()

    def linear_eps(self, z: Tensor, c: Coefficients) -> Tensor:
        """Return the best linear noise prediction from all coordinates together, where their covariance is known."""
        return self.wiener_eps(z, c) if self.codec.directions is None else self.codec.noise(z, c.alpha, c.level).to(z)

    def lacking(self, z: Tensor, c: Coefficients) -> Tensor | None:
        """Return what is added to the noise prediction of tokens ``(B, K, F)``, where anything is.

        It is what the network lacks, and the linear model's part where the network is not believed all of it.
        """
        if self.correction is None:
            return None
        lacking, kept = -c.alpha * _divide(self.correction(z, c.alpha, c.level), c.sigma), self.kept(c)
        return lacking if kept is None else kept * lacking + (1 - kept) * self.linear_eps(z, c)

    def kept(self, c: Coefficients) -> Tensor | None:
        """Return the share of the network's noise prediction that is kept; ``None``: all of it."""
        if self.correction is None or not self.correction.partly:
            return None
        return self.correction.share((c.level / c.alpha).log()).to(c.total)

    def eps(self, raw: Tensor, z: Tensor, c: Coefficients, lacking: Tensor | None = None) -> Tensor:
        """Turn raw output into the noise prediction, ``(B, K, F)``, in the tokens' precision.

        Args:
            raw: Output of the network.
            z: Its noisy tokens.
            c: Scales at their times.
            lacking: :meth:`lacking` of these tokens; to be given where they are not all there are.
        """
        raw = raw.to(z.dtype)
        match self.parametrization:
            case "wiener":
                lacking = self.lacking(z, c) if lacking is None else lacking
                eps = self.wiener_eps(z, c) - c.spread / c.total * raw
            case "steps":
                lacking = self.lacking(z, c) if lacking is None else lacking
                total, clean = self._over_time(c)
                noise = c.level * self.codec.layout.decode(z) / total - clean * self.codec.to_time(raw)
                eps = self.codec.from_time(noise / total)
            case "eps":
                return raw
            case "x0":
                return _divide(z - c.alpha * raw, c.sigma)
            case "score":
                return -c.sigma * raw
        kept = self.kept(c)
        eps = eps if kept is None else kept * eps
        return eps if lacking is None else eps + lacking

    def target(self, z0: Tensor, noise: Tensor, c: Coefficients) -> tuple[Tensor, Tensor]:
        """Return what the raw output should be, and the error in ``eps`` that a unit error in it makes.

        That is of a network that is believed, as in training. Both are in the coordinates of its meaning: tokens
        ``(B, K, F)``, or time, ``(B, N, M)``, for ``steps``.

        Args:
            z0: Clean tokens, ``(B, K, F)``.
            noise: The noise added, standard normal, ``(B, K, F)``.
            c: Scales at the times of the samples.
        """
        match self.parametrization:
            case "wiener":
                unit, zt = _divide(z0, self.codec.variance.sqrt()), c.alpha * z0 + c.sigma * noise
                remainder, lacking = (c.sigma * unit - c.spread * noise) / c.total, self.lacking(zt, c)
                if lacking is not None:
                    remainder = remainder + _divide(lacking * c.total, c.spread)
                return remainder, c.spread / c.total
            case "steps":
                total, clean = self._over_time(c)
                unit, lacking = clean / total, self.lacking(c.alpha * z0 + c.sigma * noise, c)
                series = self.codec.layout.decode(z0) * c.level / total
                remainder = _divide(series, clean / c.alpha) - unit * self.codec.to_time(noise)
                if lacking is not None:
                    remainder = remainder + _divide(self.codec.to_time(lacking), unit)
                return remainder, unit
            case "eps":
                return noise, torch.ones_like(c.sigma)
            case "x0":
                return z0, _divide(c.alpha.expand_as(c.sigma), c.sigma)
            case "score":
                return -_divide(noise, c.sigma), c.sigma

    def meant(self, raw: Tensor) -> Tensor:
        """Return raw output ``(B, K, F)`` in the coordinates of its :meth:`target`."""
        return self.codec.to_time(raw) if self.parametrization == "steps" else raw

    def in_eps(self, error: Tensor, unit: Tensor) -> Tensor:
        """Return an error in these coordinates as one of the noise prediction, given what a unit makes of it."""
        return self.codec.from_time(unit * error) if self.parametrization == "steps" else unit * error

    def in_raw(self, error: Tensor, unit: Tensor) -> Tensor:
        """Undo :meth:`in_eps`; 0 where no error of the raw output makes any."""
        return _divide(self.meant(error), unit)

    def from_eps(self, eps: Tensor, c: Coefficients) -> Tensor:
        """Turn a noise prediction into the score ``-eps / s``, 0 where there is no noise."""
        return -_divide(eps, c.sigma)

    def forward(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Return the score of tokens ``(B, K, F)`` at time ``t``, a scalar or ``(B,)``."""
        if self.network.runs_compiled() and t.ndim == 0:
            return self._compiled(z, t, condition)
        return self._call(z, t, condition)

    def _call(self, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        c = self.coefficients(t)
        h, context = self.embed(z, t, c, condition)
        raw = self.network.head(self.network.blocks(h, context), context)
        return self.from_eps(self.eps(raw, z, c), c)

    def believed(self, t: Tensor) -> Tensor | None:
        """Return the share of the network's difference from the linear model that is kept at time ``t``."""
        if self.correction is None or not self._doubted:
            return None
        return self.correction.believed((self.sde.sigma(t) / self.sde.alpha(t)).log())

    def frozen(self) -> AbstractContextManager[None]:
        """Let the network keep what it derives of its weights."""
        return self.network.frozen()


def _divide(a: Tensor, scale: Tensor) -> Tensor:
    """Divide, giving 0 on masked coordinates, whose scale is 0."""
    return torch.where(scale > 0, a / torch.where(scale > 0, scale, 1.0), 0.0)
