"""Features that are computed again: the same gradients to the bit, and a fraction of what is kept for them."""

import copy

import pytest
import torch

from lightning_freqdiff.diffusion import VP, Score
from lightning_freqdiff.diffusion.losses import score_matching_loss
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import LSTM, MLP, Transformer, UNet
from lightning_freqdiff.networks.recompute import recompute

NETWORKS = {
    "adaptive": Transformer(layers=6, width=32, dropout=0.1),
    "plain": Transformer("plain", layers=6, dropout=0.1),
    "mixed": Transformer(layers=3, width=32, mix=3),
    "unet": UNet(width=16, levels=2, depth=3),
    "mlp": MLP(width=32, layers=4),
    "lstm": LSTM(width=16, layers=4),
}


def score_of(network) -> Score:
    torch.manual_seed(0)
    score = Score(network, VP(), "wiener", Representation("frequency", 32, 2), covariance="joint")
    score.codec.fit([torch.randn(50, 32, 2).cumsum(1)])
    for weight in score.network.parameters():  # a head of zeros lets nothing through
        torch.nn.init.normal_(weight, std=0.1)
    return score


def gradients(score: Score, precision: str = "32") -> tuple[list[torch.Tensor], int]:
    """Gradients of a batch, and the bytes that were kept for them beside the weights."""
    torch.manual_seed(1)
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in score.parameters()}

    def keep(x):
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    z0, t = score.codec.encode(torch.randn(16, 32, 2).cumsum(1)), torch.rand(16)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = score_matching_loss(score, z0, torch.randn_like(z0), t, "unit")
        loss.backward()
    return [p.grad for p in score.network.parameters() if p.grad is not None], sum(kept.values())


@pytest.mark.parametrize("precision", ["32", "bf16"])
@pytest.mark.parametrize("network", NETWORKS)
def test_gradients_are_the_same_to_the_bit(network, precision):
    score = score_of(NETWORKS[network])
    again = copy.deepcopy(score)
    recompute(again.network.parts)
    known, much = gradients(score, precision)
    found, little = gradients(copy.deepcopy(again), precision)
    assert len(known) == len([*score.parameters()])
    assert any(gradient.abs().max() > 0 for gradient in known)
    for one, other in zip(known, found, strict=True):
        assert torch.equal(one, other)
    if network in ("adaptive", "plain", "unet") and precision == "32":
        assert little < 0.5 * much, (little, much)


def test_sampling_and_saved_weights_do_not_know_of_it():
    score = score_of(NETWORKS["unet"])
    again = copy.deepcopy(score)
    recompute(again.network.parts)
    assert score.state_dict().keys() == again.state_dict().keys()
    z, t = torch.randn(3, *score.noise_scale.shape), torch.tensor(0.5)
    with torch.no_grad():
        assert torch.equal(score(z, t), again(z, t))
