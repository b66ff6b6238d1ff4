"""Caches from their presets, YAML files that name a callback and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

import lightning_freqdiff.callbacks  # noqa: F401 (presets name their callbacks by class)
from lightning_freqdiff.caching import CachePolicy
from lightning_freqdiff.callbacks.cache import CacheCallback
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.sampling.loop import Sampling


def read_preset(path: str | Path) -> CachePolicy:
    """Read the cache of a callback preset such as ``callbacks/wiener.yaml``.

    Raises:
        FileNotFoundError: Where there is no such file.
        ValueError: For a file that holds no cache, more than one, or wrong settings.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"expected the YAML file of a cache, found none at {path}: set `callbacks`")
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
    parser.add_subclass_arguments(CacheCallback, "cache", required=True)
    caches = []
    for entry in entries:
        try:
            caches.append(parser.instantiate(parser.parse_object({"cache": entry}))["cache"])
        except Exception as error:
            text = " ".join(str(error).split())
            raise ValueError(f"{path}: expected the settings of a cache, got {entry} ({text[:200]})") from error
    if len(caches) != 1:
        raise ValueError(f"{path}: expected one cache, got {len(caches)}: set `callbacks` to one file for each")
    return caches[0].policy


def read_presets(paths: list[str], sampling: Sampling) -> list[Contender]:
    """Read caches from presets, each named by its file."""
    names = [Path(path).stem for path in paths]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"expected presets of different names, got {twice[0]} twice: rename a file of `callbacks`")
    return [Contender(name, "cache", sampling, read_preset(path)) for name, path in zip(names, paths, strict=True)]
