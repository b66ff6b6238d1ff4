"""The ways to fill gaps: guidances and constraints by name, and the linear model's law, which asks no network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Trainer

from lightning_freqdiff.conditional import gaussian_of
from lightning_freqdiff.keywords import allot, concrete, names
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sampling import (
    ClassifierFree,
    Constraint,
    GaussianPosterior,
    Given,
    Guidance,
    Sampling,
    Together,
)
from lightning_freqdiff.sampling.noise import normal_stream

LINEAR = "linear"
"""The method that asks no network: the exact conditional law of the linear model."""
Method = str | Guidance | Constraint | None

_BASES: dict[str, type] = {"guidance": Guidance, "constraint": Constraint}


def linear(module: ScoreModule, given: Given, seed: int) -> np.ndarray:
    """Return draws ``(R * S, N, M)`` of the linear model's conditional law, under the noise that samples meet."""
    codec = module.score.codec
    given = given.said_in(module.vocabulary)
    gaussian, parts = gaussian_of(codec), []
    for row in range(len(given.values)):
        first, count = row * given.num_samples, given.num_samples
        shape = (count, *codec.noise_scale.shape)
        known = given.rows(first, count).to(gaussian.mean.device)
        assert known.observed is not None
        assert known.mask is not None
        noise = next(normal_stream(seed, given.numbers(first, count), shape, gaussian.mean.device))  # pyright: ignore
        drawn = gaussian.draw(codec.logarithm(known.observed), known.mask, noise.flatten(1))
        parts.append(known.fill(codec.logarithm.back(drawn)))
    return torch.cat(parts).cpu().float().numpy()


def keeping(guidance: Guidance | None) -> Guidance:
    """Return a guidance that keeps to observed values: the one that is given, or around it the default one.

    Guidance towards a class says nothing of observed values.
    """
    if guidance is None:
        return GaussianPosterior()
    return Together((guidance, GaussianPosterior())) if isinstance(guidance, ClassifierFree) else guidance


def check_settings(settings: dict[str, Any], sample: Callable[..., Any]) -> None:
    """Refuse settings that ``sample`` does not take, also where the linear model draws and needs none of them.

    Raises:
        TypeError: For a name that nobody knows.
    """
    own = set(inspect.signature(sample).parameters)
    allot("impute", settings, sampling=names(Sampling) | own, trainer=names(Trainer))


def settings_of(method: Method, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of sampling that make a method, whatever it is given as.

    Raises:
        ValueError: For a method that there is not, or two in one place.
    """
    kinds = {kind.__name__: name for name, base in _BASES.items() for kind in concrete(base)}
    if method is None:
        towards = settings.pop("guidance_scale", None)
        guidance = settings.get("guidance") if towards is None else ClassifierFree(towards)
        return {**settings, "guidance": keeping(guidance)}
    if isinstance(method, str):
        if method not in kinds:
            raise ValueError(f"expected `method` as one of {', '.join(sorted(kinds))}, {LINEAR}, got {method!r}")
        place = kinds[method]
    else:
        place = "guidance" if isinstance(method, Guidance) else "constraint"
    if settings.get(place) is not None:
        raise ValueError(f"expected `method` or `{place}`, got both: put one inside the other's place")
    return {place: method, **settings}
