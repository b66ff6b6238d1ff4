"""The moving average of the weights, which is what is validated, saved and sampled from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.optim.swa_utils import AveragedModel

from lightning_freqdiff.checkpoint import read_checkpoint
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.sharding import load_whole_state, shard, whole_state

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


class Averaging(EMAWeightAveraging):
    """Lightning's moving average, whose shares lie beside those of the weights where these are shared out.

    Attributes:
        shares: Whether it can do so; Lightning's cannot.
    """

    shares: bool = True

    @property
    def state_key(self) -> str:
        """The name that checkpoints know it by."""
        return "EMAWeightAveraging"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copy the model before it is shared out, and share the copy out alike."""
        mesh = _mesh(pl_module)
        if mesh is None or stage != "fit":
            super().setup(trainer, pl_module, stage)
            return
        assert isinstance(pl_module, ScoreModule)
        pl_module.build()
        average = AveragedModel(pl_module, self._device, use_buffers=self._use_buffers, **self._kwargs)
        shard(cast(ScoreModule, average.module).score.network, mesh)
        self._average_model = average.to(trainer.strategy.root_device)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the average in the place of the weights, and these beside it."""
        if _mesh(pl_module) is None or self._average_model is None:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)
            return
        checkpoint["current_model_state"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = whole_state(self._average_model.module)
        checkpoint["averaging_state"] = {"n_averaged": self._average_model.n_averaged.cpu()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take both up again."""
        if _mesh(pl_module) is None or self._average_model is None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
            return
        saved = read_checkpoint(str(trainer.ckpt_path))  # Lightning has taken the weights out of what it hands on
        load_whole_state(self._average_model.module, saved["state_dict"])
        load_whole_state(pl_module, saved.get("current_model_state", saved["state_dict"]))
        if "averaging_state" in saved:
            self._average_model.n_averaged.copy_(saved["averaging_state"]["n_averaged"])


def _mesh(module: LightningModule) -> DeviceMesh | None:
    return getattr(module, "_device_mesh", None)
