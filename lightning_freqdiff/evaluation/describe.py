"""What a data set is like, before a model is trained on it, and whether the frequency domain suits it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from torch import Tensor

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.domains import DOMAINS, DomainName, Representation, spectral_density
from lightning_freqdiff.files import replace_json, replacing
from lightning_freqdiff.logarithm import ORDERS, span
from lightning_freqdiff.metrics.spectral import spectral_localisation
from lightning_freqdiff.outputs import Kind
from lightning_freqdiff.reporting.plots import series_and_spectra

SERIES = 4096
"""Training series that are looked at, at most; drawn with the seed of the data set."""
KIND = Kind("an earlier description", ("description.json", "description.png"))
MISSING = {
    "refuse": "none (they are refused)",
    "interpolate": "none left (interpolated in time)",
    "drop": "none left (series or windows with some are dropped)",
}
"""What is said of missing values, by the setting of that name."""
LOW = 0.1
"""Frequencies under this share of the length are low (E2-CRF, arXiv 2604.22901, section 4)."""


def delocalisation(energy: Tensor) -> Tensor:
    r"""Compute how far energy is from being at one place.

    .. math:: \Delta = \min_i \sum_j d(i, j)^2 e_j \,/\, \sum_j e_j, \quad d(i, j) = \min(|i - j|, N - |i - j|)

    Crabbé et al., arXiv 2402.05933, section 4: series with a smaller value over frequencies than over time are easier
    to model in the frequency domain.

    Args:
        energy: Energy at each of ``N`` places, ``(n, N)``: time steps, or all frequencies with their mirror images.

    Returns:
        Shape ``(n,)``, from 0 (all at one place) to about ``N² / 12`` (everywhere alike).

    Examples:
        >>> delocalisation(torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])).tolist()
        [0.0, 1.5]
    """
    size = energy.shape[1]
    place = torch.arange(size)
    apart = torch.minimum(place, size - place).square().to(energy)
    # Cyclic distances make a circulant matrix, so the product with it is one in the frequency domain.
    spread = torch.fft.irfft(torch.fft.rfft(energy) * torch.fft.rfft(apart), n=size)
    total = energy.sum(1)
    return torch.where(total > 0, spread.amin(1).clamp(min=0) / total, 0.0)


def both_domains(x: Tensor) -> tuple[float, float]:
    """Return the mean delocalisation of series ``(n, N, M)`` over time and over frequency."""
    half = spectral_density(x).sum(-1)
    mirror = half[:, 1 : (x.shape[1] + 1) // 2].flip(1)
    time, frequency = x.square().sum(-1), torch.cat([half, mirror], dim=1)
    return float(delocalisation(time).mean()), float(delocalisation(frequency).mean())


def gathered(x: Tensor, domain: DomainName, share: float = 0.95) -> float:
    """Return how few of the numbers of series ``(n, N, M)`` hold a share of their energy in a domain, in the mean.

    Args:
        x: The series.
        domain: Where their numbers are looked at.
        share: Share of the energy.

    Examples:
        >>> gathered(torch.ones(1, 8, 1), "time"), gathered(torch.ones(1, 8, 1), "wavelet")
        (1.0, 0.125)
    """
    layout = Representation(domain, x.shape[1], x.shape[2])
    unit = layout.noise_scale().to(x)
    energy = torch.where(unit > 0, layout.encode(x) / torch.where(unit > 0, unit, 1.0), 0.0).square().flatten(1)
    summed = energy.sort(dim=1, descending=True).values.cumsum(1)
    needed = (summed < share * (1 - 1e-9) * summed[:, -1:]).sum(1) + 1
    return float(needed.double().mean()) / (x.shape[1] * x.shape[2])


def describe(data: SeriesData) -> dict[str, Any]:
    """Gather facts about a data set: sizes, range, localisation, what is constant, and warnings.

    Localisation is that of up to 4,096 training series. It is told twice: of the series as they are, as in the
    papers, where the mean counts as frequency 0; and of what varies between series (mean series removed, channels
    at unit variance), which is what a model has to learn; and how few numbers hold most of that in each domain.
    """
    data.setup()
    steps, channels = data.shape
    x = data.reference_series(SERIES).double()
    varying = x - x.mean(0)
    varying = varying / varying.square().mean((0, 1)).sqrt().clamp(min=1e-300)
    codec = Codec(Representation("frequency", steps, channels))
    codec.fit([x])
    carry = codec.noise_scale > 0  # imaginary parts at DC and Nyquist are zero for any data
    facts: dict[str, Any] = {
        "data": type(data).__name__,
        "steps": steps,
        "channels": list(data.channels),
        "series": {part: len(data._part(part)) for part in ("train", "val", "test")},
        "looked_at": len(x),
        "missing_values": getattr(data, "missing", "refuse"),
        "range": {
            name: {"min": lowest, "mean": mean, "max": highest, "std": std}
            for name, lowest, mean, highest, std in zip(
                data.channels,
                *(a.tolist() for a in (x.amin((0, 1)), x.mean((0, 1)), x.amax((0, 1)), x.std((0, 1), correction=0))),
                strict=True,
            )
        },
        "constant_channels": [name for name, one in zip(data.channels, x.unbind(-1), strict=True) if one.std() == 0],
        "span": dict(zip(data.channels, span(x).tolist(), strict=True)),
        "constant_coordinates": int(((codec.active == 0) & carry).sum()),
        "coordinates": int(carry.sum()),
        "repeated_series": len(x) - len(np.unique(x.reshape(len(x), -1).numpy(), axis=0)),
    }
    for name, series in (("as_they_are", x), ("what_varies", varying)):
        time, frequency = both_domains(series)
        low = float(spectral_localisation(series, LOW).mean())
        facts[name] = {"low_energy": low, "delocalisation_time": time, "delocalisation_frequency": frequency}
    facts["gathered"] = {domain: gathered(varying, domain) for domain in DOMAINS}
    facts["warnings"] = cautions(facts)
    return facts


def cautions(facts: dict[str, Any]) -> list[str]:
    """Say in plain words what speaks against the frequency domain, or against training on these data at all."""
    said = []
    varies = facts["what_varies"]
    time, frequency = varies["delocalisation_time"], varies["delocalisation_frequency"]
    if frequency > time:
        said.append(
            f"What varies in these series is gathered in time ({time:.4g}) more than in frequency ({frequency:.4g}): "
            "spikes, steps or bursts rather than waves. The frequency domain is a poor choice for them; try "
            f"`model.domain` {min((d for d in DOMAINS if d != 'frequency'), key=facts['gathered'].get)} as well."
        )
    if varies["low_energy"] < 0.5:
        said.append(
            f"Only {varies['low_energy']:.0%} of what varies is at low frequencies (under N/10), so no small set of "
            "frequencies holds these series, and caches will find little that stays the same."
        )
    if wide := {name: factor for name, factor in facts["span"].items() if factor > ORDERS}:
        said.append(
            f"Values of {', '.join(wide)} are positive and differ by orders of magnitude (the middle nine tenths by "
            f"a factor of {max(wide.values()):.0f}): small ones would drown in the error of large ones. `fit` learns "
            "their logarithm, unless `model.logarithm` is never."
        )
    if facts["constant_channels"]:
        said.append(f"Channels that never change: {', '.join(facts['constant_channels'])}. They may be left out.")
    if facts["repeated_series"] > 0.01 * facts["looked_at"]:
        said.append(
            f"{facts['repeated_series']} of {facts['looked_at']} training series are copies of others; samples may "
            "then repeat them."
        )
    if facts["series"]["train"] < 500:
        said.append(f"{facts['series']['train']} training series are few: watch the validation loss for overfitting.")
    return said


def write(data: SeriesData, facts: dict[str, Any], output: Path) -> None:
    """Write the facts and a picture of series and spectra: `description.json`, `description.png`."""
    x = data.reference_series(SERIES)
    output.mkdir(parents=True, exist_ok=True)
    replace_json(output / KIND.files[0], facts)
    figure = series_and_spectra(x.numpy(), spectral_density(x).numpy(), data.channels)
    with replacing(output / KIND.files[1]) as file:
        figure.savefig(file, format="png", dpi=120)


def show(facts: dict[str, Any], console: Console | None = None) -> None:
    """Print the facts as tables, and the warnings below them."""
    console = console or Console()
    series, whole, varies = facts["series"], facts["as_they_are"], facts["what_varies"]
    table = Table("", "", title=facts["data"], show_header=False)
    table.add_row("series (train, val, test)", f"{series['train']:,}, {series['val']:,}, {series['test']:,}")
    table.add_row("steps x channels", f"{facts['steps']} x {len(facts['channels'])}")
    constant = escape(", ".join(facts["constant_channels"])) or "none"
    table.add_row("missing values", MISSING[facts["missing_values"]])
    table.add_row("constant channels", constant)
    table.add_row("constant coordinates", f"{facts['constant_coordinates']} of {facts['coordinates']}")
    table.add_row("repeated series", f"{facts['repeated_series']} of {facts['looked_at']} looked at")
    console.print(table)
    table = Table("localisation", "energy under N/10", "spread in time", "spread in frequency")
    for name, one in (("series as they are", whole), ("what varies", varies)):
        spreads = (f"{one[f'delocalisation_{domain}']:.4g}" for domain in ("time", "frequency"))
        table.add_row(name, f"{one['low_energy']:.1%}", *spreads)
    console.print(table)
    table = Table("domain", "share of numbers that hold 95 % of what varies")
    for domain, share in facts["gathered"].items():
        table.add_row(domain, f"{share:.1%}")
    console.print(table)
    table = Table("channel", "min", "mean", "max", "std")
    for name, one in facts["range"].items():
        table.add_row(escape(name), *(f"{one[key]:.4g}" for key in ("min", "mean", "max", "std")))
    console.print(table)
    for warning in facts["warnings"]:
        console.print(f"[bold]warning:[/] {escape(warning)}", highlight=False)
    if not facts["warnings"]:
        console.print("Nothing speaks against the frequency domain for these series.", highlight=False)
