"""``python -m lightning_freqdiff fit | validate | test | predict``, and the studies: ``compare | tune | ...``."""

from __future__ import annotations

import os
import sys


def main(args: list[str] | None = None) -> None:
    """Run the command line; bad input ends in one line and exit code 1 (or 2, for options).

    Args:
        args: Its words, which become those of the process: errors and other processes of a run look there.
    """
    if args is not None:
        sys.argv[1:] = args
    given = sys.argv[1:]
    try:
        from lightning_freqdiff.cli.help import asked_for, show

        if asked_for(given):
            show(given, lambda: _run(given))
        else:
            _run(given)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if os.environ.get("FREQDIFF_TRACEBACK"):
            raise
        print(f"error: {_reason(error)}", file=sys.stderr)
        sys.exit(1)


def _run(given: list[str]) -> None:
    """Load what the command needs, and no more, and run it."""
    from lightning_freqdiff.cli.commands import COMMANDS, STUDIES, overview

    command = given[0] if given else ""
    known = command in COMMANDS or command in STUDIES
    if not known and (not command.startswith("-") or command in ("-h", "--help")):
        overview().parse_args(given)  # which ends in the help or in an error
    if command == "presets":
        from lightning_freqdiff.cli.presets import show_presets

        show_presets(given[1:])
        return
    from lightning_freqdiff.cli.quiet import quiet

    quiet()
    if command in STUDIES:
        from lightning_freqdiff.cli.studies import run

        run(command, given[1:])
    else:  # also where a file of settings comes first
        from lightning_freqdiff.cli.trainer import CLI

        CLI(command if known else None)


def _reason(error: Exception) -> str:
    """Return why a command failed, with a hint to developers where nobody had foreseen it."""
    from lightning.pytorch.utilities.exceptions import MisconfigurationException

    from lightning_freqdiff.cli.errors import one_line

    if isinstance(error, UnicodeDecodeError):
        return f"expected text, got bytes that are none ({error}): mend the YAML file that was given"
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {error.filename} ({error.strerror})"
    text = one_line(str(error))
    foreseen = isinstance(error, (ValueError, OSError, ImportError, MisconfigurationException))
    if foreseen or text.startswith("expected "):
        return text
    return f"{type(error).__name__}: {text} (FREQDIFF_TRACEBACK=1 shows where)"


if __name__ == "__main__":
    main()
