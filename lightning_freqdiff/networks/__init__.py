"""Backbones: tokens, time and condition in, raw output out."""

from lightning_freqdiff.networks.base import Architecture, Backbone, Embedding, FourierTime, TokenBlock
from lightning_freqdiff.networks.kernels import Compiled
from lightning_freqdiff.networks.lstm import LSTM
from lightning_freqdiff.networks.mlp import MLP
from lightning_freqdiff.networks.transformer import Transformer
from lightning_freqdiff.networks.unet import UNet

__all__ = [
    "LSTM",
    "MLP",
    "Architecture",
    "Backbone",
    "Compiled",
    "Embedding",
    "FourierTime",
    "TokenBlock",
    "Transformer",
    "UNet",
]
