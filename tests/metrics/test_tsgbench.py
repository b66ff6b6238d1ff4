"""What TSGBench lists, and the manifold measures: against SciPy, NumPy and slow loops, and in known cases."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist, pdist
from torch import Tensor
from torch.testing import assert_close

from lightning_freqdiff.metrics import (
    PRDC,
    AutocorrelationDifference,
    HistogramDifference,
    MaximumMeanDiscrepancy,
    MomentDifference,
    NearestWarping,
    autocorrelation_difference,
    histogram_difference,
    maximum_mean_discrepancy,
    moment_difference,
    nearest_warping,
    prdc,
    warping_distances,
)


def series(n: int, seed: int = 0, length: int = 12, channels: int = 2) -> Tensor:
    x = torch.randn(n, length, channels, generator=torch.Generator().manual_seed(seed))
    return (0.5 * x.cumsum(1) + x).exp()  # skewed, heavy tails, correlated


def corrupted(x: Tensor) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(9)
    return {
        "mean": x + 3 * x.std((0, 1)),
        "noise": x + 2 * x.std((0, 1)) * torch.randn(x.shape, generator=random),
        "shuffled": x[:, torch.randperm(x.shape[1], generator=random)],
    }


def standardised(a: Tensor, b: Tensor) -> tuple[np.ndarray, np.ndarray]:
    real = b.double().numpy()
    mean, spread = real.mean((0, 1)), real.std((0, 1))
    return tuple(((x.double().numpy() - mean) / spread).reshape(len(x), -1) for x in (a, b))


def assert_class(metric, value) -> None:
    a, b = series(30, 1), series(25)
    metric.update(a[:7], b)
    metric.update(a[7:])
    assert_close(metric.compute(), value, equal_nan=True)


# Histograms and moments


def test_histograms_are_numpy_s() -> None:
    a, b = series(30, 1), series(25)
    expected = []
    for t in range(12):
        for m in range(2):
            x, y = (z[:, t, m].double().numpy() for z in (a, b))
            p, edges = np.histogram(y, bins=10)
            q, _ = np.histogram(x, bins=edges)
            beside = [(x < edges[0]).mean(), (x > edges[-1]).mean()]
            expected.append((np.abs(p / 25 - q / 30).sum() + sum(beside)) / 2)
    found = histogram_difference(a, b, bins=10)
    assert float(found["mean"]) == pytest.approx(np.mean(expected), rel=1e-5)
    assert float(found["max"]) == pytest.approx(np.max(expected), rel=1e-5)
    assert_class(HistogramDifference(bins=10), found)
    # As published: densities of 10 bins, averaged, of one step and channel.
    one = [z[:, :1, :1] for z in (a, b)]
    p, edges = np.histogram(one[1].numpy(), bins=10, density=True)
    q = np.histogram(one[0].numpy(), bins=edges)[0] / 30 / np.diff(edges)
    inside = float(((one[0] >= edges[0]) & (one[0] <= edges[-1])).float().mean())
    published = np.abs(p - q).mean() * (edges[-1] - edges[0]) / 2
    assert float(histogram_difference(*one, bins=10)["mean"]) == pytest.approx(published + (1 - inside) / 2, rel=1e-4)


def test_histograms_in_known_cases() -> None:
    x = torch.arange(10.0)[:, None, None]
    assert histogram_difference(x, x)["max"] == 0
    assert histogram_difference(x + 100, x)["max"] == 1
    assert histogram_difference(torch.full((5, 3, 1), 7.0), torch.full((4, 3, 1), 2.0))["max"] == 0
    real = series(4000)
    chance = float(histogram_difference(series(4000, 1), real)["mean"])
    assert chance < math.sqrt(50 / (math.pi * 4000))
    shifts = [float(histogram_difference(real + s * real.std((0, 1)), real)["mean"]) for s in (0.1, 0.3, 1.0)]
    assert chance < shifts[0] < shifts[1] < shifts[2]


@pytest.mark.parametrize(
    ("order", "slow"),
    [
        (3, stats.skew),
        (4, lambda x: stats.kurtosis(x, fisher=False)),
        (5, lambda x: stats.moment(stats.zscore(x), 5)),
    ],
)
def test_moments_are_scipy_s(order, slow) -> None:
    difference = partial(moment_difference, order=order)
    a, b = series(30, 1), series(25)
    expected = np.abs(
        [slow(a[..., m].double().numpy().ravel()) - slow(b[..., m].double().numpy().ravel()) for m in (0, 1)]
    )
    found = difference(a, b)
    assert float(found["mean"]) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(found["max"]) == pytest.approx(expected.max(), rel=1e-5)
    assert_class(MomentDifference(order=order), found)
    assert_close(difference(a * 1e3 + 5e3, b)["mean"], found["mean"], rtol=1e-3, atol=0)  # without unit
    flat = torch.full((9, 12, 1), 0.1)
    assert difference(flat, flat + 1)["max"] == 0
    assert math.isnan(float(difference(flat, flat)["two_se"]))
    # Cut the tails off, and it grows.
    cut = [float(difference(b.clamp(max=float(b.quantile(q))), b)["mean"]) for q in (1.0, 0.99, 0.9)]
    assert cut[0] == 0 < cut[1] < cut[2]


def test_autocorrelations_are_numpy_s() -> None:
    a, b = series(30, 1), series(25)

    def slow(x: np.ndarray) -> np.ndarray:
        x = x - x.mean()
        return np.array([(x[:, k:] * x[:, :-k]).mean() / x.var() for k in range(1, 12)])

    rho = [[slow(x[..., m].double().numpy()) for m in (0, 1)] for x in (a, b)]
    expected = [np.linalg.norm(p - q) for p, q in zip(*rho, strict=True)]
    found = autocorrelation_difference(a, b)
    assert float(found["mean"]) == pytest.approx(np.mean(expected), rel=1e-5)
    assert_class(AutocorrelationDifference(), found)
    few = autocorrelation_difference(a, b, lags=3)
    assert float(few["mean"]) == pytest.approx(
        np.mean([np.linalg.norm((p - q)[:3]) for p, q in zip(*rho, strict=True)])
    )
    assert float(autocorrelation_difference(series(5, length=100), series(4, length=100))["mean"]) > 0


def test_shuffled_time_changes_autocorrelation_alone() -> None:
    real = series(200).log()
    same, shuffled = series(200, 1).log(), corrupted(real)["shuffled"]
    chance, found = (float(autocorrelation_difference(x, real)["mean"]) for x in (same, shuffled))
    assert found > 3 * chance
    assert float(moment_difference(shuffled, real)["mean"]) < 1e-5
    flat = torch.full((9, 12, 1), 0.1)
    assert autocorrelation_difference(flat, flat + 1)["max"] == 0


@pytest.mark.parametrize("value", [0.1, 1e6 + 0.1, -7.3e-5])
def test_a_constant_channel_has_no_moments(value: float) -> None:
    flat = torch.full((7, 13, 1), value, dtype=torch.float64)  # whose mean is not quite its value
    two_points = torch.tensor([-1.0, 1.0]).reshape(1, 2, 1).repeat(7, 7, 1)[:, :13]
    assert float(moment_difference(flat, two_points, order=4)["mean"]) == pytest.approx(
        stats.kurtosis(two_points.numpy().ravel(), fisher=False), rel=1e-6
    )
    assert float(moment_difference(flat, two_points)["mean"]) == pytest.approx(
        abs(stats.skew(two_points.numpy().ravel())), rel=1e-4
    )


# Warping


def slow_warping(a: np.ndarray, b: np.ndarray) -> float:
    table = np.full((len(a) + 1, len(b) + 1), np.inf)
    table[0, 0] = 0
    for i in range(len(a)):
        for j in range(len(b)):
            before = min(table[i, j], table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = ((a[i] - b[j]) ** 2).sum() + before
    return math.sqrt(table[-1, -1])


@pytest.mark.parametrize("cells", [1, 2**22])
@pytest.mark.parametrize(("length", "channels"), [(1, 1), (2, 3), (9, 2)])
def test_warping_is_the_slow_table(length: int, channels: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_freqdiff.metrics.warping.CELLS", cells)
    a, b = series(5, 1, length, channels), series(4, 2, length, channels)
    expected = [[slow_warping(x.double().numpy(), y.double().numpy()) for y in b] for x in a]
    assert_close(warping_distances(a, b), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def test_the_nearest_by_warping() -> None:
    a, b = series(30, 1), series(25)
    x, y = (z.reshape(len(z), 12, 2) for z in standardised(a, b))
    expected = np.array([min(slow_warping(p, q) for q in y) for p in x])
    found = nearest_warping(a, b)
    assert float(found["mean"]) == pytest.approx(expected.mean(), rel=1e-5)
    assert float(found["two_se"]) == pytest.approx(2 * stats.sem(expected), rel=1e-4)
    assert_class(NearestWarping(), found)
    delayed = torch.cat([b[:, :1], b[:, :-1]], dim=1)  # all but the last step is there
    euclidean = np.sqrt(((standardised(delayed, b)[0] - standardised(b, b)[1]) ** 2).sum(1)).mean()
    assert float(nearest_warping(delayed, b)["mean"]) < 0.5 * euclidean
    values = [float(nearest_warping(x, b)["mean"]) for x in (b, *(corrupted(b)[name] for name in ("noise", "mean")))]
    assert values[0] < 1e-4 < values[1] < values[2]
    assert float(nearest_warping(a, b, rows=3)["mean"]) == float(nearest_warping(a, b, rows=3)["mean"])
    assert float(nearest_warping(a, b, rows=3)["mean"]) != float(nearest_warping(a, b, rows=3, seed=1)["mean"])


# Maximum mean discrepancy


def slow_discrepancy(x: np.ndarray, y: np.ndarray, width: float) -> float:
    def kernel(p: np.ndarray, q: np.ndarray) -> float:
        return math.exp(-((p - q) ** 2).sum() / (2 * width**2))

    n, m = len(x), len(y)
    within_x = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    within_y = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return within_x + within_y - 2 * sum(kernel(p, q) for p in x for q in y) / (n * m)


def test_discrepancy_is_the_double_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = series(30, 1), series(25)
    x, y = standardised(a, b)
    expected = slow_discrepancy(x, y, float(np.median(pdist(y))))
    assert float(maximum_mean_discrepancy(a, b)) == pytest.approx(expected, abs=1e-5)
    assert_class(MaximumMeanDiscrepancy(), maximum_mean_discrepancy(a, b))
    monkeypatch.setattr("lightning_freqdiff.metrics.nearest.PAIRS", 40)
    assert float(maximum_mean_discrepancy(a, b)) == pytest.approx(expected, abs=1e-5)
    rows = series(20)[:, 0], series(15, 1)[:, 0]
    slow = slow_discrepancy(*(r.double().numpy() for r in rows), 0.7)
    assert float(maximum_mean_discrepancy(*rows, bandwidth=0.7)) == pytest.approx(slow, abs=1e-6)


def test_discrepancy_is_unbiased_and_ordered() -> None:
    pairs = [(series(150, 2 * i).log(), series(150, 2 * i + 1).log()) for i in range(20)]
    same = [float(maximum_mean_discrepancy(*pair)) for pair in pairs]
    assert abs(np.mean(same)) < 3 * float(stats.sem(same))
    assert min(same) < 0 < max(same)
    real = pairs[0][0]
    falling = real[real[:, -1, 0] < real[:, 0, 0]]  # one of two modes
    for wrong in (corrupted(real)["mean"], falling, real[:1].expand(60, -1, -1)):
        assert float(maximum_mean_discrepancy(wrong, real)) > 2 * max(same)
    noisier = [float(maximum_mean_discrepancy(real + s * series(150, 99).log(), real)) for s in (0.0, 1.0, 3.0)]
    assert noisier[0] < noisier[1] < noisier[2]
    # Two points a distance d apart, each set of one of them: 2 - 2 exp(-d^2 / 2).
    found = maximum_mean_discrepancy(torch.zeros(5, 1), torch.ones(4, 1), bandwidth=1.0)
    assert float(found) == pytest.approx(2 - 2 * math.exp(-0.5), rel=1e-5)


# Precision, recall, density, coverage


def slow_prdc(x: np.ndarray, y: np.ndarray, k: int) -> dict[str, float]:
    between = cdist(x, y)
    fake, real = (np.sort(cdist(z, z), axis=1)[:, k] for z in (x, y))
    inside = between < real[None]
    return {
        "precision": inside.any(1).mean(),
        "recall": (between < fake[:, None]).any(0).mean(),
        "density": inside.sum() / (k * len(x)),
        "coverage": (between.min(0) < real).mean(),
    }


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize("pairs", [40, 2**22])
def test_prdc_is_the_slow_one(k: int, pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_freqdiff.metrics.nearest.PAIRS", pairs)
    a, b = series(30, 1), series(25)
    found = {name: float(value) for name, value in prdc(a, b, k).items()}
    assert found == pytest.approx(slow_prdc(*standardised(a, b), k))
    assert_class(PRDC(k), prdc(a, b, k))
    rows = [torch.randn(n, 7, generator=torch.Generator().manual_seed(n)) for n in (40, 33)]
    assert {m: float(v) for m, v in prdc(*rows, k).items()} == pytest.approx(slow_prdc(*(r.numpy() for r in rows), k))


def test_prdc_tells_dropped_modes_from_poor_samples() -> None:
    random = torch.Generator().manual_seed(0)

    def modes(n: int, centers: list[float]) -> Tensor:
        place = torch.tensor(centers)[torch.randint(len(centers), (n,), generator=random)]
        return place[:, None] + torch.randn(n, 6, generator=random)

    real = modes(400, [0.0, 50.0])
    same, dropped, poor = (
        prdc(x, real) for x in (modes(400, [0.0, 50.0]), modes(400, [0.0]), 4 * modes(400, [0.0, 50.0]))
    )
    assert min(same["precision"], same["recall"], same["coverage"]) > 0.8
    assert float(same["density"]) == pytest.approx(1, abs=0.15)
    assert dropped["precision"] > 0.8
    assert max(dropped["recall"], dropped["coverage"]) < 0.6
    assert poor["precision"] < 0.2
    assert poor["coverage"] < 0.3
    assert {name: float(value) for name, value in prdc(real, real).items()} == pytest.approx(
        {"precision": 1, "recall": 1, "density": 1, "coverage": 1}, abs=0.21
    )


# All


ALL = [
    histogram_difference,
    moment_difference,
    autocorrelation_difference,
    nearest_warping,
    maximum_mean_discrepancy,
    prdc,
]


@pytest.mark.parametrize("measure", ALL)
def test_bad_series_are_refused_by_name(measure) -> None:
    x = series(20)
    for call, message in [
        (lambda: measure(x[:, 1:], x), "of one shape"),
        (lambda: measure(x[..., :1], x), "of one shape"),
        (lambda: measure(x * math.nan, x), "clean `generated`"),
        (lambda: measure(x, x / 0), "clean `reference`"),
        (lambda: measure(x[:0], x), "`generated`"),
        (lambda: measure(x[0, 0], x), "reshape `generated`"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.parametrize("measure", ALL)
def test_one_channel_constant_channels_and_half_precision(measure) -> None:
    a, b = series(20, 1, channels=1), series(15, channels=1)
    flat = [torch.cat([x, torch.full_like(x, 0.1)], dim=-1) for x in (a, b)]
    for found in (measure(a, b), measure(*flat), measure(a.half(), b.half())):
        values = found if isinstance(found, dict) else {"mean": found}
        assert all(torch.isfinite(value) for name, value in values.items() if name != "two_se")


def test_refuses_bad_settings() -> None:
    x = series(20)
    for call, message in [
        (lambda: histogram_difference(x, x, bins=0), "set `bins`"),
        (lambda: autocorrelation_difference(x, x, lags=12), "set `lags`"),
        (lambda: autocorrelation_difference(x[:, :1], x[:, :1]), "at least 2 steps"),
        (lambda: nearest_warping(x, x, rows=0), "set `rows`"),
        (lambda: maximum_mean_discrepancy(x[:1], x), "at least 2 samples, got 1: add rows to `generated`"),
        (lambda: maximum_mean_discrepancy(x, x[:1]), "add rows to `reference`"),
        (lambda: maximum_mean_discrepancy(x, torch.ones_like(x)), "set `bandwidth`"),
        (lambda: MaximumMeanDiscrepancy(bandwidth=0.0), "set `bandwidth`"),
        (lambda: prdc(x[:5], x), "at least 6 samples, got 5: add rows to `generated`"),
        (lambda: prdc(x, x, k=0), "set `k`"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
