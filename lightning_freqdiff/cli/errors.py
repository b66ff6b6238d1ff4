"""From an error to one line: the reason alone, with settings spelt as the flags of the command line.

Where an error is raised, a setting is named in Python terms and in backticks, such as `sampling.num_steps`, since the
reader may well be writing Python. This is the only place that knows how the same is written in a shell.
"""

from __future__ import annotations

import re
import sys
import warnings

from lightning_freqdiff.cli.reasons import reworded
from lightning_freqdiff.presets import find

ROOTS = (
    *("data", "model", "sampling", "trainer", "ema", "checkpoint", "early_stopping", "ckpt_path"),
    *("callbacks", "config", "confirm", "device", "families", "metric", "name", "output", "rounds"),
    *("seed_everything", "threads", "tolerance"),
)
"""First parts of the settings that are flags."""

OF_COMMAND = {
    "evaluate": (
        *("generated", "reference", "holdout", "metrics", "protocol", "repetitions", "rows", "directions", "seed"),
    ),
    "app": ("host", "port"),
    "backtest": ("horizon", "stride", "origins", "season"),
    **dict.fromkeys(("compare", "test"), ("metrics",)),
    "predict": ("metrics", "task", "horizon"),
}
"""Settings that are flags of one command, and elsewhere names of Python alone."""

SETTING = re.compile(r"`(\w+)((?:\.\w+)*)`")
POLICY = re.compile(r"`policy(\.\w+)`")

FOREIGN = (
    (r"No supported gpu backend found!", "expected a GPU of this machine, found none: set `trainer.accelerator`"),
    (r"Invalid decay value (\S+) provided.*", r"expected a decay from 0 to 1, got \1: set `ema.decay`"),
    (r"Invalid value for save_top_k=(\S+)\. .*", r"expected save_top_k >= -1, got \1: set `checkpoint.save_top_k`"),
    (r"`max_steps` must be .* You passed in (\S+)\.", r"expected max_steps >= -1, got \1: set `trainer.max_steps`"),
    (
        r"`(ModelCheckpoint|EarlyStopping)\(monitor='(.*?)'\)` could not find .*?: (\[.*?\]).*",
        r"expected \1 to watch one of \3, got \2: set its `monitor`",
    ),
    (
        r"Early stopping conditioned on metric `(.*?)` which is not available.*following: (.*)",
        r"expected EarlyStopping to watch one of \2, got \1: set `early_stopping.monitor`",
    ),
    (r"(\S+) is not in bounds, numpy accepts from (.*)", r"expected a seed from \2, got \1: set `seed_everything`"),
    (
        r".*(?:[Tt]ried|Unable) to allocate ([\d.]+ \w+).*",
        r"expected room for \1 at once, which this machine has not: make series, network, `data.batch_size` or "
        "`sampling.batch_size` smaller",
    ),
    (
        r".*(?:Overflow when unpacking long|Maximum allowed dimension exceeded|Stop argument for islice).*",
        "expected numbers of at most 19 digits: lower the one that has more",
    ),
)
"""What Lightning, PyTorch and NumPy say without the name of a setting, and what it means."""


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
    named = (find(word.split("=", 1)[-1]) for word in sys.argv[1:])
    files = [path for path in named if path is not None and path.suffix in (".yaml", ".yml")]
    return " ".join([*sys.argv, *(path.read_text(errors="replace") for path in files)])


def one_line(text: str) -> str:
    """Return the reason of an error on one line, as a user of the command line would put it."""
    text = reworded(" ".join(text.split()))
    for theirs, ours in FOREIGN:
        text = re.sub(f"^{theirs}$", ours, text)
    return spell(text)


def spell_warnings() -> None:
    """Print warnings as one line, in the same spelling, without the line of code that they come from."""
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {one_line(str(message))}\n"
