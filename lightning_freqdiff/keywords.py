"""Keyword arguments from Python: whose setting each of them is, their types, and errors that name them as given."""

from __future__ import annotations

import difflib
import inspect
import re
from argparse import ArgumentError
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from jsonargparse import ArgumentParser

Made = TypeVar("Made")
SETTING = re.compile(r"`(?:data|model|sampling|trainer)\.(\w+(?:\.\w+)*)`")


def names(*classes: type, without: Collection[str] = ()) -> set[str]:
    """Return the names of what the constructors of classes take."""
    taken = {name for one in classes for name in inspect.signature(one).parameters}
    return taken - {"kwargs", *without}


def allot(function: str, given: Mapping[str, Any], **owners: Collection[str]) -> dict[str, dict[str, Any]]:
    """Part keyword arguments by whose settings they are; a name that several know goes to each.

    Args:
        function: Who was given them, for the error.
        given: The arguments.
        **owners: The names that each owner knows.

    Raises:
        TypeError: For a name that nobody knows.

    Examples:
        >>> allot("fit", {"colour": "white", "max_steps": 9}, model={"colour"}, trainer={"max_steps"})
        {'model': {'colour': 'white'}, 'trainer': {'max_steps': 9}}
    """
    known = set().union(*owners.values())
    for name in given:
        if name not in known:
            like = difflib.get_close_matches(name, sorted(known), 2)
            hint = f"; is `{'` or `'.join(like)}` meant?" if like else f"; it takes settings of {', '.join(owners)}"
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}{hint}")
    return {owner: {k: v for k, v in given.items() if k in mine} for owner, mine in owners.items()}


def make(kind: type[Made], given: Mapping[str, Any]) -> Made:
    """Make an object from settings whose types are checked; components may be given by name.

    Args:
        kind: Its class.
        given: Its arguments; a network, an SDE or a solver is an instance, a name such as ``"Heun"``, or a dictionary
            of ``class_path`` and ``init_args``.

    Raises:
        ValueError: For a value of another type, naming the argument and what it may be.
    """
    parser = _parser(kind)
    return parser.instantiate(_parse(parser, kind, given))["it"]


def check(kind: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, checked as :func:`make` does, for objects that are made in another way."""
    parser = _parser(kind)
    required = {name for name, p in inspect.signature(kind).parameters.items() if p.default is p.empty} - {"kwargs"}
    _parse(parser, kind, {**dict.fromkeys(required, ""), **given})
    return dict(given)


def _parser(kind: type) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "it")
    return parser


def _parse(parser: ArgumentParser, kind: type, given: Mapping[str, Any]) -> Any:
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in given.items()}
    try:
        return parser.parse_object({"it": plain})
    except ArgumentError as error:
        named = re.search(r'Parser key "it\.(\w+)', str(error))
        if named is None:
            raise ValueError(" ".join(str(error).split())) from error
        expected = _expected(kind, named[1], str(error))
        raise ValueError(f"expected `{named[1]}` as {expected}, got {plain[named[1]]!r}") from error


def _expected(kind: type, name: str, reason: str) -> str:
    """Say what an argument may be."""
    within = re.search(r"Problem with given class_path '([^']+)':\s*(.*)", reason, re.DOTALL)
    if within:
        return f"settings of {within[1].rpartition('.')[2]} ({' '.join(within[2].split())[:120]})"
    owner = next(c for c in kind.__mro__ if name in inspect.signature(c.__init__).parameters)
    hint = get_type_hints(owner.__init__)[name]
    kinds = [hint] if get_origin(hint) is Literal else get_args(hint) or [hint]
    return " or ".join(_describe(part) for part in kinds if part is not type(None))


def _describe(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(repr, get_args(hint)))}"
    if isinstance(hint, type) and (below := {kind.__name__ for kind in concrete(hint)}):
        return f"one of {', '.join(sorted(below))}, or your own {hint.__name__}"
    return getattr(hint, "__name__", str(hint))


def concrete(base: type) -> set[type]:
    """Return the public subclasses of a class that can be made."""
    if base.__module__ == "builtins":
        return set()
    below = base.__subclasses__()
    made = {kind for kind in below if not (kind.__name__.startswith("_") or inspect.isabstract(kind))}
    return made.union(*(concrete(kind) for kind in below))


@contextmanager
def spelt(**renamed: str) -> Iterator[None]:
    """Let errors name settings as keyword arguments: `sampling.num_steps` is ``num_steps`` here.

    Args:
        **renamed: Settings that are called otherwise here.

    Examples:
        >>> with spelt(**{"data.path": "series"}):
        ...     raise ValueError("mend `data.path`, or set `data.window`")
        Traceback (most recent call last):
        ValueError: mend `series`, or set `window`
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        if len(error.args) == 1 and isinstance(error.args[0], str):
            error.args = (spell(error.args[0], renamed),)
        raise


def spell(text: str, renamed: Mapping[str, str]) -> str:
    """Write settings as keyword arguments."""
    for name, other in renamed.items():
        text = text.replace(f"the file of `{name}`", f"`{other}`").replace(f"`{name}`", f"`{other}`")
    return SETTING.sub(lambda m: f"`{m[1]}`", text)
