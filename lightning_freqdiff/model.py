"""The front door: train a model in one line, draw samples in the next, measure and keep it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

from lightning_freqdiff import recipe, studies
from lightning_freqdiff.callbacks import CacheCallback, Quantize
from lightning_freqdiff.callbacks.table import to_frame
from lightning_freqdiff.callbacks.unit_writer import check_finite
from lightning_freqdiff.callbacks.writers import writer
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.evaluation.arithmetic import LOW_BITS
from lightning_freqdiff.evaluation.findings import Findings
from lightning_freqdiff.given import (
    DATA,
    EVALUATE,
    SAMPLING,
    Cache,
    evaluate_settings,
    plugged_in,
    sampling_of,
)
from lightning_freqdiff.hub import CONFIG, Pretrained
from lightning_freqdiff.imputing import Backtesting
from lightning_freqdiff.keywords import allot, names, spelt
from lightning_freqdiff.module import ScoreModule
from lightning_freqdiff.outputs import shown
from lightning_freqdiff.running import MatmulPrecision, float32_products, interruptible, news, quietly
from lightning_freqdiff.sampling import Sampling, Solver
from lightning_freqdiff.shards import read_samples
from lightning_freqdiff.shards.store import is_url

MODEL = names(ScoreModule, without=("shape", "conditions"))
TRAINER = names(Trainer, without=("callbacks",))
Format = Literal["numpy", "torch", "pandas", "polars", "pyarrow"]


class Model(Backtesting, Pretrained):
    """A trained model.

    Args:
        module: The LightningModule.
        checkpoint_path: The file that it comes from, if any.
        data: The series that it was trained on, if they are at hand.

    Attributes:
        module: The LightningModule, for Lightning's ``Trainer`` and for whatever is not here.
        checkpoint_path: The file that it comes from, if any.
        data: The series that it was trained on, if they are at hand.
        findings: What the last evaluation of its samples found.
    """

    def __init__(
        self, module: ScoreModule, checkpoint_path: Path | None = None, data: SeriesData | None = None
    ) -> None:
        super().__init__(module, checkpoint_path)
        self.data = data

    @property
    def shape(self) -> tuple[int, int]:
        """Steps and channels ``(N, M)`` of a series."""
        return self.module.layout.length, self.module.layout.channels

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels."""
        return self.module.channels

    @property
    def val_gain(self) -> float | None:
        """Share of the linear model's error that the network removes on held-out series; none at 0, all at 1."""
        return self.module.data_facts.get("val_gain")

    def __repr__(self) -> str:
        network = type(self.module.architecture).__name__
        facts = [
            f"{self.shape[0]} steps × {self.shape[1]} ({_few(self.channels)})",
            f"{network}, {sum(p.numel() for p in self.module.parameters()):,} parameters",
            f"{type(self.module.sde).__name__} in {self.module.domain}",
        ]
        facts += [] if self.val_gain is None else [f"val_gain {self.val_gain:.3f}"]
        facts += [] if self.checkpoint_path is None else [shown(self.checkpoint_path)]
        return f"Model({'; '.join(facts)})"

    def sample(
        self,
        num_samples: int | None = None,
        *,
        num_steps: int = Sampling.num_steps,
        solver: str | Solver = "EulerMaruyama",
        seed: int = Sampling.seed,
        cache: Cache | None = None,
        format: Format | None = None,
        output: str | Path | None = None,
        callbacks: Callback | Sequence[Callback] = (),
        matmul_precision: MatmulPrecision = "high",
        **settings: Any,
    ) -> Any:
        """Draw series by Lightning's predict loop: those of ``python -m lightning_freqdiff predict``, bit for bit.

        Args:
            num_samples: How many; if not given, one for each label or row of conditions, or 64.
            num_steps: Solver steps.
            solver: Name of a solver, such as ``"Heun"``, or one with its settings.
            seed: Sample ``i`` of a seed is the same for any batch size (to float rounding) and number of devices.
            cache: Name or path of a preset, such as ``"wiener"``; a policy; or a ``CacheCallback``.
            format: ``numpy``, ``torch``, or ``pandas``, ``polars``, ``pyarrow`` for a long table. If not given, that
                of the data frame that the model was trained on, else ``numpy``.
            output: A folder to write the samples to as they come, where a run that was cut short is taken up; needed
                on several devices.
            callbacks: More callbacks of Lightning's.
            matmul_precision: What products of float32 numbers are made of.
            **settings: Of ``Sampling`` (``label``, ``guidance_scale``, ``grid``, ``batch_size``, ``guidance``,
                ``constraint``, ``condition``, also as a data frame or the path of one), and of Lightning's
                ``Trainer`` (``accelerator``, ``devices``, ``precision``, ``enable_progress_bar`` ...).

        Returns:
            Series ``(num_samples, N, M)`` in the data's units, float32; or a table with the columns ``sample``,
            ``step`` and one for each channel.

        Raises:
            ValueError: For settings that cannot be, and samples that are no numbers.
        """
        given = {"num_samples": num_samples, "num_steps": num_steps, "solver": solver, "seed": seed}
        parted = allot("sample", settings, sampling=SAMPLING, trainer=TRAINER)
        wanted = format or self.module.data_facts.get("frame", "numpy")
        if wanted not in get_args(Format):
            raise ValueError(f"expected `format` as one of {', '.join(get_args(Format))}, got {wanted!r}")
        with spelt(callbacks="cache", **{"trainer.callbacks": "cache"}):
            hooks = [*recipe.list_of(callbacks), *_plugged(cache)]
            if output is not None:
                hooks.append(writer(str(output), None if is_url(str(output)) else "npy"))
            self.module.sampling = sampling_of({**given, **parted["sampling"]})
            series = self._predict(
                recipe.sampling({**parted["trainer"], "callbacks": hooks}), output, matmul_precision
            )
            if wanted in ("numpy", "torch"):
                return torch.from_numpy(series) if wanted == "torch" else series
            return to_frame(series, self.channels, wanted)

    def _predict(self, arguments: dict[str, Any], output: str | Path | None, matmul: MatmulPrecision) -> np.ndarray:
        """Run the trainer's predict loop, and return the samples ``(n, N, M)``."""
        with quietly(news), float32_products(matmul):
            trainer = recipe.make_trainer(arguments)
            if trainer.world_size > 1 and output is None:
                raise ValueError(f"expected `output`, a folder that {trainer.world_size} devices share, got none")
            with interruptible(lambda: "sampling was interrupted" if trainer.interrupted else None):
                drawn = trainer.predict(self.module, return_predictions=output is None)
        if output is not None:
            return np.array(read_samples(output))
        series = torch.cat([torch.as_tensor(part) for part in drawn or ()]).float().numpy()
        check_finite(series, 0)
        return series

    def evaluate(
        self,
        generated: Any = None,
        reference: Any = None,
        holdout: Any = None,
        *,
        num_samples: int = 256,
        seed: int = 0,
        cache: Cache | None = None,
        **settings: Any,
    ) -> Findings:
        """Measure samples against real series, beside fresh real ones and a Gaussian.

        Args:
            generated: Series to measure; ``num_samples`` are drawn if not given.
            reference: Training series; those that the model was just trained on if not given.
            holdout: Real series that it was not trained on; the part that training held out if not given.
            num_samples: How many are drawn.
            seed: Of the samples, and of all that is drawn for the metrics.
            cache: As of :meth:`sample`.
            **settings: Of :func:`~lightning_freqdiff.studies.evaluate` and of :meth:`sample`.

        Returns:
            What was found; see :func:`~lightning_freqdiff.studies.evaluate`. It goes into the model card.
        """
        reference = self.data if reference is None else reference
        if reference is None:
            raise ValueError(
                "expected real series to measure against, got none, for this model was loaded: set `reference`"
            )
        sampling = {"num_steps", "solver", *SAMPLING, *TRAINER, "callbacks", "matmul_precision"}
        measured = EVALUATE | DATA
        parted = allot("evaluate", settings, sample=sampling - measured, evaluate=measured)
        evaluate_settings({k: v for k, v in parted["evaluate"].items() if k in EVALUATE})
        if generated is None:
            drawn = {"num_samples": num_samples, "seed": seed, "cache": cache, "format": "numpy", **parted["sample"]}
            if not {"label", "condition"} & drawn.keys():
                drawn["condition"] = self.module.as_trained(Sampling()).condition
            generated = self.sample(**drawn)
        found = studies.evaluate(generated, reference, holdout, seed=seed, **parted["evaluate"])
        self.findings = found
        return found


def load(path: str | Path) -> Model:
    """Load a model from a checkpoint, the folder of a training run, or a folder of ``save_pretrained``.

    Args:
        path: The file or folder. For the Hub there is ``Model.from_pretrained``.

    Raises:
        FileNotFoundError: Where there is nothing.
        ValueError: For what is no model of this project.
    """
    place = Path(path).expanduser()
    with spelt(ckpt_path="path"):
        if not place.is_dir():
            return Model(ScoreModule.load_from_checkpoint(place), place)
        if (place / CONFIG).is_file():
            return Model.from_pretrained(place)
        found = [p for p in (place / "checkpoints/best.ckpt", place / "best.ckpt") if p.is_file()]
        if not found:
            raise FileNotFoundError(
                f"expected a checkpoint, the folder of a run with checkpoints/best.ckpt, or one with {CONFIG}, got "
                f"{place}: set `path`"
            )
        return Model(ScoreModule.load_from_checkpoint(found[0]), found[0])


def _plugged(cache: Cache | None) -> list[Callback]:
    if cache is None or isinstance(cache, CacheCallback):
        return [] if cache is None else [cache]
    policy, precision = plugged_in(cache)
    integers = [] if precision is None else [Quantize(LOW_BITS[precision])]
    return [*integers, *([] if policy is None else [CacheCallback(policy)])]


def _few(names: Sequence[str], count: int = 4) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")
