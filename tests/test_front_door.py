"""What `import lightning_freqdiff` gives, and what it costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_freqdiff as lf


def test_importing_loads_nothing_heavy_and_listing_neither():
    code = (
        "import sys; before = set(sys.modules); import lightning_freqdiff as lf; dir(lf); lf.__version__; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "lightning_freqdiff" in loaded
    assert not {"torch", "lightning", "numpy", "matplotlib", "huggingface_hub", "jsonargparse"} & set(loaded)


def test_every_name_is_there_and_is_what_type_checkers_are_told():
    (checked,) = [node for node in ast.parse(Path(lf.__file__).read_text()).body if isinstance(node, ast.If)]
    told = {alias.name: line.module for line in checked.body for alias in line.names}
    assert sorted(told) == sorted(lf.__all__) == sorted(lf._ROOM)
    for name, room in told.items():
        assert f"lightning_freqdiff.{lf._ROOM[name]}" == room
        assert getattr(lf, name) is getattr(sys.modules[room], name)
    assert set(lf.__all__) < set(dir(lf))


def test_other_names_are_refused_as_modules_do():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        lf.fitt  # noqa: B018
