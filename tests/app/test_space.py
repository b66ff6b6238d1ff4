"""The template of a Space shows the model that lies beside it."""

import re
import runpy
import shutil
import threading
import tomllib
from pathlib import Path
from types import SimpleNamespace

import lightning_freqdiff as lf
from lightning_freqdiff.app import page

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "examples/space"


def test_it_serves_the_model_in_its_folder(tmp_path, monkeypatch, checkpoint):
    served = []
    monkeypatch.setattr(page, "serve", lambda studio, **where: served.append((studio, where)))
    monkeypatch.setattr(threading, "Event", lambda: SimpleNamespace(wait=lambda: None))
    for name in ("MODEL", "PORT"):
        monkeypatch.delenv(name, raising=False)
    shutil.copy(SPACE / "app.py", tmp_path)
    lf.load(checkpoint).save_pretrained(tmp_path / "model")
    runpy.run_path(str(tmp_path / "app.py"))
    ((studio, where),) = served
    assert studio.model.checkpoint_path.parent == tmp_path / "model"
    assert where == {"host": "0.0.0.0", "port": 7860}


def test_its_front_matter_and_requirements_are_those_of_the_project():
    front = dict(re.findall(r"^(\w+): (.+)$", (SPACE / "README.md").read_text().split("---")[1], re.MULTILINE))
    assert (front["sdk"], front["app_file"]) == ("gradio", "app.py")
    assert f"gradio=={front['sdk_version']}\n" in (ROOT / "constraints.txt").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name, extra = (SPACE / "requirements.txt").read_text().strip().removesuffix("]").split("[")
    assert name == project["name"]
    assert extra in project["optional-dependencies"]
