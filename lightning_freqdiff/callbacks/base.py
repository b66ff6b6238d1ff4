"""What callbacks around sampling tell a run's manifest."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback


class SamplingCallback(Callback):
    """A callback that has a say in the samples, and so belongs to the identity of a run."""

    def identity(self) -> dict[str, Any]:
        """Return the settings that change the samples, as plain values."""
        return {}

    def report(self) -> dict[str, Any]:
        """Return what was measured during the run, as plain values."""
        return {}
