"""Sines, the made data set of Yoon, Jarrett and van der Schaar, "Time-series Generative Adversarial Networks"."""

from typing import Any, Literal

import numpy as np

from lightning_freqdiff.data.base import require_at_least
from lightning_freqdiff.data.loaded import LoadedData
from lightning_freqdiff.data.series.series import Series


def sines(count: int, steps: int, channels: int, seed: int, variant: str = "paper") -> np.ndarray:
    r"""Make sinusoids of random frequency and phase, each channel on its own.

    .. math:: x_i(t) = \sin(2 \pi \eta t + \theta), \quad \eta \sim U[0, 1], \; \theta \sim U[-\pi, \pi]

    That is the text's. Its code, which published scores rest on, makes `sin(a t + b)` with `a` and `b` from
    `U[0, 0.1]`, scaled from [-1, 1] to [0, 1].

    Returns:
        Series `(count, steps, channels)` of float32.

    >>> sines(count=3, steps=24, channels=5, seed=0).shape
    (3, 24, 5)
    """
    rng = np.random.default_rng(seed)
    first, second = rng.random((count, 2, 1, channels)).transpose(1, 0, 2, 3)
    t = np.arange(steps)[:, None]
    if variant == "code":
        return ((np.sin(0.1 * first * t + 0.1 * second) + 1) / 2).astype(np.float32)
    return np.sin(2 * np.pi * first * t + np.pi * (2 * second - 1)).astype(np.float32)


class Sines(LoadedData):
    """Sinusoids of random frequency and phase, made from a seed (TimeGAN): no file is needed.

    Args:
        count: How many series to make.
        steps: Steps of a series.
        num_channels: Channels, which know nothing of each other.
        generator_seed: Seed of the series; `seed` is that of the split.
        variant: Formula of TimeGAN's paper, or of its code (slow waves in [0, 1]), which published scores rest on.
        **kwargs: Settings of `LoadedData`.
    """

    def __init__(
        self,
        count: int = 10_000,
        steps: int = 24,
        num_channels: int = 5,
        generator_seed: int = 0,
        variant: Literal["paper", "code"] = "paper",
        **kwargs: Any,
    ) -> None:
        # Not `num_series` and `length`: jsonargparse hands on what has the same name in the default data set.
        super().__init__(**kwargs)
        require_at_least(2, count=count, steps=steps)
        require_at_least(1, num_channels=num_channels)
        require_at_least(0, generator_seed=generator_seed)
        self.count = count
        self.steps = steps
        self.num_channels = num_channels
        self.generator_seed = generator_seed
        self.variant = variant

    def _load(self) -> Series:
        x = sines(self.count, self.steps, self.num_channels, self.generator_seed, self.variant)
        names = tuple(f"sine {i}" for i in range(self.num_channels))
        return Series(x, None, names, f"sines (generator_seed {self.generator_seed})")
