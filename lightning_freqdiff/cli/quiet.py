"""Silence for what Lightning says about choices that are made here on purpose."""

from __future__ import annotations

import logging
import os
import warnings

from lightning_freqdiff.cli.errors import spell_warnings
from lightning_freqdiff.running import INTENDED, worth_logging


def quiet() -> None:
    """Leave the warnings that concern a user, one line each."""
    # LightningCLI still calls what jsonargparse has renamed.
    os.environ.setdefault("JSONARGPARSE_DEPRECATION_WARNINGS", "off")
    for message in INTENDED:
        warnings.filterwarnings("ignore", message)
    spell_warnings()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(worth_logging)
