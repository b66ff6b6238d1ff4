"""Drawing samples: one loop, its noise, its work units, and the solvers."""

from lightning_freqdiff.sampling.classifier_free import ClassifierFree
from lightning_freqdiff.sampling.conditions import Conditions, InTurn, Label, Listed, Same
from lightning_freqdiff.sampling.constrained import Constrained
from lightning_freqdiff.sampling.constraints import Constraint
from lightning_freqdiff.sampling.given import Given
from lightning_freqdiff.sampling.gradients import ManifoldConstrained, Reconstruction, TrustSampling
from lightning_freqdiff.sampling.grids import Grid, time_grid
from lightning_freqdiff.sampling.guidance import Guidance, Guided, Together
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.observed import GaussianPosterior, Replacement
from lightning_freqdiff.sampling.rules import Bounds, Fixed, Mean, Monotone, Rule, Sum, Total
from lightning_freqdiff.sampling.solvers import Solver

__all__ = [
    "Bounds",
    "ClassifierFree",
    "Conditions",
    "Constrained",
    "Constraint",
    "Fixed",
    "GaussianPosterior",
    "Given",
    "Grid",
    "Guidance",
    "Guided",
    "InTurn",
    "Label",
    "Listed",
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
    "Together",
    "Total",
    "TrustSampling",
    "WorkUnit",
    "sample",
    "time_grid",
]
