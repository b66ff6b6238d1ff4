"""Series that follow the linear model to the letter: their exact score, and values observed of them."""

import torch
from oracle import GaussianScore

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.sampling import Conditions


class Fixed(Conditions):
    """The same values observed of every sample."""

    def __init__(self, observed: torch.Tensor, mask: torch.Tensor) -> None:
        self.known = Condition(observed=observed.unsqueeze(0), mask=mask.unsqueeze(0))

    def rows(self, first, count):
        return self.known.take(torch.zeros(count, dtype=torch.long))


def known_covariance(codec) -> torch.Tensor:
    """The covariance of tokens over ``Λ`` that a codec knows, ``(n, n)``, in float64."""
    directions = codec.directions
    basis = directions.back(torch.eye(len(directions.power), dtype=torch.float64))  # in rows
    return basis.T * directions.power.double() @ basis


def exact_score(codec, sde) -> GaussianScore:
    """The score of series that follow the linear model to the letter."""
    scale = codec.noise_scale.double().flatten()
    directions = codec.directions
    if directions is None:
        return GaussianScore(sde, codec.noise_scale, torch.diag(codec.variance.double().flatten()))
    return GaussianScore(sde, codec.noise_scale, known_covariance(codec) * scale * scale.unsqueeze(1))


def observed_of(codec, mask, seed=7):
    """A draw of the linear model, of which some is seen."""
    noise = torch.randn(1, codec.noise_scale.numel(), generator=torch.Generator().manual_seed(seed))
    x = gaussian_of(codec).draw(torch.zeros(1, *mask.shape), torch.zeros(1, *mask.shape), noise)[0]
    return torch.where(mask > 0, x, torch.nan)
