"""What each sample has to do with a distance, and whether the errors made of it are those that there are."""

import pytest
import torch
from torch.testing import assert_close

from lightning_freqdiff.metrics import SortedReference, sliced_distances
from lightning_freqdiff.metrics.influence import relative_change, sliced_influence
from lightning_freqdiff.metrics.protocol import student_quantile

DIRECTIONS, DIM = range(60), 4
SPREAD = torch.tensor([2.0, 1.0, 0.5, 0.2])


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("count", [90, 100, 77])
def test_influence_is_what_a_sample_more_adds(count):
    """Against finite differences: a sample that is there twice among many copies of all the others."""
    x, reference = 1.3 * normal(20, seed=1), SortedReference.build(normal(count), len(DIRECTIONS))
    found = sliced_influence(x, reference, DIRECTIONS)
    assert_close(found.distances, sliced_distances(x, reference, DIRECTIONS))
    copies = 50
    for number in (0, 7, 19):
        more = torch.cat([x.repeat(copies, 1), x[number : number + 1]])
        moved = float(sliced_distances(more, reference, DIRECTIONS).double().mean()) - found.mean
        assert moved * (20 * copies + 1) == pytest.approx(float(found.each[number]), rel=0.2, abs=0.05)
    assert abs(float(found.each.sum())) < 1e-4


@pytest.mark.parametrize("shared", [True, False])
def test_bounds_hold_as_often_as_they_say(shared):
    """The mean of many sets is the truth; of sets that share their noise, the error is a fraction."""
    reference = SortedReference.build(normal(400, seed=5) * SPREAD, len(DIRECTIONS))
    ours, base, found = [], [], []
    for number in range(150):
        noise = normal(24, seed=10 + number)
        other = noise if shared else normal(24, seed=1000 + number)
        pair = [sliced_influence(x * SPREAD, reference, DIRECTIONS) for x in (1.25 * noise + 0.2, 1.1 * other + 0.1)]
        ours.append(pair[0].mean)
        base.append(pair[1].mean)
        found.append(relative_change(*pair))
    change, error = torch.tensor(found).T
    truth = sum(ours) / sum(base) - 1
    assert truth > 0.1
    quantile = student_quantile(23, within=0.9)
    covered = float((change + quantile * error > truth).float().mean())
    assert 0.88 < covered < 1 if shared else covered > 0.9
    assert 0.6 < float(error.mean() / change.std()) < 1.6
    assert float(error.mean()) < 0.2 if shared else float(error.mean()) > 0.4


def test_a_set_beside_itself_has_changed_by_nothing_for_certain():
    reference = SortedReference.build(normal(50), len(DIRECTIONS))
    same = sliced_influence(normal(8, seed=1), reference, DIRECTIONS)
    assert relative_change(same, same) == (0.0, 0.0)


def test_the_quantile_is_students():
    known = {3: 2.353, 15: 1.753, 63: 1.669}
    assert [student_quantile(n, within=0.9) for n in known] == pytest.approx(list(known.values()), abs=2e-3)
    assert student_quantile(4) == pytest.approx(2.776, abs=2e-3)
