"""Synthetic heartbeats: a data set that needs no download.

The model is the one of McSharry, Clifford, Tarassenko and Smith, "A dynamical model for generating synthetic
electrocardiogram signals", IEEE Trans. Biomed. Eng. 50(3), 2003: a point runs round the unit circle, once a
beat, and is pushed up or down as it passes the angles of P, Q, R, S and T (Eq. 1):

    x' = (1 - r) x - ω y,   y' = (1 - r) y + ω x,   r = sqrt(x² + y²)
    z' = -Σ_i a_i Δθ_i exp(-Δθ_i² / 2 b_i²) - (z - z_0(t)),   Δθ_i = θ - θ_i on the circle,   ω = 2π / RR

From a start on the circle, the first two have the solution r = 1, θ' = ω, so only z, the voltage, is solved
for numerically. Ours, not the paper's: a sixth bump for the ST segment; RR drawn anew for each beat, where
the paper gives it a spectrum with a low and a high frequency peak (LF/HF), because a series holds little more
than one beat; and Gaussian noise.
"""

from typing import Any

import numpy as np

from lightning_freqdiff.data.base import require_at_least
from lightning_freqdiff.data.loaded import LoadedData
from lightning_freqdiff.data.series.series import Series

RATE = 125  # Hz, as in the MIT-BIH heartbeats of Kachuee et al. 2018
SUBSTEPS = 2  # RK4 steps in a sample: 250 Hz, so the forces are evaluated at 500 Hz
LEAD_IN = RATE  # samples before the first R peak: one time constant of the decay of z

# Angles, widths and a_i b_i² (the height of a bump, but for the factor 1/ω) at 60 beats a minute. They are
# those of Table I of the paper and of the authors' program ECGSYN, except that P and T are lower and T is
# later, as in MIT-BIH.
P, Q, R, S, ST, T = range(6)
ANGLE = np.deg2rad([-70.0, -15.0, 0.0, 15.0, 60.0, 115.0])
WIDTH = np.array([0.25, 0.1, 0.1, 0.1, 0.35, 0.4])
HEIGHT = np.array([0.045, -0.05, 0.3, -0.075, 0.0, 0.09])
SPREAD = np.array([0.35, 0.5, 0.1, 0.5, 0.0, 0.3])  # standard deviation of log height
# With the heart rate, angles and widths grow by these powers (ECGSYN): a fast beat is mostly pause cut short.
ANGLE_POWER = np.array([0.25, 0.5, 0.0, 0.5, 0.25, 0.25])
WIDTH_POWER = 0.5


def synthetic_ecg(num_series: int, length: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Make heartbeats laid out like the MIT-BIH ones of Kachuee et al. 2018.

    Each series begins at an R peak, runs for 1.2 RR intervals at 125 Hz, is scaled to [0, 1] and padded with
    zeros. Series `i` of a seed is the same whatever `num_series` is, up to float rounding.

    Returns:
        Series `(num_series, length, 1)` of float32, and labels `(num_series,)`: 0 normal; 1 ventricular-like
        (wide QRS, no P, inverted T); 2 tall T, or raised or lowered ST segment.

    >>> x, y = synthetic_ecg(num_series=8, length=187, seed=0)
    >>> x.shape, x.dtype, float(x.min()), float(x.max())
    ((8, 187, 1), dtype('float32'), 0.0, 1.0)
    """
    shape_rng, rate_rng, noise_rng = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    normal = shape_rng.standard_normal((num_series, 19))
    uniform = rate_rng.random((num_series, 11))
    label = np.searchsorted([0.6, 0.8], uniform[:, 0], side="right")  # 60, 20 and 20 %

    rr = _rr_intervals(normal[:, 0], uniform[:, 1:4], label)
    height, angle, width = _morphology(label, rr[0], normal[:, 1:], uniform[:, 4:7])
    samples = np.minimum(length, (1.2 * RATE * rr[1]).astype(int))
    peak = height[R] * rr[1] / (2 * np.pi)
    wander = uniform[:, 7] * 0.25 * peak, 0.15 + 0.25 * uniform[:, 8], 2 * np.pi * uniform[:, 9]
    z = _integrate(rr, height / width**2, angle, width, wander, int(samples.max())).T

    level = 0.002 * 10 ** uniform[:, 10]  # 0.2 to 2 % of the R peak
    z += noise_rng.standard_normal((num_series, length))[:, : z.shape[1]] * (level * peak)[:, None]
    inside = np.arange(z.shape[1]) < samples[:, None]
    low = np.where(inside, z, np.inf).min(1, keepdims=True)
    high = np.where(inside, z, -np.inf).max(1, keepdims=True)
    x = np.zeros((num_series, length, 1), np.float32)
    x[:, : z.shape[1], 0] = np.where(inside, (z - low) / (high - low), 0)
    return x, label


def _rr_intervals(normal: np.ndarray, uniform: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Draw RR intervals `(3, n)`, in seconds, of the beats before, in and after the series.

    The mean is log-normal round 0.75 s, the median of MIT-BIH. Single beats differ from it by up to 4 %,
    ventricular ones by up to 10 %.
    """
    mean = np.clip(0.75 * np.exp(0.24 * normal), 0.45, 1.5)
    return mean * (1 + np.where(label == 1, 0.1, 0.04) * (2 * uniform.T - 1))


def _morphology(
    label: np.ndarray, rr: np.ndarray, normal: np.ndarray, uniform: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw heights, angles and widths `(6, n)` of the bumps, from normals `(n, 18)` and uniforms `(n, 3)`."""
    deviates = np.clip(normal, -2.5, 2.5).T.reshape(3, 6, len(label))
    extent, variant, side = uniform.T
    height = HEIGHT[:, None] * np.exp(SPREAD[:, None] * deviates[0])
    angle = ANGLE[:, None] * rr ** -ANGLE_POWER[:, None] * (1 + 0.07 * deviates[1])
    width = WIDTH[:, None] * rr**-WIDTH_POWER * np.exp(0.1 * deviates[2])
    height[ST] = 0.01 * deviates[0, ST]

    ventricular = label == 1
    height[np.ix_([P, Q, S, ST], ventricular)] = 0
    height[T, ventricular] = -(0.4 + 0.5 * extent[ventricular]) * height[R, ventricular]
    width[R, ventricular] *= 2.2 + extent[ventricular]

    tall = (label == 2) & (variant < 0.5)
    height[T, tall] = (0.65 + 0.4 * extent[tall]) * height[R, tall]
    shifted = (label == 2) & (variant >= 0.5)
    sign = np.where(side[shifted] < 0.5, -1, 1)
    height[ST, shifted] = sign * (0.2 + 0.3 * extent[shifted]) * height[R, shifted]
    return height, angle, width


def _integrate(
    rr: np.ndarray,
    amplitude: np.ndarray,
    angle: np.ndarray,
    width: np.ndarray,
    wander: tuple[np.ndarray, np.ndarray, np.ndarray],
    samples: int,
) -> np.ndarray:
    """Solve for `z` at `samples` times from the first R peak on, by the classical Runge-Kutta method.

    Args:
        rr: RR intervals `(3, n)` of the beats before, in and after the series, in seconds.
        amplitude: `a_i` of each bump `(6, n)`.
        angle: `θ_i` of each bump `(6, n)`, in radians.
        width: `b_i` of each bump `(6, n)`, in radians.
        wander: Amplitude, frequency in Hz and phase of the baseline `z_0`, each `(n,)`.
        samples: How many samples at 125 Hz to return.

    Returns:
        `z` of shape `(samples, n)`.
    """
    size, frequency, phase = wander
    step = 1 / (RATE * SUBSTEPS)
    inverse = -0.5 / width**2

    def force(time: float) -> np.ndarray:
        later = np.where(time < rr[1], time / rr[1], 1 + (time - rr[1]) / rr[2])
        turns = time / rr[0] if time < 0 else later
        delta = 2 * np.pi * turns - angle
        delta -= 2 * np.pi * np.rint(delta / (2 * np.pi))
        bumps = amplitude * delta * np.exp(inverse * delta**2)
        return size * np.sin(2 * np.pi * frequency * time + phase) - bumps.sum(0)

    z = np.zeros(rr.shape[1])
    out = np.empty((samples, len(z)))
    end = force(-LEAD_IN / RATE)
    for i in range(-LEAD_IN * SUBSTEPS, samples * SUBSTEPS):
        if i >= 0 and i % SUBSTEPS == 0:
            out[i // SUBSTEPS] = z
        # The force does not depend on z, so its value at the end of a step serves the next one too.
        start, middle, end = end, force((i + 0.5) * step), force((i + 1) * step)
        k1 = start - z
        k2 = middle - (z + step / 2 * k1)
        k3 = middle - (z + step / 2 * k2)
        k4 = end - (z + step * k3)
        z = z + step / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return out


class SyntheticECG(LoadedData):
    """Heartbeats made on the fly from a dynamical model, of shape `(length, 1)`, at 125 Hz.

    Args:
        num_series: How many heartbeats to make.
        length: Steps of a series; 187 is the length of the MIT-BIH heartbeats.
        generator_seed: Seed of the heartbeats themselves (`seed` is the one of the split).
        **kwargs: Settings of `LoadedData`.
    """

    def __init__(self, num_series: int = 4096, length: int = 187, generator_seed: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        require_at_least(2, num_series=num_series, length=length)
        require_at_least(0, generator_seed=generator_seed)
        self.num_series = num_series
        self.length = length
        self.generator_seed = generator_seed

    def _load(self) -> Series:
        x, y = synthetic_ecg(self.num_series, self.length, self.generator_seed)
        return Series(x, y, ("ECG",), f"synthetic ECG, seed {self.generator_seed}")
