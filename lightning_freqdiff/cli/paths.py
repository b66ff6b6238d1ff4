"""Paths as a user writes them, and whether something can be written there."""

from __future__ import annotations

import os
from pathlib import Path

from jsonargparse import Namespace


def expand(config: Namespace, *settings: str) -> None:
    """Let `~` be the user's home in some settings, in place: no shell puts it in behind an equals sign or in YAML."""
    for setting in settings:
        path = config.get(setting)
        if isinstance(path, str):
            config[setting] = os.path.expanduser(path)


def expect_writable(path: Path) -> None:
    """Refuse a file or folder that cannot be made, before hours are spent on what should be in it.

    Raises:
        OSError: Naming what is in the way.
    """
    there = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise OSError(f"cannot write to {path}, since {there} is no folder that can be written: set `output`")
