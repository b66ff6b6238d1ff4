"""What takes part in a comparison: the uncached sampler, caches from their presets, and solvers with fewer steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lightning_freqdiff.caching import CachePolicy
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.solvers import DDIM, DPMSolverPP, EulerMaruyama, ExponentialWiener


@dataclass(frozen=True)
class Contender:
    """One way to sample.

    Args:
        name: How it is called in tables.
        kind: ``uncached``, ``cache`` or ``solver``.
        sampling: Solver, steps and grid.
        policy: The cache, if any.
    """

    name: str
    kind: str
    sampling: Sampling
    policy: CachePolicy | None = None


def fewer_steps(sampling: Sampling, calls: int) -> list[Contender]:
    """Return the solvers that a user would otherwise turn to, with so many network calls."""
    choices = {
        "euler-maruyama": (EulerMaruyama(), "uniform"),
        "ddim": (DDIM(), "logsnr"),
        "dpm++2m": (DPMSolverPP("ode"), "logsnr"),
        "dpm++2m-sde": (DPMSolverPP("sde"), "logsnr"),
        "dpm++2m-sde-edm": (DPMSolverPP("sde"), "edm"),
        "exponential": (ExponentialWiener("sde"), "uniform"),
        "exponential-ode": (ExponentialWiener("ode"), "uniform"),
    }
    return [
        Contender(
            f"{name}-{calls}",
            "solver",
            replace(sampling, solver=solver, grid=grid, num_steps=calls),  # type: ignore[arg-type]
        )
        for name, (solver, grid) in choices.items()
    ]
