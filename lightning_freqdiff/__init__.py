"""Generate time series with diffusion in the frequency domain, fast.

    import lightning_freqdiff as lf

    model = lf.fit(series, max_time="00:00:02:00")
    samples = model.sample(64, num_steps=200, cache="wiener")

All names are imported when they are asked for: importing the package itself loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_freqdiff.caching import (
        DMD,
        E2CRF,
        L2C,
        L2P,
        AdaCorrection,
        CachePolicy,
        DeepCache,
        FastCache,
        FirstBlock,
        FoCa,
        FreqCa,
        MagCache,
        PrediT,
        SpectralCache,
        Spectrum,
        SVDCache,
        TaylorSeer,
        TeaCache,
        ToMe,
        Wiener,
    )
    from lightning_freqdiff.callbacks import CacheCallback, SampleMonitor, SampleWriter, ShardWriter
    from lightning_freqdiff.data import (
        ECG,
        ETT,
        MIMIC3,
        NASA,
        NASDAQ,
        UCR,
        ArrayData,
        Energy,
        SeriesData,
        ShardedData,
        Sines,
        Stocks,
        SyntheticECG,
        USDroughts,
    )
    from lightning_freqdiff.diffusion import VE, VP, SubVP
    from lightning_freqdiff.distilling import distill
    from lightning_freqdiff.fitting import fit
    from lightning_freqdiff.model import Model, load
    from lightning_freqdiff.module import ScoreModule
    from lightning_freqdiff.networks import LSTM, MLP, Transformer, UNet
    from lightning_freqdiff.sampling import Sampling
    from lightning_freqdiff.sampling.solvers import (
        DDIM,
        DEIS,
        IPNDM,
        Chords,
        DPMSolverPP,
        EulerMaruyama,
        ExponentialWiener,
        Fitted,
        Heun,
        PredictorCorrector,
        SASolver,
        UniPC,
    )
    from lightning_freqdiff.shards import read_samples
    from lightning_freqdiff.studies import compare, describe, evaluate, tune

__version__ = "0.2.0"

__all__ = [
    "DDIM",
    "DEIS",
    "DMD",
    "E2CRF",
    "ECG",
    "ETT",
    "IPNDM",
    "L2C",
    "L2P",
    "LSTM",
    "MIMIC3",
    "MLP",
    "NASA",
    "NASDAQ",
    "UCR",
    "VE",
    "VP",
    "AdaCorrection",
    "ArrayData",
    "CacheCallback",
    "CachePolicy",
    "Chords",
    "DPMSolverPP",
    "DeepCache",
    "Energy",
    "EulerMaruyama",
    "ExponentialWiener",
    "FastCache",
    "FirstBlock",
    "Fitted",
    "FoCa",
    "FreqCa",
    "Heun",
    "MagCache",
    "Model",
    "PrediT",
    "PredictorCorrector",
    "SASolver",
    "SVDCache",
    "SampleMonitor",
    "SampleWriter",
    "Sampling",
    "ScoreModule",
    "SeriesData",
    "ShardWriter",
    "ShardedData",
    "Sines",
    "SpectralCache",
    "Spectrum",
    "Stocks",
    "SubVP",
    "SyntheticECG",
    "TaylorSeer",
    "TeaCache",
    "ToMe",
    "Transformer",
    "UNet",
    "USDroughts",
    "UniPC",
    "Wiener",
    "compare",
    "describe",
    "distill",
    "evaluate",
    "fit",
    "load",
    "read_samples",
    "tune",
]

_ROOMS = {
    "caching": "AdaCorrection DMD DeepCache E2CRF CachePolicy FastCache FirstBlock FoCa FreqCa L2C L2P MagCache "
    "PrediT SVDCache SpectralCache Spectrum TaylorSeer TeaCache ToMe Wiener",
    "callbacks": "CacheCallback SampleMonitor SampleWriter ShardWriter",
    "data": "ArrayData ECG ETT Energy MIMIC3 NASA NASDAQ SeriesData ShardedData "
    "Sines Stocks SyntheticECG UCR USDroughts",
    "diffusion": "SubVP VE VP",
    "distilling": "distill",
    "fitting": "fit",
    "model": "Model load",
    "module": "ScoreModule",
    "networks": "LSTM MLP Transformer UNet",
    "sampling": "Sampling",
    "sampling.solvers": "Chords DDIM DEIS DPMSolverPP EulerMaruyama ExponentialWiener Fitted Heun IPNDM "
    "PredictorCorrector SASolver UniPC",
    "shards": "read_samples",
    "studies": "compare describe evaluate tune",
}
_ROOM = {name: room for room, names in _ROOMS.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for (PEP 562)."""
    if name not in _ROOM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_ROOM[name]}"), name)
    globals()[name] = value  # found at once the next time
    return value


def __dir__() -> list[str]:
    """List the names, imported or not."""
    return sorted({*globals(), *__all__})
