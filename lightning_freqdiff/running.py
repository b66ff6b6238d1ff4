"""What surrounds a trainer's run that is started from Python: no needless words, its own settings, a calm Ctrl-C."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch

PROCESSES = 4
"""Processes for each core of a machine: more of them than cores may be meant, for a trial; many more are a slip."""

MatmulPrecision = Literal["highest", "high", "medium"]

INTENDED = (
    r".*does not have many workers.*",
    r".*WeightAveraging callback with a model that overrides the configure_model.*",
    r".*isinstance\(treespec, LeafSpec\).*",
    r".*Total length of `DataLoader` across ranks is zero.*",
    r".*Checkpoint directory .* exists and is not empty.*",
    r".*The dirpath has changed from .*",  # of a run that goes on from the checkpoint of another
    r".*is smaller than the logging interval.*",  # steps are counted over epochs
    r".*FSDP2-wrapped module .* returned a view tensor.*",  # which nothing writes to
)
"""Warnings of Lightning's about choices that are made here on purpose."""

ADVERTISED = re.compile(r"litlogger|litmodels|💡|TPU available")
"""What Lightning logs about other things than the run."""


def check_processes(devices: Any, accelerator: Any) -> None:
    """Refuse more processes on CPUs than a machine could ever start.

    Args:
        devices: Of Lightning's ``Trainer``.
        accelerator: The same.

    Raises:
        ValueError: Before the first one is started.
    """
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    cores = os.cpu_count() or 1
    if (accelerator != "cpu" and (accelerator != "auto" or gpu)) or not str(devices).isdecimal():
        return
    if int(devices) > PROCESSES * cores:
        raise ValueError(
            f"expected at most {PROCESSES * cores} processes on the {cores} cores of this machine, got {devices}: "
            "set `trainer.devices`"
        )


def worth_logging(record: logging.LogRecord) -> bool:
    """Tell whether a record of Lightning's logger is about the run."""
    return not ADVERTISED.search(record.getMessage())


def news(record: logging.LogRecord) -> bool:
    """Tell whether a record says more than which devices there are, which is the same for every sampling."""
    return worth_logging(record) and "GPU available" not in record.getMessage()


@contextmanager
def quietly(worth: Callable[[logging.LogRecord], bool] = worth_logging) -> Iterator[None]:
    """Leave out warnings and log lines that a user can do nothing about."""
    logger = logging.getLogger("lightning.pytorch.utilities.rank_zero")
    logger.addFilter(worth)
    try:
        with warnings.catch_warnings():
            for message in INTENDED:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.removeFilter(worth)


def find_device(name: str) -> torch.device:
    """Return a device of this machine; ``auto`` is a GPU where there is one."""
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"expected a device of this machine, got {name!r} ({reason}): set `device`") from error
    return device


@contextmanager
def float32_products(precision: MatmulPrecision) -> Iterator[None]:
    """Make products of float32 numbers as asked for, and afterwards as before."""
    if precision not in get_args(MatmulPrecision):
        known = ", ".join(get_args(MatmulPrecision))
        raise ValueError(f"expected `matmul_precision` as one of {known}, got {precision!r}")
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def interruptible(interrupted: Callable[[], str | None]) -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt: Lightning leaves the process, and lets it be deaf to the next one.

    Args:
        interrupted: Tells what there is after an interruption, or ``None`` where there was none.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    try:
        yield
    except SystemExit:
        left = interrupted()
        if left is None:
            raise
        raise KeyboardInterrupt(left) from None
    finally:
        if main:
            signal.signal(signal.SIGINT, before)
