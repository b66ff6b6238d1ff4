"""Time and cost of a synthetic data set, from throughput, start-up, writing and stragglers: a plan on paper.

Seconds for each series are read from a comparison that was measured on a CPU core; what is said of a GPU is assumed.

    python benchmarks/scale.py [--speed 500] [--gpu_price 3] ... > table.md
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
METHODS = ("uncached", "wiener", "wiener-fast", "fitted-8")
COUNTS = (10**6, 10**8, 10**10)


@dataclass(frozen=True)
class Fleet:
    """Workers of a kind.

    Attributes:
        name: What they are.
        workers: How many.
        speed: Of one, in CPU cores.
        price: Of one, for an hour.
        start: Seconds until the first sample is being drawn.
    """

    name: str
    workers: int
    speed: float
    price: float
    start: float


@dataclass(frozen=True)
class Plan:
    """What a data set of ``count`` series takes.

    Attributes:
        seconds: For each series on one core.
        size: Bytes of a series.
        unit: Series in a file.
        stragglers: Share by which the last worker is later than the mean.
        bandwidth: Of a worker to the store, bytes a second.
        store: Of the store, bytes a second.
        requests: That the store takes a second; a unit is two writes.
        listing: Entries that are listed in a second.
    """

    count: int
    seconds: float
    size: float = 187 * 4
    unit: int = 4096
    stragglers: float = 0.05
    bandwidth: float = 100e6
    store: float = 10e9
    requests: float = 3500
    listing: float = 10_000

    def hours(self, fleet: Fleet) -> tuple[float, str]:
        """Return hours of wall clock, and what takes them."""
        units = math.ceil(self.count / self.unit)
        busy = min(fleet.workers, units)
        parts = {
            "drawing": math.ceil(units / busy) * self.unit * self.seconds / fleet.speed * (1 + self.stragglers),
            "writing": self.count * self.size / min(busy * self.bandwidth, self.store),
            "requests": 2 * units / self.requests,
        }
        longest = max(parts, key=lambda name: parts[name])  # they go on at the same time
        around = fleet.start + units / self.listing
        return (around + parts[longest]) / 3600, longest if parts[longest] > around else "starting"

    def cost(self, fleet: Fleet, put: float) -> float:
        """Return the cost of the workers and of their writes."""
        busy = min(fleet.workers, math.ceil(self.count / self.unit))
        return self.hours(fleet)[0] * busy * fleet.price + 2 * math.ceil(self.count / self.unit) * put


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compared", type=Path, default=RESULTS / "compare-ecg_mitbih-unet/compare.json")
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--counts", nargs="+", type=float, default=COUNTS)
    parser.add_argument("--unit", type=int, default=4096, help="Series in a file.")
    parser.add_argument("--speed", type=float, default=500, help="CPU cores that a GPU is worth: an assumption.")
    parser.add_argument("--core_price", type=float, default=0.04, help="Of a core for an hour: an assumption.")
    parser.add_argument("--gpu_price", type=float, default=3.0, help="Of a GPU for an hour: an assumption.")
    parser.add_argument("--put", type=float, default=5e-6, help="Price of a write: an assumption.")
    parser.add_argument("--stragglers", type=float, default=0.05)
    parser.add_argument("--bandwidth", type=float, default=100e6, help="Bytes a second of a worker: an assumption.")
    parser.add_argument("--store", type=float, default=10e9, help="Bytes a second of the store: an assumption.")
    return parser.parse_args()


def shown(hours: float) -> str:
    """Write hours as a reader thinks of them."""
    for size, name in ((24 * 365, "years"), (24, "days"), (1, "h"), (1 / 60, "min")):
        if hours >= size:
            return f"{hours / size:,.1f} {name}" if hours / size < 100 else f"{hours / size:,.0f} {name}"
    return f"{hours * 3600:.0f} s"


def table(options: argparse.Namespace) -> list[str]:
    """Return the lines of a table in Markdown."""
    compared = json.loads(options.compared.read_text())
    drawn = compared["sampling"]["num_samples"]
    seconds = {run["name"]: run["seconds"] / drawn for run in compared["runs"]}
    fleets = [
        Fleet("64 cores", 64, 1, options.core_price, 30),
        Fleet("1,024 cores", 1024, 1, options.core_price, 60),
        Fleet("one H100 (assumed)", 1, options.speed, options.gpu_price, 60),
        Fleet("64 H100 (assumed)", 64, options.speed, options.gpu_price, 180),
    ]
    lines = ["| series | method | s/series on a core | " + " | ".join(fleet.name for fleet in fleets) + " |"]
    lines.append("|" + " --- |" * (3 + len(fleets)))
    for count in map(int, options.counts):
        for method in options.methods:
            rest = {"stragglers": options.stragglers, "bandwidth": options.bandwidth, "store": options.store}
            plan = Plan(count, seconds[method], unit=options.unit, **rest)
            cells = []
            for fleet in fleets:
                hours, bound = plan.hours(fleet)
                note = "" if bound == "drawing" else f", {bound}"
                cells.append(f"{shown(hours)}, ${plan.cost(fleet, options.put):,.0f}{note}")
            lines.append(
                f"| 10^{round(math.log10(count))} | {method} | {plan.seconds:.2f} | " + " | ".join(cells) + " |"
            )
    return lines


if __name__ == "__main__":
    print("\n".join(table(arguments())))
