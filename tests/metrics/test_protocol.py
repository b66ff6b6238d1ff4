"""The published protocol: its scale, its networks, its loss and its repetitions, against second implementations."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import max_pool1d
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    ContextFID,
    CorrelationalScore,
    DiscriminativeScore,
    PostHoc,
    PredictiveScore,
    TS2Vec,
    context_fid,
    correlational_score,
    discriminative_score,
    predictive_score,
    repeated,
    unit_scale,
)
from lightning_freqdiff.metrics.context_fid import fit_context_encoder
from lightning_freqdiff.metrics.contrastive import hierarchical_contrast
from lightning_freqdiff.metrics.post_hoc import RecurrentHead, build, draw_distinct
from lightning_freqdiff.metrics.protocol import initialize_like_timegan, student_quantile, timegan_network
from lightning_freqdiff.metrics.ts2vec import TS2VecEncoder, shifted_crops, shifted_views, train_ts2vec

QUICK = PostHoc(hidden=4, layers=1, steps=150, batch_size=32, lr=0.03)
SMALL = TS2Vec(embedding=8, hidden=8, depth=2, steps=30)


def white(n: int, seed: int = 0, length: int = 12, channels: int = 1) -> Tensor:
    return torch.randn(n, length, channels, generator=torch.Generator().manual_seed(seed))


def sines(n: int, seed: int = 0, pace: float = 0.6, length: int = 16, channels: int = 2) -> Tensor:
    phase = torch.rand(n, 1, channels, generator=torch.Generator().manual_seed(seed)) * 2 * torch.pi
    return torch.sin(phase + pace * torch.arange(length)[:, None])


# Scale and repetitions


def test_unit_scale_is_numpy_s_over_the_whole_reference() -> None:
    x, real = white(9, channels=3) * 1e3, white(7, seed=1, channels=3) * torch.tensor([1.0, 1e4, 1e-4]) + 5
    low, high = real.numpy().min((0, 1)), real.numpy().max((0, 1))
    assert_close(unit_scale(x, real), torch.tensor((x.numpy() - low) / (high - low)), rtol=1e-4, atol=1e-4)
    scaled = unit_scale(real, real).flatten(0, 1)
    assert_close(scaled.amin(0), torch.zeros(3))
    assert_close(scaled.amax(0), torch.ones(3))
    flat = unit_scale(torch.full((2, 3, 1), 4.0), torch.full((2, 3, 1), 3.0))
    assert torch.equal(flat, torch.ones(2, 3, 1))


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 50])
def test_the_quantile_is_scipy_s(freedom: int) -> None:
    assert student_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-6)


def test_repetitions_take_seeds_in_turn() -> None:
    values = [0.3, 0.1, 0.4, 0.15, 0.9]
    seen: list[int] = []
    found = repeated(lambda seed: seen.append(seed) or values[seed - 7], seed=7)
    assert seen == [7, 8, 9, 10, 11]
    error = stats.sem(values)
    low, high = stats.t.interval(0.95, 4, np.mean(values), error)
    assert found["mean"] == pytest.approx(np.mean(values))
    assert found["two_se"] == pytest.approx(2 * error)
    assert found["half_width"] == pytest.approx((high - low) / 2)


# TimeGAN's networks


def test_units_are_half_the_channels_and_at_least_one() -> None:
    assert [timegan_network(m, 5).hidden for m in (1, 2, 3, 6, 28)] == [1, 1, 1, 3, 14]
    assert timegan_network(6, 5) == PostHoc(hidden=3, layers=1, steps=5, batch_size=128, lr=1e-3)


def test_the_network_is_a_gated_unit_with_a_linear_head() -> None:
    net = build(lambda: initialize_like_timegan(RecurrentHead(3, 4, 1)), 0, torch.device("cpu"))
    weights = {name: value.detach().double().numpy() for name, value in net.named_parameters()}
    x = white(1, channels=3)[0].double().numpy()
    h = np.zeros(4)

    def sigmoid(a: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-a))

    outputs = []
    for step in x:
        given = weights["gru.weight_ih_l0"] @ step + weights["gru.bias_ih_l0"]
        kept = weights["gru.weight_hh_l0"] @ h + weights["gru.bias_hh_l0"]
        r, z = sigmoid(given[:4] + kept[:4]), sigmoid(given[4:8] + kept[4:8])
        h = z * h + (1 - z) * np.tanh(given[8:] + r * kept[8:])
        outputs.append(weights["head.weight"][0] @ h + weights["head.bias"][0])
    assert_close(net(torch.tensor(x[None]).float())[0], torch.tensor(np.array(outputs)).float(), rtol=1e-4, atol=1e-5)


def test_initial_values_are_tensorflow_s() -> None:
    net = build(lambda: initialize_like_timegan(RecurrentHead(20, 30, 1)), 0, torch.device("cpu"))
    gates, candidate = math.sqrt(6 / (50 + 60)), math.sqrt(6 / (50 + 30))
    for weight in (net.gru.weight_ih_l0, net.gru.weight_hh_l0):
        assert isinstance(weight, nn.Parameter)
        assert float(weight.detach()[:60].abs().max()) == pytest.approx(gates, rel=0.02)
        assert float(weight.detach()[60:].abs().max()) == pytest.approx(candidate, rel=0.02)
    biases = [value for name, value in net.gru.named_parameters() if name.startswith("bias")]
    assert torch.equal(torch.stack(biases).sum(0), torch.cat([torch.ones(60), torch.zeros(30)]))


def test_published_scores_know_good_from_bad() -> None:
    real, same = sines(120, channels=3), sines(120, seed=1, channels=3)
    noises = [same + level * white(120, seed=2, length=16, channels=3) for level in (0.0, 0.7, 3.0)]
    told = [float(discriminative_score(x, real, QUICK, "timegan")) for x in noises]
    assert told[0] < 0.25 < told[2]
    errors = [float(predictive_score(x[..., :1], real[..., :1], QUICK, "timegan")) for x in noises]
    assert errors[0] < errors[1] < errors[2]


def test_the_protocol_chooses_the_network_s_size_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    asked: list[tuple[int, int, float]] = []
    for name in ("discriminative", "predictive"):
        module = importlib.import_module(f"lightning_freqdiff.metrics.{name}")

        def fit(net: RecurrentHead, loss, steps: int, lr: float) -> None:
            asked.append((net.gru.hidden_size, steps, lr))
            assert loss().ndim == 0

        monkeypatch.setattr(module, "fit", fit)
        monkeypatch.delattr(module, "draw")  # which may take a series twice
    x = white(300, channels=6)
    discriminative_score(x, x, protocol="timegan")
    predictive_score(x, x, protocol="timegan")
    assert asked == [(3, 2000, 1e-3), (3, 5000, 1e-3)]


@pytest.mark.parametrize(
    ("score", "metric"), [(discriminative_score, DiscriminativeScore), (predictive_score, PredictiveScore)]
)
def test_seeds_decide_and_classes_agree(score, metric) -> None:
    a, b = white(40, channels=2) + 0.5, white(40, seed=1, channels=2)
    few = PostHoc(hidden=2, layers=1, steps=20, batch_size=8, lr=0.1)
    values = [score(a, b, few, "timegan", seed) for seed in (0, 0, 1, 2, 3)]
    assert torch.equal(values[0], values[1])
    assert len({float(value) for value in values}) > 1
    measured = metric(few, protocol="timegan", seed=3)
    measured.update(a, b)
    assert_close(measured.compute(), values[-1])


def test_distinct_rows_are_drawn() -> None:
    random = torch.Generator().manual_seed(0)
    assert len(draw_distinct(torch.arange(50), 40, random).unique()) == 40
    assert draw_distinct(torch.arange(5), 40, random).sort().values.tolist() == [0, 1, 2, 3, 4]


# Context-FID


def slow_contrast(a: Tensor, b: Tensor) -> float:
    """TS2Vec's loss, term by term: half of each of its two parts at every scale, over the number of scales."""

    def part(views: Tensor, i: int, partner: int) -> float:
        others = [j for j in range(len(views)) if j != i]
        return float(views[[*others]].matmul(views[i]).logsumexp(0) - views[partner] @ views[i])

    def between(groups: Tensor, count: int) -> float:
        return float(np.mean([part(g, i, (i + count) % (2 * count)) for g in groups for i in range(2 * count)]))

    total, scales = 0.0, 0
    while True:
        both = torch.cat([a, b])  # (2B, T, C)
        total += 0.5 * between(both.transpose(0, 1), len(a))
        scales += 1
        if a.shape[1] == 1:
            return total / scales
        total += 0.5 * between(torch.cat([a, b], dim=1), a.shape[1])
        a, b = (max_pool1d(view.transpose(1, 2), 2).transpose(1, 2) for view in (a, b))


@pytest.mark.parametrize("length", [1, 2, 5, 8])
def test_the_loss_is_the_authors(length: int) -> None:
    a, b = white(3, length=length, channels=4), white(3, seed=1, length=length, channels=4)
    assert float(hierarchical_contrast(a, b, coarsest=0.5).detach()) == pytest.approx(slow_contrast(a, b), rel=1e-4)


def test_the_encoder_has_the_published_size_and_reach() -> None:
    net = TS2VecEncoder(6, TS2Vec())
    blocks = 10 * 2 * (64 * 64 * 3 + 64)
    last = (64 * 320 * 3 + 320) + (320 * 320 * 3 + 320) + (64 * 320 + 320)
    assert sum(p.numel() for p in net.parameters()) == (6 * 64 + 64) + blocks + last
    small = TS2VecEncoder(1, TS2Vec(embedding=5, hidden=4, depth=2))
    x = white(1, length=101).requires_grad_()
    small(x)[0, 50].sum().backward()
    assert x.grad is not None
    seen = x.grad[0, :, 0].nonzero().flatten()
    reach = 2 * (1 + 2 + 4)  # two convolutions of each dilation
    assert (int(seen.min()), int(seen.max())) == (50 - reach, 50 + reach)
    assert small.embed(x).shape == (1, 5)


@pytest.mark.parametrize("length", [2, 3, 24])
def test_crops_overlap_in_the_same_steps(length: int) -> None:
    random = torch.Generator().manual_seed(0)
    overlaps = set()
    for _ in range(200):
        left, right, overlap = shifted_crops(5, length, random)
        assert overlap >= 2
        assert torch.equal(left[:, -overlap:], right[:, :overlap])
        assert min(left.min(), right.min()) >= 0
        assert max(left.max(), right.max()) < length
        overlaps.add(overlap)
    assert overlaps == set(range(2, length + 1))


def test_views_are_of_the_same_steps() -> None:
    random = torch.Generator().manual_seed(0)
    x = 1 + torch.arange(5 * 30.0).reshape(5, 30, 1)
    seen, lost, lengths = [], [], set()
    for _ in range(50):
        first, second = shifted_views(lambda crop, keep: seen.append(keep) or crop, x, random)
        both = (first != 0) & (second != 0)
        assert torch.equal(first[both], second[both])
        lost.append((first == 0).float().mean())
        lengths.add(first.shape[1])
    assert abs(float(torch.cat([keep.flatten() for keep in seen]).float().mean()) - 0.5) < 0.02
    assert abs(float(torch.stack(lost).mean()) - 0.1) < 0.02
    assert len(lengths) > 10


def test_weights_are_averaged_from_the_first() -> None:
    x, settings = sines(10), TS2Vec(embedding=8, hidden=8, depth=2, steps=1, lr=1e-3)
    before = build(lambda: TS2VecEncoder(2, settings), 0, torch.device("cpu"))
    pairs = zip(before.parameters(), train_ts2vec(x, settings).parameters(), strict=True)
    moved = torch.cat([(p - q).detach().flatten() for p, q in pairs])
    # A first step of Adam is as long as the learning rate in every weight; the mean of two points is half of it.
    assert float(moved.abs().median()) == pytest.approx(5e-4, rel=0.05)


def test_steps_follow_the_size_of_the_data() -> None:
    assert TS2Vec().steps_for(torch.empty(1000, 100, 1)) == 200
    assert TS2Vec().steps_for(torch.empty(1001, 100, 1)) == 600
    assert TS2Vec(steps=300).steps_for(torch.empty(1001, 100, 1)) == 300


def test_published_context_fid_orders_generators() -> None:
    real = sines(200)
    settings = TS2Vec(embedding=16, hidden=16, depth=3, steps=60)
    encoder = fit_context_encoder(real, settings, "timegan")
    corrupted = [sines(200, seed=1) + level * white(200, seed=2, length=16, channels=2) for level in (0, 0.3, 1.0)]
    values = [float(context_fid(x, real, encoder=encoder, protocol="timegan")) for x in corrupted]
    assert values[0] < 0.5 * values[1] < 0.25 * values[2]
    shuffled = real[:, torch.randperm(16, generator=torch.Generator().manual_seed(0))]
    assert float(context_fid(shuffled, real, encoder=encoder, protocol="timegan")) > 3 * values[0]
    assert float(context_fid(real, real, encoder=encoder, protocol="timegan")) < 1e-6


def test_published_context_fid_is_reproducible_and_leaves_no_trace() -> None:
    a, b = sines(20, seed=1), sines(15, pace=0.5)
    before = torch.get_rng_state()
    value = context_fid(a, b, SMALL, protocol="timegan")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(context_fid(a, b, SMALL, protocol="timegan"), value)
    assert context_fid(a, b, SMALL, protocol="timegan", seed=1) != value
    metric = ContextFID(SMALL, protocol="timegan")
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        metric.update(a.clone(), b.clone())
        assert_close(metric.compute(), value)


# Correlations


def test_published_correlational_score_is_diffusion_ts_s() -> None:
    a, b = white(50, channels=4) @ white(1, 3, 4, 4)[0], white(40, seed=1, channels=4)

    def correlations(x: np.ndarray) -> np.ndarray:
        x = (x - x.mean((0, 1))) / x.std((0, 1), ddof=1)
        rows, columns = np.tril_indices(4)
        return (x[..., rows] * x[..., columns]).mean(1).mean(0)

    expected = np.abs(correlations(a.double().numpy()) - correlations(b.double().numpy())).sum() / 10
    assert float(correlational_score(a, b, "timegan")) == pytest.approx(expected, rel=5e-3)
    metric = CorrelationalScore(protocol="timegan")
    metric.update(a, b)
    assert_close(metric.compute(), correlational_score(a, b, "timegan"))
    # Two channels that go against each other in place of together: |-1 - 1| / 10.
    x = white(30)
    together, against = torch.cat([x, x], -1), torch.cat([x, -x], -1)
    assert float(correlational_score(against, together, "timegan")) == pytest.approx(0.2)


def test_refuses_bad_input() -> None:
    x = white(5, channels=2)
    for call, message in [
        (lambda: predictive_score(x, x, protocol="TimeGAN"), "set `protocol`"),
        (lambda: discriminative_score(x, x, protocol="TimeGAN"), "set `protocol`"),
        (lambda: context_fid(x, x, protocol="TimeGAN"), "set `protocol`"),
        (lambda: CorrelationalScore(protocol="TimeGAN"), "set `protocol`"),
        (lambda: repeated(lambda seed: 0.0, repetitions=1), "at least 2, got 1: set `repetitions`"),
        (lambda: unit_scale(x, x[..., :1]), "channels of `x`"),
        (lambda: unit_scale(x * math.nan, x), "clean `x`"),
        (lambda: TS2Vec(steps=0), "set `steps`"),
        (lambda: TS2Vec(lr=0.0), "set `lr`"),
        (lambda: fit_context_encoder(x[:1], protocol="timegan"), "add some to `reference`"),
        (lambda: context_fid(x[:, :1], x[:, :1], protocol="timegan"), "at least 2 steps"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
