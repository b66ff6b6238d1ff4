"""The parser of all commands: bad settings end in one line that names the setting and the choices."""

from __future__ import annotations

import difflib
import re
import sys
from pydoc import locate
from typing import Any, NoReturn

from jsonargparse import ActionConfigFile, ArgumentParser

from lightning_freqdiff.cli.errors import spell
from lightning_freqdiff.cli.preset_file import PresetFile
from lightning_freqdiff.cli.reasons import reworded, unknown_class

PROG = "python -m lightning_freqdiff"

CHOICES = {
    "data": "lightning_freqdiff.data.SeriesData",
    "network": "lightning_freqdiff.networks.Architecture",
    "sde": "lightning_freqdiff.diffusion.sde.SDE",
    "solver": "lightning_freqdiff.sampling.solvers.Solver",
    "condition": "lightning_freqdiff.sampling.Conditions",
    "guidance": "lightning_freqdiff.sampling.guidance.Guidance",
    "constraint": "lightning_freqdiff.sampling.constraints.Constraint",
    "rules": "lightning_freqdiff.sampling.rules.Rule",
    "policy": "lightning_freqdiff.caching.CachePolicy",
    "callbacks": "lightning.pytorch.Callback",
    "logger": "lightning.pytorch.loggers.Logger",
    "early_stopping": "lightning.pytorch.callbacks.EarlyStopping",
}
"""Settings that name a class, and what the class has to be."""

SHOWN = 60
"""Letters of a file that are shown where it holds something else than settings."""


CLOSE = 0.75
"""How like a word has to be to a setting to be taken for its misspelling, from 0 to 1."""


class Parser(ArgumentParser):
    """A parser whose errors are one line on standard error and exit code 2."""

    def add_argument(self, *args: Any, **kwargs: Any) -> Any:
        """Let configuration files be presets, too."""
        if kwargs.get("action") in ("config", ActionConfigFile):
            kwargs |= {"action": PresetFile, "help": "YAML file with any of these settings, or the name of a preset."}
        return super().add_argument(*args, **kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one line and leave."""
        text = " ".join(message.split())
        if unknown := re.match(r"unrecognized arguments: (--[\w.]+)", text):
            text += self._like(unknown[1])
        for told in (_of_value, _of_name, _of_lack, _of_command, _of_file):
            if line := told(text, self.prog):
                text = line
                break
        print(f"error: {spell(text)}", file=sys.stderr)
        raise SystemExit(2)

    def _like(self, flag: str) -> str:
        """Name the flag that was meant."""
        if not self.prog.startswith(PROG):
            return (
                f", as in {' '.join(f'--{name}' for name in _given(flag[2:]))}: the class chosen has no such setting"
            )
        known = list(self._option_string_actions)
        like = [name for name in known if name.endswith(f".{flag[2:]}")]
        like = like or difflib.get_close_matches(flag, known, 1, CLOSE)
        return f" (is it {like[0]}?)" if like else ""


def _of_value(text: str, prog: str) -> str | None:
    """Say which value is refused."""
    named = re.match(r"Parser key \"([\w.]+)\": ?(.*)", text)
    if not named:
        return None
    key, reason = named.groups()
    key = key.removeprefix(f"{prog.rsplit(' ', 1)[-1]}.")
    base, unknown = CHOICES.get(key.rsplit(".", 1)[-1]), unknown_class(reason)
    if base and unknown:
        reason = f"expected {_names(base)}, got {unknown}"
    elif unable := re.search(r"Unable to load config ['\"](.*?)['\"]", reason):
        reason = f"expected settings, one by one as --{key}.NAME or in a YAML file, got {unable[1]}"
    return f"--{(_given(key) or [key])[0]}: {reworded(reason)}"


def _of_name(text: str, prog: str) -> str | None:
    """Say that a class has no such setting."""
    refused = re.fullmatch(r"Option '(\w+)' is not accepted", text)
    if not refused or prog.startswith(PROG):
        return None
    given = _given(refused[1])
    if not given:
        return f"{refused[1]}: the class chosen has no such setting"
    named = f"the class that --{given[0].rpartition('.')[0]} names, or the default one,"
    return f"--{given[0]}: {named} has no such setting"


def _of_lack(text: str, prog: str) -> str | None:
    """Say which setting is missing."""
    lacking = re.fullmatch(r"the following arguments are required: (.*)", text)
    if not lacking:
        return None
    above = ""
    if not prog.startswith(PROG):  # of a class that was named
        classes = re.compile(rf"--((?:[\w.]+\.)?(?:{'|'.join(CHOICES)}))(?:\+?=|$)")
        chosen = [word[1] for word in map(classes.match, sys.argv) if word]
        above = f"{chosen[-1]}." if chosen else ""
    return f"expected {', '.join(f'--{above}{name}' for name in lacking[1].split(', '))}, got none"


def _of_command(text: str, prog: str) -> str | None:
    """Say which commands there are."""
    unknown = re.match(r"argument subcommand: invalid choice: '(.*?)' \(choose from (.*)\)", text)
    if unknown:
        return f"expected a command of {unknown[2].replace(chr(39), '')}, got {unknown[1]}"
    if text.startswith('expected "subcommand" to be one of'):
        return f"expected a command: `{PROG} --help` lists them"
    return None


def _of_file(text: str, prog: str) -> str | None:
    """Say that a file of settings holds none."""
    if found := re.match(r"Unexpected config: ?(.*)", text):
        return f"--config: expected a YAML file of settings, got {found[1][:SHOWN] or 'an empty one'}"
    if found := re.match(r"Problems parsing config: (.*)", text):
        return f"--config: expected a YAML file of settings, got something else ({found[1]})"
    return None


def _given(name: str) -> list[str]:
    """Return the settings on the command line that end in a name."""
    words = (re.match(rf"--((?:[\w.]*\.)?{re.escape(name)})(?:\+?=|$)", word) for word in sys.argv)
    return [word[1] for word in words if word]


def _names(path: str) -> str:
    """List what may be named where a subclass is expected: ours, or where there are none, all."""
    from lightning_freqdiff.keywords import concrete  # late, as it loads NumPy

    base = locate(path)
    assert isinstance(base, type)
    known = {kind.__name__: kind for kind in concrete(base)}
    ours = sorted(name for name, kind in known.items() if kind.__module__.startswith("lightning_freqdiff."))
    others = "one of Lightning's, " if ours and not base.__module__.startswith("lightning_freqdiff.") else ""
    listed = f"one of {', '.join(ours or sorted(known))}, {others}or " if known else ""
    return f"{listed}a dotted path to your own class"
