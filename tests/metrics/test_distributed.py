"""Two real processes give the value of one, however unevenly the samples fall on them."""

import importlib
import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.testing import assert_close
from torchmetrics import Metric

from lightning_freqdiff.metrics import (
    PRDC,
    AutocorrelationDifference,
    CorrelationalScore,
    HistogramDifference,
    MarginalWasserstein,
    MaximumMeanDiscrepancy,
    MomentDifference,
    NearestEuclidean,
    NearestWarping,
    SlicedWasserstein,
    SpectralDensityDistance,
)

# Where the samples of each rank end: (generated, reference).
SPLITS = {"uneven": (7, 20), "all generated on one rank": (0, 15), "nothing on the second": (30, 25)}


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(30, 9, 2, generator=generator), torch.randn(25, 9, 2, generator=generator) + 1


def metrics() -> dict[str, Metric]:
    return {
        "time": SlicedWasserstein(101, seed=2),
        "frequency": SlicedWasserstein(101, domain="frequency"),
        "one direction": SlicedWasserstein(1),  # fewer than ranks
        "marginal": MarginalWasserstein(),
        "spectral": SpectralDensityDistance(p=1),
        "correlational": CorrelationalScore(),
        "published correlational": CorrelationalScore(protocol="timegan"),
        "histogram": HistogramDifference(bins=5),
        "skewness": MomentDifference(order=3),
        "kurtosis": MomentDifference(order=4),
        "autocorrelation": AutocorrelationDifference(),
        "nearest": NearestEuclidean(),
        "nearest, warped": NearestWarping(rows=10),  # fewer than there are
        "discrepancy": MaximumMeanDiscrepancy(),
        "manifold": PRDC(),
    }


def values(ranks: slice, metric: Metric, cut: tuple[int, int]) -> dict[str, Tensor] | Tensor:
    for name, series, at in zip(("generated", "reference"), samples(), cut, strict=True):
        for part in (series[:at], series[at:])[ranks]:
            if len(part):
                metric.update(**{name: part})
    return metric.compute()


def run_rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    # By its full name: within the package, the name stands for the function.
    module = importlib.import_module("lightning_freqdiff.metrics.sliced_wasserstein")
    drawn: list[int] = []
    original = module.sliced_distances

    def count(*args, **kwargs):
        drawn.append(len(args[2]))
        return original(*args, **kwargs)

    module.sliced_distances = count  # type: ignore[attr-defined]
    results = {}
    for split, cut in SPLITS.items():
        for name, metric in metrics().items():
            results[split, name] = values(slice(rank, rank + 1), metric, cut)
    torch.save({"results": results, "drawn": drawn}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes() -> list[dict]:
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(run_rank, args=(folder,), nprocs=2)  # pyright: ignore[reportPrivateImportUsage]
        return [torch.load(Path(folder) / f"{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", list(metrics()))
@pytest.mark.parametrize("split", list(SPLITS))
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.filterwarnings("ignore:.*was called before the ``update`` method.*")
def test_two_processes_are_one(two_processes: list[dict], name: str, split: str, rank: int) -> None:
    expected = values(slice(None), metrics()[name], SPLITS[split])
    assert_close(two_processes[rank]["results"][split, name], expected, rtol=1e-5, atol=1e-7, equal_nan=True)


def test_directions_are_shared_out(two_processes: list[dict]) -> None:
    first, second = (sum(rank["drawn"]) for rank in two_processes)
    assert first + second == len(SPLITS) * (101 + 101 + 1)
    assert abs(first - second) <= 3 * len(SPLITS)
