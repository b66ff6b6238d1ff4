"""Drawing samples: one loop, its noise, its work units, and the solvers."""

from lightning_freqdiff.sampling.conditions import Conditions, Given, Same
from lightning_freqdiff.sampling.constrained import Constrained
from lightning_freqdiff.sampling.constraints import Constraint
from lightning_freqdiff.sampling.gradients import ManifoldConstrained, Reconstruction, TrustSampling
from lightning_freqdiff.sampling.grids import Grid, time_grid
from lightning_freqdiff.sampling.guidance import Guidance, Guided
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.observed import GaussianPosterior, Replacement
from lightning_freqdiff.sampling.rules import Bounds, Fixed, Mean, Monotone, Rule, Sum, Total
from lightning_freqdiff.sampling.solvers import Solver

__all__ = [
    "Bounds",
    "Conditions",
    "Constrained",
    "Constraint",
    "Fixed",
    "GaussianPosterior",
    "Given",
    "Grid",
    "Guidance",
    "Guided",
    "ManifoldConstrained",
    "Mean",
    "Monotone",
    "Reconstruction",
    "Replacement",
    "Rule",
    "Same",
    "Sampling",
    "Solver",
    "Sum",
    "Total",
    "TrustSampling",
    "WorkUnit",
    "sample",
    "time_grid",
]
