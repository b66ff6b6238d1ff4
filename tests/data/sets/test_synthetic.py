"""Synthetic heartbeats: the model's equations, and what a heartbeat must look like."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.data.sets.synthetic import ANGLE, HEIGHT, RATE, WIDTH, _integrate, synthetic_ecg


@pytest.fixture(scope="module")
def beats() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Series `(n, N)`, labels and lengths before the padding."""
    x, y = synthetic_ecg(2000, 187, seed=0)
    x = x[..., 0]
    return x, y, lengths(x)


def lengths(x: np.ndarray) -> np.ndarray:
    return x.shape[1] - np.argmax(x[:, ::-1] != 0, axis=1)


def test_solves_the_three_equations_of_the_paper() -> None:
    rr, size, frequency, phase = np.array([0.9, 0.8, 0.7]), 0.004, 0.25, 1.0
    amplitude = np.where(HEIGHT == 0, 0.02, HEIGHT) / WIDTH**2

    def derivative(t: float, state: np.ndarray) -> list[float]:
        x, y, z = state
        omega = 2 * np.pi / (rr[0] if t < 0 else rr[1] if t < rr[1] else rr[2])
        delta = np.mod(np.arctan2(y, x) - ANGLE + np.pi, 2 * np.pi) - np.pi
        baseline = size * np.sin(2 * np.pi * frequency * t + phase)
        alpha = 1 - np.hypot(x, y)
        push = (amplitude * delta * np.exp(-(delta**2) / (2 * WIDTH**2))).sum()
        return [alpha * x - omega * y, alpha * y + omega * x, -push - (z - baseline)]

    start = -2 * np.pi / rr[0]  # the angle one second before the first R peak
    state, expected = np.array([np.cos(start), np.sin(start), 0.0]), []
    samples = np.arange(round(1.2 * rr[1] * RATE)) / RATE
    for begin, end in ((-1.0, 0.0), (0.0, rr[1]), (rr[1], 1.2 * rr[1])):  # smooth pieces
        at = samples[(samples >= begin) & (samples < end)]
        solution = solve_ivp(
            derivative, (begin, end), state, method="DOP853", t_eval=[*at, end], rtol=1e-9, atol=1e-11, max_step=0.01
        )
        expected.append(solution.y[2, :-1])
        state = solution.y[:, -1]
    wander = np.array([size]), np.array([frequency]), np.array([phase])
    bumps = amplitude[:, None], ANGLE[:, None], WIDTH[:, None]
    z = _integrate(rr[:, None], *bumps, wander, len(samples))[:, 0]
    expected = np.concatenate(expected)
    assert np.ptp(expected) > 0.02
    assert np.abs(z - expected).max() < 1e-3 * np.ptp(expected)


def test_shapes_and_labels() -> None:
    x, y = synthetic_ecg(50, 100, seed=1)
    assert (x.shape, x.dtype, y.shape) == ((50, 100, 1), np.float32, (50,))
    assert set(y) == {0, 1, 2}


def test_scaled_to_unit_range(beats: tuple[np.ndarray, ...]) -> None:
    x, _, length = beats
    assert np.isfinite(x).all()
    np.testing.assert_array_equal(x.max(1), 1)
    low = np.array([row[:n].min() for row, n in zip(x, length, strict=True)])
    # Where the last sample is the lowest, it cannot be told from the padding.
    assert (low == 0).mean() > 0.98
    assert low.max() < 0.1


def test_padded_with_zeros(beats: tuple[np.ndarray, ...]) -> None:
    x, _, length = beats
    assert (np.where(np.arange(187) >= length[:, None], x, 0) == 0).all()
    assert 0.01 < (length == 187).mean() < 0.1  # slow hearts are cut off
    # Inside, only the lowest sample is zero: the padding starts where the beat ends, not before.
    assert ((x == 0).sum(1) <= 187 - length + 1).all()


def test_starts_at_an_r_peak(beats: tuple[np.ndarray, ...]) -> None:
    x, y, _ = beats
    assert np.median(x[:, 0]) > 0.97
    assert x[:, 0].min() > 0.7
    narrow = x[y != 1]
    assert (narrow[:, :12].argmax(1) == 0).mean() > 0.99
    assert (x[:, :12].argmax(1) <= 1).all()


def test_heart_rate_is_physiological(beats: tuple[np.ndarray, ...]) -> None:
    _, _, length = beats
    rr = length / RATE / 1.2
    assert 0.7 < np.median(rr) < 0.82  # 0.74 s in MIT-BIH
    whole = rr[length < 187]
    assert whole.min() > 60 / 160
    assert 60 / 90 < rr.mean() < 60 / 70
    assert 0.1 < whole.std() < 0.25


def test_next_r_peak_comes_after_one_rr_interval(beats: tuple[np.ndarray, ...]) -> None:
    x, y, length = beats
    whole = (length < 187) & (y == 0)
    tail = np.where(np.arange(187) > 0.6 * length[whole, None], x[whole], 0)
    ratio = length[whole] / tail.argmax(1)
    np.testing.assert_allclose(ratio, 1.2, atol=0.03)


def qrs_width(x: np.ndarray) -> np.ndarray:
    """Steps until the first R peak has fallen half-way to the median of the beat."""
    level = np.array([np.median(row[:n]) for row, n in zip(x, lengths(x), strict=True)])
    return np.argmax(x < (x[:, 0] + level)[:, None] / 2, axis=1)


def test_ventricular_beats_are_wide_without_p_and_with_inverted_t(beats: tuple[np.ndarray, ...]) -> None:
    x, y, length = beats
    normal, ventricular = x[y == 0], x[y == 1]
    assert np.median(qrs_width(ventricular)) >= 2 * np.median(qrs_width(normal))

    def at(share: float, label: int) -> np.ndarray:  # value at a share of the RR interval
        rows = np.flatnonzero((y == label) & (length < 187))
        return x[rows, (share * length[rows] / 1.2).astype(int)]

    # T, some 0.3 of the way to the next beat, stands above the pause that follows it, or hangs below.
    assert (at(0.33, 0) > at(0.6, 0)).mean() > 0.95
    assert (at(0.36, 1) < at(0.6, 1)).mean() > 0.95
    # P, some 0.2 before the next R peak, stands above that pause, or is not there.
    assert (at(0.8, 0) - at(0.6, 0) > 0.02).mean() > 0.95
    assert np.median(at(0.75, 1) - at(0.6, 1)) < 0.02


def test_labels_can_be_told_apart() -> None:
    x, y = synthetic_ecg(1500, 187, seed=2)
    # One nearest neighbour, over the first 60 steps, which all series fill.
    train, test = x[:1000, :60, 0], x[1000:, :60, 0]
    square = (test**2).sum(1)[:, None] - 2 * test @ train.T + (train**2).sum(1)
    correct = y[:1000][square.argmin(1)] == y[1000:]
    for label in range(3):
        assert correct[y[1000:] == label].mean() > (0.75 if label == 2 else 0.9)


def test_label_shares(beats: tuple[np.ndarray, ...]) -> None:
    _, y, _ = beats
    np.testing.assert_allclose(np.bincount(y) / len(y), [0.6, 0.2, 0.2], atol=0.04)


def test_no_two_alike(beats: tuple[np.ndarray, ...]) -> None:
    x, _, _ = beats
    assert len(np.unique(x, axis=0)) == len(x)
    assert x[:, :60].std(0)[5:].min() > 0.03


@settings(max_examples=10, deadline=None)
@given(num_series=st.integers(2, 20), length=st.integers(2, 400), seed=st.integers(0, 2**62))
def test_same_seed_same_series(num_series: int, length: int, seed: int) -> None:
    x, y = synthetic_ecg(num_series, length, seed)
    again, y_again = synthetic_ecg(num_series, length, seed)
    np.testing.assert_array_equal(x, again)
    np.testing.assert_array_equal(y, y_again)
    assert x.shape == (num_series, length, 1)
    assert np.isfinite(x).all()
    assert (x.min(), x.max()) == (0, 1)
    other, _ = synthetic_ecg(num_series, length, seed + 1)
    assert length < 5 or not np.array_equal(x, other)


def test_more_series_leave_the_first_ones_as_they_are() -> None:
    few, y_few = synthetic_ecg(37, 187, seed=5)
    many, y_many = synthetic_ecg(300, 187, seed=5)
    np.testing.assert_array_equal(y_few, y_many[:37])
    np.testing.assert_allclose(few, many[:37], atol=1e-6)


def test_four_thousand_series_take_less_than_two_seconds() -> None:
    start = time.process_time()
    synthetic_ecg(4096, 187, seed=0)
    assert time.process_time() - start < 2


def test_data_module() -> None:
    data = SyntheticECG(num_series=40, length=64, generator_seed=3, batch_size=8, val_fraction=0.25)
    x, _ = synthetic_ecg(40, 64, seed=3)
    assert (data.shape, data.channels, data.num_train) == ((64, 1), ("ECG",), 30)
    split = np.concatenate([data.train_series().numpy(), data.val_series().numpy()])
    assert {row.tobytes() for row in split} == {row.tobytes() for row in x}
    assert [tuple(b.series.shape) for b in data.train_dataloader()] == [(8, 64, 1)] * 3


def test_defaults_are_the_shape_of_mitbih() -> None:
    data = SyntheticECG()
    assert (data.shape, data.num_train) == ((187, 1), 3686)


@pytest.mark.parametrize(("setting", "value"), [("num_series", 1), ("length", 1), ("generator_seed", -1)])
def test_bad_settings(setting: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"^expected `data\.{setting}` of at least \d, got {value}$"):
        SyntheticECG(**{setting: value})
