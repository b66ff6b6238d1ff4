"""Caches: policies that decide when to run how much of the network. Plain torch, no Lightning."""

from lightning_freqdiff.caching.adacorrection import AdaCorrection
from lightning_freqdiff.caching.base import CachedScore, CachePolicy, Call, Ledger, Outcome
from lightning_freqdiff.caching.deepcache import DeepCache
from lightning_freqdiff.caching.dmd import DMD
from lightning_freqdiff.caching.e2crf.policy import E2CRF
from lightning_freqdiff.caching.fastcache import FastCache
from lightning_freqdiff.caching.firstblock import FirstBlock
from lightning_freqdiff.caching.foca import FoCa
from lightning_freqdiff.caching.freqca import FreqCa
from lightning_freqdiff.caching.l2c import L2C
from lightning_freqdiff.caching.l2p import L2P
from lightning_freqdiff.caching.magcache import MagCache
from lightning_freqdiff.caching.predit import PrediT
from lightning_freqdiff.caching.spectralcache import SpectralCache
from lightning_freqdiff.caching.spectrum import Spectrum
from lightning_freqdiff.caching.svdcache import SVDCache
from lightning_freqdiff.caching.taylorseer import TaylorSeer
from lightning_freqdiff.caching.teacache import TeaCache
from lightning_freqdiff.caching.tome import ToMe
from lightning_freqdiff.caching.wiener import Wiener

__all__ = [
    "DMD",
    "E2CRF",
    "L2C",
    "L2P",
    "AdaCorrection",
    "CachePolicy",
    "CachedScore",
    "Call",
    "DeepCache",
    "FastCache",
    "FirstBlock",
    "FoCa",
    "FreqCa",
    "Ledger",
    "MagCache",
    "Outcome",
    "PrediT",
    "SVDCache",
    "SpectralCache",
    "Spectrum",
    "TaylorSeer",
    "TeaCache",
    "ToMe",
    "Wiener",
]
