import json

import pytest
import torch
from random_networks import random_score

from lightning_freqdiff import piece_size
from lightning_freqdiff.diffusion.score import Score
from lightning_freqdiff.diffusion.sde import VP
from lightning_freqdiff.networks import MLP
from lightning_freqdiff.piece_size import WORTH, measure, settle
from lightning_freqdiff.sampling.loop import Sampling, WorkUnit, sample
from lightning_freqdiff.spectral import Representation

LONG, SHORT = Sampling(num_samples=64, num_steps=WORTH // 64 + 1), Sampling(num_samples=64, num_steps=10)


@pytest.fixture
def memory(tmp_path, monkeypatch):
    monkeypatch.setenv("FREQDIFF_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pieces.json"


@pytest.fixture
def slow_unless(monkeypatch):
    """Pretend a clock by which pieces of one size are fast."""

    def pretend(network, fast):
        now = [0.0]
        blocks = network.blocks

        def counted(h):
            now[0] += 1.0 if network.cpu_piece == fast else 2.0
            return blocks(h)

        monkeypatch.setattr(network, "blocks", counted)
        monkeypatch.setattr(piece_size.time, "perf_counter", lambda: now[0])

    return pretend


def test_the_fastest_is_taken_and_remembered(memory, slow_unless):
    first = random_score(17, 1)
    slow_unless(first.network, 4)
    settle(first, LONG)
    assert first.network.cpu_piece == 4
    assert list(json.loads(memory.read_text()).values()) == [4]
    second = random_score(17, 1)
    slow_unless(second.network, 16)
    settle(second, SHORT)  # remembered, so that short runs have it too, and nothing is measured again
    assert second.network.cpu_piece == 4


def test_the_rule_stays_unless_clearly_beaten(slow_unless):
    network = random_score(17, 1).network
    before = network.cpu_piece
    slow_unless(network, -1)  # all alike
    assert measure(network) == before == network.cpu_piece


def test_a_real_clock(memory):
    score = random_score(17, 1)
    settle(score, LONG)
    assert list(json.loads(memory.read_text()).values()) == [score.network.cpu_piece]


def test_short_runs_do_not_measure(memory):
    score = random_score(17, 1)
    before = score.network.cpu_piece
    settle(score, SHORT)
    settle(score, Sampling(num_samples=WORTH, num_steps=1, batch_size=1))
    assert score.network.cpu_piece == before
    assert not memory.exists()


def test_networks_machines_and_precisions_have_answers_of_their_own(memory, monkeypatch):
    settle(random_score(17, 1), LONG)
    settle(random_score(33, 1), LONG)
    with torch.autocast("cpu", torch.bfloat16):
        settle(random_score(17, 1), LONG)
    monkeypatch.setattr(piece_size, "processor", lambda: "another")
    settle(random_score(17, 1), LONG)
    assert len(json.loads(memory.read_text())) == 4


@pytest.mark.parametrize("content", ["{", "[1]", '{"x": "y"}', "", "[" * 200_000])
def test_a_damaged_memory_is_made_anew(memory, content):
    memory.parent.mkdir()
    memory.write_text(content)
    settle(random_score(17, 1), LONG)
    assert len(json.loads(memory.read_text())) == 1


def test_a_place_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FREQDIFF_CACHE", str(tmp_path / "file"))
    settle(random_score(17, 1), LONG)
    monkeypatch.setattr(piece_size, "measure", None)  # once a process is enough
    settle(random_score(17, 1), LONG)


@pytest.mark.parametrize("size", [0, -3, True, 10**30, "4", 1.5])
def test_sizes_beyond_belief_are_measured_anew(memory, size):
    score = random_score(17, 1)
    settle(score, LONG)
    (key,) = json.loads(memory.read_text())
    memory.write_text(json.dumps({key: size}))
    piece_size._measured.clear()
    settle(score, LONG)
    assert json.loads(memory.read_text())[key] == score.network.cpu_piece


def test_double_precision(memory):
    settle(random_score(17, 1).double(), LONG)
    assert "float64" in memory.read_text()


def test_one_candidate_needs_no_clock(monkeypatch):
    network = random_score(17, 1).network
    monkeypatch.setattr(piece_size, "TRIED_BYTES", 0)
    monkeypatch.setattr(piece_size.time, "perf_counter", None)
    assert measure(network) == network.cpu_piece


def test_networks_without_pieces_are_left_alone(memory):
    settle(Score(MLP(width=8), VP(), "wiener", Representation("frequency", 17, 1)), LONG)
    assert not memory.exists()


def test_samples_depend_on_it_by_rounding_alone(memory, slow_unless):
    score = random_score(17, 1)
    unit, few = WorkUnit(0, 0, 11), Sampling(num_samples=11, num_steps=5)
    before = sample(score, score.sde, score.noise_scale, unit, few)
    score.network.cpu_piece = 3
    torch.testing.assert_close(sample(score, score.sde, score.noise_scale, unit, few), before)
