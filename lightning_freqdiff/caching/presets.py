"""Settings by the length of a trajectory: what is right for 20 steps is not for 1,000."""

from __future__ import annotations

from dataclasses import asdict
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

Length = Literal["auto", "short", "long"]
LONG = 500
"""Steps from which on a trajectory counts as long."""


class Presets:
    """Mixin of a frozen dataclass whose settings, where they are ``None``, come from a preset.

    ``preset`` is ``short`` (the method as published, for tens of steps), ``long`` (ours, for a thousand steps,
    found by the search of ``tune``), or ``auto``, which goes by the number of steps.
    """

    PRESETS: ClassVar[dict[str, dict[str, Any]]]
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {}
    preset: Length

    def __post_init__(self) -> None:
        """Refuse settings out of their limits."""
        if self.preset != "auto" and self.preset not in self.PRESETS:
            raise ValueError(
                f"expected a preset of auto, {', '.join(self.PRESETS)}, got {self.preset!r}: set `policy.preset`"
            )
        for name, (least, most) in self.LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"expected {name} from {least} to {most}, got {value}: set `policy.{name}`")

    def settings_for(self, steps: int) -> SimpleNamespace:
        """Return every setting for a trajectory of so many steps."""
        chosen = ("long" if steps >= LONG else "short") if self.preset == "auto" else self.preset
        given = {name: value for name, value in asdict(self).items() if value is not None}  # type: ignore[call-overload]
        return SimpleNamespace(**{**self.PRESETS["short"], **self.PRESETS[chosen], **given})
