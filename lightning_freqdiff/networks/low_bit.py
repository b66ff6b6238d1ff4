"""Layers whose inputs and weights are integers of few bits, for sampling.

Post-training quantisation as in Q-Diffusion (Li et al., arXiv 2302.04304), without its reconstruction of blocks:
inputs are unsigned integers of eight bits between two ends that ``calibrate`` finds, weights signed integers of eight
or four with a scale for each output, and sums are exact. Embedding, head, norms and what time becomes stay as they
are. On a CPU that multiplies such integers, PyTorch's own kernels (oneDNN) do; elsewhere the same numbers are worked
out in floating point, which shows the damage and saves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Bits = Literal[4, 8]
LEVELS = 255
"""Steps between the ends of an input."""
RANGE = "low_bit."
"""How the names of ranges in a calibration begin; the layer's own name follows."""
SHRINK = torch.linspace(1.0, 0.5, 26).tolist()
"""Shares of the greatest weight, or of an input's ends, of which the one with the least squared error is taken."""


class LowBit(nn.Module):
    """A linear layer or a convolution in integers.

    Args:
        layer: The layer.
        low: Lower end of its input, at most 0.
        high: Upper end, at least 0.
        bits: Of a weight.
    """

    def __init__(self, layer: nn.Linear | nn.Conv1d, low: float, high: float, bits: Bits = 8) -> None:
        super().__init__()
        self.layer = layer
        self.scale, self.zero = grid(low, high)
        weight = layer.weight.detach().float()
        self.weight_scale = weight_scales(weight.flatten(1), bits)
        self.whole = rounded(weight / self._by_output(weight), bits).to(torch.int8)
        self.bias = None if layer.bias is None else layer.bias.detach().float()
        self.zeros = torch.zeros(len(weight), dtype=torch.int32)
        """Of the weights, which are alike about 0: kernels want to be told so at every call."""
        self.packed = self._pack()

    def __getstate__(self) -> dict[str, Any]:
        """Leave the packed weights behind in copies, which pack their own."""
        return {**self.__dict__, "packed": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Pack the weights again."""
        super().__setstate__(state)
        self.packed = self._pack()

    def _pack(self) -> Tensor | None:
        if not has_kernels(self.whole):
            return None
        if isinstance(self.layer, nn.Linear):
            return torch.ops.onednn.qlinear_prepack(self.whole, None)
        return torch.ops.onednn.qconv_prepack(self.whole, self.weight_scale, self.scale, self.zero, *self.around)

    def _by_output(self, weight: Tensor) -> Tensor:
        return self.weight_scale.view(-1, *(1,) * (weight.ndim - 1))

    @property
    def around(self) -> Any:
        """Stride, padding, dilation and groups of a convolution."""
        layer = self.layer
        assert isinstance(layer, nn.Conv1d)
        return layer.stride, layer.padding, layer.dilation, layer.groups

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output, in the precision of its input or, where that is low, in float32."""
        out = self._run(x.float())
        return out.double() if x.dtype == torch.float64 else out

    def _run(self, x: Tensor) -> Tensor:
        if self.packed is None or torch.is_grad_enabled() or not torch.backends.mkldnn.enabled:
            return self._simulated(x)
        # To the nearest integer, in three passes; PyTorch's own way in one is deprecated.
        whole = torch.add(self.zero + 0.5, x, alpha=1 / self.scale).clamp_(0, LEVELS).to(torch.uint8)
        ends = self.scale, self.zero, self.packed, self.weight_scale, self.zeros, self.bias
        as_it_is = 1.0, 0, torch.float32, "none", [], ""
        if isinstance(self.layer, nn.Linear):
            return torch.ops.onednn.qlinear_pointwise(whole, *ends, *as_it_is)
        return torch.ops.onednn.qconv1d_pointwise(whole, *ends, *self.around, *as_it_is)

    def _simulated(self, x: Tensor) -> Tensor:
        """Return the same, worked out in floating point."""
        x = torch.fake_quantize_per_tensor_affine(x, self.scale, self.zero, 0, LEVELS)
        weight = self.whole * self._by_output(self.whole)
        with torch.autocast(x.device.type, enabled=False):
            if isinstance(self.layer, nn.Linear):
                return F.linear(x, weight, self.bias)
            return F.conv1d(x, weight, self.bias, *self.around)


def grid(low: float, high: float) -> tuple[float, int]:
    """Return the step between two inputs that can be told apart, and the integer that stands for 0."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = max((high - low) / LEVELS, 1e-12)
    return scale, round(-low / scale)


def weight_scales(weight: Tensor, bits: Bits) -> Tensor:
    """Return the scale of each row of weights ``(out, n)`` with the least squared error."""
    greatest = weight.abs().amax(1).clamp(min=1e-12) / (2 ** (bits - 1) - 1)
    scales = torch.stack([greatest * share for share in SHRINK])
    errors = [(rounded(weight / s.unsqueeze(1), bits) * s.unsqueeze(1) - weight).square().sum(1) for s in scales]
    return scales.gather(0, torch.stack(errors).argmin(0, keepdim=True)).squeeze(0)


def rounded(x: Tensor, bits: Bits) -> Tensor:
    """Round to signed integers of so many bits, alike about 0."""
    most = 2 ** (bits - 1) - 1
    return x.round().clamp(-most, most)


def has_kernels(weight: Tensor) -> bool:
    """Tell whether this CPU multiplies integers of eight bits, and PyTorch has kernels that let it."""
    kernels = hasattr(torch.ops.onednn, "qconv1d_pointwise") and hasattr(torch.ops.onednn, "qlinear_pointwise")
    return weight.is_cpu and kernels and torch.cpu._is_vnni_supported()


def quantizable(network: nn.Module) -> dict[str, nn.Linear | nn.Conv1d]:
    """Return the layers that may be in integers, by name: linear ones and convolutions between embedding and head."""
    inside = network.get_submodule("layers").named_modules(prefix="layers")
    return {name: module for name, module in inside if type(module) in (nn.Linear, nn.Conv1d)}  # pyright: ignore


@contextmanager
def in_low_bits(network: nn.Module, calibration: Mapping[str, Tensor], bits: Bits = 8) -> Iterator[None]:
    """Let layers be in integers inside a ``with`` block.

    Args:
        network: The network.
        calibration: What was fitted to it; layers whose range is known are taken.
        bits: Of a weight.

    Raises:
        ValueError: Where no range is known, there is nothing to put in integers, or it has been done.
    """
    if any(isinstance(layer, LowBit) for layer in network.modules()):
        raise ValueError("expected a network that is not in integers yet: leave one of the callbacks out")
    there = quantizable(network)
    if not there:
        raise ValueError(
            f"expected a network with linear layers or convolutions between embedding and head, such as UNet, got "
            f"{type(network).__name__}: leave low bits out of `trainer.callbacks`"
        )
    before = {name: layer for name, layer in there.items() if f"{RANGE}{name}" in calibration}
    if not before:
        raise ValueError(
            "expected a checkpoint whose layers' ranges are known, got none: run `python -m lightning_freqdiff "
            "calibrate --ckpt_path C`, or leave low bits out of `trainer.callbacks`"
        )
    try:
        for name, layer in before.items():
            low, high = calibration[f"{RANGE}{name}"].tolist()
            network.set_submodule(name, LowBit(layer, low, high, bits))
        yield
    finally:
        for name, layer in before.items():
            network.set_submodule(name, layer)
