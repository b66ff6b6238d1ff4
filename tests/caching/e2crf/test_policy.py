import json
import math
import warnings
from functools import partial

import pytest
import torch
from random_networks import draw, random_score
from slow_e2crf import SlowE2CRF
from torch.utils._python_dispatch import _disable_current_modes

from lightning_freqdiff.caching import E2CRF, CachedScore
from lightning_freqdiff.caching.base import Call, Outcome
from lightning_freqdiff.caching.e2crf.policy import _plan
from lightning_freqdiff.caching.e2crf.refresh import _intensity
from lightning_freqdiff.diffusion.score_function import Trajectory
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.networks.flops import count_flops
from lightning_freqdiff.sampling import time_grid
from lightning_freqdiff.sampling.solvers import DDIM, DPMSolverPP, EulerMaruyama, Heun, PredictorCorrector

STEPS = 25
# Everything may happen in 25 steps: triggers fire or not, refreshes come, probes are blended.
BUSY = {"preset": "paper", "R": 7, "tau0": 0.05, "K_low": 1, "probes": 2}
VARIANTS = {
    "paper": {},
    "residual": {"stale": "residual", "feedback": "full", "since": "last_refresh"},
    "output": {"stale": "output", "feedback": "off"},
    "budget": {"trigger": "budget", "budget": 0.4, "feedback": "full"},
    "error": {"trigger": "budget", "signal": "error", "budget": 0.3, "feedback": "off"},
    "low": {"below_safe": "low", "tau_safe": 0.05, "feedback": "full"},
    "skip": {"below_safe": "skip", "tau_safe": 0.2, "feedback": "full"},
    "skip_budget": {"below_safe": "skip", "tau_safe": 0.1, "trigger": "budget", "budget": 0.4},
    "uniform": {"energy_weighting": False, "tau0": 0.2},
    "kv": {"reuse": "kv", "feedback": "full"},
    "kv_paper": {"reuse": "kv", "R": 2},
    "kv_skip": {"reuse": "kv", "below_safe": "skip", "tau_safe": 0.05},
}


def make(**settings) -> E2CRF:
    """A policy, of whose settings some may have no effect."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*has no effect")
        return E2CRF(**settings)


def policy(name: str, **more) -> E2CRF:
    return make(**{**BUSY, **VARIANTS[name], **more})


def cached(score, chosen, calls=STEPS) -> CachedScore:
    return CachedScore(score, chosen, calls)


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "paper", "tau0": 0.0},
        {"preset": "paper", "trigger": "budget", "budget": 1.0},
        {"preset": "paper", "K_low": 10_000},
        {"preset": "naive", "R": 1, "feedback": "full"},
        {"preset": "balanced", "tau_safe": 0.0},
        {"preset": "paper", "tau0": 0.0, "reuse": "kv"},
        {"preset": "paper", "tau0": 0.0, "stale": "output"},
        {"preset": "paper", "tau0": 0.0, "stale": "residual"},
    ],
    ids=str,
)
def test_1_with_thresholds_at_zero_the_samples_are_those_of_no_cache_bit_for_bit(score, settings):
    wrapped = cached(score, make(**settings))
    assert torch.equal(draw(wrapped, score), draw(score, score))
    assert wrapped.ledger.totals()["hit_rate"] == 0


@pytest.mark.parametrize("name", VARIANTS)
def test_2_asked_twice_reuse_is_exact(score, name):
    chosen = policy(name, tau0=1e9, R=10_000)
    torch.manual_seed(0)
    z = torch.randn(4, *score.noise_scale.shape) * (score.noise_scale > 0)
    t = torch.tensor(0.4)
    state = chosen.begin(score, Trajectory(torch.ones(9), 1, tuple(z.shape), 0, 0))
    first, state = chosen.evaluate(score, z, Call(0, t, False, float(t)), state)
    for step in (1, 2, 3):
        again, state = chosen.evaluate(score, z, Call(step, t, False, float(t)), state)
        torch.testing.assert_close(again.eps, first.eps, atol=2e-6, rtol=2e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_3_a_batch_gives_what_single_runs_give(score, name):
    chosen = policy(name)
    batch = draw(cached(score, chosen), score, count=5, first=3)
    singles = torch.cat([draw(cached(score, chosen), score, count=1, first=3 + i) for i in range(5)])
    torch.testing.assert_close(batch, singles, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", VARIANTS)
def test_4_nothing_survives_a_trajectory(score, name):
    wrapped = cached(score, policy(name))
    once = draw(wrapped, score)
    draw(wrapped, score, count=2, first=9)  # another shape
    assert torch.equal(draw(wrapped, score), once)


def test_4_calls_out_of_place_are_refused():
    score = random_score(8, 1)
    wrapped = cached(score, E2CRF())
    z, t = torch.zeros(2, *score.noise_scale.shape), torch.tensor(0.5)
    with pytest.raises(ValueError, match="call start"):
        wrapped(z, t)
    times = time_grid(VP(), STEPS)[:-1]
    with pytest.raises(ValueError, match="`sampling.num_steps`"):
        wrapped.start(Trajectory(times[:3], 1, tuple(z.shape), 0, 0))
    wrapped.start(Trajectory(times, 1, tuple(z.shape), 0, 0))
    with pytest.raises(ValueError, match="expected calls on tokens"):
        wrapped(z[:1], t)


# A setting, the variant in which it acts, and two values.
PARAMETERS = [
    ("K_low", "paper", 1, 4),
    ("tau0", "paper", 0.01, 0.3),
    ("epsilon", "paper", 1e-6, 5.0),
    ("R", "residual", 5, 9),
    ("R", "paper", 2, 9),
    ("tau_safe", "low", 0.01, 0.2),
    ("tau_safe", "skip", 0.05, 0.4),
    ("tau_warn", "residual", 0.02, 10.0),
    ("tau_warn", "paper", 0.02, 10.0),
    ("eta", "skip", 0.0, 50.0),
    ("alpha_max", "paper", 0.0, 0.1),
    ("probes", "paper", 0, 3),
    ("budget", "budget", 0.2, 0.6),
    ("reuse", "paper", "token", "kv"),
    ("trigger", "paper", "threshold", "budget"),
    ("signal", "budget", "delta", "error"),
    ("since", "paper", "previous", "last_refresh"),
    ("stale", "paper", "output", "wiener"),
    ("stale", "paper", "residual", "wiener"),
    ("below_safe", "low", "run", "low"),
    ("below_safe", "low", "low", "skip"),
    ("feedback", "paper", "paper", "full"),
    ("feedback", "paper", "paper", "off"),
    ("energy_weighting", "paper", True, False),
]


@pytest.mark.parametrize(("setting", "variant", "one", "other"), PARAMETERS, ids=lambda v: str(v))
def test_5_every_parameter_changes_the_samples(setting, variant, one, other):
    score = random_score(31, 1)
    fixed = {**BUSY, **VARIANTS[variant]}
    if setting == "alpha_max":
        fixed["R"] = 2  # the blend starts from the intensity, which must have been measured
    a, b = (draw(cached(score, make(**{**fixed, setting: value})), score) for value in (one, other))
    assert not torch.allclose(a, b, atol=1e-4)


def test_5_every_preset_is_different():
    score = random_score(31, 1)
    names = ["paper", "balanced", "naive", "fixed_schedule", "no_feedback", "uniform_threshold"]
    given = {name: {"R": 6} if name == "balanced" else {"R": 6, "tau0": 0.3} for name in names}
    results = [draw(cached(score, make(preset=name, **given[name])), score) for name in names]
    for i, a in enumerate(results):
        assert all(not torch.allclose(a, b, atol=1e-4) for b in results[:i]), names[i]


@pytest.mark.parametrize("name", VARIANTS)
def test_6_it_says_what_it_did(name):
    score = random_score(17, 1)
    wrapped = cached(score, policy(name))
    draw(wrapped, score)
    totals, curves = wrapped.ledger.totals(), wrapped.ledger.curves()
    assert all(len(curve) == STEPS for curve in curves.values())
    assert curves["recomputed"][0] == curves["work"][0] == 1
    assert 0 < totals["hit_rate"] < 1
    assert totals["hit_rate"] == pytest.approx(sum(curves["hit_rate"]) / STEPS)
    assert totals["network_calls"] + totals["calls_skipped"] == pytest.approx(STEPS)
    assert (totals["calls_skipped"] > 0) == name.startswith("skip")
    if name.startswith("kv"):
        assert totals["flops_fraction"] > 0.7  # projections of keys and values are a small part of the work
    else:
        assert 1 - totals["hit_rate"] <= totals["flops_fraction"] + 1e-6  # samples are padded to the largest set
    assert wrapped.memory() > 4 * 5 * 9 * 8
    json.dumps(totals)


@pytest.mark.parametrize("preset", ["plain", "small"])
@pytest.mark.parametrize("name", VARIANTS)
def test_the_equations_against_a_slow_second_implementation(name, preset):
    score = random_score(13, 2, preset=preset)
    chosen = policy(name)
    tokens, features = score.noise_scale.shape
    times = time_grid(VP(), 16)[:-1]
    torch.manual_seed(1)
    z = torch.randn(3, tokens, features) * score.noise_scale
    state = chosen.begin(score, Trajectory(times, 1, tuple(z.shape), 5, 2))
    slow = [SlowE2CRF(score, chosen.settings_for(16), 5, 2 + b, tokens) for b in range(3)]
    sets = []
    with torch.no_grad():
        for step, time in enumerate(times):
            t = time.float()
            outcome, state = chosen.evaluate(score, z, Call(step, t, step == 15, float(t)), state)
            expected = torch.stack([one(z[b], t) for b, one in enumerate(slow)])
            torch.testing.assert_close(outcome.eps, expected, atol=2e-4, rtol=2e-4)
            sets.append(outcome.tokens.tolist())
            # Small steps, so that triggers have something to decide.
            z = 0.98 * z + 0.1 * torch.randn(z.shape) * score.noise_scale
    assert len({n for counts in sets for n in counts}) > 1, "nothing was decided"


def test_three_tokens_by_hand():
    """N = 4, so three tokens; recompute set, intensity and blending with numbers worked out on paper."""
    score = random_score(4, 1)
    chosen = E2CRF(preset="no_feedback", K_low=0, tau0=0.5, epsilon=0.0)
    state = chosen.begin(score, Trajectory(torch.ones(5), 1, (1, 3, 2), 0, 0))
    before = torch.tensor([[[1.0, 0.0], [1.0, 1.0], [0.5, 0.0]]])
    now = torch.tensor([[[1.0, 0.0], [1.0, 1.3], [0.5, 0.9]]])
    t = torch.tensor(0.5)
    with torch.no_grad():
        _, state = chosen.evaluate(score, before, Call(0, t, False, float(t)), state)
        # delta = (0, 0.3, 0.9); E = (1, 2.69, 1.06); tau = 0.5 / E = (0.5, 0.186, 0.472).
        plan_mask = _plan(now, Call(1, t, False, float(t)), state).mask
        assert plan_mask.tolist() == [[True, True, True]]  # 0 by K_low, 1 and 2 by the event
        state.settings = E2CRF(preset="no_feedback", K_low=0, tau0=1.0, epsilon=0.0).settings_for(5)
        # tau doubles to (1, 0.372, 0.943): no event any more.
        assert _plan(now, Call(1, t, False, float(t)), state).mask.tolist() == [[True, False, False]]
    old = torch.tensor([[[3.0, 4.0], [0.0, 0.0], [0.0, 2.0]]])
    new = torch.tensor([[[3.0, 5.0], [9.0, 9.0], [0.0, 0.0]]])
    valid = torch.tensor([[True, False, True]])
    # (1 + 4) / (25 + 4 + 1): the token that was not recomputed does not count.
    assert _intensity(new, old, valid, 1.0).item() == pytest.approx(5 / 30)


@pytest.mark.parametrize(
    "solver", [EulerMaruyama(), PredictorCorrector(), DDIM(), Heun(), DPMSolverPP(), DPMSolverPP("sde")], ids=str
)
def test_works_with_every_solver(score, solver):
    calls = 20 * solver.calls_per_step
    off = cached(score, E2CRF(preset="paper", tau0=0.0), calls)
    assert torch.equal(draw(off, score, num_steps=20, solver=solver), draw(score, score, num_steps=20, solver=solver))
    on = cached(score, E2CRF(R=5, tau_safe=10.0), calls)
    assert draw(on, score, num_steps=20, solver=solver).isfinite().all()
    assert on.ledger.totals()["hit_rate"] > 0


@pytest.mark.slow
def test_a_trained_network_keeps_its_samples(model):
    wrapped = cached(model.score, E2CRF(), 1000)
    exact, close = (draw(f, model.score, count=4, num_steps=1000) for f in (model.score, wrapped))
    assert wrapped.ledger.totals()["hit_rate"] > 0.3
    x, y = model.score.codec.decode(exact), model.score.codec.decode(close)
    assert (y - x).norm() / x.norm() < 0.03


@pytest.mark.parametrize(
    "settings",
    [
        {"R": 0},
        {"budget": 0.0},
        {"budget": 1.5},
        {"probes": -1},
        {"tau0": -1.0},
        {"preset": "magic"},
        {"preset": "auto"},
        {"K_low": -2},
    ],
    ids=str,
)
def test_bad_settings_name_themselves(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=rf"`policy\.{name}`"):
        make(**settings)


# The other settings, one that has no effect beside them, and what it takes to make it act.
IDLE = [
    ({}, {"tau0": 0.02}, {"trigger": "threshold"}),
    ({}, {"K_low": 3}, {"budget": 0.5}),
    ({"preset": "paper"}, {"tau_safe": 0.3}, {"below_safe": "skip"}),
    ({"preset": "paper"}, {"budget": 0.4}, {"trigger": "budget"}),
    ({"preset": "paper"}, {"signal": "error"}, {"trigger": "budget"}),
    ({}, {"probes": 5}, {"budget": 0.4}),
    ({"budget": 0.5}, {"alpha_max": 0.3}, {"feedback": "paper"}),
    ({"preset": "no_feedback"}, {"R": 4}, {"feedback": "full"}),
    ({"preset": "no_feedback"}, {"tau_warn": 0.4}, {"feedback": "paper"}),
    ({"preset": "no_feedback"}, {"eta": 0.1}, {"below_safe": "low"}),
    ({"preset": "fixed_schedule"}, {"since": "last_refresh"}, {"trigger": "threshold"}),
    ({"preset": "naive"}, {"epsilon": 0.1}, {"trigger": "threshold"}),
    ({"preset": "naive"}, {"energy_weighting": False}, {"trigger": "budget"}),
    ({"preset": "paper", "reuse": "kv"}, {"stale": "output"}, {"reuse": "token"}),
]


@pytest.mark.parametrize(("others", "idle", "mended"), IDLE, ids=str)
def test_a_setting_that_cannot_act_is_said_and_what_it_takes_is_right(others, idle, mended):
    (name,) = idle
    with pytest.warns(UserWarning, match=rf"`policy\.{name}` has no effect in E2CRF.*acts (with|where)"):
        E2CRF(**others, **idle)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        E2CRF(**{**others, **idle, **mended})


@pytest.mark.parametrize(("others", "idle", "mended"), IDLE, ids=str)
def test_what_is_said_to_have_no_effect_has_none(others, idle, mended):
    score = random_score(17, 1)
    a, b = (draw(cached(score, make(**chosen)), score) for chosen in (others, {**others, **idle}))
    assert torch.equal(a, b)


def test_every_setting_says_when_it_acts():
    assert set(E2CRF.ACTS) == set(E2CRF.DEFAULTS) - {"reuse", "trigger", "below_safe", "feedback"} | {"K_low"}


def test_probes_come_at_refreshes_and_are_corrected_by_a_part_of_what_they_lack():
    """Equation 14, with no other token in the recompute set: twice the ``α`` moves the probes twice as far."""
    score, t, moves = random_score(17, 1), torch.tensor(0.4), []
    settings: dict = {"K_low": -1, "probes": 3, "R": 4, "tau_warn": math.inf, "stale": "output"}
    for alpha in (0.04, 0.08):
        chosen = make(preset="paper", trigger="none", alpha_max=alpha, **settings)
        torch.manual_seed(0)
        z = torch.randn(2, *score.noise_scale.shape) * score.noise_scale
        state = chosen.begin(score, Trajectory(torch.ones(9), 1, tuple(z.shape), 0, 0))
        outcome, before = Outcome(*[torch.empty(0)] * 5), torch.empty(0)
        with torch.no_grad():
            for step in range(5):
                before = state.kept
                outcome, state = chosen.evaluate(score, z, Call(step, t, False, 0.4), state)
                assert outcome.tokens.tolist() == [{0: 9.0, 4: 3.0}.get(step, 0.0)] * 2
                z = z + 0.05 * torch.randn_like(z) * score.noise_scale
        moves.append(outcome.eps - before)
        assert ((moves[-1].abs().sum(-1) > 0).sum(1) == 3).all()
        torch.testing.assert_close(outcome.eps, state.kept)
    torch.testing.assert_close(moves[1], 2 * moves[0], rtol=1e-3, atol=1e-5)


def test_feedback_recomputes_more_than_none():
    score = random_score(17, 1)
    rates = {}
    for feedback in ("off", "paper", "full"):
        wrapped = cached(score, make(preset="paper", tau0=0.05, K_low=1, R=3, feedback=feedback))
        draw(wrapped, score)
        rates[feedback] = wrapped.ledger.totals()["hit_rate"]
    assert rates["off"] > rates["paper"] > rates["full"]


@pytest.mark.parametrize(("budget", "wanted"), [(0.6, 15), (0.07, 2), (0.28, 7), (0.04, 1), (0.041, 2), (1.0, 25)])
def test_a_budget_is_rounded_up_as_a_fraction(budget, wanted):
    score = random_score(49, 1)  # 25 tokens
    chosen = make(preset="paper", trigger="budget", budget=budget, K_low=-1, feedback="off")
    wrapped = cached(score, chosen)
    draw(wrapped, score)
    assert wrapped.ledger.curves()["recomputed"][1:] == pytest.approx([wanted / 25] * (STEPS - 1))


@pytest.mark.parametrize("name", ["paper", "skip", "kv", "kv_paper", "error"])
def test_the_flops_are_those_that_were_done(name):
    """By PyTorch's own counter, padding included; embedding and head, which always run, are not counted."""
    score = random_score(31, 1)
    for part in (score.network.token, score.network.time, score.network.out):
        part.forward = partial(without_counting, part.forward)
    wrapped = cached(score, policy(name))
    done, all_of_it = (count_flops(partial(draw, f, score, count=8)) for f in (wrapped, score))
    assert done / all_of_it == pytest.approx(wrapped.ledger.totals()["flops_fraction"], abs=0.01)


def without_counting(run, *inputs):
    with _disable_current_modes():
        return run(*inputs)


@pytest.mark.parametrize("name", ["naive", "fixed_schedule", "paper"])
def test_reused_pairs_do_not_save_calls(name):
    score = random_score(17, 1)
    ran = []
    score.network.layers[0].norm_feedforward.register_forward_pre_hook(lambda _, x: ran.append(len(x[0])))
    wrapped = cached(score, make(preset=name, reuse="kv"))
    state = wrapped.policy.begin(score, Trajectory(torch.ones(9), 1, (1, 9, 2), 0, 0))
    assert state.by_token
    draw(wrapped, score)
    totals = wrapped.ledger.totals()
    assert totals["network_calls"] == STEPS
    assert totals["calls_skipped"] == 0
    assert STEPS <= sum(ran) / 5 < STEPS + 1  # and one sample more, to count its FLOPs


def test_settings_come_from_the_call_then_the_preset_then_the_paper():
    chosen = E2CRF(preset="balanced", R=11).settings_for(1000)
    assert (chosen.R, chosen.below_safe, chosen.tau0, chosen.tau_warn) == (11, "skip", 0.01, 0.5)
    paper = E2CRF(preset="paper").settings_for(1000)
    assert (paper.tau0, paper.epsilon, paper.R, paper.tau_safe, paper.tau_warn) == (0.01, 1e-6, 50, 0.1, 0.5)
    state = E2CRF(preset="paper").begin(random_score(187, 1), Trajectory(torch.ones(1), 1, (1, 94, 2), 0, 0))
    assert int(state.low.sum()) == 187 // 10 + 1


def test_no_warnings_are_raised_by_a_run():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = random_score(9, 1)
        draw(cached(score, E2CRF()), score)
