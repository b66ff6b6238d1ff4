"""How far cached samples are from the uncached ones."""

import pytest
import torch

from lightning_freqdiff.metrics import relative_l2


def test_it_is_the_relative_norm_over_all_and_per_series() -> None:
    reference = torch.tensor([[[3.0]], [[4.0]]])
    found = relative_l2(reference + torch.tensor([[[0.3]], [[0.0]]]), reference)
    assert found["relative_l2"] == pytest.approx(0.3 / 5)
    assert found["relative_l2_median"] == pytest.approx(0.0)
    assert found["relative_l2_p99"] == pytest.approx(0.1 * 0.99)
    assert found["relative_l2_upper"] >= found["relative_l2"]


def test_series_that_do_not_belong_together_are_refused() -> None:
    with pytest.raises(ValueError, match="set `series`"):
        relative_l2(torch.ones(1, 4, 1), torch.ones(2, 4, 1))
