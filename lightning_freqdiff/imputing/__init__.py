"""Fill gaps, and forecast: series of which some is known in, samples of the whole out."""

from lightning_freqdiff.imputing.asked import Asked, covariates_of
from lightning_freqdiff.imputing.backtest import Backtesting
from lightning_freqdiff.imputing.methods import LINEAR, Method, keeping
from lightning_freqdiff.imputing.model import Imputing

__all__ = ["LINEAR", "Asked", "Backtesting", "Imputing", "Method", "covariates_of", "keeping"]
