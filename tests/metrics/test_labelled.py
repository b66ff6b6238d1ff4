"""Train on synthetic, test on real: in known cases, ordered by what is wrong with the synthetic series."""

import pytest
import torch
from torch import Tensor

from lightning_freqdiff.metrics import PostHoc, train_on_synthetic

QUICK = PostHoc(hidden=16, layers=1, steps=120, batch_size=32, lr=0.02)
PACES = torch.tensor([0.2, 0.6, 1.2])


def waves(n: int, seed: int, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Three classes of pace."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(3, (n,), generator=random)
    phase = torch.rand(n, 1, generator=random) * 6.28
    x = torch.sin(phase + PACES[labels][:, None] * torch.arange(16))
    return (x + noise * torch.randn(n, 16, generator=random))[..., None], labels * 10 - 5  # of any integers


def test_good_series_teach_as_well_as_real_ones() -> None:
    found = train_on_synthetic(*waves(300, 0), *waves(300, 1), *waves(200, 2), QUICK)
    assert min(found["synthetic"], found["real"]) > 0.9
    assert found["difference"] == pytest.approx(found["real"] - found["synthetic"])
    labels = waves(200, 2)[1]
    assert found["chance"] == pytest.approx(max(float((labels == k).float().mean()) for k in (-5, 5, 15)))


def test_series_of_wrong_labels_teach_nothing() -> None:
    x, labels = waves(300, 0)
    wrong = labels[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    mean = []
    for use in (labels, torch.where(torch.arange(300) < 220, wrong, labels), wrong):
        mean.append(train_on_synthetic(x, use, *waves(300, 1), *waves(200, 2), QUICK)["synthetic"])
    assert mean[0] > mean[1] > mean[2]
    assert mean[2] < 0.55


def test_a_class_that_was_dropped_is_missed() -> None:
    x, labels = waves(300, 0)
    found = train_on_synthetic(x[labels != 5], labels[labels != 5], *waves(300, 1), *waves(200, 2), QUICK)
    share = float((waves(200, 2)[1] == 5).float().mean())
    assert found["synthetic"] <= 1 - share + 1e-6
    assert found["difference"] > 0.2


def test_balanced_accuracy_counts_a_rare_class_as_much(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = torch.tensor([0] * 90 + [1] * 6 + [2] * 4)
    x, asked = truth[:, None, None].expand(-1, 6, 1).float(), []

    def classified(x: Tensor, labels: Tensor, test: Tensor, *_) -> Tensor:
        """Never see class 2, nor class 1 at first."""
        asked.append(test)
        return torch.where((test[:, 0, 0] > 0) & (test[:, 0, 0] < test.max()), len(asked) - 1, 0)

    monkeypatch.setattr("lightning_freqdiff.metrics.labelled._classified", classified)
    found = train_on_synthetic(x, truth, x, truth, x, truth)
    order = found["chance"], found["synthetic"], found["real"]
    assert order == pytest.approx((0.9, 0.9, 0.96))
    assert found["balanced_chance"] == pytest.approx(1 / 3)
    assert found["balanced_synthetic"] == pytest.approx(1 / 3)
    assert found["balanced_real"] == pytest.approx(2 / 3)
    assert found["balanced_difference"] == pytest.approx(1 / 3)
    asked.clear()
    without = train_on_synthetic(x, truth, x, truth, x[truth != 1], truth[truth != 1])
    assert without["balanced_chance"] == without["balanced_real"] == 0.5  # of the classes that there are


def test_both_see_as_many_series(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def classified(x: Tensor, labels: Tensor, test: Tensor, *_) -> Tensor:
        seen.append((len(x), len(labels), len(test)))
        return torch.zeros(len(test), dtype=torch.long)

    monkeypatch.setattr("lightning_freqdiff.metrics.labelled._classified", classified)
    train_on_synthetic(*waves(150, 0), *waves(100, 1), *waves(260, 2))
    train_on_synthetic(*waves(50, 0), *waves(100, 1), *waves(260, 2))
    assert seen == [(100, 100, 260)] * 2 + [(50, 50, 260)] * 2


def test_equal_sets_score_the_same_and_leave_no_trace() -> None:
    before = torch.get_rng_state()
    sets = (*waves(100, 1), *waves(60, 2))
    few = PostHoc(hidden=4, layers=1, steps=10, batch_size=16, lr=0.02)
    with torch.inference_mode():
        first = train_on_synthetic(*waves(150, 0), *sets, few)
    assert torch.equal(torch.get_rng_state(), before)
    assert first == train_on_synthetic(*waves(150, 0), *sets, few)


def test_refuses_bad_input() -> None:
    x, y = waves(20, 0)
    for call, message in [
        (lambda: train_on_synthetic(x[:, 1:], y, x, y, x, y), "cut or resample `generated`"),
        (lambda: train_on_synthetic(x, y, x, y, x.expand(-1, -1, 2), y), "cut or resample `test`"),
        (lambda: train_on_synthetic(x, y[1:], x, y, x, y), "set `generated_labels`"),
        (lambda: train_on_synthetic(x, y, x, y.float(), x, y), "set `train_labels`"),
        (lambda: train_on_synthetic(x, y, x, y * 0, x, y), "at least 2 classes"),
        (lambda: train_on_synthetic(x, y + 1, x, y, x, y), "leave them out of `generated`"),
        (lambda: train_on_synthetic(x, y, x, y, x, y + 1), "leave them out of `test`"),
        (lambda: train_on_synthetic(x / 0, y, x, y, x, y), "clean `generated`"),
        (lambda: train_on_synthetic(x[:0], y[:0], x, y, x, y), "`generated`"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
