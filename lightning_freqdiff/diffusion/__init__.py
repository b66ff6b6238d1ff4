"""Forward processes, what the network's output means, and what it is trained on."""

from lightning_freqdiff.diffusion.losses import TimeDensity, Weighting, score_matching_loss
from lightning_freqdiff.diffusion.score import Coefficients, Parametrization, Score
from lightning_freqdiff.diffusion.score_function import ScoreFunction, Trajectory
from lightning_freqdiff.diffusion.sde import SDE, T_MIN, VE, VP, SubVP

__all__ = [
    "SDE",
    "T_MIN",
    "VE",
    "VP",
    "Coefficients",
    "Parametrization",
    "Score",
    "ScoreFunction",
    "SubVP",
    "TimeDensity",
    "Trajectory",
    "Weighting",
    "score_matching_loss",
]
