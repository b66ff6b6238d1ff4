"""Settings are named as in Python where an error is raised, and spelt as flags here, once."""

import sys

import pytest

from lightning_freqdiff.cli.errors import one_line, spell


@pytest.fixture(autouse=True)
def argv(monkeypatch):
    def say(*words):
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *map(str, words)])

    say()
    return say


def test_only_settings_are_flags():
    said = "set `data.window`, or `ckpt_path`; mend `columns`; see `python -m lightning_freqdiff fit`; `database.x`"
    shown = "set --data.window, or --ckpt_path; mend `columns`; see `python -m lightning_freqdiff fit`; `database.x`"
    assert spell(said) == shown


def test_some_settings_are_flags_of_one_command(argv):
    said = "add rows to `generated`, or set `seed`; mend `data.path`"
    assert spell(said) == "add rows to `generated`, or set `seed`; mend --data.path"
    argv("evaluate", "--seed=1")
    assert spell(said) == "add rows to --generated, or set --seed; mend --data.path"


def test_a_policy_is_found_where_it_was_plugged_in(argv, tmp_path):
    said = "expected R >= 1, got 0: set `policy.R`"
    assert spell(said).endswith("--trainer.callbacks.policy.R")
    argv("predict", "--trainer.callbacks+=WienerCache")
    assert spell(said).endswith("--trainer.callbacks.R")
    assert spell(f"class_path='lightning_freqdiff.callbacks.CacheCallback': {said}").endswith(".policy.R")
    preset = tmp_path / "mine.yaml"
    preset.write_text("trainer: {callbacks+: [{class_path: E2CRFCache}]}")
    argv("predict", f"--config={preset}")
    assert spell(said).endswith("--trainer.callbacks.R")
    argv("predict", "--config", tmp_path / "none.yaml")
    assert spell(said).endswith("--trainer.callbacks.policy.R")


def test_of_many_reasons_ours_is_given():
    said = """Does not validate against any of the Union subtypes
      Errors:
        - expected tau from 0 to inf, got -1: set `policy.tau`
        - Not a valid subclass of Callback
        - Expected a <class 'NoneType'>
      Given value type: <class 'list'>"""
    assert one_line(said) == "expected tau from 0 to inf, got -1: set --trainer.callbacks.policy.tau"
