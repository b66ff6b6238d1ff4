"""Channels in pictures: which of many are drawn, and how their names are written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib import font_manager
from matplotlib.artist import Artist
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

PANELS = 8
"""Channels that are drawn in panels of their own, at most."""
LINES = 4
"""Channels that are drawn in one panel, at most."""
LONGEST = 32
"""Characters of a name, at most."""
BOXES = "Last"
"""How the names of fonts begin that have a box for every character."""


def chosen(count: int, most: int) -> list[int]:
    """Return which of ``count`` channels are drawn: all, or ``most`` of them from the first to the last.

    Examples:
        >>> chosen(3, 4), chosen(120, 4)
        ([0, 1, 2], [0, 40, 79, 119])
    """
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()


def tell_chosen(figure: Figure | SubFigure, count: int, shown: int) -> None:
    """Say on a figure how many channels there are, where not all of them are drawn."""
    if shown < count:
        figure.supylabel(f"{shown} of {count} channels", fontsize=8, color="grey")


def names(channels: Sequence[str], count: int) -> list[str]:
    """Return what to write for each of ``count`` channels, known or not: not too long, and :func:`legible`."""
    known = [name.strip() or f"channel {m}" for m, name in enumerate(channels[:count])]
    known += [f"channel {m}" for m in range(len(known), count)]
    half = LONGEST // 2  # names that are long often differ at their end
    return [legible(name if len(name) <= LONGEST else f"{name[: half - 1]}…{name[-half:]}") for name in known]


def legible(name: str) -> str:
    r"""Write a text so that matplotlib shows it as it is: on one line, and never as mathematics.

    Characters that no installed font has are spelt as in Python, in place of boxes.

    Examples:
        >>> legible("$a$ in $b"), legible("u\n v"), legible("\x07")
        ('\\$a\\$ in \\$b', 'u v', '\\x07')
    """
    name = " ".join(name.split())
    _, nowhere = _fonts(frozenset(name))
    spelt = (c.encode("unicode_escape").decode() if c in nowhere or not c.isprintable() else c for c in name)
    return "".join(spelt).replace("$", r"\$")


def letter(figure: Figure) -> Figure:
    """Let all text of a figure be drawn in fonts that have its characters, where the default one has not."""
    texts = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
    families, _ = _fonts(frozenset("".join(text.get_text() for text in texts)))
    for text in texts if families else ():
        text.set_fontfamily([*text.get_fontfamily(), *families])
    return figure


def legend(figure: Figure | SubFigure, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    """Put a legend above all panels, where it hides nothing."""
    figure.legend(handles, labels, loc="outside upper center", ncols=4, fontsize=8, frameon=False)


@lru_cache
def _fonts(characters: frozenset[str]) -> tuple[list[str], frozenset[str]]:
    """Return the families that have what the default font lacks of some characters, and what no font has."""
    missing = {ord(c) for c in characters if c.isprintable()}
    missing -= font_manager.get_font(font_manager.findfont(font_manager.FontProperties())).get_charmap().keys()
    families = []
    plain = sorted(font_manager.fontManager.ttflist, key=lambda f: (f.style != "normal", f.weight != 400, f.name))
    for entry in plain if missing else ():
        if entry.name.startswith(BOXES) or entry.name in families:
            continue
        try:
            font = font_manager.get_font(entry.fname)
        except (OSError, RuntimeError):  # removed since the list was made, or damaged
            continue
        found = missing & font.get_charmap().keys() if font.scalable else set()
        families += [entry.name] if found else []
        missing -= found
        if not missing:
            break
    return families, frozenset(map(chr, missing))
