"""The claims of the E²-CRF paper (arXiv 2604.22901) on a trained model, beside what the paper says.

    python benchmarks/paper.py --data ecg_mitbih --minutes 10
    python benchmarks/paper.py --ckpt_path C --data ecg_mitbih

A transformer over frequencies is trained, as the method chooses tokens, or taken from a checkpoint. Then the paper's
Table 1 (sliced Wasserstein with and without the cache), Table 2 (ablations) and Table 3 (its grid of K and R) are
made at the sizes given, and its claims of features, hits and errors are followed along trajectories
(``claims.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from caches import BUDGET, Bench
from claims import Course, cached, spectral_norms, uncached
from common import begin, open_data, parser, save, trained
from matplotlib.figure import Figure
from torch import Tensor

from lightning_freqdiff.caching import E2CRF, CachePolicy
from lightning_freqdiff.evaluation.evaluator import Evaluator
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer
from lightning_freqdiff.sampling.loop import Sampling
from lightning_freqdiff.sampling.solvers import EulerMaruyama

FOLLOWED: dict[str, CachePolicy] = {
    "paper": E2CRF(preset="paper", K_low=1, R=150),
    "budget 0.35": E2CRF(**BUDGET, budget=0.35),  # pyright: ignore[reportArgumentType]
    "balanced": E2CRF(),
}
"""The text with the settings of its ECG tables; the 35 % of tokens that it speaks of, by rank; ours."""
PARTS = ("claims", "tables", "distances")


def tables(bench: Bench) -> dict[str, Any]:
    """Make Tables 2 and 3: every setting against the uncached sampler on the same noise."""
    made = bench.tables(("ablation", "paper_grid"))
    for row in (row for rows in made.values() for row in rows):
        del row["curves"]
    return {**made, "uncached_seconds": bench.uncached}


def distances(bench: Bench) -> list[dict[str, Any]]:
    """Make the rows of Table 1: distances to the training set, and those of as many fresh real rows."""
    evaluator = bench.evaluator
    measured = {"uncached": (bench.directions, bench.uncached[0])}
    for name in ("paper", "balanced"):
        series, seconds, _ = bench.draw(FOLLOWED[name])
        measured[name] = evaluator.distances(series), seconds
    rows: list[dict[str, Any]] = [
        {"name": name, "seconds": seconds, **_mean(found)} for name, (found, seconds) in measured.items()
    ]
    if evaluator.real is not None:
        rows.append({"name": "real", **_mean(evaluator.distances(evaluator.real[: bench.sampling.num_samples]))})
    print("\n".join(f"table 1: {row}" for row in rows), flush=True)
    return rows


def _mean(distances: Mapping[Any, Tensor]) -> dict[str, float]:
    return {f"sw_{k}": float(v.mean()) for k, v in distances.items()}


def spectral_bound(local: Tensor, norms: Tensor, places: list[int]) -> float:
    """Return log10 of ``Σ e_i Π L_j``, a mean over samples."""
    steps = np.arange(len(local))
    logs = np.stack([np.interp(steps, places, one) for one in norms.double().log().T.numpy()], axis=1)
    after = np.flip(np.cumsum(np.flip(logs, 0), 0), 0) - logs  # Σ_{j > i} log L_j
    with np.errstate(divide="ignore"):
        terms = np.log(local.double().numpy()) + after
    return float(np.logaddexp.reduce(terms, axis=0).mean() / np.log(10))


def follow(module: ScoreModule, sampling: Sampling, norms_at: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Follow every policy beside the uncached trajectory; return figures, and curves to draw."""
    course = Course(module.score, sampling)
    reference, changes = uncached(course)
    size = module.score.codec.whiten(reference[-1]).norm(dim=1)
    places = np.unique(np.linspace(0, sampling.num_steps - 1, norms_at).round().astype(int)).tolist()
    norms = spectral_norms(course, reference, places)
    low = max(1, changes.shape[1] // 10)
    localised = changes[1:, :low].sum(1) / changes[1:].sum(1)
    result: dict[str, Any] = {
        "changes": {
            "low_share_early": float(localised[: len(localised) // 4].mean()),
            "low_share_late": float(localised[-(len(localised) // 4) :].mean()),
            "low_tokens": low / changes.shape[1],
        },
        "spectral_norm": {"places": places, "mean": norms.mean(1).tolist(), "greatest": float(norms.max())},
        "policies": {},
    }
    curves: dict[str, Any] = {"changes": changes, "norms": (places, norms.mean(1)), "policies": {}}
    quarter = sampling.num_steps // 4
    for name, policy in FOLLOWED.items():
        found = cached(course, reference, policy)
        hits = torch.as_tensor(found["curves"]["hit_rate"], dtype=torch.float64).nan_to_num()
        both = torch.stack([localised.double().cpu(), hits[1:]])
        log_bound = spectral_bound(found["locals"].cpu(), norms.cpu(), places)
        result["policies"][name] = {
            "recomputed": 1 - found["hit_rate"],
            "hits_early": float(hits[:quarter].mean()),
            "hits_late": float(hits[-quarter:].mean()),
            "hits_with_localisation": float(torch.corrcoef(both)[0, 1]) if hits.std() > 0 else None,
            "flops_fraction": found["flops_fraction"],
            "error": float((found["final"]["error"] / size).mean()),
            "bound_secant": float((found["final"]["bound"] / size).mean()),
            "bound_secant_holds": float((found["final"]["bound"] >= 0.999 * found["final"]["error"]).double().mean()),
            "bound_spectral": 10 ** (log_bound - float(size.log10().mean())),
        }
        curves["policies"][name] = {"hits": hits, **{key: found[key] for key in ("error", "bound")}}
        print(f"{name}: {result['policies'][name]}", flush=True)
    return result, curves


def draw(curves: dict[str, Any], path: Path) -> None:
    """Draw where features change, hits, growth, and errors under their bounds."""
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    (left, hits), (growth, errors) = figure.subplots(2, 2)
    changes = curves["changes"][1:].clamp(min=1e-12).log10().T
    image = left.imshow(changes, aspect="auto", origin="lower", cmap="viridis")
    figure.colorbar(image, ax=left, label="log₁₀")
    left.set(title="relative change of $z_L$", xlabel="step", ylabel="frequency")
    places, norms = curves["norms"]
    growth.plot(places, norms, "k.-", lw=1)
    growth.axhline(1, color="grey", ls=":", lw=0.8)
    growth.set(title="spectral norm of a step's Jacobian", xlabel="step")
    for i, (name, found) in enumerate(curves["policies"].items()):
        width = max(1, len(found["hits"]) // 50)
        smooth = torch.nn.functional.avg_pool1d(found["hits"].view(1, 1, -1), width, width).flatten()
        hits.plot(width * torch.arange(len(smooth)), smooth, color=f"C{i}", label=name, lw=1)
        errors.plot(found["error"], color=f"C{i}", label=name, lw=1)
        errors.plot(found["bound"], color=f"C{i}", ls="--", lw=1)
    hits.set(title="hit rate", xlabel="step", ylim=(-0.02, 1.02))
    errors.set(title="distance to the uncached samples (dashed: bound)", xlabel="step", yscale="log")
    for axis in (hits, errors):
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)


def main() -> None:
    options = parser(__doc__, "paper.json")
    options.add_argument("--ckpt_path", type=Path)
    options.add_argument("--data", default="synthetic")
    options.add_argument("--minutes", type=float, default=10, help="of training, without a checkpoint")
    options.add_argument("--steps", type=int, help="train for so many steps and not for a time")
    options.add_argument("--num_steps", type=int, default=1000)
    options.add_argument("--samples", type=int, default=1000, help="of Table 1")
    options.add_argument("--table_samples", type=int, default=32, help="of Tables 2 and 3")
    options.add_argument("--followed", type=int, default=16, help="trajectories that are followed")
    options.add_argument("--norms", type=int, default=41, help="steps whose Jacobian is looked at")
    options.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options.add_argument("--checkpoints", type=Path, default=Path("runs/paper"))
    args = options.parse_args()
    result = {**(json.loads(args.output.read_text()) if args.output.is_file() else {}), **begin(args)}
    data = open_data(args.data)
    if args.ckpt_path:
        module = ScoreModule.load_from_checkpoint(args.ckpt_path)
    else:
        limit: Any = {"steps": args.steps} if args.steps else {"max_time": {"minutes": args.minutes}}
        module, result["training"] = trained(data, args.checkpoints / args.data, Transformer(), **limit)
    module = module.eval().to(args.device)
    torch.set_grad_enabled(False)
    evaluator = Evaluator(data)
    sampling = Sampling(
        num_samples=args.followed, num_steps=args.num_steps, batch_size=args.followed, solver=EulerMaruyama()
    )
    if "claims" in args.parts:
        result["claims"], curves = follow(module, sampling, args.norms)
        draw(curves, args.output.with_suffix(".png"))
        save(args.output, result)
    if "tables" in args.parts:
        few = Bench(module, evaluator, args.table_samples, args.table_samples, args.num_steps)
        result["tables"] = {**tables(few), "samples": args.table_samples}
        save(args.output, result)
    if "distances" in args.parts:
        many = Bench(module, evaluator, args.samples, min(100, args.samples), args.num_steps)
        result["distances"] = {"rows": distances(many), "samples": args.samples}
    save(args.output, {**result, "complete": True})


if __name__ == "__main__":
    main()
