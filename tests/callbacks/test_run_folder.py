import errno
import json
import math
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_freqdiff.callbacks.run_folder import RunFolder, merge_ranges, missing_ranges

IDENTITY = {"sampling": {"seed": 0, "num_steps": 10}, "caches": []}


def opened(path, shape=(6, 4, 1)) -> RunFolder:
    """Open a folder as a process would that then goes away."""
    folder = RunFolder(path)
    try:
        folder.open(IDENTITY, shape)
    finally:
        folder.release()
    return folder


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 10)), max_size=8))
def test_done_and_missing_share_out_every_index(pairs):
    ranges = [(a, min(40, a + n)) for a, n in pairs]
    covered = {i for a, b in ranges for i in range(a, b)}
    missing = [i for a, b in missing_ranges(ranges, 40) for i in range(a, b)]
    assert missing == sorted(set(range(40)) - covered)
    merged = merge_ranges(ranges)
    assert {i for a, b in merged for i in range(a, b)} == covered
    assert all(b < c for (_, b), (c, _) in zip(merged, merged[1:], strict=False))


def test_units_are_on_disk_at_once_and_a_new_process_knows(tmp_path):
    folder = opened(tmp_path / "run")
    folder.write(0, 2, np.ones((2, 4, 1), np.float32), 0.1)
    folder.write(1, 5, np.full((1, 4, 1), 2, np.float32), 0.1)
    again = opened(tmp_path / "run")
    assert again.done() == [(2, 4), (5, 6)]
    assert np.load(again.samples)[:, 0, 0].tolist() == [0, 0, 1, 1, 0, 2]


def test_a_line_cut_short_by_a_kill_does_not_count(tmp_path):
    folder = opened(tmp_path / "run")
    folder.write(0, 0, np.ones((2, 4, 1), np.float32), 0.1)
    with (folder.path / "journal-0.jsonl").open("a") as journal:
        journal.write('{"first": 2, "cou')
    assert folder.done() == [(0, 2)]
    folder.write(0, 2, np.ones((2, 4, 1), np.float32), 0.1)  # the next line must not be glued to the torn one
    assert folder.done() == [(0, 4)]


def test_two_processes_at_once_are_refused(tmp_path):
    first = RunFolder(tmp_path / "run")
    first.open(IDENTITY, (6, 4, 1))
    with pytest.raises(ValueError, match="another process"):
        RunFolder(tmp_path / "run").open(IDENTITY, (6, 4, 1))
    first.release()
    opened(tmp_path / "run")


def test_killed_before_the_samples_were_reserved(tmp_path):
    folder = opened(tmp_path / "run")
    folder.samples.unlink()
    (tmp_path / "run" / "samples.partial").write_bytes(b"x")
    assert opened(tmp_path / "run").done() == []
    assert np.load(folder.samples).shape == (6, 4, 1)


def test_nan_is_null_in_the_manifest(tmp_path):
    folder = opened(tmp_path / "run")
    folder.write_manifest({"status": "running", "identity": {"tau": math.inf}, "curve": [math.nan, 1.0]})
    assert json.loads(folder.manifest.read_text(), parse_constant=pytest.fail)["curve"] == [None, 1.0]


def test_closing_moves_the_journal_into_the_manifest(tmp_path):
    folder = opened(tmp_path / "run")
    folder.write(1, 3, np.ones((3, 4, 1), np.float32), 0.1)
    folder.write(0, 0, np.ones((3, 4, 1), np.float32), 0.1)
    folder.close({"devices": 2})
    manifest = json.loads(folder.manifest.read_text())
    assert manifest["status"] == "complete"
    assert [u["first"] for u in manifest["units"]] == [0, 3]
    assert not list(folder.path.glob("journal-*"))
    assert opened(tmp_path / "run").done() == [(0, 6)]


def test_a_folder_of_another_run_is_refused_and_left_alone(tmp_path):
    folder = opened(tmp_path / "run")
    folder.write(0, 0, np.ones((6, 4, 1), np.float32), 0.1)
    before = {p.name: p.read_bytes() for p in folder.path.iterdir()}
    other = {**IDENTITY, "sampling": {"seed": 1, "num_steps": 10}}
    with pytest.raises(ValueError, match=r"sampling\.seed was 0 and is now 1.*`sampling\.output`"):
        folder.open(other, (6, 4, 1))
    folder.release()
    assert {p.name: p.read_bytes() for p in folder.path.iterdir()} == before


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match=r"empty output folder, but .* holds thesis.tex: set `sampling\.output`"):
        opened(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_way_names_the_setting(tmp_path):
    (tmp_path / "run").write_text("x")
    with pytest.raises(OSError, match=r"`sampling\.output`"):
        opened(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_names_the_setting(tmp_path):
    (tmp_path / "run").mkdir(mode=0o500)
    with pytest.raises(OSError, match="cannot write to the output folder"):
        opened(tmp_path / "run")


def test_a_full_disk_fails_before_any_work(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match=r"cannot reserve .*No space left"):
        opened(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []
    monkeypatch.undo()
    opened(tmp_path / "run")


def test_a_damaged_manifest_is_named(tmp_path):
    folder = opened(tmp_path / "run")
    folder.manifest.write_text("{")
    with pytest.raises(ValueError, match="manifest.json"):
        opened(tmp_path / "run")
