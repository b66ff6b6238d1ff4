"""SpectralCache: TeaCache with a threshold by time, a bound on skips, and one bound a band (arXiv 2603.05315)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_freqdiff.caching.bands import require_frequencies
from lightning_freqdiff.caching.base import Call
from lightning_freqdiff.caching.presets import Acts, Length
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.caching.step_cache import WholeCallPolicy, WholeState
from lightning_freqdiff.caching.teacache import expected_change, relative_change
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.networks import Embedding

TADS: Acts = ("with tads", lambda s: s.tads)
CEB: Acts = ("with ceb", lambda s: s.ceb)
FDC: Acts = ("with fdc", lambda s: s.fdc)


@dataclass(frozen=True)
class SpectralCache(WholeCallPolicy):
    """Skip where the accumulated change, each band's present change, and the skips in a row are all within bounds.

    As Algorithm 1 has it (line 13), a call is skipped if and only if ``A < τ_eff``, with TeaCache's ``A += P(d)``,
    and all of these gates are open, each of which can be taken away:

    - TADS: ``τ_eff = τ s``, ``s = s_min + (s_max - s_min)(1 - cos 2πi/T) / 2``, strict at both ends.
    - CEB: fewer than ``c_max`` calls were skipped in a row.
    - FDC: the change in this step alone is at most ``τ_eff γ_low`` in the low band, and ``τ_eff γ_high`` in the high.

    Args:
        preset: ``short`` (as published, tens of steps), ``long`` (1,000 steps), or ``auto``, by the number of steps.
        tau: Threshold of the accumulated change.
        coefficients: TeaCache's polynomial, highest power first; from the calibration if not given.
        tads: Let the threshold follow the step.
        ceb: Bound the skips in a row.
        fdc: Bound the two bands apart.
        s_min: Factor of the threshold at both ends.
        s_max: Factor of the threshold half-way.
        c_max: Most skips in a row.
        gamma_low: Factor of the threshold for the low band.
        gamma_high: Factor of the threshold for the high band.
        ratio: Share of the low band.
        bands: ``channel`` splits the features, as published; ``frequency`` the tokens, where these are frequencies.
        stale: What a skipped call returns; published is the residual.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "tau": 0.6,
        "tads": True,
        "ceb": True,
        "fdc": True,
        "s_min": 0.5,
        "s_max": 1.5,
        "c_max": 2,
        "gamma_low": 0.8,
        "gamma_high": 1.5,
        "ratio": 0.5,
        "bands": "channel",
        "stale": "residual",
    }
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"short": {}, "long": {"tau": 0.5, "c_max": 1000}}
    ACTS: ClassVar[dict[str, Acts]] = {
        **dict.fromkeys(("s_min", "s_max"), TADS),
        "c_max": CEB,
        **dict.fromkeys(("gamma_low", "gamma_high", "ratio", "bands"), FDC),
    }
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        "tau": (0, math.inf),
        "s_min": (0, math.inf),
        "s_max": (0, math.inf),
        "c_max": (0, math.inf),
        "gamma_low": (0, math.inf),
        "gamma_high": (0, math.inf),
        "ratio": (0, 1),
    }
    preset: Length = "auto"
    tau: float | None = None
    coefficients: list[float] | None = None
    tads: bool | None = None
    ceb: bool | None = None
    fdc: bool | None = None
    s_min: float | None = None
    s_max: float | None = None
    c_max: int | None = None
    gamma_low: float | None = None
    gamma_high: float | None = None
    ratio: float | None = None
    bands: Literal["channel", "frequency"] | None = None
    stale: Stale | None = None

    def decide(self, score: Score, embedding: Embedding, call: Call, state: WholeState) -> Tensor:
        """Add to the accumulated change, and look at the gates."""
        now, memory, s = score.network.modulated(*embedding), state.memory, state.settings
        if "input" not in memory:
            if s.fdc and s.bands == "frequency":
                require_frequencies(score, "features", "`policy.bands` channel")
            memory["input"], memory["sum"] = now, torch.zeros_like(state.idle)
            return torch.ones_like(state.idle, dtype=torch.bool)
        before = memory["input"]
        total = memory["sum"] + expected_change(score, s.coefficients, now, before)
        tau = s.tau * _factor(s, call.step)
        due = total >= tau
        if s.ceb:
            due = due | (state.idle >= s.c_max)
        if s.fdc:
            axis = 2 if s.bands == "channel" else 1
            cut = min(max(1, round(s.ratio * now.shape[axis])), now.shape[axis] - 1)
            bands = zip(now.tensor_split([cut], axis), before.tensor_split([cut], axis), strict=True)
            low, high = (relative_change(*band) for band in bands)
            due = due | (low > tau * s.gamma_low) | (high > tau * s.gamma_high)
        memory["input"], memory["sum"] = now, torch.where(due, 0.0, total)
        return due


def _factor(s: SimpleNamespace, step: int) -> float:
    """Return TADS' factor of the threshold."""
    return s.s_min + (s.s_max - s.s_min) * (1 - math.cos(2 * math.pi * step / s.steps)) / 2 if s.tads else 1.0
