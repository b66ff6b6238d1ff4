"""What a search has found, written as a preset."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from lightning_freqdiff.evaluation.arithmetic import LOW_BITS
from lightning_freqdiff.evaluation.contenders import Contender


def as_yaml(contender: Contender, comment: list[str]) -> str:
    """Write a cache, or a solver with its steps, as a preset ready to be plugged in."""
    lines = [f"# {line}" for line in comment]
    if contender.compiled:
        lines += ["model:", "  compile: true"]
    bits = None if contender.precision is None else LOW_BITS.get(contender.precision)
    precision = [] if contender.precision is None or bits else [f"  precision: {contender.precision}"]
    integers = ["    - class_path: Quantize", "      init_args:", f"        weights: {bits}"] if bits else []
    if contender.policy is None:
        sampling = contender.sampling
        plugged = ["  callbacks+:", *integers] if bits else []
        lines += ["trainer:", *precision, *plugged] if precision or bits else []
        lines += ["sampling:", *_component("  solver", sampling.solver)]
        return "\n".join([*lines, f"  grid: {sampling.grid}", f"  num_steps: {sampling.num_steps}"]) + "\n"
    lines += ["trainer:", *precision, "  callbacks+:", *integers]
    lines += ["    - class_path: CacheCallback", "      init_args:"]
    return "\n".join([*lines, *_component("        policy", contender.policy)]) + "\n"


def _component(place: str, component: Any) -> list[str]:
    """Write a dataclass under a key as its name, and what is set otherwise than by default."""
    indent = " " * (len(place) - len(place.lstrip()) + 2)
    defaults, settings = type(component)(), {f.name: getattr(component, f.name) for f in fields(component)}
    changed = {k: v for k, v in settings.items() if v is not None and v != getattr(defaults, k)}
    lines = [f"{place}:", f"{indent}class_path: {type(component).__name__}"]
    lines += [f"{indent}init_args:"] if changed else []
    for name, value in changed.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        lines.append(f"{indent}  {name}: {float(f'{value:.4g}') if isinstance(value, float) else shown}")
    return lines
