"""What is done about series of unequal lengths: they are refused, cropped or padded."""

from dataclasses import replace
from typing import Literal

import numpy as np

from lightning_freqdiff.data.series.ragged import Ragged

Lengths = Literal["refuse", "crop", "pad"]


def equalize(ragged: Ragged, rule: Lengths) -> Ragged:
    """Return the series as one array `(n, N, M)`.

    `crop` keeps the first steps of each, as many as the shortest has. `pad` repeats the last step of each up to the
    longest: zeros would put a jump into every spectrum.
    """
    series = ragged.series
    if isinstance(series, np.ndarray) or not series:
        return replace(ragged, series=np.asarray(series))
    lengths = np.array([len(one) for one in series])
    if (lengths == lengths[0]).all():
        return replace(ragged, series=np.stack(series))
    if rule == "refuse":
        other = int((lengths != lengths[0]).argmax())
        raise ValueError(
            f"{ragged.source}: expected series of one length, {lengths[0]} steps as in {ragged.name(0)}, got "
            f"{lengths[other]} in {ragged.name(other)}; set `data.lengths` crop or pad, or cut windows with "
            "`data.window`"
        )
    if lengths.min() < 2:
        short = int(lengths.argmin())
        raise ValueError(
            f"{ragged.source}: expected at least 2 steps in each series, got {lengths[short]} in "
            f"{ragged.name(short)}; take it out of what `data.path` names"
        )
    if rule == "crop":
        return replace(ragged, series=np.stack([one[: lengths.min()] for one in series]))
    longest = lengths.max()
    padded = [np.concatenate([one, one[-1:].repeat(longest - len(one), axis=0)]) for one in series]
    return replace(ragged, series=np.stack(padded))
