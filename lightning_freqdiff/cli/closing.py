"""What a training run says at its end."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from lightning_freqdiff.callbacks.verdict import stopped_early, verdict
from lightning_freqdiff.checkpoint import read_step
from lightning_freqdiff.cli.errors import spell


@rank_zero_only
def close_training(trainer: Trainer, outcome: str, seconds: float) -> None:
    """Print what was done, where the checkpoint is and what to do with it.

    Args:
        trainer: A trainer after ``fit``, or interrupted in it.
        outcome: How it ended, in a word.
        seconds: How long it took.
    """
    early = stopped_early(trainer)
    reason = "" if early is None else f", {early} (--early_stopping null goes on)"
    print(f"\n{outcome}: step {trainer.global_step:,} after {seconds:.0f} s{reason}")
    callback = trainer.checkpoint_callback
    if not isinstance(callback, ModelCheckpoint):
        return
    # One that a resumed run began from may have been moved away meanwhile.
    best, last = (p if Path(p).is_file() else "" for p in (callback.best_model_path, callback.last_model_path))
    if not best and not last:
        print("no checkpoint was saved")
        return
    path = Path(best or last)
    path = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    loss, linear = callback.best_model_score, trainer.callback_metrics.get("val_loss_linear")
    shown, warning = "", None
    if best and loss is not None and callback.monitor == "val_loss":
        shown = f" (val_loss {float(loss):.4f}"
        if linear is not None:
            shown += f"; linear model {float(linear):.4f}"
            warning = verdict(1 - float(loss) / float(linear))
        shown += f"; step {read_step(path):,})"
    print(f"{'best' if best else 'last'} checkpoint: {path}{shown}")
    if warning:
        print(spell(warning))
    print(f"sample from it:  python -m lightning_freqdiff predict --ckpt_path {path}")


@rank_zero_only
def close_sampling(trainer: Trainer, output: str) -> None:
    """Say after Ctrl-C how to come by the samples that are not drawn yet."""
    print(f"\ninterrupted: the same command goes on from what is in {output}")


@rank_zero_only
def close_validation(trainer: Trainer) -> None:
    """Say so where the loss is no better than the linear model's."""
    gain = trainer.callback_metrics.get("val_gain")
    warning = None if gain is None else verdict(float(gain))
    if warning:
        print(spell(warning))
