import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from matplotlib.figure import Figure
from random_networks import random_score

from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.evaluation.bench import Bench, Run
from lightning_freqdiff.evaluation.calibrate import calibrate
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import Transformer
from lightning_freqdiff.sampling import Sampling

torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> Iterator[Path]:
    """Keep what is remembered between runs out of the user's own folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FREQDIFF_CACHE", str(folder))
        yield folder


def real_data(name: str) -> Path:
    """Path of a real data set, or a skip where there is none."""
    folder = os.environ.get("FREQDIFF_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip("FREQDIFF_DATA does not hold " + name)
    return Path(folder) / name


def series_of(loader) -> list[torch.Tensor]:
    """The series of every batch."""
    return [batch.series for batch in loader]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A small transformer trained for a few seconds on embedded heartbeats, by the trainer itself."""
    from lightning.pytorch import Trainer, seed_everything
    from lightning.pytorch.callbacks import EMAWeightAveraging

    folder = tmp_path_factory.mktemp("checkpoint")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_everything(0, verbose=False)
        module = ScoreModule(Transformer(preset="plain", layers=2, heads=2, width=16, feedforward=32), VP())
        trainer = Trainer(
            max_epochs=4,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[EMAWeightAveraging(decay=0.95)],
        )
        trainer.fit(module, datamodule=SyntheticECG(num_series=1024, length=64))
        trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


@pytest.fixture(params=["even", "odd", "channels", "trained"])
def score(request) -> Score:
    if request.param == "trained":
        return request.getfixturevalue("model").score
    return random_score(*{"even": (16, 1), "odd": (17, 1), "channels": (13, 3)}[request.param])


@pytest.fixture
def calls_for_seconds(monkeypatch) -> None:
    """Let a draw take a second for each network call, so that a busy machine does not choose the winner."""
    draw = Bench._draw

    def counted(bench: Bench, run: Run) -> None:
        draw(bench, run)
        run.seconds[-1] = run.totals["network_calls"]

    monkeypatch.setattr(Bench, "_draw", counted)


@pytest.fixture
def blank_pictures(monkeypatch) -> None:
    """Save an empty picture in place of each: drawing is most of a small command, and has tests of its own."""
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda _, *args, **settings: save(Figure((1, 1)), *args, **settings))


@pytest.fixture
def model(checkpoint) -> ScoreModule:
    return ScoreModule.load_from_checkpoint(checkpoint)


@pytest.fixture(scope="session")
def calibrated(checkpoint) -> ScoreModule:
    """The same, with all that caches and few steps want to know."""
    model = ScoreModule.load_from_checkpoint(checkpoint)
    model.score.calibration = calibrate(model, Sampling(num_samples=4, num_steps=60, batch_size=4))[0]
    return model
