"""What conditions are called, and the numbers that they become."""

# A part that is not there fails its test.
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportOptionalOperand=false
# pyright: reportOperatorIssue=false

import numpy as np
import pytest
import torch

from lightning_freqdiff.condition import Condition, ConditionSizes
from lightning_freqdiff.sampling import Listed, Same
from lightning_freqdiff.vocabulary import Column, Examples, Vocabulary, classes_of

AGE = np.array([40.0, 60.0, np.nan, 50.0])
SEX = np.array(["f", "m", "m", ""])
WORDS = Vocabulary(("N", "V"), (Column.of("age", AGE), Column.of("sex", SEX)), (Column("price", (), 10.0, 2.0),))


def test_sizes_and_units():
    assert WORDS.sizes == ConditionSizes(classes=2, static=1 + 2, covariates=1)
    known = WORDS.encode({"label": ["V", "N", 1, -1], "age": AGE, "sex": SEX, "price": np.full((4, 3), 12.0)})
    assert known.label.tolist() == [1, 0, 1, -1]
    nan = float("nan")
    expected = torch.tensor([[-10, 1, 0], [10, 0, 1], [nan, 0, 1], [0, nan, nan]])
    expected[:, 0] /= np.nanstd(AGE)
    torch.testing.assert_close(known.static, expected, equal_nan=True)
    assert known.covariates.tolist() == [[[1.0]] * 3] * 4


def test_what_is_not_said_is_not_known():
    known = WORDS.encode({"sex": ["m"]})
    assert (known.label, known.covariates) == (None, None)
    torch.testing.assert_close(known.static, torch.tensor([[float("nan"), 0, 1]]), equal_nan=True)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (np.array([2, 0, 1, 2]), ("0", "1", "2")),
        (np.array([10, 9, 2]), ("2", "9", "10")),
        (np.array([1.0, np.nan, 0.0]), ("0", "1")),
        (np.array(["V", "N", " V ", ""]), ("N", "V")),
        (np.array([-1, 0, 1]), ("0", "1")),  # a label that is not there
        (np.array([-1, 1, 1]), ("-1", "1")),  # a class like any other
        (np.array([True, False]), ("False", "True")),
    ],
)
def test_classes(labels, names):
    assert classes_of(labels, "it") == names
    assert Vocabulary(names).number(labels).max() == len(names) - 1


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (
            np.array([0.5, 0.37, 1.0]),
            "expected classes in `data.labels`, got numbers that are not whole, such as 0.5",
        ),
        (np.arange(5000), "expected 2 to 1000 classes in `data.labels`, got 5000"),
        (np.zeros(5), "got 1"),
    ],
)
def test_what_tells_no_classes(labels, says):
    with pytest.raises(ValueError, match=says):
        classes_of(labels, "it")


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"label": ["Q"]}, "a class that the model was trained on, one of N, V, got 'Q': set `sampling.label`"),
        ({"label": [2]}, "one of N, V, got '2'"),
        ({"sex": ["x"]}, "expected 'sex' one of f, m, got 'x': set `sampling.condition`"),
        ({"age": ["old"]}, "expected numbers of 'age', got 'old'"),
        ({"weight": [3.0]}, "columns of label, age, sex, price, which the model was trained with, got 'weight'"),
    ],
)
def test_what_the_model_never_saw(columns, says):
    with pytest.raises(ValueError, match=says):
        WORDS.encode(columns)


def test_a_model_without_labels():
    with pytest.raises(ValueError, match="a model that was trained with labels, got one without"):
        Vocabulary().number([1])


def test_names_come_before_numbers():
    assert Vocabulary(("1", "2")).number([1, 2]).tolist() == [0, 1]
    assert Vocabulary(("a", "b")).number(["0", 1]).tolist() == [0, 1]


def test_it_goes_through_plain_values():
    named = Vocabulary(WORDS.classes, WORDS.static, WORDS.covariates, ("hour",), "beat")
    assert Vocabulary.from_dict(named.as_dict()) == named
    assert named.encode({"beat": ["V"]}).label.tolist() == [1]
    assert not Vocabulary.from_dict(Vocabulary().as_dict())


def test_examples_come_back_and_are_few():
    known = Condition(label=torch.arange(1000) % 2, covariates=torch.randn(1000, 30, 4))
    kept = Examples.of(known).condition
    assert kept.count == 2**14 // 121
    assert kept.label.tolist() == known.label[: kept.count].tolist()
    torch.testing.assert_close(kept.covariates, known.covariates[: kept.count])


def test_one_for_all_and_one_for_each():
    same = Same(label="V", static=[60, "f"]).said_in(WORDS).rows(5, 2)
    assert same.label.tolist() == [1, 1]
    assert same.static[0].tolist() == same.static[1].tolist()
    listed = Listed({"label": ["V", "N", -1]})
    assert listed.count == 3
    assert listed.said_in(WORDS).rows(2, 3).label.tolist() == [-1, 1, 0]  # and from the first again
    assert listed.digest != Listed({"label": ["V", "N", 1]}).digest
    with pytest.raises(ValueError, match="expected 2 static as the model was trained on, got 1"):
        Same(static=[1.0]).said_in(WORDS)
    with pytest.raises(ValueError, match="a row for each sample"):
        Listed({"label": [1, 0], "age": [1.0]})


def test_parts_are_forgotten_by_chance_each_by_itself():
    torch.manual_seed(0)
    known = Condition(label=torch.ones(4000, dtype=torch.int64), static=torch.ones(4000, 2))
    thin = known.thinned(0.25)
    untold, unsaid = thin.label < 0, thin.static.isnan().all(1)
    assert untold.float().mean() == pytest.approx(0.25, abs=0.03)
    assert unsaid.float().mean() == pytest.approx(0.25, abs=0.03)
    assert (untold & unsaid).float().mean() == pytest.approx(0.0625, abs=0.02)
    assert torch.equal(thin.static.isnan().any(1), unsaid)
    assert known.thinned(0.0) == known
