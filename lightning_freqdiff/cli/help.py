"""The help of commands, kept between runs: PyTorch and Lightning take seconds to load, and only name the settings."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

import lightning_freqdiff
from lightning_freqdiff.files import cache_root, replace_text

SOURCES = ("torch", "lightning", "torchmetrics", "jsonargparse", "omegaconf")
"""Packages that have a say in the text, beside this one."""


def asked_for(words: Sequence[str]) -> bool:
    """Tell whether the help of one command is all that is wanted."""
    return len(words) == 2 and not words[0].startswith("-") and words[1] in ("-h", "--help")


def show(words: Sequence[str], make: Callable[[], None]) -> None:
    """Print the help of a command as it was kept, or else have it made and keep it.

    Args:
        words: Those of the command line.
        make: Prints it and leaves, as parsers do.
    """
    path = cache_root(None) / "help" / f"{words[0]}.json"
    key, text = _key(), None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none yet, or damaged
        kept = json.loads(path.read_text(encoding="utf-8"))
        text = kept["text"] if kept["key"] == key else None
    if text is None:
        with contextlib.redirect_stdout(io.StringIO()) as said, contextlib.suppress(SystemExit):
            make()
        text = said.getvalue()
        if not text:
            sys.exit(2)  # no such command, as was said on standard error
        with contextlib.suppress(OSError):  # a home that cannot be written
            path.parent.mkdir(parents=True, exist_ok=True)
            replace_text(path, json.dumps({"key": key, "text": text}))
    print(text, end="")


def _key() -> str:
    """Return what the text follows from: this package's files, versions of others, and the width of the terminal."""
    root = Path(lightning_freqdiff.__file__).parent
    files = sorted(p for p in root.rglob("*") if p.suffix in (".py", ".yaml"))
    facts = [[str(p), p.stat().st_mtime_ns, p.stat().st_size] for p in files]
    versions = [version(name) for name in SOURCES]
    width = shutil.get_terminal_size().columns
    return hashlib.sha256(json.dumps([facts, versions, sys.version, width]).encode()).hexdigest()
