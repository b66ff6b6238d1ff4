"""E²-CRF: error-feedback, event-driven caching of tokens (Liu, Wang, Yu, arXiv 2604.22901).

Every decision is made for each sample by itself. At step ``i`` of a sample the recompute set is

    S = {0 ... K_low} ∪ {κ : δ_κ > τ_κ} ∪ P        (equation 13)

with ``δ_κ`` the change of the token's input, ``τ_κ = τ₀ / (ε + E_κ)`` the energy-weighted threshold (A.6.2) and ``P``
random probes. Tokens in ``S`` run through the blocks and attend to fresh and cached keys and values (Algorithm 1);
the others return their past. The event intensity ``r`` (equation 12) says how much the features change; a refresh
comes when ``i mod R = 0`` or ``r > τ_warn``. Where the text is open, each reading is a named option.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_freqdiff.caching.base import CachePolicy, Call, Outcome
from lightning_freqdiff.caching.e2crf.refresh import Plan, TokenState, fill, refresh, refresh_pairs
from lightning_freqdiff.caching.e2crf.tokens import require_tokens
from lightning_freqdiff.caching.reuse import Stale
from lightning_freqdiff.diffusion.score import Score, Trajectory
from lightning_freqdiff.networks import Backbone, Embedding
from lightning_freqdiff.networks.flops import count_flops
from lightning_freqdiff.sampling.noise import PROBE_STREAM, normal_stream

PRESETS: dict[str, dict[str, Any]] = {
    # The text's defaults, its threshold in absolute units. The text reuses z_L, and so the raw output; with the
    # Wiener parametrisation that is the remainder under the present input (stale: wiener).
    "paper": {},
    # Ours, from benchmarks/results/e2crf.md.
    "balanced": {
        "trigger": "budget",
        "signal": "error",
        "below_safe": "skip",
        "feedback": "full",
        "stale": "wiener",
        "since": "last_refresh",
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

TOKEN_SETTINGS = ("K_low", "tau0", "epsilon", "probes", "signal", "since", "energy_weighting")
"""Settings that choose tokens, and so say nothing where all are run."""

DEFAULTS: dict[str, Any] = {
    "K_low": None,
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
    "reach": 2.0,
    "tolerance": 0.05,
}


@dataclass(frozen=True)
class E2CRF(CachePolicy):
    """E²-CRF. A setting that is not given comes from the preset, and else from the paper.

    Args:
        preset: ``paper``, ``balanced`` (ours: it skips whole calls), or an ablation of Table 2:
            ``naive`` (filled once), ``fixed_schedule``, ``no_feedback``, ``uniform_threshold``.
        K_low: Highest frequency that is always recomputed; N // 10 if not given, -1 for none.
        tau0: Base threshold of the event trigger.
        epsilon: Added to a token's energy in the threshold.
        R: Steps between refreshes.
        tau_safe: Event intensity below which less is done, see below_safe.
        tau_warn: Event intensity above which everything is refreshed.
        eta: Added to the features' energy in the event intensity.
        alpha_max: Largest blending factor of the paper's feedback.
        probes: Random tokens recomputed at every call, to learn the error of the others.
        budget: Share of the tokens that trigger ``budget`` recomputes; 1 recomputes all.
        reuse: ``token`` skips whole blocks for cached tokens; ``kv`` only their key and value projections, as
            Algorithm 1 has it.
        trigger: ``threshold`` is the paper's; ``scaled`` multiplies the threshold by the change that one step
            is expected to make; ``budget`` takes the top share of tokens; ``none``.
        signal: What trigger budget ranks by: ``delta`` (the change over its threshold), ``age`` (steps since
            the last refresh) or ``error`` (age times the rate of error seen at the last refresh).
        since: What a token's change is measured against: its value one step before, or at its last refresh.
        stale: What a cached token returns: its last output, its residual on the fresh embedding, or its last
            Wiener remainder under the present input.
        below_safe: At intensities below tau_safe, go on as ever (``run``: the text lists tau_safe but never uses
            it), recompute the low frequencies and probes only (``low``), or skip the call until the intensity,
            growing at its last rate, passes tau_safe (``skip``).
        feedback: At a refresh, ``paper`` blends the probes by min(alpha_max, r/2); ``full`` recomputes all;
            ``propagate`` does that too, and at every call spreads the probes' residual over neighbouring
            frequencies and lets its size set the next budget; ``off``.
        energy_weighting: Divide the threshold by the token's energy.
        reach: Frequencies over which feedback propagate spreads a residual.
        tolerance: Error of the noise prediction that feedback propagate aims at.
    """

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
    trigger: Literal["threshold", "scaled", "budget", "none"] | None = None
    signal: Literal["delta", "age", "error"] | None = None
    since: Literal["previous", "last_refresh"] | None = None
    stale: Stale | None = None
    below_safe: Literal["run", "low", "skip"] | None = None
    feedback: Literal["paper", "full", "propagate", "off"] | None = None
    energy_weighting: bool | None = None
    reach: float | None = None
    tolerance: float | None = None

    def __post_init__(self) -> None:
        chosen = self.settings
        limits = {"R": 1, "probes": 0, "tau0": 0, "epsilon": 0, "tau_safe": 0, "tau_warn": 0, "eta": 0}
        limits |= {"tolerance": 1e-9, "reach": 1e-9, "alpha_max": 0}
        for name, least in limits.items():
            if getattr(chosen, name) < least:
                raise ValueError(f"expected {name} >= {least}, got {getattr(chosen, name)}: set `policy.{name}`")
        if not 0 < chosen.budget <= 1:
            raise ValueError(f"expected budget in (0, 1], got {chosen.budget}: set `policy.budget`")
        if chosen.K_low is not None and chosen.K_low < -1:
            raise ValueError(f"expected K_low >= -1, got {chosen.K_low}: set `policy.K_low`")
        idle = [name for name in TOKEN_SETTINGS if getattr(self, name) is not None]
        if idle and chosen.trigger == "budget" and chosen.budget == 1:
            warnings.warn(
                f"{', '.join(idle)} has no effect here: preset {self.preset} decides on whole calls (budget 1); "
                "lower `policy.budget`, or choose `policy.preset` paper",
                stacklevel=4,
            )

    @cached_property
    def settings(self) -> SimpleNamespace:
        """Every setting, from what was given, the preset and the paper, in this order."""
        if self.preset not in PRESETS:
            raise ValueError(f"expected a preset of {', '.join(PRESETS)}, got {self.preset!r}: set `policy.preset`")
        given = {name: value for name, value in asdict(self).items() if value is not None}
        return SimpleNamespace(**{**DEFAULTS, **PRESETS[self.preset], **given})

    def begin(self, score: Score, trajectory: Trajectory) -> TokenState:
        """Start with nothing cached."""
        if by_token := not self._decides_on_whole_calls():
            require_tokens(score.network)
        batch, tokens, _ = trajectory.shape
        device, samples = score.noise_scale.device, batch // trajectory.copies
        low = self.settings.K_low
        if low is None:
            in_time = bool((score.noise_scale == 1).all())
            low = (tokens if in_time else 2 * (tokens - 1)) // 10  # N // 10, from K = N // 2 + 1
        return TokenState(
            low=torch.arange(tokens, device=device) <= low,
            probes=(
                draw.repeat(trajectory.copies, 1, 1)
                for draw in normal_stream(
                    trajectory.seed, trajectory.first, (samples, tokens, 1), device, PROBE_STREAM
                )
            ),
            intensity=torch.full((batch,), math.inf, device=device),
            rate=torch.full((batch,), math.inf, device=device),
            idle=torch.zeros(batch, device=device),
            age=torch.zeros(batch, tokens, device=device),
            error_rate=torch.ones(batch, tokens, device=device),
            budget=torch.full((batch,), float(self.settings.budget), device=device),
            by_token=by_token,
        )

    def _decides_on_whole_calls(self) -> bool:
        s = self.settings
        return s.trigger == "budget" and s.budget == 1 and s.feedback != "propagate" and s.reuse == "token"

    def evaluate(self, score: Score, z: Tensor, call: Call, state: TokenState) -> tuple[Outcome, TokenState]:
        """Decide per sample, recompute what was decided, and return the past for the rest."""
        s, c = self.settings, score.coefficients(call.t)
        tokens = torch.tensor(float(z.shape[1]), device=z.device).expand(len(z))
        unknown = torch.full((len(z),), math.nan, device=z.device)
        if not state.kept.numel():
            eps = fill(score, z, call, c, state, s.stale)
            if s.reuse == "kv":
                embedding = score.embed(z, call.t, c, call.condition)
                state.pairs_share = _pairs_share(score.network, embedding)
            return Outcome(eps, tokens, torch.ones_like(unknown), unknown, unknown), state
        state.idle, state.age = state.idle + 1, state.age + 1
        plan = self._plan(score, z, call, state)
        done = plan.mask.sum(1).float()
        if s.reuse == "kv":
            eps, intensity = refresh_pairs(score, z, call, c, state, plan.mask, s.eta)
            work = 1 - (1 - done / tokens) * state.pairs_share
            outcome = Outcome(eps, done, work, intensity, unknown)
        else:
            result = refresh(score, z, call, c, state, plan, s.stale, s.eta, s.reach)
            outcome = Outcome(result[0], done, done / tokens, *result[1:])
            if s.feedback == "propagate":
                ratio = (outcome.error.nan_to_num(s.tolerance**2) / s.tolerance**2).pow(0.25)
                state.budget = (state.budget * ratio).clamp(1 / z.shape[1], 1.0)
        if s.since == "previous":
            state.z = z
        return outcome, state

    def _plan(self, score: Score, z: Tensor, call: Call, state: TokenState) -> Plan:
        """Make the recompute set of every sample."""
        s = self.settings
        due = state.intensity > s.tau_warn
        if call.step % s.R == 0:
            due = torch.ones_like(due)
        if self._decides_on_whole_calls():
            triggered = torch.ones_like(state.age, dtype=torch.bool)  # whole calls: no token needs choosing
            probes = ~triggered
        else:
            triggered = state.low | self._triggered(score, z, call, state)
            probes = self._probes(state, triggered)
        mask = triggered | probes
        if s.below_safe == "skip":
            mask = mask & (state.rate * state.idle >= s.tau_safe).unsqueeze(1)
        elif s.below_safe == "low":
            mask = torch.where((state.intensity < s.tau_safe).unsqueeze(1), state.low | probes, mask)
        blend = torch.ones_like(state.intensity)
        if s.feedback in ("full", "propagate"):
            mask = mask | due.unsqueeze(1)
        elif s.feedback == "paper":
            mask = mask | (probes & due.unsqueeze(1))
            blend = torch.where(due, (state.intensity / 2).clamp(max=s.alpha_max), blend)
        return Plan(mask, probes & mask, blend, s.feedback == "propagate")

    def _triggered(self, score: Score, z: Tensor, call: Call, state: TokenState) -> Tensor:
        """Return the tokens that the event trigger fires on, ``(B, K)``."""
        s = self.settings
        if s.trigger == "none":
            return torch.zeros_like(state.age, dtype=torch.bool)
        delta = (z - state.z).square().sum(-1).sqrt()
        energy = z.square().sum(-1) if s.energy_weighting else 1.0
        threshold = s.tau0 / (s.epsilon + energy)
        if s.trigger == "threshold":
            return delta > threshold
        if s.trigger == "scaled":
            scale = score.noise_scale.square().sum(-1).sqrt()
            return delta > threshold * score.sde.diffusion(call.t) * math.sqrt(call.gap) * scale
        if s.signal == "delta":
            priority = delta * (s.epsilon + energy)  # delta / tau, with no division by a tau0 of 0
        else:
            priority = state.age * state.error_rate if s.signal == "error" else state.age
        wanted = (state.budget * z.shape[1]).ceil().unsqueeze(1)
        return priority.argsort(dim=1, descending=True, stable=True).argsort(dim=1) < wanted

    def _probes(self, state: TokenState, triggered: Tensor) -> Tensor:
        """Pick random tokens among those that would not be recomputed, ``(B, K)``."""
        draw = next(state.probes).squeeze(-1).masked_fill(triggered, -math.inf)
        probes = torch.zeros_like(triggered)
        if not self.settings.probes:
            return probes
        best = draw.topk(min(self.settings.probes, draw.shape[1]), dim=1)
        return probes.scatter(1, best.indices, best.values > -math.inf)


def _pairs_share(network: Backbone, embedding: Embedding) -> float:
    """Return the share of the FLOPs that is in projecting keys and values, for one sample."""
    one = embedding.take(torch.zeros(1, dtype=torch.long, device=embedding.features.device))
    projections = sum(count_flops(block.keys_values, *one) for block in require_tokens(network))
    return projections / count_flops(network.blocks, *one)
