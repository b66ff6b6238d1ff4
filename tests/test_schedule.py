"""The learning rate over a run, by steps and by the clock."""

import math
from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Timer

from lightning_freqdiff.data import SyntheticECG
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.schedule import warmup_cosine


class Clock(Timer):
    """A timer that is told what time it is."""

    seen = 0.0

    def time_elapsed(self, stage="train"):
        return self.seen

    def time_remaining(self, stage="train"):
        return 100.0 - self.seen


def test_by_steps():
    factor = warmup_cosine(SimpleNamespace(estimated_stepping_batches=100, callbacks=[]), 0.1)
    assert [factor(step) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert factor(55) == pytest.approx(0.5)
    assert factor(100) == pytest.approx(0.0)


@pytest.mark.parametrize("steps", [math.inf, 10**9])
def test_by_the_clock_where_it_is_further_on(steps):
    clock = Clock("00:00:01:40")
    factor = warmup_cosine(SimpleNamespace(estimated_stepping_batches=steps, callbacks=[clock]), 0.1)
    seen = []
    for clock.seen in (0.0, 5.0, 10.0, 55.0, 100.0):
        seen.append(factor(7))
    assert seen == pytest.approx([0.0, 0.5, 1.0, 0.5, 0.0], abs=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_a_run_that_only_the_clock_ends_learns_to_the_end_of_its_schedule(tmp_path):
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(max_epochs=-1, max_time={"seconds": 3}, accelerator="cpu", num_sanity_val_steps=0, **quiet)
    module = ScoreModule(MLP(layers=1, width=8))
    trainer.fit(module, datamodule=SyntheticECG(num_series=256, length=16))
    (schedule,) = trainer.lr_scheduler_configs
    assert trainer.global_step > 5
    assert schedule.scheduler.get_last_lr()[0] < 0.1 * module.learning_rate
