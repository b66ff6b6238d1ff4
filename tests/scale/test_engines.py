"""What starts the processes of a run: arrays of jobs, torchrun on two nodes, Ray."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main

ROOT = Path(__file__).parents[2]
DRAWN = ["--sampling.num_samples=40", "--sampling.num_steps=4", "--sampling.batch_size=4"]
SMALL = ["--data.length=64", "--data.num_series=256", "--model.network=MLP", "--model.network.width=8"]


def predict(checkpoint, output, *more) -> list[str]:
    return ["predict", f"--ckpt_path={checkpoint}", f"--sampling.output={output}", *DRAWN, *more]


@pytest.fixture
def whole(checkpoint, tmp_path, monkeypatch) -> np.ndarray:
    """The samples of one process, in a single file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lightning_freqdiff"])
    main(predict(checkpoint, "whole"))
    return np.load("whole/samples.npy")


def test_an_array_of_four(checkpoint, whole, tmp_path):
    """One element is started twice, and one only after the others are done."""
    for element in (3, 0, 2, 0):
        main(predict(checkpoint, "set", f"--sampling.shard={element}/4"))
    with pytest.raises(ValueError, match="lacks 3 of 10 units, the first that of sample 8"):
        lf.read_samples("set")
    main(predict(checkpoint, "set", "--sampling.shard=1/4"))
    np.testing.assert_array_equal(lf.read_samples("set"), whole)


def test_the_actor_draws_the_samples_of_predict(checkpoint, whole):
    from lightning_freqdiff.ray_data import UnitSampler

    sampler = UnitSampler(str(checkpoint), "cpu", num_samples=38, num_steps=4, batch_size=4)
    rows = sampler({"unit": np.array([9, 2])})
    assert rows["sample"].tolist() == [36, 37, 8, 9, 10, 11]
    np.testing.assert_allclose(rows["series"], whole[rows["sample"]], atol=1e-4, rtol=1e-4)


def port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def two_nodes(tmp_path, *args: str) -> None:
    """Start two nodes of one process each, as two machines would, and wait for both."""
    run = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", "--rdzv_backend=c10d"]
    run += [f"--rdzv_endpoint=127.0.0.1:{port()}", "--local_addr=127.0.0.1", "-m", "lightning_freqdiff", *args]
    run += ["--trainer.num_nodes=2", "--trainer.devices=1", "--trainer.strategy=ddp", "--trainer.accelerator=cpu"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    nodes = []
    for node in range(2):
        with (tmp_path / f"node-{node}.log").open("w") as log:
            nodes.append(subprocess.Popen(run, cwd=tmp_path, env=environment, stdout=log, stderr=log))
    try:
        assert [node.wait(500) for node in nodes] == [0, 0], (tmp_path / "node-0.log").read_text()[-3000:]
    finally:
        for node in nodes:
            node.kill()


@pytest.mark.slow
def test_two_nodes_of_torchrun_train_and_sample(whole, tmp_path, checkpoint):
    two_nodes(tmp_path, *predict(checkpoint, f"file://{tmp_path}/set"))
    np.testing.assert_array_equal(lf.read_samples("set"), whole)
    two_nodes(tmp_path, "fit", *SMALL, "--trainer.max_steps=3", "--trainer.logger.save_dir=runs")
    assert lf.load("runs/fit/version_0").shape == (64, 1)


def begin(ray: Any) -> None:
    """Start Ray; it gives its own processes thirty seconds, which cannot be set, and a busy machine takes longer."""
    for _ in range(3):
        try:
            # Two cores for the actors, and more for what reads and writes: with none left, all wait for each other.
            ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, object_store_memory=200 * 2**20)
            return
        except Exception as error:
            if "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    pytest.skip("Ray's processes take longer than thirty seconds to start here")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_ray_samples_and_trains_as_the_documents_say(checkpoint, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    Path("C").write_bytes(checkpoint.read_bytes())
    text = (ROOT / "docs/scale/engines.md").read_text()
    for given, less in {
        '"num_steps": 200': '"num_steps": 4',
        '"steps": 700': '"steps": 2',
        '"C"': f'"{tmp_path}/C"',
        '"drawn"': f'"{tmp_path}/drawn"',
        '"trained"': f'"{tmp_path}/trained"',
        "RunConfig()": f'RunConfig(storage_path="{tmp_path}")',
        "max_steps=": 'network="MLP", max_steps=',
        'accelerator="auto"': 'accelerator="cpu"',
    }.items():
        assert given in text
        text = text.replace(given, less)
    begin(ray)
    try:
        scope: dict[str, Any] = {"__name__": "engines"}
        for block in re.findall(r"^```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            exec(block, scope)
    finally:
        ray.shutdown()
    drawn = np.concatenate([np.load(path) for path in (tmp_path / "drawn").rglob("*.npy")])
    assert drawn.shape == (64, 64, 1)
    assert lf.load(tmp_path / "trained").shape == (64, 1)
