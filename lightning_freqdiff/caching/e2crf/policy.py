"""E²-CRF: error-feedback, event-driven caching of tokens (Liu, Wang, Yu, arXiv 2604.22901).

Every decision is made for each sample by itself. At step ``i`` of a sample the recompute set is

    S = {0 ... K_low} ∪ {κ : δ_κ > τ_κ} ∪ P        (equation 13)

with ``δ_κ`` the change of the token's input, ``τ_κ = τ₀ / (ε + E_κ)`` the energy-weighted threshold (A.6.2) and ``P``
random probes. Tokens in ``S`` run through the blocks and attend to fresh and cached keys and values (Algorithm 1);
the others return their past. The event intensity ``r`` (equation 12) says how much the features change; a refresh
comes when ``i mod R = 0`` or ``r > τ_warn``. Where the text is open, each reading is a named option.

The text probes and corrects at refreshes, ``ẑ_κ ← ẑ_κ + α (z_κ - ẑ_κ)`` (equation 14). We read this as ``P`` being
empty at all other steps: probes that were recomputed at every step and taken whole would do more than the feedback.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.e2crf.refresh import Plan, TokenState, fill, refresh, refresh_pairs
from lightning_freqdiff.caching.e2crf.tokens import require_tokens
from lightning_freqdiff.caching.presets import Acts
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.sampling.noise import PROBE_STREAM, normal_stream


def chooses(s: SimpleNamespace) -> bool:
    """Tell whether tokens are chosen at all; else a call recomputes all of them or none."""
    return s.trigger != "budget" or s.budget < 1 or s.below_safe == "low"


def splits(s: SimpleNamespace) -> bool:
    """Tell whether a call may recompute some tokens without the others, which takes a network with tokens."""
    return chooses(s) and (s.trigger != "none" or s.K_low != -1 or probes(s))


def probes(s: SimpleNamespace) -> bool:
    """Tell whether there are probes."""
    return chooses(s) and s.feedback != "off" and s.probes > 0


def corrects(s: SimpleNamespace) -> bool:
    """Tell whether a refresh does anything that another call does not."""
    if s.feedback == "paper":
        return probes(s)
    return s.feedback == "full" and (chooses(s) or s.below_safe == "skip")


def ranks(s: SimpleNamespace) -> bool:
    """Tell whether tokens are ranked."""
    return s.trigger == "budget" and s.budget < 1


def measures(s: SimpleNamespace) -> bool:
    """Tell whether the change of a token's input is looked at."""
    return s.trigger == "threshold" or (ranks(s) and s.signal == "delta")


MEASURING = "with trigger threshold, or budget below 1 by signal delta"
REFRESHING = "with feedback paper and probes, or feedback full where not every call recomputes all"


@dataclass(frozen=True)
class E2CRF(CachePolicy):
    """E²-CRF. A setting that is not given comes from the preset, and else from the paper.

    Args:
        preset: ``paper``, ``balanced`` (ours: it skips whole calls), or an ablation of Table 2:
            ``naive`` (filled once), ``fixed_schedule``, ``no_feedback``, ``uniform_threshold``.
        K_low: Highest frequency that is always recomputed, by the number of its token; N // 10 if not given, or what
            else is below a tenth of a cycle per step; -1 for none, as there is where tokens are no frequencies.
        tau0: Base threshold of the event trigger.
        epsilon: Added to a token's energy in the threshold.
        R: Steps between refreshes.
        tau_safe: Event intensity below which less is done, see below_safe.
        tau_warn: Event intensity above which everything is refreshed.
        eta: Added to the features' energy in the event intensity.
        alpha_max: Largest blending factor of the paper's feedback.
        probes: Random tokens that are recomputed besides; see feedback.
        budget: Share of the tokens that trigger ``budget`` recomputes; 1 recomputes all.
        reuse: ``token`` skips whole blocks for cached tokens; ``kv`` only their key and value projections, as
            Algorithm 1 has it. What is kept, and corrected, are then keys and values.
        trigger: ``threshold`` is the paper's; ``budget`` takes the top share of tokens; ``none``.
        signal: What trigger budget ranks by: ``delta`` (the change over its threshold) or ``error`` (steps since the
            last refresh times the rate of error seen there).
        since: What a token's change is measured against: its value one step before, or at its last refresh.
        stale: What a cached token returns: its last output, its residual on the fresh embedding, or its last
            Wiener remainder under the present input.
        below_safe: At intensities below tau_safe, go on as ever (``run``: the text lists tau_safe but never uses
            it), recompute the low frequencies and probes only (``low``), or skip the call until the intensity,
            growing at its last rate, passes tau_safe (``skip``).
        feedback: ``paper`` probes at refreshes, and corrects what is kept of the probes by min(alpha_max, r/2) of
            what they lack (equation 14); ``full`` recomputes all tokens at refreshes, and probes at every call to
            measure the error; ``off`` does neither.
        energy_weighting: Divide the threshold by the token's energy.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {
        "tau0": 0.01,
        "epsilon": 1e-6,
        "R": 50,
        "tau_safe": 0.1,
        "tau_warn": 0.5,
        "eta": 1e-6,
        "alpha_max": 0.1,
        "probes": 2,
        "budget": 0.35,
        "reuse": "token",
        "trigger": "threshold",
        "signal": "delta",
        "since": "previous",
        "stale": "wiener",
        "below_safe": "run",
        "feedback": "paper",
        "energy_weighting": True,
    }
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {
        # The text's defaults, its threshold in absolute units. The text reuses z_L, and so the raw output; with the
        # Wiener parametrisation that is the remainder under the present input (stale: wiener).
        "paper": {},
        # Ours, from benchmarks/results/e2crf.md.
        "balanced": {
            "trigger": "budget",
            "below_safe": "skip",
            "feedback": "full",
            "tau_safe": 0.02,
            "R": 8,
            "budget": 1.0,
        },
        # The ablations of the paper's Table 2.
        "naive": {"trigger": "none", "K_low": -1, "probes": 0, "feedback": "off"},
        "fixed_schedule": {"trigger": "none", "K_low": -1, "probes": 0, "feedback": "full", "tau_warn": math.inf},
        "no_feedback": {"feedback": "off"},
        "uniform_threshold": {"energy_weighting": False},
    }
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {
        **dict.fromkeys(("probes", "tau0", "epsilon", "tau_safe", "tau_warn", "eta", "alpha_max"), (0, math.inf)),
        "R": (1, math.inf),
        "K_low": (-1, math.inf),
        "budget": (1e-9, 1),
    }
    ACTS: ClassVar[dict[str, Acts]] = {
        "K_low": ("where tokens are chosen: with a budget below 1, or another trigger", chooses),
        "tau0": ("with trigger threshold", lambda s: s.trigger == "threshold"),
        "epsilon": (MEASURING, lambda s: measures(s) and (s.trigger == "threshold" or s.energy_weighting)),
        "energy_weighting": (MEASURING, measures),
        "since": (MEASURING, measures),
        "R": (REFRESHING, corrects),
        "tau_warn": (REFRESHING, corrects),
        "tau_safe": ("with below_safe low or skip", lambda s: s.below_safe != "run"),
        "eta": ("with below_safe low or skip, or " + REFRESHING, lambda s: s.below_safe != "run" or corrects(s)),
        "alpha_max": ("with feedback paper and probes", lambda s: s.feedback == "paper" and probes(s)),
        "probes": ("with feedback, and where tokens are chosen", lambda s: chooses(s) and s.feedback != "off"),
        "budget": ("with trigger budget", lambda s: s.trigger == "budget"),
        "signal": ("with trigger budget below 1", ranks),
        "stale": ("with reuse token", lambda s: s.reuse == "token"),
    }
    preset: Literal["paper", "balanced", "naive", "fixed_schedule", "no_feedback", "uniform_threshold"] = "balanced"
    K_low: int | None = None
    tau0: float | None = None
    epsilon: float | None = None
    R: int | None = None
    tau_safe: float | None = None
    tau_warn: float | None = None
    eta: float | None = None
    alpha_max: float | None = None
    probes: int | None = None
    budget: float | None = None
    reuse: Literal["token", "kv"] | None = None
    trigger: Literal["threshold", "budget", "none"] | None = None
    signal: Literal["delta", "error"] | None = None
    since: Literal["previous", "last_refresh"] | None = None
    stale: Stale | None = None
    below_safe: Literal["run", "low", "skip"] | None = None
    feedback: Literal["paper", "full", "off"] | None = None
    energy_weighting: bool | None = None

    def begin(self, score: Score, trajectory: Trajectory) -> TokenState:
        """Start with nothing cached."""
        s = self.settings_for(len(trajectory.times) // trajectory.calls_per_step)
        if by_token := splits(s) or s.reuse == "kv":
            require_tokens(score.network)
        batch, tokens, _ = trajectory.shape
        device, samples = score.noise_scale.device, batch // trajectory.copies
        shape = (samples, tokens, 1)
        draws = normal_stream(trajectory.seed, trajectory.first, shape, device, PROBE_STREAM)
        return TokenState(
            settings=s,
            low=_low(score, s.K_low).to(device),
            probes=(draw.repeat(trajectory.copies, 1, 1) for draw in draws),
            intensity=torch.full((batch,), math.inf, device=device),
            rate=torch.full((batch,), math.inf, device=device),
            idle=torch.zeros(batch, device=device),
            age=torch.zeros(batch, tokens, device=device),
            error_rate=torch.ones(batch, tokens, device=device),
            by_token=by_token,
        )

    def evaluate(self, score: Score, z: Tensor, call: Call, state: TokenState) -> tuple[Outcome, TokenState]:
        """Decide per sample, recompute what was decided, and return the past for the rest."""
        s, c = state.settings, score.coefficients(call.t)
        if not state.kept.numel():
            return fill(score, z, call, c, state), state
        state.idle, state.age = state.idle + 1, state.age + 1
        outcome = (refresh_pairs if s.reuse == "kv" else refresh)(score, z, call, c, state, _plan(z, call, state))
        if s.since == "previous":
            state.z = z
        return outcome, state


def _low(score: Score, highest: int | None) -> Tensor:
    """Return which tokens are always recomputed, ``(K,)``."""
    layout = score.codec.layout
    if highest is None and layout.frequencies is not None:
        return layout.frequencies <= 0.1
    return torch.arange(layout.tokens) <= (-1 if highest is None else highest)


def _plan(z: Tensor, call: Call, state: TokenState) -> Plan:
    """Make the recompute set of every sample."""
    s = state.settings
    due = (state.intensity > s.tau_warn) | (call.step % s.R == 0)
    triggered = state.low | _triggered(z, state)
    picked = _pick(state, triggered)
    if s.feedback == "paper":
        picked = picked & due.unsqueeze(1)
    mask = triggered | picked
    if s.below_safe == "skip":
        mask = mask & (state.rate * state.idle >= s.tau_safe).unsqueeze(1)
    elif s.below_safe == "low":
        mask = torch.where((state.intensity < s.tau_safe).unsqueeze(1), state.low | picked, mask)
    if s.feedback == "full":
        return Plan(mask | due.unsqueeze(1), picked, None)
    return Plan(mask | picked, picked, (state.intensity / 2).clamp(max=s.alpha_max))


def _triggered(z: Tensor, state: TokenState) -> Tensor:
    """Return the tokens that the event trigger fires on, ``(B, K)``."""
    s, tokens = state.settings, z.shape[1]
    if s.trigger == "none" or (s.trigger == "budget" and s.budget == 1):
        return torch.full_like(state.age, s.trigger == "budget", dtype=torch.bool)
    if s.trigger == "budget" and s.signal == "error":
        priority = state.age * state.error_rate
    else:
        delta = (z - state.z).square().sum(-1).sqrt()
        energy = z.square().sum(-1) if s.energy_weighting else 1.0
        if s.trigger == "threshold":
            return delta > s.tau0 / (s.epsilon + energy)
        priority = delta * (s.epsilon + energy)  # delta / tau, with no division by a tau0 of 0
    wanted = math.ceil(round(s.budget * tokens, 6))  # 0.07 of 100 are 7, although 0.07 * 100 is more
    return priority.argsort(dim=1, descending=True, stable=True).argsort(dim=1) < wanted


def _pick(state: TokenState, triggered: Tensor) -> Tensor:
    """Pick random tokens among those that would not be recomputed, ``(B, K)``."""
    picked = torch.zeros_like(triggered)
    if not probes(state.settings):
        return picked
    draw = next(state.probes).squeeze(-1).masked_fill(triggered, -math.inf)
    best = draw.topk(min(state.settings.probes, draw.shape[1]), dim=1)
    return picked.scatter(1, best.indices, best.values > -math.inf)
