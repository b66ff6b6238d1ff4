"""Classifier-free guidance: away from what a model would draw if it were told nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lightning_freqdiff.condition import Condition
from lightning_freqdiff.diffusion.score_function import ScoreFunction
from lightning_freqdiff.sampling.guidance import Guidance, both

GUIDING = ("label", "static")
"""What is forgotten; covariates at every step and observed values stay known."""


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """Follow ``untold + scale (told - untold)``: Ho and Salimans, arXiv 2207.12598, with ``scale`` their ``1 + w``.

    Both scores are asked for as one batch of twice the size. Samples become more typical of their class, and less
    various. Kynkäänniemi et al. (arXiv 2404.07724) found that guidance helps at medium noise alone, and does harm at
    strong noise: ``interval`` says when it acts.

    Args:
        scale: 1 is no guidance, and costs nothing; 0 leaves label and static covariates unsaid.
        interval: Diffusion times between which it acts, from 0 (data) to 1 (noise).
    """

    copies = 2
    strength = "guidance_scale"
    scale: float = 2.0
    interval: tuple[float, float] = (0.0, 1.0)  # pyright: ignore[reportIncompatibleVariableOverride]

    def __post_init__(self) -> None:
        low, high = self.interval
        if not 0 <= low < high <= 1:
            raise ValueError(
                f"expected an interval of times within 0 and 1, the lower first, got {low:g} and {high:g}: set "
                "`sampling.guidance.interval`"
            )
        if not abs(self.scale) < float("inf"):
            raise ValueError(f"expected a finite scale, got {self.scale}: set `sampling.guidance_scale`")

    @property
    def acts(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Not with a scale of 1."""
        return self.scale != 1

    def guide(self, score: ScoreFunction, z: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Go ``scale`` times the way from the score without label and static covariates to that with them."""
        if condition.label is None and condition.static is None:
            raise ValueError(
                "expected a label or static covariates to guide towards, got none: set `sampling.label`, or leave "
                "`sampling.guidance_scale` out"
            )
        told, untold = both(score, z, t, condition, condition.without(*GUIDING))
        return untold + self.scale * (told - untold)
