"""jsonargparse's account of why a value is refused, in few words: what was expected, what came."""

from __future__ import annotations

import re
from collections.abc import Iterable

KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "dict": "a mapping",
    "timedelta": "a duration",
}
"""Types of Python as a user of YAML and flags would call them."""

LISTS = ("list", "tuple", "Iterable", "Sequence")

TYPE = re.compile(
    r"<class '(?P<name>[\w.]+)'>"
    r"|typing\.Literal\[(?P<choices>[^\]]*)\]"
    r"|(?P<generic>[\w.]+)\[(?:[^\[\]]|\[[^\[\]]*\])*\]"
)

WITHIN = re.compile(r"Problem with given class_path '[^']+': (.*?)(?: - Expected an? | - Not a valid| Given value|$)")
"""The reason of a class that was found and refused its settings."""
OURS = re.compile(r"- (expected .*?)(?= - (?:Not a valid subclass|Expected an? )| Given value|$)")
"""The reason that is ours among those of all types that a value might have been of."""
UNION = re.compile(r"any of the Union subtypes Subtypes: \[(.*?)\] Errors: .*Given value: ?(.*)")
SINGLE = re.compile(r"Expected an? (.*?)\. Got value: ?(.*)")
NO_CLASS = re.compile(r"(?:Expected a dot import path string: ?|Import path )(\S*)")
"""A value that should have named a class."""


def reworded(text: str) -> str:
    """Say in few words what jsonargparse says; other texts stay as they are.

    Args:
        text: An account of one line.

    Examples:
        >>> reworded("Expected a <class 'int'>. Got value: many")
        'expected an integer, got many'
        >>> reworded(
        ...     "Does not validate against any of the Union subtypes Subtypes: [<class 'int'>, <class 'NoneType'>] "
        ...     "Errors: - Expected a <class 'int'> - Expected a <class 'NoneType'> Given value type: <class 'str'> "
        ...     "Given value: x"
        ... )
        'expected an integer or null, got x'
    """
    if text.startswith("expected "):
        return text  # ours throughout
    for ours in (WITHIN, OURS):
        if found := ours.search(text):
            return reworded(found[1]) if ours is WITHIN else found[1]
    if found := UNION.search(text) or SINGLE.search(text):
        return f"expected {either(kinds(found[1]))}, got {found[2].strip() or 'nothing'}"
    return text


def unknown_class(text: str) -> str | None:
    """Return the value that should have named a class, or nothing where the account is of something else."""
    found = NO_CLASS.search(text)
    return None if found is None else found[1].strip("- ") or "nothing"


def kinds(types: str) -> list[str]:
    """Name the types in a list of Python's own names.

    Examples:
        >>> kinds("typing.Literal['equal', 'white'], <class 'float'>, tuple[int, int], <class 'a.Logger'>")
        ['equal', 'white', 'a number', 'a list', 'a Logger']
    """
    found = []
    for kind in TYPE.finditer(types):
        if kind["choices"] is not None:
            found += [choice.strip(" '\"") for choice in kind["choices"].split(",")]
        else:
            name = (kind["name"] or kind["generic"]).rpartition(".")[2]
            found.append(KINDS.get(name, "a list" if kind["generic"] or name in LISTS else f"a {name}"))
    return list(dict.fromkeys(found)) or [types]


def either(words: Iterable[str]) -> str:
    """Join words, the last by `or`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
