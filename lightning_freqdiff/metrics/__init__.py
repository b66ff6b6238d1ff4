"""How close generated series are to real ones: torchmetrics classes over pure functions."""

from lightning_freqdiff.metrics.baselines import (
    bootstrap_floor,
    dummy_baseline,
    floor,
    sample_gaussian,
    self_baseline,
)
from lightning_freqdiff.metrics.context_fid import (
    ContextFID,
    context_embedding,
    context_fid,
    fit_context_encoder,
    frechet_distance,
)
from lightning_freqdiff.metrics.contrastive import EncoderSettings
from lightning_freqdiff.metrics.correlational import CorrelationalScore, correlational_score
from lightning_freqdiff.metrics.discrepancy import MaximumMeanDiscrepancy, maximum_mean_discrepancy
from lightning_freqdiff.metrics.discriminative import DiscriminativeScore, discriminative_score
from lightning_freqdiff.metrics.ensemble import coverage, crps, energy_score, median_error, quantile_loss
from lightning_freqdiff.metrics.histogram import HistogramDifference, histogram_difference
from lightning_freqdiff.metrics.labelled import train_on_synthetic
from lightning_freqdiff.metrics.manifold import PRDC, prdc
from lightning_freqdiff.metrics.marginal import MarginalWasserstein, marginal_wasserstein
from lightning_freqdiff.metrics.memorization import Copy, Memorization, memorization
from lightning_freqdiff.metrics.moments import (
    AutocorrelationDifference,
    MomentDifference,
    autocorrelation_difference,
    moment_difference,
)
from lightning_freqdiff.metrics.nearest import NearestEuclidean, nearest_euclidean
from lightning_freqdiff.metrics.post_hoc import PostHoc
from lightning_freqdiff.metrics.predictive import PredictiveScore, predictive_score
from lightning_freqdiff.metrics.probabilistic import CRPS, Coverage, EnergyScore, MedianError, QuantileLoss
from lightning_freqdiff.metrics.projections import SortedReference, random_directions
from lightning_freqdiff.metrics.protocol import Protocol, repeated, unit_scale
from lightning_freqdiff.metrics.relative_l2 import relative_l2
from lightning_freqdiff.metrics.sliced_wasserstein import (
    SlicedWasserstein,
    sliced_distances,
    sliced_wasserstein,
)
from lightning_freqdiff.metrics.spectral import (
    SpectralDensityDistance,
    spectral_density_distance,
    spectral_localisation,
)
from lightning_freqdiff.metrics.ts2vec import TS2Vec
from lightning_freqdiff.metrics.warping import NearestWarping, nearest_warping, warping_distances
from lightning_freqdiff.metrics.wasserstein import wasserstein_1d

__all__ = [
    "CRPS",
    "PRDC",
    "AutocorrelationDifference",
    "ContextFID",
    "Copy",
    "CorrelationalScore",
    "Coverage",
    "DiscriminativeScore",
    "EncoderSettings",
    "EnergyScore",
    "HistogramDifference",
    "MarginalWasserstein",
    "MaximumMeanDiscrepancy",
    "MedianError",
    "Memorization",
    "MomentDifference",
    "NearestEuclidean",
    "NearestWarping",
    "PostHoc",
    "PredictiveScore",
    "Protocol",
    "QuantileLoss",
    "SlicedWasserstein",
    "SortedReference",
    "SpectralDensityDistance",
    "TS2Vec",
    "autocorrelation_difference",
    "bootstrap_floor",
    "context_embedding",
    "context_fid",
    "correlational_score",
    "coverage",
    "crps",
    "discriminative_score",
    "dummy_baseline",
    "energy_score",
    "fit_context_encoder",
    "floor",
    "frechet_distance",
    "histogram_difference",
    "marginal_wasserstein",
    "maximum_mean_discrepancy",
    "median_error",
    "memorization",
    "moment_difference",
    "nearest_euclidean",
    "nearest_warping",
    "prdc",
    "predictive_score",
    "quantile_loss",
    "random_directions",
    "relative_l2",
    "repeated",
    "sample_gaussian",
    "self_baseline",
    "sliced_distances",
    "sliced_wasserstein",
    "spectral_density_distance",
    "spectral_localisation",
    "train_on_synthetic",
    "unit_scale",
    "warping_distances",
    "wasserstein_1d",
]
