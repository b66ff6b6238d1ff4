"""Presets by name: the YAML files of ``configs/`` and ``callbacks/``, which the package brings along."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Iterable
from pathlib import Path

KINDS = {"configs": "data sets with a model that suits them, for fit", "callbacks": "caches and loggers"}
"""Folders of presets, and what is in them. A name is in one of them only."""


def shipped(kinds: Iterable[str] = tuple(KINDS)) -> dict[str, Path]:
    """Return the presets of some kinds, by name in alphabetical order.

    Examples:
        >>> "wiener" in shipped(["callbacks"]), "wiener" in shipped(["configs"])
        (True, False)
    """
    # A wheel has a copy of the folders that lie beside the package in the repository.
    inside = Path(__file__).with_name("shipped")
    home = inside if inside.is_dir() else Path(__file__).parents[1]
    return {path.stem: path for kind in kinds for path in sorted((home / kind).glob("*.yaml"), key=lambda p: p.stem)}


def summary(path: Path) -> str:
    """Return what a preset says of itself: its first line, a comment."""
    with path.open(encoding="utf-8") as file:
        return file.readline().removeprefix("#").strip()


def find(name: str | Path) -> Path | None:
    """Return the file at a path, or else the preset of that name, or else nothing."""
    path = Path(name).expanduser()
    return path if path.is_file() else shipped().get(str(name).removesuffix(".yaml"))


def locate(name: str | Path, setting: str, kinds: Iterable[str] = tuple(KINDS)) -> Path:
    """Find a preset by its path or its name; a path that exists comes first, and a warning says so.

    Args:
        name: What the user gave.
        setting: By which setting, for messages.
        kinds: Where names are looked up.

    Raises:
        FileNotFoundError: Where there is neither, naming presets that are spelt alike.
    """
    path, known = find(name), shipped(kinds)
    if path is None:
        like = difflib.get_close_matches(Path(name).stem, known) or sorted(known)
        raise FileNotFoundError(
            f"expected a YAML file or the name of a preset such as {', '.join(like[:4])}, got {str(name)!r}: set "
            f"`{setting}`; python -m lightning_freqdiff presets lists all"
        )
    if str(name) in known and path != known[str(name)]:
        warnings.warn(
            f"`{setting}` {name} is taken for the file of that name, not for the preset: write another path for the "
            "one or the other",
            stacklevel=2,
        )
    return path
