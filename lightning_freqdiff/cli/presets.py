"""`presets`: what is found by its name, listed without loading anything heavy."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_freqdiff.cli.commands import STUDIES
from lightning_freqdiff.cli.parser import PROG, Parser
from lightning_freqdiff.presets import KINDS, shipped, summary


def show_presets(args: Sequence[str]) -> None:
    """Print every preset with what it says of itself."""
    Parser(prog=f"{PROG} presets", description=STUDIES["presets"]).parse_args(list(args))
    width = max(map(len, shipped()))
    for kind, text in KINDS.items():
        print(f"{kind}: {text}")
        for name, path in shipped([kind]).items():
            print(f"  {name:<{width}}  {summary(path)}")
    print("take one by its name: --config NAME; to compare caches: compare --callbacks NAME NAME")
