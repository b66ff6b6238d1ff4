"""Output folders: made, and looked through, before any work is done, so that none is lost and nothing overwritten."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_freqdiff.files import plain


@dataclass(frozen=True)
class Kind:
    """What a command leaves in a folder, and may find there and replace.

    Attributes:
        name: What an earlier run is called in messages.
        files: Names of what it leaves, or may. The first is always there: without it the others are another's.
    """

    name: str
    files: Sequence[str]


def make_folder(folder: Path, setting: str) -> None:
    """Make a folder, and see that files can be written to it.

    Raises:
        OSError: Naming the folder and the setting, in Python terms.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"cannot write to the output folder {folder} ({error.strerror}): set `{setting}`") from error


def claim(folder: Path, setting: str, kind: Kind | None = None) -> None:
    """Make a folder for results, empty but for those of an earlier run of the same kind, and hidden files.

    Args:
        folder: The folder.
        setting: Setting that names it, in Python terms.
        kind: What may be there and is replaced; nothing if not given.

    Raises:
        ValueError: For a folder that holds something else.
        OSError: For one that cannot be made or written to.
    """
    make_folder(folder, setting)
    found = sorted(file.name for file in folder.iterdir() if not file.name.startswith("."))
    ours = kind.files if kind is not None and kind.files[0] in found else ()
    foreign = [name for name in found if name not in ours]
    if foreign:
        replaced = "" if kind is None else f", or {kind.name} to replace"
        raise ValueError(
            f"expected an empty output folder{replaced}, but {folder} holds {', '.join(foreign[:3])}"
            f"{' and more' if len(foreign) > 3 else ''}: set `{setting}` to another folder"
        )


@contextmanager
def held(folder: Path, setting: str) -> Iterator[None]:
    """Hold a folder that may have anything in it while results are made; leave none where nothing came of it."""
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    try:
        make_folder(folder, setting)
        yield
    finally:
        for one in made:
            if one.is_dir() and not any(one.iterdir()):
                one.rmdir()


@contextmanager
def claimed(folder: Path, setting: str, kind: Kind | None = None) -> Iterator[None]:
    """Hold a folder as :func:`held` does, which :func:`claim` lets have."""
    with held(folder, setting):
        claim(folder, setting, kind)
        yield


def check_identity(place: object, before: dict[str, Any], now: dict[str, Any], setting: str) -> None:
    """Refuse a place that belongs to a run with other settings, naming those that differ.

    Args:
        place: Where the run is.
        before: Everything that its results depend on, as it was written down.
        now: The same of the run that is about to start.
        setting: Setting that names the place, in Python terms.
    """
    old, new = _flatten(before), _flatten(json.loads(json.dumps(plain(now))))
    keys = sorted(k for k in {*old, *new} if old.get(k) != new.get(k))
    if keys:
        changes = ", ".join(f"{key} was {old.get(key)} and is now {new.get(key)}" for key in keys[:3])
        raise ValueError(
            f"the output folder {place} belongs to another run ({changes}): set `{setting}` to another folder"
        )


def _flatten(value: Any, prefix: str = "") -> dict[str, Any]:
    """Lay out nested settings as one dictionary with dotted names."""
    if isinstance(value, list):
        value = {str(i): entry for i, entry in enumerate(value)}
    if not isinstance(value, dict):
        return {prefix: value}
    return {k: v for key, entry in value.items() for k, v in _flatten(entry, f"{prefix}.{key}".strip(".")).items()}


def shown(path: Path) -> str:
    """Return a path as a user would write it: from where they are, where it lies beneath."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
