"""Splits by group, and splits that the source gives."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_freqdiff.data import ArrayData, LoadedData, Series, SeriesData

PARTS = ("train", "val", "test")


def numbers(data: SeriesData, part: str) -> set[int]:
    return set(data._part(part).whole()[:, 0, 0].int().tolist())


def series(n: int) -> np.ndarray:
    return np.arange(n)[:, None, None] * np.ones((3, 1))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=12, max_size=60).filter(lambda g: len(set(g)) > 2),
    st.floats(0.05, 0.4),
    st.just(0.0) | st.floats(0.05, 0.4),
    st.integers(0, 99),
)
def test_no_group_is_on_two_sides(groups: list[int], val: float, test: float, seed: int) -> None:
    n = len(groups)
    fields: dict[str, Any] = {"val_fraction": val, "test_fraction": test, "seed": seed, "split_by": "record"}
    data = ArrayData.of({"x": series(n), "record": np.array(groups)}, **fields)
    found = {part: numbers(data, part) for part in (PARTS if test else PARTS[:2])}
    assert sum(len(f) for f in found.values()) == n
    assert set().union(*found.values()) == set(range(n))
    owners = [{groups[i] for i in f} for f in found.values()]
    assert all(owners)
    assert sum(len(o) for o in owners) == len(set(groups))
    again = ArrayData.of({"x": series(n), "record": np.array([f"g{g}" for g in groups])}, **fields)
    assert {part: numbers(again, part) for part in found} == found
    without = ArrayData.of({"x": series(n), "record": np.array(groups)}, **{**fields, "test_fraction": 0.0})
    assert numbers(without, "val") == found["val"]


def test_groups_come_near_the_fractions() -> None:
    groups = np.repeat(np.arange(48), np.random.default_rng(0).integers(200, 600, 48))
    for seed in range(20):
        x = series(len(groups))
        data = ArrayData.of({"x": x, "g": groups}, split_by="g", val_fraction=0.2, test_fraction=0.1, seed=seed)
        assert abs(len(data._part("val")) / len(groups) - 0.2) < 0.01
        assert abs(len(data._part("test")) / len(groups) - 0.1) < 0.01


def test_a_group_that_is_nearly_all_is_trained_on() -> None:
    groups = np.array([0] * 95 + [1] * 5)
    for seed in range(8):
        data = ArrayData.of({"x": series(100), "g": groups}, split_by="g", seed=seed)
        assert numbers(data, "val") == set(range(95, 100))


@settings(deadline=None)
@given(st.lists(st.sampled_from(PARTS), min_size=5, max_size=40).filter(lambda p: p.count("train") > 2))
def test_parts_that_the_source_gives(part: list[str]) -> None:
    data = ArrayData.of({"x": series(len(part)), "side": np.array(part)}, parts="side")
    given = {name: {i for i, p in enumerate(part) if p == name} for name in PARTS}
    if given["val"]:
        assert numbers(data, "val") == given["val"]
        assert numbers(data, "train") == given["train"]
    else:
        assert numbers(data, "train") | numbers(data, "val") == given["train"]
        assert not numbers(data, "train") & numbers(data, "val")
    assert numbers(data, "test") == (given["test"] or numbers(data, "val"))


def test_what_the_source_leaves_open_is_drawn_by_group() -> None:
    part, groups = np.array(["train"] * 30 + ["test"] * 30), np.repeat(np.arange(12), 5)
    data = ArrayData.of({"x": series(60), "p": part, "g": groups}, parts="p", split_by="g", val_fraction=0.2)
    assert numbers(data, "test") == set(range(30, 60))
    assert len({i // 5 for i in numbers(data, "val")}) == 1
    assert len(numbers(data, "val")) == 5


class Subclass(LoadedData):
    def __init__(self, groups: np.ndarray | None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.groups = groups

    def _load(self) -> Series:
        return Series(series(20), None, ("a",), "here", groups=self.groups)


def test_a_subclass_fills_groups() -> None:
    groups = np.repeat([1, 2], [18, 2])
    assert numbers(Subclass(groups, split_by="record"), "val") == {18, 19}
    assert numbers(Subclass(groups), "val") == numbers(Subclass(None), "val")
    with pytest.raises(ValueError, match=r"^here: expected labels named 'record' to split by.*`data\.split_by` out$"):
        Subclass(None, split_by="record").setup()


@pytest.mark.parametrize(
    ("arrays", "settings", "match"),
    [
        ({"g": np.zeros(9)}, {"split_by": "g"}, r"at least 2 groups, .*, got 1; name another grouping"),
        ({"g": np.arange(9) // 5}, {"split_by": "g", "test_fraction": 0.2}, r"at least 3 groups"),
        ({"g": np.arange(8)}, {"split_by": "g"}, r"one group for each of the 9 series, .*`data\.split_by`"),
        ({}, {"split_by": "g"}, r"an array named 'g', got 'x'.*`data\.split_by`"),
        ({"p": ["train"] * 8 + ["valid"]}, {"parts": "p"}, r"'train', 'val' or 'test' .*, got 'valid' for series 8"),
        ({"p": ["val"] * 9}, {"parts": "p"}, r"none has the part 'train'.*`data\.parts`"),
        ({"p": ["train"] + ["test"] * 8}, {"parts": "p"}, r"but of 1, 1 validate .*`data\.val_fraction`"),
        ({}, {"labels": "z"}, r"an array named 'z'.*`data\.labels`"),
        ({"y": np.arange(8)}, {}, r"one label for each of the 9 series, got labels of shape \(8,\)"),
    ],
)
def test_what_cannot_be_split(arrays: dict[str, Any], settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        ArrayData.of({"x": series(9), **arrays}, **settings).setup()
    assert "\n" not in str(caught.value)


def test_labels_follow_the_parts() -> None:
    data = ArrayData.of({"x": series(50), "kind": np.arange(50) % 3}, labels="kind")
    for part in PARTS:
        x = data._part(part).whole()[:, 0, 0].numpy().astype(int)
        np.testing.assert_array_equal(data.labels(part), x % 3)


def test_one_class_is_trained_on_but_cannot_be_told_apart() -> None:
    data = ArrayData.of({"x": series(50), "y": np.zeros(50, int)})
    assert len(list(data.train_dataloader())) == 1
    with pytest.raises(ValueError, match=r"at least two classes in the train part, got only 0; .*`data\.path`"):
        data.labels()
    with pytest.raises(ValueError, match=r"expected labels, got none; name them with `data\.labels`"):
        ArrayData.of(series(50)).labels()
