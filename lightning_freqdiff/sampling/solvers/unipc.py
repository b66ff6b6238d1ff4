"""UniPC: a predictor and a corrector of any order, that share one network call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lightning_freqdiff.sampling.solvers.base import Level
from lightning_freqdiff.sampling.solvers.multistep import OnClean, Run, integrals, log_snr


@dataclass(frozen=True)
class UniPC(OnClean):
    """UniPC (Zhao et al., arXiv 2302.04867, appendix): multistep, of the clean estimate, with ``B₂(h)``.

    Their weights are those of the exact integral of the polynomial in half log-SNR through the calls, whatever
    ``B(h)``; but where one weight is left to choose (the predictor from two calls, the corrector from the first two)
    they put 1/2 for it, times ``B₂(h) = e^h - 1``. The last step is of first order.

    Args:
        order: Calls that a step is predicted from, 1 to 3; the corrector sees one more.
        correct: Correct each step by the next one's network call; without, it is UniP.
    """

    HIGHEST: ClassVar[int] = 3
    order: int = 3
    correct: bool = True

    def kept(self, now: Level, then: Level, run: Run) -> float:
        """Return ``σ'/σ``."""
        return then.sigma / now.sigma

    def gains(self, points: Sequence[Level], now: Level, then: Level, run: Run) -> Sequence[Any]:
        """Integrate ``σ' e^λ``; of two points, half of the difference between them."""
        if len(points) != 2:
            return integrals(points, now, then, lambda at: then.sigma * at.exp()).tolist()
        whole = then.alpha - then.sigma * now.alpha / now.sigma
        here, other = (log_snr(now), *(log_snr(p) for p in points if p is not now))
        half = 0.5 * whole * (log_snr(then) - here) / (other - here)
        return [half if p is not now else whole - half for p in points]
