"""Reverse-time solvers, one a file."""

from lightning_freqdiff.sampling.solvers.base import Ask, Level, ParallelSolver, Solver, Step, plan, predict_eps
from lightning_freqdiff.sampling.solvers.chords import Chords
from lightning_freqdiff.sampling.solvers.ddim import DDIM
from lightning_freqdiff.sampling.solvers.deis import DEIS
from lightning_freqdiff.sampling.solvers.dpm_solver import DPMSolverPP
from lightning_freqdiff.sampling.solvers.euler_maruyama import EulerMaruyama
from lightning_freqdiff.sampling.solvers.exponential import ExponentialWiener
from lightning_freqdiff.sampling.solvers.fitted import Fitted
from lightning_freqdiff.sampling.solvers.heun import Heun
from lightning_freqdiff.sampling.solvers.ipndm import IPNDM
from lightning_freqdiff.sampling.solvers.predictor_corrector import PredictorCorrector
from lightning_freqdiff.sampling.solvers.sa_solver import SASolver
from lightning_freqdiff.sampling.solvers.unipc import UniPC

__all__ = [
    "DDIM",
    "DEIS",
    "IPNDM",
    "Ask",
    "Chords",
    "DPMSolverPP",
    "EulerMaruyama",
    "ExponentialWiener",
    "Fitted",
    "Heun",
    "Level",
    "ParallelSolver",
    "PredictorCorrector",
    "SASolver",
    "Solver",
    "Step",
    "UniPC",
    "plan",
    "predict_eps",
]
