import numpy as np
import pytest
import torch
from random_networks import random_score, told_score

from lightning_freqdiff.codec import Codec
from lightning_freqdiff.domains import Representation
from lightning_freqdiff.networks import LSTM, MLP, Transformer, UNet
from lightning_freqdiff.networks.adaptive import OverTime
from lightning_freqdiff.networks.kernels import cpu
from lightning_freqdiff.networks.kernels.chunks import chunked
from lightning_freqdiff.sampling import Sampling, WorkUnit, sample

ARCHITECTURES = [
    Transformer(preset="plain", layers=2, heads=2, width=16, feedforward=24),
    Transformer(layers=2, heads=2, width=16, feedforward=24),
    Transformer(mix=3, layers=2, heads=2, width=16, feedforward=24),
    Transformer(axis="time", group=3, layers=2, heads=2, width=16, feedforward=24),
    LSTM(layers=2, width=16),
    MLP(width=32),
    UNet(width=16, heads=2),
]


def codec(tokens=7, features=4) -> Codec:
    return Codec(Representation("time", tokens, features))


def spectral_codec() -> Codec:
    return Codec(Representation("frequency", 13, 2))  # 7 tokens, 4 wide


def randomized(architecture):
    torch.manual_seed(0)
    network = architecture.build(spectral_codec())
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
        singles = torch.cat([network(a[None], b[None]) for a, b in zip(z, t, strict=True)])
        torch.testing.assert_close(together, singles, atol=1e-4, rtol=1e-4)

    def test_a_scalar_time_is_that_time_for_all(self, architecture):
        network = randomized(architecture)
        z = torch.randn(5, 7, 4)
        scalar, each = network(z, torch.tensor(0.3)), network(z, torch.full((5,), 0.3))
        torch.testing.assert_close(scalar, each, atol=1e-4, rtol=1e-4)

    def test_mixed_precision_is_near_float32_with_and_without_gradients(self, architecture):
        network = randomized(architecture)
        z, t = torch.randn(5, 7, 4), torch.rand(5)
        exact = network(z, t).detach()
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                sampled = network(z, t).float()
            trained = network(z, t).detach().float()
        for lowered in (sampled, trained):
            assert (lowered - exact).norm() < 0.05 * exact.norm()

    def test_starts_at_zero_and_every_weight_learns(self, architecture):
        network = architecture.build(spectral_codec())
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
    network = Transformer(preset="paper").build(codec(94, 2))
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(3.2e6, rel=0.02)
    assert len(network.layers) == 10
    assert network.layers[0].heads == 12
    assert network.layers[0].expand.out_features == 2048


def test_settings_override_the_preset():
    network = Transformer(preset="paper", layers=1, feedforward=8).build(codec(5, 2))
    assert len(network.layers) == 1
    assert network.layers[0].expand.out_features == 8
    assert network.layers[0].heads == 12


def test_chunks_on_a_cpu_change_nothing():
    network = randomized(ARCHITECTURES[0])
    z, t = torch.randn(11, 7, 4), torch.rand(11)
    with torch.no_grad():
        whole = network(z, t)
        network.cpu_chunk, seen = 3, []
        torch.testing.assert_close(network(z, t), whole)
        network.in_chunks(lambda h, none: (seen.append(len(h)), h)[1], torch.zeros(11, 7, 16), None)
        network.in_chunks(lambda h: (seen.append(len(h)), h)[1], torch.zeros(11, 2, 16))
    assert seen == [3, 3, 3, 2, 10, 1]  # fewer tokens of a sample, so more of them


def test_chunks_of_nested_inputs():
    def run(x, pairs):
        assert len(x) == len(pairs[0]) == len(pairs[1]) <= 2
        return x + 1, [pairs[0] * 2, pairs[1] * 3]

    x, pairs = torch.arange(5.0), [torch.arange(5.0), torch.arange(10.0).view(5, 2)]
    out, (first, second) = chunked(run, 2, x, pairs)
    assert out.equal(x + 1)
    assert first.equal(pairs[0] * 2)
    assert second.equal(pairs[1] * 3)


class TestOnACPU:
    """The arithmetic for a CPU against PyTorch's own functions, which training uses."""

    @pytest.mark.parametrize("scale", [0.3, 3.0, 20.0, 300.0])  # of the scores: small, large, out of range of exp
    @pytest.mark.parametrize(("queries", "keys"), [(7, 7), (3, 9), (1, 1)])
    def test_attention(self, scale, queries, keys):
        torch.manual_seed(0)
        q, k, v = (torch.randn(3, 2, n, 5) for n in (queries, keys, keys))
        ours = cpu.attend(scale * q, k, v)
        exact = torch.softmax(scale * q.double() @ k.double().transpose(2, 3) * 5**-0.5, -1) @ v.double()
        torch.testing.assert_close(ours.double(), exact, atol=1e-5, rtol=1e-4)

    def test_attention_far_out_of_range(self):
        # All scores of a row far below zero: their exponentials are zero, and a plain quotient is 0 / 0.
        q, k, v = torch.full((1, 1, 2, 4), 50.0), torch.full((1, 1, 3, 4), -50.0), torch.randn(1, 1, 3, 4)
        torch.testing.assert_close(cpu.attend(q, k, v), v.mean(2, keepdim=True).expand(1, 1, 2, 4))

    def test_attention_of_wide_heads(self, monkeypatch):
        q, k, v = (torch.randn(2, 2, 9, 16) for _ in range(3))
        kernel = cpu.attend(q, k, v)
        monkeypatch.setattr(cpu, "FEW_SCORES", 0)
        torch.testing.assert_close(cpu.attend(q, k, v), kernel)

    def test_attention_of_long_series_is_not_kept_whole(self, monkeypatch):
        q, k, v = (torch.randn(2, 2, 9, 4) for _ in range(3))
        small = cpu.attend(q, k, v)
        monkeypatch.setattr(cpu, "SCORES_BYTES", 100)
        monkeypatch.setattr(torch, "baddbmm", None)
        torch.testing.assert_close(cpu.attend(q, k, v), small)

    def test_attention_hands_on_what_is_not_a_number(self):
        q, k, v = (torch.randn(1, 1, 4, 4) for _ in range(3))
        q[0, 0, 1, 0] = float("nan")
        out = cpu.attend(q, k, v)
        assert out[0, 0, 1].isnan().all()

    def test_attention_of_nothing(self):
        for shape in ((0, 2, 3, 4), (2, 2, 0, 4)):
            assert (
                cpu.attend(torch.ones(shape), torch.ones(shape[0], 2, 3, 4), torch.ones(shape[0], 2, 3, 4)).numel()
                == 0
            )

    def test_float16_is_left_to_pytorch(self):
        network = randomized(ARCHITECTURES[0])
        h = 3 * torch.randn(3, 7, 16)
        with torch.no_grad(), torch.autocast("cpu", torch.float16):
            ours = network.blocks(h, None)
        with torch.autocast("cpu", torch.float16):
            torch.testing.assert_close(ours, network.blocks(h, None).detach())

    def test_hooks_and_adapters_are_called(self):
        network = randomized(ARCHITECTURES[0])
        h, called = torch.randn(2, 7, 16), []
        network.layers[0].expand.register_forward_hook(lambda *_: called.append("after"))
        network.layers[1].contract.register_forward_pre_hook(lambda *_: called.append("before"))
        with torch.no_grad():
            network.blocks(h, None)
        assert called == ["after", "before"]

    def test_a_network_gives_what_training_sees(self):
        network = randomized(Transformer(preset="plain", layers=2, heads=3, width=18, feedforward=40))
        z, t = torch.randn(5, 7, 4), torch.rand(5)
        seen = network(z, t).detach()
        with torch.no_grad():
            torch.testing.assert_close(network(z, t), seen, atol=1e-5, rtol=1e-4)

    def test_dropout_is_not_left_out(self):
        network = (
            Transformer(preset="plain", layers=1, width=16, heads=2, feedforward=24, dropout=0.5)
            .build(codec())
            .train()
        )
        h = torch.randn(5, 7, 16)
        with torch.no_grad():
            assert not network.blocks(h, None).equal(network.blocks(h, None))

    def test_bfloat16(self):
        network = Transformer(preset="plain", width=64, heads=4, feedforward=128).build(codec(20, 4)).eval()
        h = torch.randn(5, 20, 64)
        with torch.no_grad():
            plain = network.blocks(h, None)
            with torch.autocast("cpu", torch.bfloat16):
                low = network.blocks(h, None)
            assert low.dtype == torch.float32
            error = (low - plain).norm() / (plain - h).norm()
            assert 1e-5 < error < 1e-2
            again = network.blocks(h, None)
        assert again.equal(plain)

    @pytest.mark.parametrize("name", ["expand", "contract"])
    def test_bfloat16_hides_no_nan(self, name):
        network = randomized(ARCHITECTURES[0])
        getattr(network.layers[0], name).weight.data[0, 0] = float("nan")
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            assert network.blocks(torch.randn(2, 7, 16), None).isnan().any()

    def test_bfloat16_sees_new_weights(self):
        network = Transformer(preset="plain", layers=1, width=16, heads=2, feedforward=24).build(codec()).eval()
        h = torch.randn(2, 7, 16)

        def low():
            with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
                return network.blocks(h, None)

        before, block = low(), network.layers[0]
        for weight in (block.expand.weight, block.expand.bias, block.contract.weight, block.contract.bias):
            weight.data.mul_(3).add_(0.1)  # as averages are put in place: PyTorch counts no change
            after = low()
            assert (after - before).abs().max() > 1e-3
            before = after

    def test_sampling_casts_once_and_keeps_nothing(self):
        score = random_score(17, 1)
        unit, few = WorkUnit(0, 0, 3), Sampling(num_steps=4)
        casts = []

        def drawn():
            with torch.autocast("cpu", torch.bfloat16), pytest.MonkeyPatch.context() as patch:
                patch.setattr(cpu, "_weights", lambda *layers, cast=cpu._weights: (casts.append(1), cast(*layers))[1])
                return sample(score, score.sde, score.codec, unit, few)

        before = drawn()
        assert len(casts) == len(score.network.layers)
        score.network.layers[0].expand.weight.data.mul_(0.5)
        assert (drawn() - before).abs().max() > 1e-3


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


@pytest.mark.parametrize("length", [12, 13])
def test_over_time_agrees_with_numpy(length):
    """Half the features are real parts; what they stand for in time goes through two convolutions and back."""
    torch.manual_seed(0)
    layer = OverTime(Representation("frequency", length, 1), 32, 3, 0.0).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    h, context = torch.randn(2, length // 2 + 1, 32), torch.randn(2, 32)
    real, imaginary = h.double().numpy()[..., :16], h.double().numpy()[..., 16:]
    series = np.fft.irfft(real + 1j * imaginary, length, axis=1, norm="ortho")
    with torch.no_grad():
        mixed = layer.residual(torch.tensor(series, dtype=torch.float32).transpose(1, 2), context).transpose(1, 2)
        out = layer(h, context)
    spectrum = np.fft.rfft(mixed.double().numpy(), axis=1, norm="ortho")
    expected = torch.tensor(np.concatenate([spectrum.real, spectrum.imag], axis=-1), dtype=torch.float32)
    torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("network", [UNet(width=8, heads=2), Transformer(axis="time", layers=1)])
def test_what_a_view_keeps_while_sampling_is_made_anew_afterwards(network):
    score, t = told_score(network), torch.tensor(0.4)
    z = torch.randn(2, *score.noise_scale.shape)
    before = score(z, t)
    with score.frozen():
        kept = score(z, t), score(z, t)
    assert all(torch.equal(before, one) for one in kept)
    score.codec.scale.mul_(torch.linspace(1, 3, len(score.codec.scale)).unsqueeze(1))
    assert (score(z, t) - before).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (Transformer(width=10, heads=4), "that the heads divide"),
        (Transformer(layers=0), "`model.network.layers`"),
        (Transformer(group=0), "`model.network.group`"),
        (Transformer(preset="paper", group=2), "`model.network.preset` to small or base"),
        (Transformer(mix=3, group=2), "`model.network.mix` 0"),
        (Transformer(mix=4), "an odd mix"),
        (Transformer(mix=3, width=24), "that 16 divides"),
        (Transformer(dropout=1.5), "`model.network.dropout`"),
        (LSTM(width=7), "even width"),
        (MLP(layers=0), "`model.network.layers`"),
    ],
)
def test_impossible_sizes_name_their_setting(architecture, message):
    with pytest.raises(ValueError, match=message):
        architecture.build(spectral_codec())
