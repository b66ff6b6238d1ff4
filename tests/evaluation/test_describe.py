"""What `describe` says, against series whose nature is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import raw_files
import torch
from conftest import real_data
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_freqdiff.__main__ import main
from lightning_freqdiff.data import ArrayData, Sines, SyntheticECG
from lightning_freqdiff.evaluation.describe import both_domains, delocalisation, describe

rng = np.random.default_rng(0)
N = 64


def data(folder: Path, x: np.ndarray, **kwargs) -> ArrayData:
    np.savez(folder / "series.npz", x=x.astype(np.float32))
    return ArrayData(str(folder / "series.npz"), **kwargs)


def spikes(n: int) -> np.ndarray:
    x = np.zeros((n, N, 1))
    x[np.arange(n), rng.integers(0, N, n), 0] = 1 + rng.random(n)
    return x


def waves(n: int) -> np.ndarray:
    phase, t = rng.random((n, 1)), np.arange(N)
    return np.sin(2 * np.pi * (3 * t / N + phase))[..., None]


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 4), size=st.integers(2, 33), seed=st.integers(0, 2**30))
def test_delocalisation_is_its_definition(n, size, seed):
    energy = np.random.default_rng(seed).random((n, size))
    apart = np.abs(np.arange(size)[:, None] - np.arange(size))
    square = np.minimum(apart, size - apart) ** 2
    expected = (energy @ square).min(1) / energy.sum(1)
    np.testing.assert_allclose(delocalisation(torch.from_numpy(energy)), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("length", [8, 9])
def test_frequency_is_that_of_the_full_transform(length):
    x = torch.from_numpy(rng.normal(size=(5, length, 2)))
    energy = torch.fft.fft(x, dim=1).abs().square().sum(-1)
    assert both_domains(x)[1] == pytest.approx(float(delocalisation(energy).mean()))


def test_waves_suit_the_frequency_domain_and_spikes_do_not(tmp_path):
    wave, spike = describe(data(tmp_path, waves(700))), describe(data(tmp_path, spikes(700)))
    assert wave["warnings"] == []
    # A sine's energy is at two frequencies, 3 and N - 3: as far from 0 on either side.
    assert wave["as_they_are"]["delocalisation_frequency"] == pytest.approx(9, rel=1e-3)
    assert wave["as_they_are"]["low_energy"] == pytest.approx(1, abs=1e-5)
    assert spike["as_they_are"]["delocalisation_time"] == pytest.approx(0, abs=1e-9)
    poor, noise = spike["warnings"]
    assert "The frequency domain is a poor choice" in poor
    assert "`model.domain` time" in poor
    assert spike["gathered"]["time"] < 0.5 * spike["gathered"]["frequency"]
    assert wave["gathered"]["frequency"] < 0.5 * min(wave["gathered"][d] for d in ("time", "wavelet", "lapped"))
    assert "of what varies is at low frequencies" in noise


def test_prices_of_many_sizes_want_a_logarithm(tmp_path):
    walks = np.exp(rng.normal(0, 0.02, (300, N, 2)).cumsum(1) + rng.normal(0, 1.0, (300, 1, 2)))
    facts = describe(data(tmp_path, walks))
    assert all(20 < factor < 40 for factor in facts["span"].values())  # exp(2 * 1.645 * deviation)
    assert any("`fit` learns their logarithm" in said for said in facts["warnings"])
    walks[rng.random(walks.shape) < 0.3] = np.nan
    gaps = describe(ArrayData.of(walks, missing="mask"))
    assert any("`fit` learns their logarithm" in said for said in gaps["warnings"])
    walks = np.nan_to_num(walks, nan=1.0)
    for tame in (np.log(walks), walks - 1, 5 + 0.1 * walks / walks.max()):
        assert not any("logarithm" in said for said in describe(data(tmp_path, tame))["warnings"])


def test_facts(tmp_path):
    x = rng.normal(size=(600, 16, 3)).cumsum(1)
    x[..., 1] = 5
    x[7:60] = x[0]
    np.savez(tmp_path / "a.npz", x=x.astype(np.float32), columns=np.array(["u", "flat", "w"]))
    facts = describe(ArrayData(str(tmp_path / "a.npz"), test_fraction=0.2))
    assert facts["series"] == {"train": 420, "val": 60, "test": 120}
    assert (facts["steps"], facts["channels"], facts["constant_channels"]) == (16, ["u", "flat", "w"], ["flat"])
    # 16 numbers of the flat channel, and no others: DC and Nyquist have no imaginary part to begin with.
    assert (facts["constant_coordinates"], facts["coordinates"]) == (16, 48)
    assert facts["range"]["flat"] == {"min": 5, "mean": 5, "max": 5, "std": 0}
    assert 20 < facts["repeated_series"] < 53
    said = " ".join(facts["warnings"])
    assert "Channels that never change: flat" in said
    assert "are copies of others" in said
    assert "420 training series are few" in said


def test_half_of_a_large_set_is_looked_at():
    facts = describe(Sines(count=6000, steps=8))
    assert (facts["series"]["train"], facts["looked_at"]) == (5400, 4096)


@pytest.mark.filterwarnings("ignore:.*a part of the data set is used.*")
def test_run_writes_and_says(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("FREQDIFF_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "ecg").mkdir(parents=True)
    raw_files.heartbeats(tmp_path / "cache" / "ecg")
    main(["describe", "--data", "ECG", "--output", str(tmp_path / "new" / "out")])
    written = json.loads((tmp_path / "new" / "out" / "description.json").read_text())
    assert written["series"] == {"train": 27, "val": 3, "test": 11}
    assert (tmp_path / "new" / "out" / "description.png").stat().st_size > 10_000
    said = capfd.readouterr().out
    for words in (
        "27, 3, 11",
        "187 x 1",
        "none (they are refused)",
        "energy under N/10",
        "warning:",
        "description.png",
    ):
        assert words in said


def test_embedded_heartbeats_have_no_warning():
    assert describe(SyntheticECG(num_series=1024))["warnings"] == []


def test_real_prices_are_low_frequencies():
    facts = describe(ArrayData(str(real_data("nasdaq_2019_a.npz"))))
    assert facts["as_they_are"]["low_energy"] > 0.99
    assert facts["as_they_are"]["delocalisation_frequency"] < 0.01 * facts["as_they_are"]["delocalisation_time"]


def test_names_of_channels_are_no_markup(tmp_path, capsys):
    x = rng.normal(size=(30, 8, 2)).astype(np.float32)
    x[..., 1] = 1
    np.savez(tmp_path / "a.npz", x=x, columns=np.array(["[/] $a$ $b", "[red]"]))
    main(["describe", "--data=ArrayData", f"--data.path={tmp_path}/a.npz", f"--output={tmp_path}/out"])
    said = capsys.readouterr().out
    assert said.count("[/] $a$ $b") == 1
    assert said.count("[red]") == 3  # constant, in the table of ranges, and in the warning
