"""What takes part in a comparison: the uncached sampler, caches from their presets, and solvers with fewer steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from torch import Tensor

from lightning_freqdiff.caching import CachePolicy
from lightning_freqdiff.evaluation.arithmetic import Precision
from lightning_freqdiff.sampling.grids import Grid
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.solvers import (
    DDIM,
    IPNDM,
    Chords,
    DPMSolverPP,
    EulerMaruyama,
    ExponentialWiener,
    Fitted,
    Solver,
    UniPC,
)
from lightning_freqdiff.sampling.solvers.fitted import named


@dataclass(frozen=True)
class Contender:
    """One way to sample.

    Args:
        name: How it is called in tables.
        kind: ``uncached``, ``cache`` or ``solver``.
        sampling: Solver, steps and grid.
        policy: The cache, if any.
        precision: Of this one, where it is another than that of all.
        compiled: Whether this one runs compiled, whatever the others do.
    """

    name: str
    kind: str
    sampling: Sampling
    policy: CachePolicy | None = None
    precision: Precision | None = None
    compiled: bool = False


FEW = (6, 8, 12)
"""Numbers of calls at which solvers are compared in any case."""


PARALLEL = 50
"""Steps of the published solver that makes several calls at once."""


def at_once(sampling: Sampling) -> Contender:
    """Return the solver that makes several calls at once: fewer rounds of calls, and more calls in all."""
    return Contender(
        f"chords-{PARALLEL}", "solver", replace(sampling, solver=Chords(), grid="logsnr", num_steps=PARALLEL)
    )


def fewer_steps(
    sampling: Sampling, calls: int, calibration: Mapping[str, Tensor] = MappingProxyType({})
) -> list[Contender]:
    """Return the solvers that a user would otherwise turn to, with so many network calls.

    Each has the grid that suits it best with few calls; see ``benchmarks/fewer_steps.py``.

    Args:
        sampling: What does not change.
        calls: How many.
        calibration: What ``calibrate`` fitted to the model; ``Fitted`` takes part where its steps were learnt.
    """
    choices: dict[str, tuple[Solver, Grid]] = {
        "euler-maruyama": (EulerMaruyama(), "uniform"),
        "ddim": (DDIM(), "logsnr"),
        "dpm++2m": (DPMSolverPP("ode"), "edm"),
        "dpm++2m-sde": (DPMSolverPP("sde"), "edm"),
        "ipndm": (IPNDM(3), "edm"),
        "unipc": (UniPC(2), "logsnr"),
        "exponential-ode": (ExponentialWiener("ode"), "logsnr"),
    }
    if named(calls)[0] in calibration:
        choices["fitted"] = Fitted(), "uniform"
    return [
        Contender(f"{name}-{calls}", "solver", replace(sampling, solver=solver, grid=grid, num_steps=calls))
        for name, (solver, grid) in choices.items()
    ]
