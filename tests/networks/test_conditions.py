"""What is known of a series reaches every network that says so, sample by sample, and may be missing."""

import pytest
import torch
from random_networks import told_score

from lightning_freqdiff.condition import Condition, ConditionSizes
from lightning_freqdiff.networks import Transformer, UNet

SIZES = {"layers": 2, "heads": 2, "width": 16, "feedforward": 24}
NETWORKS = [
    UNet(width=8, heads=2),
    Transformer(**SIZES),
    Transformer(mix=3, **SIZES),
    Transformer(axis="time", group=3, **SIZES),
]

CONDITIONS = {
    "label": (ConditionSizes(classes=3), Condition(label=torch.tensor([0, 2]))),
    "static": (ConditionSizes(static=2), Condition(static=torch.randn(2, 2))),
    "covariates": (ConditionSizes(covariates=4), Condition(covariates=torch.randn(2, 24, 4))),
    "observed": (ConditionSizes(observed=True), Condition(observed=torch.randn(2, 24, 1), mask=torch.ones(2, 24, 1))),
}


@pytest.mark.parametrize("domain", ["frequency", "time", "wavelet", "lapped"])
@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("network", NETWORKS, ids=["unet", "frequencies", "hybrid", "steps"])
def test_every_condition_is_seen_and_may_be_missing(network, name, domain):
    if domain == "lapped" and getattr(network, "mix", 0):
        pytest.skip("narrower than a block")
    sizes, known = CONDITIONS[name]
    model = told_score(network, sizes=sizes, domain=domain)
    z, t = torch.randn(2, *model.noise_scale.shape), torch.tensor(0.4)
    told, untold = model(z, t, known), model(z, t)
    assert untold.isfinite().all()
    assert (told - untold).abs().max() > 1e-3
    alone = [model(z[i : i + 1], t, known.take(slice(i, i + 1))) for i in range(2)]
    torch.testing.assert_close(told, torch.cat(alone), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("network", NETWORKS, ids=["unet", "frequencies", "hybrid", "steps"])
def test_what_is_not_observed_is_not_seen(network):
    sizes, known = CONDITIONS["observed"]
    model, mask = told_score(network, sizes=sizes), torch.zeros(2, 24, 1)
    z, t = torch.randn(2, *model.noise_scale.shape), torch.tensor(0.4)
    values = torch.full((2, 24, 1), torch.nan)
    hidden = [Condition(observed=x, mask=mask) for x in (known.observed, values)]
    assert torch.equal(*(model(z, t, one) for one in hidden))
