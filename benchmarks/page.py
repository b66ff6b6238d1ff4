"""Write benchmarks/README.md, with tables and figures, from the JSON files that the other scripts left.

python benchmarks/page.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

from comparisons import comparisons_section, fewer_steps_section
from conditional_page import forecasting_section, imputation_section, labels_section
from goals import MISSING, bars
from matplotlib.figure import Figure
from paper_page import paper_section
from quality_page import colour_section, form_section, quality_section
from sections import (
    Results,
    engine_section,
    limits_section,
    peers_section,
    samples_section,
    table,
    training_section,
    workers_section,
)

HERE = Path(__file__).parent
PREFACE = """# Benchmarks

This page is written by `python benchmarks/page.py` from the files in `results/`: do not edit it. `make bench`
measures what two cores can in a quarter of an hour, `make bench-gpu` the whole set on a GPU. Quote ratios, since
cores are shared and noisy. Data sets are found through `FREQDIFF_DATA`.

How far each figure can be trusted:

- `engine.py`, `peers.py`, `limits.py`, `training.py` and `metrics.py` report medians of alternating runs after a
  warm-up. `peers.py` times ways that run the whole network at every step over fewer steps and scales them, where the
  table says so.
- Without a checkpoint, `make bench` trains a small model for a minute or two. It has learnt little beside the Wiener
  filter, which every cache of ours has for free: its speedups flatter them, and count for no goal.
- `caches.py` times each cache **once**, against the median of uncached runs repeated in between. A few tenths in a
  speedup mean nothing. 32 samples are few for a sliced Wasserstein distance, and only its change at equal noise is of
  use; the same holds for `peers.py`.
- `quality-ecg.json`, and the checkpoint that the E²-CRF tables use, were made by an earlier commit, whose log-normal
  times were clamped and not truncated; machine paths were taken out of its settings by hand. Other jobs shared the
  cores while it trained, so its `training_seconds` is no measure of speed; the same holds for `score` in
  `quality-nasa.json`.
- The quality figures are one training each, and where no ± stands one set of samples, always of seed 0. That is
  little: four sets of 1,000 heartbeats of one model lay at 1.25, 1.29, 1.54 and 1.67 times the floor, seed 0 the
  farthest, and as starts of one seed go to like samples whatever the model, that luck is shared by all of them. In
  `quality-nasa.json`, of an earlier commit, 256 samples stand beside a floor of 195 real series, which flatters
  `over_floor`; `quality.py` takes both at one count now.
"""
ENDING = (
    "`reference.py` is the published design, written from the papers; `demo.py` is the second half of `make demo`."
)
E2CRF = (
    "`python benchmarks/caches.py --ckpt_path C --data ecg_mitbih --tables ablation trade_off choices --samples 32"
)
COMMANDS = [
    (
        "every cache, and solvers with fewer steps, on a checkpoint",
        "`python -m lightning_freqdiff compare --ckpt_path C --callbacks ... --data ... --output ...`",
        ("compare-ecg_mitbih-unet/compare.json",),
    ),
    (
        "every cache at its best setting of one search, on models of `quality.py` (2,477 to 2,500 training steps)",
        "`calibrate`, `tune --tolerance 0.15 --keep_all true --sampling.num_steps 50` (0.05 with 1000), "
        "`compare --callbacks ... --rounds 1 --sampling.num_samples 128 --sampling.num_steps 50` (1000)",
        (
            "compare-ecg_mitbih-unet-1000/compare.json",
            "compare-ecg_mitbih-transformer-1000/compare.json",
            "compare-nasa_charge-unet-1000/compare.json",
            "compare-nasa_charge-transformer-1000/compare.json",
            "compare-ecg_mitbih-unet-50/compare.json",
            "compare-ecg_mitbih-transformer-50/compare.json",
            "compare-nasa_charge-unet-50/compare.json",
            "compare-nasa_charge-transformer-50/compare.json",
        ),
    ),
    (
        "a network in integers",
        "the same with `--callbacks w8a8 w4a8 --sampling.solver DPMSolverPP --sampling.grid edm --solvers false "
        "--sampling.num_steps 20 --sampling.num_samples 256 --sampling.batch_size 64`",
        ("compare-ecg_mitbih-low-bit/compare.json",),
    ),
    (
        "every solver on every grid with few calls, over many samples",
        "`python benchmarks/fewer_steps.py --ckpt_path C --samples 512 --calls 5 6 8 10 16 --grids uniform edm tuned "
        "--thousand 0 --output ...`",
        ("fewer-steps-ecg.json",),
    ),
    (
        "how real samples are, every set",
        "`make quality`, which is `python benchmarks/quality.py`",
        ("quality.json",),
    ),
    (
        "short trainings in frequency and time, of every output, under noise of other colours",
        "`python benchmarks/quality.py --sets stocks --networks transformer --domain time --parametrization wiener "
        "--colour 1 --steps 600 --draws 2 --scores 0 --plates 0 --threads 1 --output ...`",
        ("colour.json",),
    ),
    (
        "heartbeats by class: what they teach a classifier, at every guidance",
        "`python benchmarks/conditional.py --part labels --minutes 12 --samples 1000 --per_class 150`",
        ("conditional-labels.json",),
    ),
    (
        "gaps filled, by every method",
        "`python benchmarks/imputation.py --minutes 8 --rows 24 --samples 16 --many_steps 100`",
        ("imputation.json",),
    ),
    (
        "what the E²-CRF paper claims, beside its figures",
        "`make paper`, which is `python benchmarks/paper.py`",
        ("paper.json",),
    ),
    ("forecasts from many origins", "`python benchmarks/forecasting.py --minutes 15`", ("forecasting.json",)),
    (
        "sample quality by parametrisation, a script that is gone (in the history)",
        "`quality.py --data ecg_mitbih --parametrizations wiener --steps 5600`",
        ("quality-ecg.json", "quality-nasa.json"),
    ),
    (
        "one network call, one step, memory, against the reference design",
        "`python benchmarks/engine.py --output ...`",
        ("engine.json",),
    ),
    (
        "reference design, published cache and ours side by side",
        "`python benchmarks/peers.py --ckpt_path C --data D`",
        ("peers.json",),
    ),
    ("share of the machine's peak, growth of cost", "`python benchmarks/limits.py`", ("limits.json",)),
    ("training throughput, steps to a loss", "`python benchmarks/training.py --to_loss`", ("training.json",)),
    (
        "workers that share a run, output, memory, streamed training",
        "`python benchmarks/workers.py --threads 1 --ckpt_path C`",
        ("workers.json",),
    ),
    ("memory of training from a file on disk", "`python benchmarks/memory.py`", ("memory.json",)),
    (
        "E²-CRF: ablations, trade-off, choices left open",
        f"{E2CRF} --batch 32 --output ...`",
        ("e2crf.md",),
    ),
    (
        "E²-CRF: the paper's Table 3 grid",
        "the same with `--tables paper_grid --samples 4 --batch 4`",
        ("e2crf-paper-grid.md",),
    ),
    (
        "E²-CRF at 200 and at 50 steps",
        "the same with `--tables ablation --steps 200` (or 50)",
        ("e2crf-200-steps.md", "e2crf-50-steps.md"),
    ),
    (
        "E²-CRF at batch 1",
        "the same with `--tables ablation --samples 1 --batch 1`",
        ("e2crf-batch-1.md",),
    ),
    (
        "sliced Wasserstein against POT",
        "`python benchmarks/metrics.py --threads 2 --output ...`",
        ("metrics.json",),
    ),
]


def figures(results: Results, folder: Path) -> list[str]:
    """Draw speedups and shares of time, and return the lines that show them."""
    lines, peers, limits = [], results.load("peers"), results.load("limits")
    if peers.get("batches"):
        figure = Figure(figsize=(8, 3.6), layout="constrained")
        axis, count = figure.subplots(), len(peers["batches"])
        for i, (batch, part) in enumerate(peers["batches"].items()):
            rows = part["rows"][::-1]
            places = [y + 0.8 * (count - 1 - i) / count for y in range(len(rows))]
            axis.barh(places, [r["over_reference"]["ratio"] for r in rows], 0.8 / count, label=f"batch {batch}")
            axis.set_yticks(range(len(rows)), [r["name"] for r in rows])
        axis.set(xscale="log", xlabel="times faster than the reference design")
        axis.axvline(1, color="grey", lw=0.8)
        axis.legend(fontsize=8)
        lines += draw(figure, folder / f"{results.prefix}page-peers.png", "Times faster than the reference design")
    if limits.get("profile"):
        figure = Figure(figsize=(8, 2.6), layout="constrained")
        axis, names = figure.subplots(), list(limits["profile"])
        groups = [r["group"] for r in limits["profile"][names[0]] if not r["group"].startswith("operator ")]
        left = [0.0] * len(names)
        for group in groups:
            parts = [sum(r["share"] for r in limits["profile"][n] if r["group"] == group) for n in names]
            axis.barh(names, parts, left=left, label=group)
            left = [a + b for a, b in zip(left, parts, strict=True)]
        axis.set(xlim=(0, 1), xlabel="share of the time")
        axis.invert_yaxis()
        figure.legend(fontsize=7, ncols=4, loc="outside upper center")
        lines += draw(figure, folder / f"{results.prefix}page-profile.png", "Where the time goes")
    return lines


def draw(figure: Figure, path: Path, title: str) -> list[str]:
    figure.savefig(path, dpi=100)
    return ["", f"![{title}](results/{path.name})"]


def commands(folder: Path) -> list[str]:
    rows = []
    for what, command, files in COMMANDS:
        links = ", ".join(f"[{name}](results/{name})" for name in files if (folder / name).is_file())
        rows.append([what, command, links or MISSING])
    return ["## Commands", *table(["what", "command", "result"], rows), ENDING]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    options.add_argument("--results", type=Path, default=HERE / "results")
    options.add_argument("--output", type=Path, default=HERE / "README.md")
    args = options.parse_args()
    cpu, gpu = Results(args.results, ""), Results(args.results, "gpu-")
    lines = [PREFACE, *bars(cpu, gpu)]
    for results in (cpu, gpu):
        body = [
            *quality_section(results),
            *colour_section(results),
            *form_section(results),
            *labels_section(results),
            *imputation_section(results),
            *forecasting_section(results),
            *engine_section(results),
            *peers_section(results),
            *limits_section(results),
            *training_section(results),
            *workers_section(results),
            *paper_section(results),
        ]
        if results is gpu:
            body += samples_section(gpu)
        if body and results is gpu:
            lines += ["# On a GPU", ""]
        lines += [*figures(results, args.results), "", *body]
        if results is cpu:
            lines += [*comparisons_section(args.results), *fewer_steps_section(args.results)]
    text = "\n".join([*lines, *commands(args.results)])
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    args.output.write_text(text + "\n")
    print(f"wrote {args.output.name}")


if __name__ == "__main__":
    main()
