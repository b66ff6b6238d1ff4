"""One self-contained HTML page: pictures, tables and settings, for those who want no service at all."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lightning_freqdiff.files import replace_text

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2.2rem; border-bottom: 1px solid var(--line); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .8rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th { vertical-align: bottom; } th:first-child, td:first-child, .words { text-align: left; }
div { overflow-x: auto; } img { max-width: 100%; height: auto; background: white; border-radius: 4px; }
p { max-width: 44rem; } pre { overflow-x: auto; font-size: 13px; background: #8881; padding: .8rem; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""Nothing is fetched from anywhere, and nothing runs."""
NUMBER = re.compile(r"[+-]?\d")
DPI = 120
LEAST = 0.65
"""Scale below which a figure is not shrunk, but scrolled: its text is of 8 points."""


@dataclass
class Page:
    """The page's sections in the order they are added.

    Args:
        title: What the page is about.
    """

    title: str
    parts: list[str] = field(default_factory=list)

    def heading(self, text: str) -> None:
        """Start a section."""
        self.parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")

    def figure(self, figure: Figure, alt: str) -> None:
        """Add a figure, embedded as PNG, with a description for those who cannot see it."""
        self.parts.append(f"<div>{picture(figure, alt)}</div>")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table; numbers are shown with four significant digits, at the right, and words at the left."""
        cells = [[shown(value) for value in row] for row in rows]
        words = [not any(NUMBER.match(row[i]) for row in cells) for i in range(len(columns))]

        def line(tag: str, row: Sequence[str]) -> str:
            kinds = [' class="words"' if is_words else "" for is_words in words]
            parts = (f"<{tag}{kind}>{escape(cell)}</{tag}>" for kind, cell in zip(kinds, row, strict=True))
            return f"<tr>{''.join(parts)}</tr>"

        body = "".join(line("td", row) for row in cells)
        self.parts.append(f"<div><table><thead>{line('th', columns)}</thead><tbody>{body}</tbody></table></div>")

    def settings(self, values: Mapping[str, Any]) -> None:
        """Add settings as formatted JSON."""
        self.parts.append(f"<pre>{escape(json.dumps(values, indent=2, default=str))}</pre>")

    def write(self, path: Path) -> None:
        """Write the page in one move."""
        body = "\n".join(self.parts)
        replace_text(
            path,
            f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{escape(self.title)}</title>\n'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
            f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>\n'
            f"<h1>{escape(self.title)}</h1>\n{body}\n</html>\n",
        )


def picture(figure: Figure, alt: str) -> str:
    """Return a figure as an element that holds its pixels, with a description for those who cannot see it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    data = base64.b64encode(buffer.getvalue()).decode()
    width, height = (round(DPI * float(inches)) for inches in figure.get_size_inches())
    size = f'width="{width}" height="{height}" style="min-width: {LEAST * width:.0f}px"'
    return f'<img alt="{escape(alt)}" {size} src="data:image/png;base64,{data}">'


def size_of(steps: int, channels: int) -> str:
    """Say how large series are.

    Examples:
        >>> size_of(187, 1)
        '187 steps and 1 channel'
    """
    return f"{steps:,} steps and {channels:,} channel{'' if channels == 1 else 's'}"


def shown(value: Any) -> str:
    """Format a cell.

    Examples:
        >>> shown(0.0123456), shown(1000), shown(None)
        ('0.01235', '1000', '')
    """
    if value is None or (isinstance(value, float) and value != value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
