"""The package's imports point one way."""

import ast
from pathlib import Path

import lightning_freqdiff

ROOT = Path(lightning_freqdiff.__file__).parent
ORDER = [
    "spectral", "sde", "networks", "score", "losses", "solvers", "noise", "caching", "sampling", "work", "metrics",
    "data", "plots", "report", "describe", "checkpoint", "calibration", "files", "machine", "piece_size", "module",
    "callbacks", "studies", "commands", "cli", "__main__",
]  # fmt: skip


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_imports_only_point_up():
    wrong = []
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for name in imported(path):
            pieces = name.split(".")
            ours = pieces[0] == "lightning_freqdiff" and len(pieces) > 1 and pieces[1] in ORDER
            if ours and ORDER.index(pieces[1]) > ORDER.index(part):
                wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_every_module_has_its_place():
    parts = {p.relative_to(ROOT).parts[0].removesuffix(".py") for p in ROOT.rglob("*.py")} - {"__init__"}
    assert parts <= set(ORDER)


def test_caching_knows_no_lightning_and_only_callbacks_know_wandb():
    for path in ROOT.rglob("*.py"):
        part = path.relative_to(ROOT).parts[0]
        names = {name.split(".")[0] for name in imported(path)}
        assert not (part == "caching" and names & {"lightning", "pytorch_lightning"}), path
        assert not ("wandb" in names and part != "callbacks"), path
