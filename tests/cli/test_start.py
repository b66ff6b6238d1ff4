"""What is loaded to answer a question, and the help that is kept between runs."""

import contextlib
import json
import subprocess
import sys

import pytest

from lightning_freqdiff.__main__ import main
from lightning_freqdiff.cli import help as kept_help
from lightning_freqdiff.cli.commands import COMMANDS, STUDIES

HEAVY = {"torch", "lightning", "matplotlib", "lightning_freqdiff.evaluation", "lightning_freqdiff.data"}
PROBE = """
import sys
from lightning_freqdiff.__main__ import main
try:
    main({args})
except SystemExit as leaving:
    print("code", leaving.code or 0, file=sys.stderr)
print("loaded", *(set({heavy}) & set(sys.modules)), file=sys.stderr)
"""


def probe(*args) -> tuple[str, str]:
    """Run a command line in a fresh process: what it wrote, and which heavy rooms it loaded."""
    words = [sys.executable, "-c", PROBE.format(args=list(args), heavy=HEAVY)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout, done.stderr


@pytest.fixture
def shown(monkeypatch, capsys, tmp_path):
    """Ask for help in this process, with a cache of its own: what it wrote on standard output."""
    monkeypatch.setenv("FREQDIFF_CACHE", str(tmp_path / "cache"))

    def run(*args) -> str:
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *args])
        with contextlib.suppress(SystemExit):
            main()
        return capsys.readouterr().out

    return run


def test_the_commands_are_listed_without_loading_what_they_need():
    out, err = probe("--help")
    assert err == "code 0\nloaded\n"
    for command in (*COMMANDS, *STUDIES):
        assert f"\n    {command} " in out
    assert "Sample series from a checkpoint" in out


def test_a_command_that_there_is_not_is_refused_as_fast():
    out, err = probe("fitt", "--trainer.max_steps=3")
    assert err.startswith("error: expected a command of fit, validate, test, predict, compare, ")
    assert err.endswith("got fitt\ncode 2\nloaded\n")
    assert not out


def test_presets_are_listed_without_loading_what_they_configure():
    out, err = probe("presets")
    assert err == "loaded\n"
    assert "\n  wiener " in out
    assert probe("presets", "--all")[1] == "error: unrecognized arguments: --all\ncode 2\nloaded\n"


def test_help_names_every_setting_and_is_read_from_the_cache_next_time(shown, monkeypatch):
    first = shown("predict", "--help")
    for setting in ("num_samples", "num_steps", "solver", "grid", "seed", "batch_size", "output", "format"):
        assert f"--sampling.{setting}" in first
    monkeypatch.setattr("lightning_freqdiff.__main__._run", pytest.fail)
    assert shown("predict", "--help") == first
    assert shown("predict", "-h") == first


def test_kept_help_loads_nothing(shown):
    text = shown("fit", "--help")
    assert "--trainer.max_steps" in text
    out, err = probe("fit", "--help")
    assert err == "loaded\n"
    assert out == text


@pytest.mark.parametrize("change", ["width", "package", "damage"])
def test_kept_help_is_made_anew_when_something_changed(shown, monkeypatch, tmp_path, change):
    shown("calibrate", "--help")
    path = tmp_path / "cache/help/calibrate.json"
    path.write_text(path.read_text().replace("Fit what caches", "Fit what CACHES"))
    assert "CACHES" in shown("calibrate", "--help")
    if change == "width":
        monkeypatch.setenv("COLUMNS", "70")
    elif change == "package":
        monkeypatch.setattr(kept_help, "version", lambda name: "0")
    else:
        path.write_text(path.read_text()[:-9])
    assert "CACHES" not in shown("calibrate", "--help")
    assert "Fit what caches" in json.loads(path.read_text())["text"]


def test_help_needs_no_cache(shown, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FREQDIFF_CACHE", str(tmp_path / "file"))
    assert "--sampling.num_steps" in shown("calibrate", "--help")


def test_help_among_other_words_is_the_parsers(shown):
    assert "--early_stopping" in shown("fit", "--trainer.max_steps=3", "--help")
