"""Networks with random weights, and runs of them, for the tests of caches."""

from typing import Literal

import torch

from lightning_freqdiff.condition import UNCONDITIONAL, ConditionSizes
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import Architecture, Transformer
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample


def random_score(length: int, channels: int, seed: int = 0, preset: Literal["plain", "small"] = "plain") -> Score:
    """A transformer with weights large enough to show mistakes, and one constant coordinate."""
    torch.manual_seed(seed)
    layout = Representation("frequency", length, channels)
    network = Transformer(preset, layers=2, heads=2, width=8, feedforward=16)
    score = Score(network, VP(), "wiener", layout).eval()
    for parameter in score.network.parameters():
        torch.nn.init.normal_(parameter, std=0.4 if preset == "plain" else 0.2)
    score.codec.variance[-1, 0] = 0
    return score


def told_score(
    network: Architecture, length=24, channels=1, domain="frequency", sizes: ConditionSizes = UNCONDITIONAL
) -> Score:
    """Any network with random weights, the statistics of random walks, and whatever conditions it is to know."""
    torch.manual_seed(0)
    score = Score(network, VP(), "wiener", Representation(domain, length, channels), sizes)
    score.codec.fit([2 + 3 * torch.randn(50, length, channels).cumsum(1)])
    for parameter in score.network.parameters():  # the head starts at zero, which would hide mistakes
        torch.nn.init.normal_(parameter, std=0.2)
    return score.eval()


def draw(score_function, score: Score, count=5, first=0, num_steps=25, solver=None, seed=0):
    settings = {"solver": solver} if solver else {}
    sampling = Sampling(num_steps=num_steps, **settings)
    return sample(score_function, score.sde, score.codec, WorkUnit(seed, first, count), sampling)
