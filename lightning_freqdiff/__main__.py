"""``python -m lightning_freqdiff fit | validate | test | predict``, and the studies: ``compare | tune | ...``."""

from __future__ import annotations

import os
import sys


def main(args: list[str] | None = None) -> None:
    """Run the command line; bad input ends in one line and exit code 1 (or 2, for options)."""
    # LightningCLI still calls what jsonargparse has renamed; users can do nothing about it.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from lightning_freqdiff.cli import commands
    from lightning_freqdiff.cli.errors import one_line
    from lightning_freqdiff.cli.parser import CLI, Parser, quiet

    quiet()
    given = sys.argv[1:] if args is None else args
    try:
        if given and given[0] in commands.STUDIES:
            commands.run(given[0], given[1:], Parser)
        else:
            CLI(args)
    except Exception as error:
        if os.environ.get("FREQDIFF_TRACEBACK"):
            raise
        text = one_line(str(error))
        if not isinstance(error, (ValueError, OSError, ImportError, MisconfigurationException)):
            text = f"{type(error).__name__}: {text} (FREQDIFF_TRACEBACK=1 shows where)"
        print(f"error: {text}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
