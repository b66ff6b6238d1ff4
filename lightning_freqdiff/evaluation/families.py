"""What `tune` searches: caches and solvers of few steps, each with one knob."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lightning_freqdiff.caching import (
    DMD,
    E2CRF,
    L2C,
    L2P,
    AdaCorrection,
    CachePolicy,
    DeepCache,
    FastCache,
    FirstBlock,
    FoCa,
    FreqCa,
    MagCache,
    PrediT,
    SpectralCache,
    Spectrum,
    SVDCache,
    TaylorSeer,
    TeaCache,
    ToMe,
    Wiener,
)
from lightning_freqdiff.evaluation.arithmetic import Precision
from lightning_freqdiff.evaluation.contenders import Contender
from lightning_freqdiff.evaluation.fitting import COUNTS
from lightning_freqdiff.sampling.grids import Grid
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.solvers import DEIS, IPNDM, DPMSolverPP, Fitted, Heun, Solver, UniPC


@dataclass(frozen=True)
class Family:
    """A way to sample with one knob: the higher, the faster and the worse.

    Args:
        name: How its preset is called.
        make: Makes the cache, or a solver, from the knob; of solvers it is by how much network calls are fewer.
        low: Least knob tried.
        high: Greatest.
        grid: Where a solver's steps are.
        precision: Of its arithmetic, where it is another than that of the uncached samples.
        compiled: Whether it runs compiled, whatever the uncached samples do.
    """

    name: str
    make: Callable[[float], CachePolicy | Solver]
    low: float
    high: float
    grid: Grid = "uniform"
    precision: Precision | None = None
    compiled: bool = False

    @property
    def label(self) -> str:
        """How one choice is told from the others of its name."""
        arithmetic = ("bf16" if self.precision == "bf16-mixed" else self.precision), "compiled" * self.compiled
        grid = None if self.grid == "uniform" else self.grid
        return " ".join(part for part in (self.name, grid, *arithmetic) if part)

    def contender(self, knob: float, sampling: Sampling) -> Contender:
        """Return what takes part with a knob, beside uncached samples that are drawn as given."""
        made = self.make(knob)
        if isinstance(made, CachePolicy):
            return Contender(self.name, "cache", sampling, made, self.precision, self.compiled)
        steps = max(1, round(sampling.num_calls / knob / made.calls_per_step))
        steps = min(max(steps, COUNTS[0]), COUNTS[-1]) if made.calibrated else steps
        few = replace(sampling, solver=made, grid=self.grid, num_steps=steps)
        return Contender(self.name, "solver", few, None, self.precision, self.compiled)


GRIDS: tuple[Grid, ...] = ("edm", "logsnr", "tuned", "uniform")
"""Grids that every solver is searched on. A tuned one takes part where it was learnt."""


def solvers() -> list[Family]:
    """Return the solvers of few steps that are searched, on every grid."""
    choices: dict[str, Solver] = {
        "dpm++2m": DPMSolverPP("ode"),
        "deis": DEIS(3),
        "ipndm": IPNDM(3),
        "unipc": UniPC(2),
        "heun": Heun(),
    }
    found = [Family("fitted", lambda k: Fitted(), 2, 250)]
    for name, solver in choices.items():
        found += [Family(name, lambda k, s=solver: s, 2, 250, grid) for grid in GRIDS]  # type: ignore[misc]
    return found


def file_name(family: Family) -> str:
    """Return how the preset of a family's best is called."""
    return family.label.replace(" ", "-")


def named(names: Sequence[str], metric: str, calibrated: bool) -> list[Family]:
    """Return the families of some names, each with all its choices; if none, all that a metric can compare.

    Args:
        names: Names of families.
        metric: What is searched by. Solvers draw other samples than the uncached ones, so have no distance.
        calibrated: Whether grids were learnt.

    Raises:
        ValueError: For a name that there is not.
    """
    caches, every = families(), [*families(), *solvers()]
    known = list(dict.fromkeys(family.name for family in every))
    if unknown := sorted(set(names) - set(known)):
        raise ValueError(f"expected families of {', '.join(known)}, got {unknown[0]}: set --families")
    wanted = [f for f in every if f.name in names] if names else (caches if metric == "relative_l2" else every)
    return [family for family in wanted if calibrated or family.grid != "tuned"]


def families() -> list[Family]:
    """Return the caches that are searched, each with its knob."""
    found = [
        Family("wiener", lambda k: Wiener(tolerance=k), 1e-3, 0.5),
        Family("wiener-clock", lambda k: Wiener(tolerance=k, memory=1.0), 1e-3, 0.5),
        Family("e2crf", lambda k: E2CRF(R=round(10 * k), tau_safe=round(0.02 * k, 6)), 0.2, 20),
        Family("fixed", lambda k: E2CRF(preset="fixed_schedule", R=round(k)), 2, 200),
        Family("teacache", lambda k: TeaCache(tau=k), 1e-3, 10),
        Family("firstblock", lambda k: FirstBlock(tau=k), 1e-3, 3),
        Family("fastcache", lambda k: FastCache(cap=k), 1e-7, 1),
        Family("spectrum", lambda k: Spectrum(window=k, growth=0.0, history=8, ridge=1e-4), 2, 100),
    ]
    found.append(Family("tome", lambda k: ToMe(ratio=k), 1e-2, 0.5))
    found.append(Family("deepcache", lambda k: DeepCache(interval=round(k)), 2, 100))
    for forecaster in (FoCa, FreqCa, DMD, SVDCache, L2P, AdaCorrection):
        found.append(Family(forecaster.__name__.lower(), lambda k, f=forecaster: f(interval=round(k)), 2, 100))
    found.append(Family("magcache", lambda k: MagCache(tau=k, skips=1000, retention=0.0), 1e-3, 10))
    found.append(Family("l2c", lambda k: L2C(penalty=k), 1e-8, 1))
    found.append(Family("predit", lambda k: PrediT(tau=k, skips=1000), 1e-2, 10))
    for order in (0, 1, 2):
        found.append(Family(f"taylorseer-{order}", lambda k, o=order: TaylorSeer(interval=round(k), order=o), 2, 100))
    for bands in ("channel", "frequency"):
        found.append(
            Family(f"spectralcache-{bands}", lambda k, b=bands: SpectralCache(tau=k, c_max=1000, bands=b), 1e-3, 10)  # type: ignore[misc]
        )
    return found
