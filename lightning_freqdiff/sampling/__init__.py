"""Drawing samples: one loop, its noise, its work units, and the solvers."""

from lightning_freqdiff.sampling.classifier_free import ClassifierFree
from lightning_freqdiff.sampling.conditions import Conditions, InTurn, Label, Listed, Same
from lightning_freqdiff.sampling.constraints import Constraint
from lightning_freqdiff.sampling.grids import Grid, time_grid
from lightning_freqdiff.sampling.guidance import Guidance, Guided
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.sampling.solvers import Solver

__all__ = [
    "ClassifierFree",
    "Conditions",
    "Constraint",
    "Grid",
    "Guidance",
    "Guided",
    "InTurn",
    "Label",
    "Listed",
    "Same",
    "Sampling",
    "Solver",
    "WorkUnit",
    "sample",
    "time_grid",
]
