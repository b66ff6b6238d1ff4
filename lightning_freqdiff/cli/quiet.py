"""Silence for what Lightning says about choices that are made here on purpose."""

from __future__ import annotations

import logging
import os
import re
import warnings

from lightning_freqdiff.cli.errors import spell_warnings

EXPECTED = (
    r".*does not have many workers.*",
    r".*WeightAveraging callback with a model that overrides the configure_model.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Total length of `DataLoader` across ranks is zero.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*The dirpath has changed from .*",  # of a run that goes on from the checkpoint of another
    r".*is smaller than the logging interval.*",  # steps are counted over epochs
)
"""Warnings of which a user could make nothing."""

ADVERTISED = re.compile(r"litlogger|litmodels|💡|TPU available")


def quiet() -> None:
    """Leave the warnings that concern a user, one line each."""
    # LightningCLI still calls what jsonargparse has renamed.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message)
    spell_warnings()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(
        lambda record: not ADVERTISED.search(record.getMessage())
    )
