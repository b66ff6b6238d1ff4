"""Trainings of a small model on two processes, with its weights shared out and copied; for test_sharding.py."""

import os
import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint

from lightning_freqdiff.callbacks import Averaging, Refit, SafeCheckpoints
from lightning_freqdiff.data import ArrayData
from lightning_freqdiff.diffusion import refit
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer, UNet

NETWORKS = {"transformer": Transformer(layers=2, width=32), "unet": UNet(width=16, levels=1)}
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}


def walks(batch_size: int) -> ArrayData:
    """64 series to train on, 16 to validate on."""
    x = np.random.default_rng(0).normal(size=(80, 16, 2)).cumsum(1).astype(np.float32)
    return ArrayData.of(x, batch_size=batch_size, val_fraction=0.2)


class Holds(Callback):
    """Notes the share of the weights that this process holds between two steps."""

    share = 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        here = [getattr(p, "_local_tensor", p) for p in pl_module.parameters()]
        self.share = sum(x.numel() for x in here) / sum(p.numel() for p in pl_module.parameters())


def train(
    folder: Path,
    strategy: str,
    network: str = "transformer",
    begun: Path | None = None,
    model: dict[str, Any] | None = None,
    averaging: type = Averaging,
    **kwargs: Any,
) -> float:
    """Train for four steps, two to an epoch, with a checkpoint at the end of each; return what a process held."""
    torch.manual_seed(0)
    keep = ModelCheckpoint(folder, filename="{step}", monitor="val_loss", save_top_k=-1, save_last=True)
    holds = Holds()
    callbacks = [averaging(decay=0.5), keep, SafeCheckpoints(), Refit(share=1.0), holds]
    options = {"accelerator": "cpu", "devices": 2, "max_steps": 4, "gradient_clip_val": 1.0, **QUIET, **kwargs}
    trainer = Trainer(strategy=strategy, callbacks=callbacks, **options)
    trainer.fit(ScoreModule(NETWORKS[network], **model or {}), None, None, walks(16), begun, weights_only=True)
    return holds.share


def both(folder: Path, **kwargs: Any) -> None:
    """Train on shares and on copies."""
    shares, copies = (train(folder / name, name, **kwargs) for name in ("fsdp2", "ddp"))
    (folder / f"held-{os.environ['RANK']}.txt").write_text(f"{shares} {copies}")


def everything(folder: Path) -> None:
    """Do all that is compared: to start two processes takes longer than that."""
    refit.FEWEST = 1  # four steps would be too few to correct anything
    for network in NETWORKS:
        both(folder / network, network=network)
    for begun in ("fsdp2", "ddp"):
        (half,) = (folder / "transformer" / begun).glob("step=2*.ckpt")
        both(folder / f"from-{begun}", begun=half)
    both(folder / "mixed", precision="bf16-mixed", gradient_clip_val=None)
    both(folder / "accumulated", accumulate_grad_batches=2)
    try:
        train(folder / "refused", "fsdp2", averaging=EMAWeightAveraging)
    except ValueError as error:
        (folder / "refused.txt").write_text(str(error))
    # As `fit` compiles, but for the code that is written in the end: that takes a minute.
    compiled = torch.nn.Module.compile
    torch.nn.Module.compile = lambda self: compiled(self, backend="aot_eager")  # pyright: ignore
    both(folder / "compiled", model={"compile": True, "recompute": True}, accumulate_grad_batches=2)


def _process(rank: int, port: int, folder: Path) -> None:
    """Be one of two processes that torchrun might have started."""
    warnings.simplefilter("ignore")
    names = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test", "PL_GLOBAL_SEED": 0}
    os.environ.update({name: str(value) for name, value in names.items()})
    everything(folder)
    torch.distributed.destroy_process_group()


def run(folder: Path) -> None:
    """Start both, and wait for them."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    mp.start_processes(_process, (port, folder), nprocs=2, start_method="spawn")
