"""Reverse-time solvers, one a file."""

from lightning_freqdiff.sampling.solvers.base import Ask, Level, Solver, Step, plan, predict_eps
from lightning_freqdiff.sampling.solvers.ddim import DDIM
from lightning_freqdiff.sampling.solvers.dpm_solver import DPMSolverPP
from lightning_freqdiff.sampling.solvers.euler_maruyama import EulerMaruyama
from lightning_freqdiff.sampling.solvers.exponential import ExponentialWiener
from lightning_freqdiff.sampling.solvers.heun import Heun
from lightning_freqdiff.sampling.solvers.predictor_corrector import PredictorCorrector

__all__ = [
    "DDIM",
    "Ask",
    "DPMSolverPP",
    "EulerMaruyama",
    "ExponentialWiener",
    "Heun",
    "Level",
    "PredictorCorrector",
    "Solver",
    "Step",
    "plan",
    "predict_eps",
]
