"""Caches from their presets, YAML files that name a callback and its settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from lightning_freqdiff.caching import CachePolicy
from lightning_freqdiff.callbacks.cache import CacheCallback
from lightning_freqdiff.callbacks.quantize import Quantize
from lightning_freqdiff.evaluation.arithmetic import LOW_BITS, Precision
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.hooks import SamplingCallback
from lightning_freqdiff.presets import locate
from lightning_freqdiff.sampling.loop import Sampling


def read_preset(name: str | Path) -> CachePolicy:
    """Read the cache of a callback preset such as ``wiener``, by its name or its path.

    Raises:
        FileNotFoundError: Where there is no such preset or file.
        ValueError: For a file that holds no cache, more than one, something else, or wrong settings.
    """
    policy, precision = read_plugged(name)
    if policy is None or precision is not None:
        raise ValueError(f"{name}: expected one cache and nothing else, got {precision}: set `cache`")
    return policy


def read_plugged(name: str | Path) -> tuple[CachePolicy | None, Precision | None]:
    """Read what a callback preset plugs in: a cache, a network in integers, or one of each.

    Raises:
        FileNotFoundError: Where there is no such preset or file.
        ValueError: For a file that holds neither, more than one of a kind, or wrong settings.
    """
    path = locate(name, "callbacks", ["callbacks"])
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
        entries = content["trainer"]["callbacks+"]
        entries = [entry for entry in (entries if isinstance(entries, list) else [entries]) if entry]
    except (YAMLError, OmegaConfBaseException, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: expected a preset of the form trainer: {{callbacks+: [...]}}, got something else: "
            "set `callbacks`"
        ) from error
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(SamplingCallback, "cache", required=True)
    caches: list[CachePolicy] = []
    precisions: list[Precision] = []
    for entry in entries:
        try:
            callback = parser.instantiate(parser.parse_object({"cache": entry}))["cache"]
            if not isinstance(callback, (CacheCallback, Quantize)):
                raise TypeError(f"{type(callback).__name__} is neither CacheCallback nor Quantize")
        except Exception as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{path}: expected the settings of a cache, got {entry} ({text[:200]})") from error
        if isinstance(callback, CacheCallback):
            caches.append(callback.policy)
        else:
            precisions.append(next(name for name, bits in LOW_BITS.items() if bits == callback.weights))
    if not entries or len(caches) > 1 or len(precisions) > 1:
        raise ValueError(
            f"{path}: expected one cache, a network in integers, or one of each, got {len(caches)} and "
            f"{len(precisions)}: set `callbacks` to one file for each"
        )
    return (caches or [None])[0], (precisions or [None])[0]


def read_presets(given: Sequence[str | Path], sampling: Sampling) -> list[Contender]:
    """Read caches from presets, each called by its name or that of its file."""
    names = [Path(name).stem for name in given]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"expected presets of different names, got {twice[0]} twice: rename a file of `callbacks`")
    return [Contender(name, "cache", sampling, *read_plugged(path)) for name, path in zip(names, given, strict=True)]
