"""`--config`: YAML files by their path, or presets by their name."""

from __future__ import annotations

from typing import Any

from jsonargparse import ActionConfigFile

from lightning_freqdiff.presets import locate


class PresetFile(ActionConfigFile):
    """Takes the name of a preset where jsonargparse takes a path, or settings written out as YAML."""

    def __call__(self, parser: Any, cfg: Any, values: Any, option_string: str | None = None) -> None:
        """Parse the file.

        Raises:
            TypeError: As jsonargparse wants it, where there is no such file or preset.
        """
        if not set(":{") & set(values):
            try:
                values = str(locate(values, "config"))
            except FileNotFoundError as error:
                raise TypeError(f'Parser key "{self.dest}": {error}') from error
        super().__call__(parser, cfg, values, option_string)
