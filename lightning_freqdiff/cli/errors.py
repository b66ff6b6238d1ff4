"""From an error to one line: the reason alone, with settings spelt as the flags of the command line.

Where an error is raised, a setting is named in Python terms and in backticks, such as `sampling.num_steps`, since the
reader may well be writing Python. This is the only place that knows how the same is written in a shell.
"""

from __future__ import annotations

import re
import sys
import warnings
from pathlib import Path

ROOTS = (
    *("data", "model", "sampling", "trainer", "checkpoint", "ckpt_path"),
    *("callbacks", "device", "families", "metric", "name", "output", "rounds", "threads", "tolerance"),
)
"""First parts of the settings that are flags."""

OF_COMMAND = {
    "evaluate": (
        *("generated", "reference", "holdout", "metrics", "protocol", "repetitions", "rows", "directions", "seed"),
    )
}
"""Settings that are flags of one command, and elsewhere names of Python alone."""

SETTING = re.compile(r"`(\w+)((?:\.\w+)*)`")
POLICY = re.compile(r"`policy(\.\w+)`")
OWN_REASON = re.compile(r"- (expected .*?)(?= - (?:Not a valid subclass|Expected an? )|$)")
"""What is ours in jsonargparse's account of why a value is of none of several types."""


def spell(text: str) -> str:
    """Write settings as flags.

    Examples:
        >>> spell("expected num_steps >= 1, got 0: set `sampling.num_steps`")
        'expected num_steps >= 1, got 0: set --sampling.num_steps'
        >>> spell("mend `columns` in the file of `data.path`")
        'mend `columns` in the file of --data.path'
    """
    # A policy is plugged in as CacheCallback(policy=...), or by a callback of its own that takes its settings.
    plugged = "CacheCallback" in text or not re.search(r"(E2CRF|Wiener)Cache", f"{text} {given()}")
    prefix = "--trainer.callbacks" + (".policy" if plugged else "")
    roots = (*ROOTS, *OF_COMMAND.get("".join(sys.argv[1:2]), ()))
    return SETTING.sub(lambda m: f"--{m[1]}{m[2]}" if m[1] in roots else m[0], POLICY.sub(rf"{prefix}\1", text))


def given() -> str:
    """Return what the user gave: the words of the command line, and what stands in the files that they name."""
    paths = (Path(word.split("=", 1)[-1]) for word in sys.argv if word.endswith((".yaml", ".yml")))
    return " ".join([*sys.argv, *(path.read_text(errors="replace") for path in paths if path.is_file())])


def one_line(text: str) -> str:
    """Return the reason of an error on one line, as a user of the command line would put it."""
    text = spell(" ".join(text.split()))
    ours = OWN_REASON.search(text)
    return ours[1] if ours else text


def spell_warnings() -> None:
    """Print warnings as one line, in the same spelling, without the line of code that they come from."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {one_line(str(message))}\n"
