import pytest
import torch

from lightning_freqdiff.networks import LSTM, MLP, Transformer

ARCHITECTURES = [Transformer(layers=2, heads=2, width=16, feedforward=24), LSTM(layers=2, width=16), MLP(width=32)]


def randomized(architecture, tokens=7, features=4):
    torch.manual_seed(0)
    network = architecture.build(tokens, features)
    for parameter in network.parameters():  # the head starts at zero, which would hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    return network.eval()


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: type(a).__name__)
class TestEveryBackbone:
    def test_batch_of_singles(self, architecture):
        network = randomized(architecture)
        z, t = torch.randn(5, 7, 4), torch.rand(5)
        together = network(z, t)
        assert together.shape == z.shape
        torch.testing.assert_close(
            together, torch.cat([network(a[None], b[None]) for a, b in zip(z, t, strict=True)])
        )

    def test_a_scalar_time_is_that_time_for_all(self, architecture):
        network = randomized(architecture)
        z = torch.randn(5, 7, 4)
        torch.testing.assert_close(network(z, torch.tensor(0.3)), network(z, torch.full((5,), 0.3)))

    def test_starts_at_zero_and_every_weight_learns(self, architecture):
        network = architecture.build(7, 4)
        z, t = torch.randn(5, 7, 4), torch.rand(5)
        assert network(z, t).eq(0).all()
        network = randomized(architecture).train()
        network(z, t).square().sum().backward()
        dead = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not dead

    def test_depends_on_time(self, architecture):
        network = randomized(architecture)
        z = torch.randn(5, 7, 4)
        assert (network(z, torch.tensor(0.1)) - network(z, torch.tensor(0.9))).abs().max() > 1e-3


def test_paper_preset_has_the_papers_size():
    network = Transformer(preset="paper").build(94, 2)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(3.2e6, rel=0.02)
    assert len(network.layers) == 10
    assert network.layers[0].heads == 12
    assert network.layers[0].expand.out_features == 2048


def test_settings_override_the_preset():
    network = Transformer(preset="paper", layers=1, feedforward=8).build(5, 2)
    assert len(network.layers) == 1
    assert network.layers[0].expand.out_features == 8
    assert network.layers[0].heads == 12


def test_cpu_pieces_change_nothing():
    network = randomized(ARCHITECTURES[0])
    z, t = torch.randn(11, 7, 4), torch.rand(11)
    with torch.no_grad():
        whole = network(z, t)
        network.cpu_piece_bytes = 3 * 4 * 7 * 24  # three samples
        assert network.piece(11, torch.device("cpu")) == 3
        torch.testing.assert_close(network(z, t), whole)


def test_blocks_agree_with_pytorchs_own_encoder():
    # A second implementation: nn.TransformerEncoderLayer, pre-norm, with the same weights.
    network = randomized(ARCHITECTURES[0])
    block = network.layers[0]
    oracle = torch.nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, norm_first=True, batch_first=True).eval()
    oracle.load_state_dict(
        {
            "self_attn.in_proj_weight": block.query_key_value.weight,
            "self_attn.in_proj_bias": block.query_key_value.bias,
            "self_attn.out_proj.weight": block.project.weight,
            "self_attn.out_proj.bias": block.project.bias,
            "linear1.weight": block.expand.weight,
            "linear1.bias": block.expand.bias,
            "linear2.weight": block.contract.weight,
            "linear2.bias": block.contract.bias,
            "norm1.weight": block.norm_attention.weight,
            "norm1.bias": block.norm_attention.bias,
            "norm2.weight": block.norm_feedforward.weight,
            "norm2.bias": block.norm_feedforward.bias,
        }
    )
    h = torch.randn(3, 7, 16)
    torch.testing.assert_close(block(h), oracle(h), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Transformer(width=10, heads=4), "that the heads divide"),
        (Transformer(layers=0), "--model.network.layers"),
        (LSTM(width=7), "even width"),
        (MLP(layers=0), "--model.network.layers"),
    ],
)
def test_impossible_sizes_name_their_setting(architecture, message):
    with pytest.raises(ValueError, match=message):
        architecture.build(4, 2)
