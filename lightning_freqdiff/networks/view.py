"""How a network sees tokens: along their frequencies, or back on the time axis.

Where the covariance of all coordinates is known, the best linear prediction is seen beside them: under strong noise,
in which single coordinates drown, it is what can be known of a series as a whole.

A spike or an edge is one place in time and a phase relation over all frequencies; an oscillation is the other way
round. What is diffused, its noise and its Wiener filter do not depend on the view.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import Condition, ConditionSizes
from lightning_freqdiff.networks.kernels import Derived


class View(Derived, ABC):
    """Tokens, covariates and observed values as rows of features, and rows of output as tokens.

    Args:
        codec: Layout and units of the tokens; not a part of the network.
        sizes: Which conditions there will be.

    Attributes:
        rows: Rows that are seen.
        inputs: Features of a row.
        outputs: Features of a row of output.
    """

    rows: int
    inputs: int
    outputs: int

    def __init__(self, codec: Codec, sizes: ConditionSizes) -> None:
        super().__init__()
        self._codec = [codec]  # in a list, so as not to be registered
        self.sizes = sizes
        self.conditions = sizes.covariates + 2 * codec.layout.channels * sizes.observed

    @property
    def codec(self) -> Codec:
        """Layout and units of the tokens."""
        return self._codec[0]

    @abstractmethod
    def see(self, z: Tensor, condition: Condition) -> Tensor:
        """Return rows ``(B, rows, inputs)`` of tokens ``(B, K, F)`` and what is known of them."""

    @abstractmethod
    def back(self, x: Tensor) -> Tensor:
        """Return raw output ``(B, K, F)`` of rows ``(B, rows, outputs)``."""

    @property
    def linear(self) -> bool:
        """Whether the best linear prediction is seen."""
        return self.codec.directions is not None

    def known(self, z: Tensor, condition: Condition) -> list[Tensor]:
        """Return covariates, observed values and mask as series, each ``(B, N, C)``; zeros where they are missing."""
        layout, found = self.codec.layout, []
        if self.sizes.covariates:
            none = z.new_zeros(len(z), layout.length, self.sizes.covariates)
            found.append(none if condition.covariates is None else condition.covariates.nan_to_num())
        if self.sizes.observed:
            none = z.new_zeros(len(z), layout.length, layout.channels)
            mask = none if condition.mask is None else condition.mask
            typical = layout.decode(self.codec.mean.unsqueeze(0))
            values = none if condition.observed is None else (condition.observed - typical) / self.deviation
            found += [torch.where(mask > 0, values, 0.0), mask]
        return [part.to(z.dtype) for part in found]

    @property
    def deviation(self) -> Tensor:
        """Deviation of the training series over time, channel by channel, ``(M,)``, by Parseval."""
        return self.derive("deviation", self._deviation)

    def _deviation(self) -> Tensor:
        codec, layout = self.codec, self.codec.layout
        whitened = torch.where(self._live, codec.deviation / self._unit, 0.0).square().sum(0)
        return (whitened.unflatten(0, (-1, layout.channels)).sum(0) / layout.length).sqrt().clamp(min=1e-12)

    @property
    def _live(self) -> Tensor:
        return self.codec.noise_scale > 0

    @property
    def _unit(self) -> Tensor:
        return torch.where(self._live, self.codec.noise_scale, 1.0)


class Frequencies(View):
    """Tokens as they are (steps, in the time domain), conditions beside them in their layout."""

    def __init__(self, codec: Codec, sizes: ConditionSizes) -> None:
        super().__init__(codec, sizes)
        layout = codec.layout
        self.rows, self.outputs = layout.tokens, layout.features
        self.inputs = layout.features * (1 + self.linear) + self.conditions * layout.parts

    def see(self, z: Tensor, condition: Condition) -> Tensor:
        """Return tokens, what is predicted of them in their deviations, and conditions as tokens."""
        layout = self.codec.layout
        z, *predicted = z.split(layout.features, dim=-1)
        unit = self.derive(
            "unit", lambda: torch.where(self.codec.variance > 0, self.codec.variance.sqrt(), torch.inf)
        )
        said = (linear / unit for linear in predicted)
        return torch.cat([z, *said, *(layout.tokenize(part) for part in self.known(z, condition))], dim=-1)

    def back(self, x: Tensor) -> Tensor:
        """Return rows as they are."""
        return x


class Steps(View):
    """Series over time: tokens as they are and in the data's colour, what is predicted of them, a ramp of positions.

    As they are, all frequencies are equally loud; times the training deviations, they are what the eye sees.
    """

    def __init__(self, codec: Codec, sizes: ConditionSizes) -> None:
        super().__init__(codec, sizes)
        layout = codec.layout
        self.rows, self.outputs = layout.length, layout.channels
        self.inputs = (2 + self.linear) * layout.channels + 1 + self.conditions

    def see(self, z: Tensor, condition: Condition) -> Tensor:
        """Return the series that the tokens stand for."""
        layout = self.codec.layout
        ramp = self.derive("ramp", lambda: torch.linspace(-1, 1, layout.length, device=z.device).to(z).view(1, -1, 1))
        deviations = self.derive("deviations", lambda: self.codec.deviation)
        z, *predicted = z.split(layout.features, dim=-1)
        coloured = layout.decode(z * deviations) / self.deviation
        said = (layout.decode(linear * self.codec.scale) / self.deviation for linear in predicted)
        rows = layout.decode(z), coloured, *said, ramp.expand(len(z), -1, -1), *self.known(z, condition)
        return torch.cat(rows, dim=-1)

    def back(self, x: Tensor) -> Tensor:
        """Return the tokens of series, each coordinate on the scale of its noise."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))  # no transform is made in bfloat16
        return self.codec.from_time(x)
