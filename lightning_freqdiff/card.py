"""The model card: what a model was trained on, how real its samples are, and how to draw some."""

from __future__ import annotations

import re
from pathlib import Path

from lightning_freqdiff.evaluation.findings import Findings
from lightning_freqdiff.evaluation.pictures import pictures
from lightning_freqdiff.files import replace_text, replacing
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.reporting.page import shown

OURS = "<!-- Written by save_pretrained, and written anew as long as this line is here. -->"
USE = """```python
import lightning_freqdiff as lf

model = lf.Model.from_pretrained("user/name")  # or the folder of these files
series = model.sample(16, num_steps=200)       # an array (16, {length}, {channels})
```"""


def write_card(path: Path, module: ScoreModule, findings: Findings | None = None) -> None:
    """Write the card, and beside it the pictures of an evaluation."""
    layout, facts = module.layout, module.data_facts
    size = f"{layout.length} steps and {layout.channels} channel{'s' * (layout.channels > 1)}"
    parts = [
        "---\nlibrary_name: lightning_freqdiff\ntags:\n- time-series\n- diffusion\n---",
        OURS,
        f"# Time series of {size}",
        "A diffusion model of time series in the frequency domain, made with `lightning_freqdiff`.",
        _table(["", ""], _about(module)),
        USE.format(length=layout.length, channels=layout.channels),
    ]
    if findings is not None:
        parts += _measured(findings, path.parent)
    if (gain := facts.get("val_gain")) is not None:
        parts.append(f"The network removes {gain:.1%} of the error of a linear model on held-out series.")
    replace_text(path, "\n\n".join(parts) + "\n")


def _about(module: ScoreModule) -> list[list[str]]:
    numbers = sum(p.numel() for p in module.parameters())
    known = module.vocabulary
    told = {
        "classes": ", ".join(known.classes),
        "static covariates": ", ".join(one.name for one in known.static),
        "covariates": ", ".join(one.name for one in known.covariates),
    }
    return [
        ["channels", ", ".join(module.channels)],
        *([name, what] for name, what in told.items() if what),
        ["training series", f"{module.data_facts.get('num_train', 0):,}"],
        ["network", f"{type(module.architecture).__name__}, {numbers:,} parameters"],
        ["process", f"{type(module.sde).__name__}, {module.domain} domain, noise of colour {module.colour:g}"],
    ]


def _measured(found: Findings, folder: Path) -> list[str]:
    """Return the figures of an evaluation, and leave its pictures in the folder."""
    rows = [
        [
            name,
            "higher" if score.higher_is_better else "lower",
            *map(shown, (score.value, score.floor, score.ceiling)),
        ]
        for name, score in found.scores.items()
        if score.value is not None
    ]
    parts = [
        "## How real its samples are",
        _table(["metric", "better", "samples", "fresh real series", "a Gaussian"], rows),
        f"{found.counts['compared']:,} series of each kind against {found.counts['reference']:,} training series.",
    ]
    for title, figure, alt in pictures(found):
        name = f"{re.sub(r'[^a-z]+', '-', title.lower()).strip('-')}.png"
        with replacing(folder / name) as file:
            figure.savefig(file, format="png", dpi=110)
        parts += [f"### {title}", f"![{alt}]({name})"]
    return parts


def _table(head: list[str], rows: list[list[str]]) -> str:
    """Lay out a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines
    )
