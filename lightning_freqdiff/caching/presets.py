"""The settings of a cache: given, from a preset, or published; within limits, and warned of where they do nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import fields
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

Length = Literal["auto", "short", "long"]
LONG = 500
"""Steps from which on a trajectory counts as long: what is right for 20 steps is not for 1,000."""

Acts = tuple[str, Callable[[SimpleNamespace], bool]]
"""What must hold for a setting to act, in words and as a test of all settings."""


class Presets:
    """Mixin of a frozen dataclass, of whose settings those that are ``None`` come from a preset.

    The preset ``auto`` stands for ``short`` (the method as published, for tens of steps) or ``long`` (ours, for a
    thousand steps), by the number of steps.

    Attributes:
        DEFAULTS: Every setting's value where neither the user nor the preset says anything: the published one.
        PRESETS: What each preset says.
        LIMITS: Least and greatest value of a setting.
        ACTS: When a setting changes anything; one that is not named here always does.
    """

    DEFAULTS: ClassVar[dict[str, Any]] = {}
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}
    LIMITS: ClassVar[dict[str, tuple[float, float]]] = {}
    ACTS: ClassVar[dict[str, Acts]] = {}

    def __post_init__(self) -> None:
        """Refuse settings out of their limits, and warn of those that were given and change nothing."""
        preset = getattr(self, "preset", "")
        known = [*self.PRESETS, *(["auto"] if "long" in self.PRESETS else [])]
        if known and preset not in known:
            raise ValueError(f"expected a preset of {', '.join(known)}, got {preset!r}: set `policy.preset`")
        for name, (least, most) in self.LIMITS.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"expected {name} from {least:g} to {most:g}, got {value}: set `policy.{name}`")
        possible = [self.settings_for(steps) for steps in (1, LONG)]
        for field in fields(self):  # pyright: ignore[reportArgumentType]
            when, acts = self.ACTS.get(field.name, ("", lambda _: True))
            if getattr(self, field.name) != field.default and not any(acts(settings) for settings in possible):
                of = f"{type(self).__name__}" + (f" with preset {preset}" if preset else "")
                warnings.warn(
                    f"`policy.{field.name}` has no effect in {of}: it acts {when}; change that, or leave it out",
                    stacklevel=3,
                )

    def settings_for(self, steps: int) -> SimpleNamespace:
        """Return every setting for a trajectory of so many steps, ``preset`` being the one that was chosen."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}  # pyright: ignore
        if given.get("preset") == "auto":
            given["preset"] = "long" if steps >= LONG else "short"
        chosen = self.PRESETS.get(given.get("preset", ""), {})
        every = {f.name: None for f in fields(self)}  # pyright: ignore[reportArgumentType]
        return SimpleNamespace(**{**every, **self.DEFAULTS, **chosen, **given})
