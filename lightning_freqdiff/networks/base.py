"""What every backbone is: three parts in a row, so that a cache can run all of it, some of it, or none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.condition import NOTHING, UNCONDITIONAL, Condition, ConditionSizes
from lightning_freqdiff.networks.kernels import Compiled, Derived, chunked


class Embedding(NamedTuple):
    """What the blocks work on.

    Attributes:
        features: ``h⁰``, ``(B, K', d)``.
        context: What blocks and head need besides, such as the embedded time and condition for an adaptive layer
            norm, ``(B, c)``; ``None`` for networks that have all of it in their features.
    """

    features: Tensor
    context: Tensor | None = None

    def take(self, rows: Tensor | None) -> Embedding:
        """Return the embedding of some samples, by index; of all for ``None``, without a copy."""
        if rows is None:
            return self
        return Embedding(self.features[rows], None if self.context is None else self.context[rows])


class TokenBlock(Protocol):
    """A block whose queries may be fewer tokens than its keys and values; ``context`` is that of an embedding."""

    def queries(self, h: Tensor, context: Tensor | None) -> Tensor:
        """Project tokens ``(B, S, d)`` to queries of the same shape."""
        ...

    def keys_values(self, h: Tensor, context: Tensor | None) -> Tensor:
        """Project tokens ``(B, S, d)`` to keys beside values, ``(B, S, 2d)``."""
        ...

    def queries_keys_values(self, h: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Do both at once, as an uncached call does."""
        ...

    def finish(self, h: Tensor, q: Tensor, kv: Tensor, context: Tensor | None) -> Tensor:
        """Attend from queries ``(B, S, d)`` to keys and values ``(B, K, 2d)``, and finish the block for ``h``."""
        ...


class Backbone(nn.Module, ABC):
    """A network ``(z, t, condition) -> raw output``, open as ``embed -> blocks -> head``.

    What the raw output means (score, noise, ...) is not decided here but in ``diffusion/score.py``. A subclass gives
    ``embed``, ``layers`` with ``block``, and ``head``; with that, every cache works on it.

    Attributes:
        layers: The blocks, in order; features keep their shape from one to the next.
        compiled: Whether sampling runs compiled code; see ``kernels/compiled.py``.
        token_blocks: The layers, where tokens can be run one by one; else ``None``.
        along_tokens: Whether features go along the tokens, in their order, and not, say, along time.
        sees_linear: Whether :meth:`embed` is given the best linear prediction (``Codec.predict``) beside the tokens,
            as further features of them.
    """

    layers: nn.ModuleList
    compiled: bool = False
    _compiled: Compiled | None = None
    token_blocks: Sequence[TokenBlock] | None = None
    along_tokens: bool = True
    sees_linear: bool = False

    @property
    def parts(self) -> list[nn.Module]:
        """Modules that large models share out over devices, or compute again, one at a time: here the layers."""
        return list(self.layers)

    @abstractmethod
    def embed(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Embedding:
        """Embed tokens ``(B, K, F)``, with :attr:`sees_linear` ``(B, K, 2F)``, knowing ``condition`` of each sample.

        The time ``t`` is a scalar, or ``(B,)``.
        """

    @abstractmethod
    def block(self, number: int, h: Tensor, context: Tensor | None) -> Tensor:
        """Run one block on features ``(B, K', d)``; same shape out."""

    @abstractmethod
    def head(self, h: Tensor, context: Tensor | None) -> Tensor:
        """Turn features of the last block into raw output ``(B, K, F)``."""

    def blocks(self, h: Tensor, context: Tensor | None) -> Tensor:
        """Run all blocks on features ``(B, K', d)``; same shape out."""
        if self.runs_compiled() and self._compiled is None:
            self._compiled = Compiled(self._blocks)
        return self.in_chunks(self._compiled if self._compiled and self.runs_compiled() else self._blocks, h, context)

    def _blocks(self, h: Tensor, context: Tensor | None) -> Tensor:
        for number in range(len(self.layers)):
            h = self.block(number, h, context)
        return h

    def modulated(self, h: Tensor, context: Tensor | None) -> Tensor:
        """Return the first block's normalised, time-modulated input; ``h`` where it has no such thing."""
        return h

    def forward(self, z: Tensor, t: Tensor, condition: Condition = NOTHING) -> Tensor:
        """Run the three parts in a row."""
        h, context = self.embed(z, t, condition)
        return self.head(self.blocks(h, context), context)

    def in_chunks(self, run: Callable[..., Any], *inputs: Any) -> Any:
        """Return ``run(*inputs)``, on a CPU for as many samples at once as its caches hold.

        Args:
            run: What is done; samples must not know of each other.
            inputs: Tensors with samples along the first axis, ``None``, or lists of such.
        """
        h = inputs[0]
        if not h.is_cpu or torch.is_grad_enabled():
            return run(*inputs)
        return chunked(run, max(1, self.cpu_fit(h)), *inputs)

    def cpu_fit(self, h: Tensor) -> int:
        """Return how many samples with features such as ``h`` a CPU's caches hold; here all of them."""
        return len(h)

    def runs_compiled(self) -> bool:
        """Tell whether to run compiled code here and now."""
        return self.compiled and not torch.is_grad_enabled() and not torch.compiler.is_compiling()

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let what is derived of the weights be kept inside a ``with`` block, in which they must not change."""
        with ExitStack() as stack:
            for module in self.modules():
                if isinstance(module, Derived):
                    stack.enter_context(module.kept())
            yield


class Levelled(ABC):
    """A backbone with levels that can be run without those beneath them, as those of a U-Net can."""

    @property
    @abstractmethod
    def levels(self) -> int:
        """Levels above the coarsest."""

    @abstractmethod
    def above(
        self, h: Tensor, context: Tensor | None, level: int, risen: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Run the levels of a U-Net down to one on features ``(B, K', d)``, given what rose to it from beneath.

        Args:
            h: Features, as for :meth:`blocks`.
            context: Context, as for :meth:`blocks`.
            level: Number of the level, from 0, the finest, and below :attr:`levels`.
            risen: What rose to it at another time; all levels are run for ``None``.

        Returns:
            What :meth:`blocks` returns, and what rose to the level.
        """


class Architecture(ABC):
    """The settings of a backbone: everything but the shape of the data."""

    @property
    def sees_time(self) -> bool:
        """Whether its features go along time, whatever the tokens are."""
        return False

    @abstractmethod
    def build(self, codec: Codec, sizes: ConditionSizes = UNCONDITIONAL) -> Backbone:
        """Make a backbone with fresh weights.

        Args:
            codec: Layout and units of the tokens; not to be registered as a part of the network.
            sizes: Which conditions it will be given.
        """


def check_positive(**settings: int) -> None:
    """Raise a ``ValueError`` naming the first setting that is below 1."""
    for name, value in settings.items():
        if value < 1:
            raise ValueError(f"expected {name} >= 1, got {value}: set `model.network.{name}`")


def refuse_conditions(sizes: ConditionSizes, network: str) -> None:
    """Raise a ``ValueError`` where a network that cannot be told anything would have to be."""
    if sizes.classes or sizes.static or sizes.covariates:
        raise ValueError(
            "expected a network that can be told of labels (UNet, or Transformer of preset small or base), "
            f"got {network}: set `model.network`, or `data.conditional` false"
        )
