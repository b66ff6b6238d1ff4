"""Backbones: tokens, time and condition in, raw output out."""

from lightning_freqdiff.networks.base import Architecture, Backbone, Embedding, Levelled, TokenBlock
from lightning_freqdiff.networks.context import Context, FourierTime
from lightning_freqdiff.networks.kernels import Compiled
from lightning_freqdiff.networks.lstm import LSTM
from lightning_freqdiff.networks.mlp import MLP
from lightning_freqdiff.networks.transformer import Transformer
from lightning_freqdiff.networks.unet import UNet
from lightning_freqdiff.networks.view import Frequencies, Steps, View

__all__ = [
    "LSTM",
    "MLP",
    "Architecture",
    "Backbone",
    "Compiled",
    "Context",
    "Embedding",
    "FourierTime",
    "Frequencies",
    "Levelled",
    "Steps",
    "TokenBlock",
    "Transformer",
    "UNet",
    "View",
]
