"""What the site shows and is kept elsewhere: README, benchmarks, change log, notebooks, and the commands' help.

MkDocs calls the functions by their names, as events of a build.
"""

import contextlib
import io
import json
import os
import re
from pathlib import Path
from unittest import mock

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
AS_THEY_ARE = ("CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "benchmarks/README.md")
REFERENCE = re.compile(r":\w+:`~?(?:[\w.]*\.)?(\w+)`")
"""Sphinx's, in the help of Lightning's own settings."""
TRAINER_COMMANDS = ("fit", "validate", "test", "predict")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add pages, and files that pages point to."""
    for path in [*(ROOT / name for name in AS_THEY_ARE), *sorted((ROOT / "benchmarks/results").rglob("*"))]:
        if path.is_file():
            files.append(File.generated(config, path.relative_to(ROOT).as_posix(), abs_src_path=str(path)))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File.generated(config, f"notebooks/{path.name}", abs_src_path=str(path)))
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=notebook(path)))
    files.append(File.generated(config, "index.md", content=(ROOT / "README.md").read_text()))
    page = (ROOT / "docs/reference/command-line.md").read_text()
    files.remove(files.src_uris["reference/command-line.md"])
    files.append(File.generated(config, "reference/command-line.md", content=page + helps()))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Let links to files of the repository lead to their pages: on the site `docs/` is the root, and not below it."""
    here = page.file.src_uri
    if here == "index.md":
        markdown = markdown.replace("](docs/", "](")
    elif not here.startswith(("benchmarks/", "notebooks/")):
        up = "../" * here.count("/")
        markdown = markdown.replace(f"](../{up}", f"]({up}")
    markdown = re.sub(r"(\]\([^)]*notebooks/[^)]*)\.ipynb\)", r"\1.md)", markdown)
    return re.sub(r"^::: lightning_freqdiff\.(\w+)/$", lambda room: modules(room[1]), markdown, flags=re.MULTILINE)


def modules(room: str) -> str:
    """Return the references to a room's modules. What its front exports is in them, each once."""
    home = ROOT / "lightning_freqdiff"
    paths = [path.relative_to(ROOT).with_suffix("") for path in sorted((home / room).rglob("*.py"))]
    names = [".".join(path.parts) for path in paths if not path.name.startswith("_")]
    return "\n\n".join(f"::: {name}\n    options:\n      heading_level: 2" for name in names)


def notebook(path: Path) -> str:
    """Return a notebook as a page, with a link to the file."""
    cells = json.loads(path.read_text())["cells"]
    texts = [("".join(cell["source"]), cell["cell_type"]) for cell in cells]
    parts = [text if kind == "markdown" else f"```python\n{text}\n```" for text, kind in texts]
    return "\n\n".join([parts[0], f"[The notebook]({path.name}), to run it.", *parts[1:]]) + "\n"


def helps() -> str:
    """Return the help of every command, as the command line prints it."""
    from lightning_freqdiff.cli.commands import STUDIES

    return "".join(f"\n## {name}\n\n```text\n{help_of(name)}\n```\n" for name in (*TRAINER_COMMANDS, *STUDIES))


def help_of(command: str) -> str:
    """Return the help of one command, 90 columns wide, without colours and without its usage, which is as long."""
    from lightning_freqdiff.__main__ import main

    text = io.StringIO()
    words = ["lightning_freqdiff", command, "--help"]
    with (
        mock.patch.dict(os.environ, {"COLUMNS": "90", "NO_COLOR": "1"}),
        mock.patch("sys.argv", words),
        contextlib.redirect_stdout(text),
        contextlib.suppress(SystemExit),
    ):
        main()
    usage, _, settings = text.getvalue().partition("\n\n")
    if not usage.startswith("usage:"):
        raise ValueError(f"expected the help of {command}, got {text.getvalue()[:80]!r}")
    return REFERENCE.sub(r"\1", settings.replace("\b", "")).strip()
