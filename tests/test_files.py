"""Files are there whole or not at all: on a full disk, with several writers, and after an interruption."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from lightning_freqdiff.callbacks.boards import FolderBoard
from lightning_freqdiff.callbacks.checkpoints import WholeCheckpointIO
from lightning_freqdiff.callbacks.run_folder import RunFolder
from lightning_freqdiff.callbacks.table import convert
from lightning_freqdiff.checkpoint import write_calibration
from lightning_freqdiff.data import Sines
from lightning_freqdiff.data.readers.download import store
from lightning_freqdiff.evaluation.describe import write
from lightning_freqdiff.evaluation.result import Evaluation
from lightning_freqdiff.files import replace_arrays, replace_csv, replace_json, replace_text, replacing
from lightning_freqdiff.reporting.page import Page

resource = pytest.importorskip("resource")
x = np.random.default_rng(0).standard_normal((20, 16, 2)).astype(np.float32)


def show(path: Path, figures: dict[str, Figure]) -> None:
    FolderBoard(path.parent).show(Evaluation({f"scalar {i}": i / 3 for i in range(99)}, figures=figures), 0, "")


WRITERS: dict[str, Callable[[Path], None]] = {
    "a.txt": lambda path: replace_text(path, "x" * 10**6),
    "a.json": lambda path: replace_json(path, list(range(999))),
    "a.table.csv": lambda path: replace_csv(path, ["a", "b"], [{"a": i, "b": 2 * i} for i in range(999)]),
    "a.npz": lambda path: replace_arrays(path, {"x": x}),
    "small.npz": lambda path: replace_arrays(path, {"x": x}, compress=True),
    "kept.npz": lambda path: store(path, {"x": x}),
    "best.calibration.npz": lambda path: write_calibration(path, {"rate": torch.ones(99)}, "weights"),
    "last.ckpt": lambda path: WholeCheckpointIO().save_checkpoint({"weights": torch.ones(999)}, path),
    "samples.npz": lambda path: convert(path.with_suffix(".npy"), "npz", ["u", "v"]) and None,
    "samples.csv": lambda path: convert(path.with_suffix(".npy"), "csv", ["u", "v"]) and None,
    "samples.parquet": lambda path: convert(path.with_suffix(".npy"), "parquet", ["u", "v"]) and None,
    "picture.png": lambda path: show(path, {"picture": Figure()}),
    "evaluation.csv": lambda path: show(path, {}),
    "page.html": lambda path: Page("page").write(path),
    "description.json": lambda path: write(Sines(count=20), {f"fact {i}": i for i in range(99)}, path.parent),
}


@contextmanager
def full_disk() -> Iterator[None]:
    """Let the kernel take 300 bytes a file; for no longer than is needed, as the log of the tests is a file, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "samples.npy", x)
    return tmp_path


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("name", WRITERS)
def test_a_full_disk_leaves_what_was_there(folder: Path, name: str, there: bool) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    if there:
        (folder / name).write_text("before\n")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(OSError, match=os.strerror(errno.EFBIG)) as caught, full_disk():
        WRITERS[name](folder / name)
    assert str(folder / name) in str(caught.value)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", WRITERS)
def test_all_of_it_is_written_where_there_is_room(folder: Path, name: str) -> None:
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
    others = {path.name for path in folder.iterdir()} | {"description.png", "evaluation.csv"}
    WRITERS[name](folder / name)
    assert (folder / name).stat().st_size > 300
    assert {path.name for path in folder.iterdir()} - others <= {name}


def test_samples_are_reserved_whole_or_not_at_all(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.open({}, (5, 4, 3))
    reserved = np.load(run.samples)
    assert (reserved.shape, reserved.dtype) == ((5, 4, 3), np.float32)
    run.samples.unlink()
    with pytest.raises(OSError, match=r"cannot reserve .*: free space, or set `sampling\.output`"), full_disk():
        run._reserve((500, 4, 3))
    run.release()
    assert [path.name for path in run.path.iterdir()] == ["manifest.json"]


def half(path: Path, then: Callable[[], None]) -> None:
    with replacing(path, "w") as file:
        file.write("half")
        then()


@pytest.mark.parametrize("when", ["written", "synced", "moved"])
def test_no_room_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "a.json"
    replace_json(path, {"a": 1})
    if when != "written":
        monkeypatch.setattr(*((os, "fsync", full) if when == "synced" else (Path, "replace", full)))
    with pytest.raises(OSError, match=rf"\[Errno {errno.ENOSPC}\] No space left on device: '{path}'"):
        half(path, full if when == "written" else print)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, kind: type[BaseException]) -> None:
    replace_text(tmp_path / "a.txt", "before")

    def interrupted() -> None:
        raise kind

    with pytest.raises(kind):
        half(tmp_path / "a.txt", interrupted)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_an_error_about_another_file_is_left_alone(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"other\.txt"), replacing(tmp_path / "a.txt"):
        (tmp_path / "other.txt").read_text()
    with pytest.raises(FileNotFoundError, match=r"none/a\.txt"):
        replace_text(tmp_path / "none" / "a.txt", "")
    assert not list(tmp_path.iterdir())


def test_threads_and_processes_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    script = "import sys; from pathlib import Path; from lightning_freqdiff.files import replace_text as write\n"
    script += "for i in range(40): write(Path(sys.argv[1]), sys.argv[2] * 300_000)"
    others = [subprocess.Popen([sys.executable, "-c", script, str(path), letter]) for letter in "ab"]
    contents = [letter * 300_000 for letter in "abcdef"]
    replace_text(path, contents[0])
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            writing = [pool.submit(replace_text, path, content) for content in contents[2:]]
            assert path.read_text() in contents
            for one in writing:
                one.result()
    while any(other.poll() is None for other in others):
        assert path.read_text() in contents
    assert [other.returncode for other in others] == [0, 0]
    assert list(tmp_path.iterdir()) == [path]


def test_whoever_may_read_a_new_file_may_read_this_one(tmp_path: Path) -> None:
    (tmp_path / "new.txt").touch()
    replace_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "new.txt").stat().st_mode


def test_text_is_utf8_and_numbers_are_json(tmp_path: Path) -> None:
    replace_json(tmp_path / "a.json", {"Température": [1.5, float("nan"), float("inf")], "b": (1, None)})
    assert "Température".encode() in (tmp_path / "a.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"Température": [1.5, None, None], "b": [1, None]}
