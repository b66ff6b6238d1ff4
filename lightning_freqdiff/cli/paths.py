"""Paths as a user writes them."""

from __future__ import annotations

import os

from jsonargparse import Namespace


def expand(config: Namespace, *settings: str) -> None:
    """Let `~` be the user's home in some settings, in place: no shell puts it in behind an equals sign or in YAML."""
    for setting in settings:
        path = config.get(setting)
        if isinstance(path, str):
            config[setting] = os.path.expanduser(path)
