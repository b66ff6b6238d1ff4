"""Docstrings as the site shows them: formulas drawn by the browser itself, Sphinx's references as plain names."""

import re
from typing import Any

from griffe import Extension, Object
from latex2mathml.converter import convert

DISPLAYED = re.compile(r"^( *)\.\. math:: (.+(?:\n\1 +.+)*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
REFERENCE = re.compile(r":(?:attr|class|data|func|meth|mod):`~?(?:[\w.]*\.)?(\w+)`")


class Docstrings(Extension):
    """Rewrites docstrings as they are read."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring of an object, if it has one."""
        if obj.docstring:
            obj.docstring.value = rewrite(obj.docstring.value)


def rewrite(text: str) -> str:
    """Turn LaTeX into MathML, which needs no script, and references into code."""
    text = DISPLAYED.sub(lambda found: f"{found[1]}<div>{convert(found[2], display='block')}</div>", text)
    text = INLINE.sub(lambda found: convert(found[1]), text)
    return REFERENCE.sub(r"`\1`", text)
