"""Backbones: tokens and time in, raw output out."""

from lightning_freqdiff.networks.base import Architecture, Backbone
from lightning_freqdiff.networks.lstm import LSTM
from lightning_freqdiff.networks.mlp import MLP
from lightning_freqdiff.networks.transformer import Transformer

__all__ = ["LSTM", "MLP", "Architecture", "Backbone", "Transformer"]
