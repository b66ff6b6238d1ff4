"""Output folders are looked through before any work, and nothing foreign in them is touched."""

from pathlib import Path

import pytest

from lightning_freqdiff.outputs import Kind, claim, claimed

KIND = Kind("an earlier survey", ("survey.json", "page.html"))


def put(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize("there", [(), (".DS_Store",)])
def test_an_empty_folder_is_taken(tmp_path, there):
    claim(put(tmp_path / "a", *there), "output")
    claim(tmp_path / "b" / "c", "output")
    assert (tmp_path / "b" / "c").is_dir()


def test_what_an_earlier_run_left_may_be_replaced(tmp_path):
    claim(put(tmp_path, "survey.json", "page.html"), "output", KIND)
    with pytest.raises(ValueError, match=r"empty output folder, but .* holds page.html, survey.json: set"):
        claim(tmp_path, "output")


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (("survey.json", "page.html", "thesis.tex"), "thesis.tex"),
        (("page.html",), "page.html"),  # of the same name, and another's
        (("a", "b", "c", "d"), "a, b, c and more"),
    ],
)
def test_anything_else_is_left_alone(tmp_path, there, told):
    put(tmp_path, *there)
    with pytest.raises(ValueError, match=rf"or an earlier survey to replace, but .* holds {told}: set `data.folder`"):
        claim(tmp_path, "data.folder", KIND)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: name for name in there}


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_to_names_the_setting(tmp_path, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OSError, match=r"cannot write to the output folder .*: set `output`"):
        claim(tmp_path / place, "output")


def test_folders_that_nothing_came_of_are_taken_away(tmp_path):
    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "a" / "b", "output"):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())
    with claimed(tmp_path / "a" / "b", "output"):
        put(tmp_path / "a" / "b", "result")
    assert (tmp_path / "a" / "b" / "result").exists()
