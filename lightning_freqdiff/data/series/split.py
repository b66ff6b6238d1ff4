"""Which series are trained on, validated on and tested on."""

import numpy as np

from lightning_freqdiff.data.series.series import Series, validate

PARTS = ("train", "val", "test")


def split(
    series: Series, val_fraction: float, test_fraction: float, seed: int, by_group: bool
) -> dict[str, np.ndarray]:
    """Return the numbers of the series of each part, as small integers.

    Parts that the source gives are kept; those it does not are drawn from its training part. Without a test part,
    the validation part is tested on.

    Args:
        series: The series.
        val_fraction: Share of the series to validate on.
        test_fraction: Share of the series to test on; 0 for none.
        seed: Seed of the draw.
        by_group: Keep the series of a group on one side.
    """
    parts = {} if series.part is None else _given(series, series.part)
    pool = parts.get("train", np.arange(len(series), dtype=_index_type(len(series))))
    num_val = 0 if "val" in parts else max(1, round(len(pool) * val_fraction))
    num_test = 0 if "test" in parts or not test_fraction else max(1, round(len(pool) * test_fraction))
    if num_val + num_test >= len(pool):
        raise ValueError(
            f"{series.source}: expected a series to train on, but of {len(pool)}, {num_val} validate and "
            f"{num_test} test; lower `data.val_fraction` (now {val_fraction}) or "
            f"`data.test_fraction` (now {test_fraction})"
        )
    rng = np.random.default_rng(seed)
    if num_val + num_test == 0:
        drawn = pool[:0], pool[:0], pool
    elif by_group and series.groups is not None:
        drawn = _deal_groups(pool, series.groups[pool], num_val, num_test, rng, series.source)
    else:
        order = rng.permutation(len(pool)).astype(pool.dtype)
        drawn = (pool[index] for index in np.split(order, [num_val, num_val + num_test]))
    val, test, train = drawn
    parts = {"val": val, **({"test": test} if num_test else {}), **parts, "train": train}
    return {"train": parts["train"], "val": parts["val"], "test": parts.get("test", parts["val"])}


def _index_type(n: int) -> type:
    return np.int32 if n < 2**31 else np.int64


def _given(series: Series, part: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers of the series of each part that the source names."""
    names = part.astype(str) if part.dtype.kind not in "SU" else part
    known = {name: names == (name.encode() if names.dtype.kind == "S" else name) for name in PARTS}
    strange = ~(known["train"] | known["val"] | known["test"])
    if strange.any():
        raise ValueError(
            f"{series.source}: expected 'train', 'val' or 'test' as the part of a series, got "
            f"{str(names[strange][0])!r} for series {int(strange.argmax())}; mend what `data.parts` names, or leave "
            "it out"
        )
    if not known["train"].any():
        raise ValueError(
            f"{series.source}: expected series to train on, but none has the part 'train'; mend what `data.parts` "
            "names, or leave it out"
        )
    kind = _index_type(len(part))
    return {name: np.flatnonzero(here).astype(kind) for name, here in known.items() if here.any()}


def _deal_groups(
    pool: np.ndarray, groups: np.ndarray, num_val: int, num_test: int, rng: np.random.Generator, source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deal out whole groups, so that the parts come as near to their sizes as a random order allows."""
    _, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    needed = 3 if num_test else 2
    if len(sizes) < needed:
        raise ValueError(
            f"{source}: expected at least {needed} groups, one for each part of the split, got {len(sizes)}; "
            "name another grouping with `data.split_by`, or leave it out"
        )
    order = rng.permutation(len(sizes)).tolist()
    side = np.zeros(len(sizes), np.int8)
    for mark, target in ((1, num_val), (2, num_test)):
        if not target:
            continue
        left = [g for g in order if not side[g]]
        chosen, count = [], 0
        for g in left:
            if abs(count + sizes[g] - target) < abs(count - target):
                chosen.append(g)
                count += int(sizes[g])
        chosen = chosen or [min(left, key=lambda g: sizes[g])]
        # Whatever the sizes, a group must be left for each part that comes after, the test part always counted, so
        # that who validates does not depend on it.
        spare = max(1, len(left) - 2) if mark == 1 else len(left) - 1
        side[chosen[:spare]] = mark
    where = side[member]
    return pool[where == 1], pool[where == 2], pool[where == 0]


def keep_some(series: Series, limit: int, seed: int) -> Series:
    """Keep a number of series; of each part that is given, its share, and at least one."""
    series = validate(series)  # before the choice, so that an error counts samples as the file does
    # A stream of its own: with the one of the split, which series are kept would decide where they go.
    keep = np.random.default_rng([seed, 1]).permutation(len(series))
    if series.part is None or len(series) <= limit:
        return series.take(keep[:limit])
    part = series.part[keep].astype(str)
    names, sizes = np.unique(part, return_counts=True)
    counts = {str(k): max(1, int(n) * limit // len(part)) for k, n in zip(names, sizes, strict=True)}
    counts["train"] = limit - sum(n for name, n in counts.items() if name != "train")
    if counts["train"] < 1:
        raise ValueError(
            f"{series.source}: expected a series for each of the parts {', '.join(counts)}, got `data.limit` "
            f"{limit}; raise it"
        )
    return series.take(np.concatenate([keep[part == name][:n] for name, n in counts.items()]))
