"""Weights, gradients and optimizer states that are shared out over devices, for networks that do not fit one.

FSDP2: Zhao et al., "PyTorch FSDP", arXiv 2304.11277, in its second form, a parameter a shard. What is saved is one
file with all of it, like that of any other training.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy, StrategyRegistry
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

from lightning_freqdiff.networks import Backbone

if TYPE_CHECKING:  # half a second that only those pay who share something out
    from torch.distributed.device_mesh import DeviceMesh

NAME = "fsdp2"
"""What it is called: ``trainer.strategy``."""


class ShardedStrategy(ModelParallelStrategy):
    """Each device holds a share of the weights, and all of them for the part of the network it computes.

    Args:
        process_group_backend: How devices talk: nccl or gloo; if not given, what suits them.
        timeout: How long one waits for another.
    """

    def __init__(self, process_group_backend: str | None = None, timeout: timedelta = timedelta(minutes=30)) -> None:
        super().__init__(
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            process_group_backend=process_group_backend,
            timeout=timeout,
        )

    def setup_environment(self) -> None:
        """Put all devices into one group, where Lightning would make one for each node."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()


StrategyRegistry.register(NAME, ShardedStrategy, "Weights and all that goes with them, shared out.", override=True)


def check_strategy(trainer: Trainer) -> None:
    """Refuse what would train, and save what cannot be sampled from.

    Raises:
        ValueError: For Lightning's own strategies of this kind and its averages of weights under ours; and for ours
            where nothing is trained: ranks that share weights make every call together, and draw by themselves.
    """
    kind = type(trainer.strategy)
    if issubclass(kind, (FSDPStrategy, ModelParallelStrategy)) and not issubclass(kind, ShardedStrategy):
        raise ValueError(
            f"expected the strategy {NAME} for weights that are shared out, got {kind.__name__}: set "
            f"`trainer.strategy` {NAME}"
        )
    if not issubclass(kind, ShardedStrategy):
        return
    if trainer.state.fn != TrainerFn.FITTING:
        what = trainer.state.fn.value if trainer.state.fn else "nothing"
        raise ValueError(f"expected {NAME} to train with, got it to {what}: set `trainer.strategy` ddp")
    callbacks: list[Callback] = trainer.callbacks  # pyright: ignore[reportAttributeAccessIssue]
    plain = [c for c in callbacks if isinstance(c, WeightAveraging) and not hasattr(c, "shares")]
    if plain:
        raise ValueError(
            f"expected callbacks.Averaging for weights that are shared out, got {type(plain[0]).__name__}: set "
            "`trainer.callbacks`"
        )


def shard(network: Backbone, mesh: DeviceMesh) -> None:
    """Share the weights of a network out, in place and once: part by part, and what is in no part as one more."""
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if isinstance(network, FSDPModule):
        return
    for part in network.parts:
        fully_shard(part, mesh=mesh["data_parallel"])
    # Gathered for a moment each: what reads weights between two calls finds shares, whatever was called last.
    fully_shard(network, mesh=mesh["data_parallel"], reshard_after_forward=True)
    for method in ("embed", "blocks", "head"):
        register_fsdp_forward_method(network, method)


def whole_state(module: nn.Module) -> dict[str, Any]:
    """Return all weights and buffers on rank zero, and nothing on others; every rank must ask."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    return get_model_state_dict(module, options=StateDictOptions(full_state_dict=True, cpu_offload=True))


def load_whole_state(module: nn.Module, state: dict[str, Any]) -> None:
    """Load all weights and buffers, of which each rank was given all and keeps its share."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    set_model_state_dict(module, state, options=StateDictOptions(full_state_dict=True))
