"""Reverse-time solvers, one a file, and the time grids they run on."""

from lightning_freqdiff.solvers.base import Grid, Level, Solver, Step, plan, predict_noise, time_grid
from lightning_freqdiff.solvers.ddim import DDIM
from lightning_freqdiff.solvers.dpm_solver import DPMSolverPP
from lightning_freqdiff.solvers.euler_maruyama import EulerMaruyama
from lightning_freqdiff.solvers.exponential import ExponentialWiener
from lightning_freqdiff.solvers.heun import Heun
from lightning_freqdiff.solvers.predictor_corrector import PredictorCorrector

__all__ = [
    "DDIM",
    "DPMSolverPP",
    "EulerMaruyama",
    "ExponentialWiener",
    "Grid",
    "Heun",
    "Level",
    "PredictorCorrector",
    "Solver",
    "Step",
    "plan",
    "predict_noise",
    "time_grid",
]
