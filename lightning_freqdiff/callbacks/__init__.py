"""Lightning callbacks around training and sampling, one a file."""

from lightning_freqdiff.callbacks.averaging import Averaging
from lightning_freqdiff.callbacks.cache import CacheCallback
from lightning_freqdiff.callbacks.checkpoints import SafeCheckpoints
from lightning_freqdiff.callbacks.e2crf import E2CRFCache
from lightning_freqdiff.callbacks.finite import FiniteLoss
from lightning_freqdiff.callbacks.metrics_file import MetricsFile
from lightning_freqdiff.callbacks.monitor import SampleMonitor
from lightning_freqdiff.callbacks.progress import SamplingProgress, TrainingProgress
from lightning_freqdiff.callbacks.quantize import Quantize
from lightning_freqdiff.callbacks.refit import Refit
from lightning_freqdiff.callbacks.run_report import RunReport
from lightning_freqdiff.callbacks.sample_writer import SampleWriter
from lightning_freqdiff.callbacks.shard_writer import ShardWriter
from lightning_freqdiff.callbacks.validations import Validations
from lightning_freqdiff.callbacks.wiener import WienerCache
from lightning_freqdiff.hooks import SamplingCallback

__all__ = [
    "Averaging",
    "CacheCallback",
    "E2CRFCache",
    "FiniteLoss",
    "MetricsFile",
    "Quantize",
    "Refit",
    "RunReport",
    "SafeCheckpoints",
    "SampleMonitor",
    "SampleWriter",
    "SamplingCallback",
    "SamplingProgress",
    "ShardWriter",
    "TrainingProgress",
    "Validations",
    "WienerCache",
]
