"""What a figure was measured on."""

from __future__ import annotations

import os
import platform
from typing import Any

import torch


def processor() -> str:
    """Return the name of the processor."""
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":")[1].strip()
    return platform.processor()


def describe_hardware(device: torch.device | str | None = None) -> dict[str, Any]:
    """Return processor, cores, threads, device and library versions.

    Args:
        device: What was measured on; a GPU where there is one, if not given.
    """
    on_gpu = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if on_gpu else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
