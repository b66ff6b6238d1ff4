"""The notebooks run from top to bottom."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SMALLER = {
    "max_epochs=10": "max_epochs=2",
    "max_steps=300": "max_steps=8",
    "max_steps=1000": "max_steps=8",
    "num_steps=200": "num_steps=40",
    "num_steps=500": "num_steps=60",
    "sample(400": "sample(40",
    '"wiener-fast", "e2crf", "teacache", "taylorseer"': '"e2crf"',
    "confirm=16": "confirm=4",
}
"""What is cut down here: a reader waits some minutes for it."""

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
@pytest.mark.filterwarnings("ignore")  # Jupyter's own, about its event loops
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    assert "FREQDIFF_DATA" not in path.read_text()
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "notebooks are committed without outputs"
    for cell in notebook.cells:
        for given, small in SMALLER.items():
            cell.source = cell.source.replace(given, small)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in data for data in shown)
