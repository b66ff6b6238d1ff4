"""Components chosen on the command line have their own defaults, whatever stood there before."""

from dataclasses import asdict

import pytest
import yaml

import lightning_freqdiff as lf
from lightning_freqdiff.__main__ import main
from lightning_freqdiff.networks import LSTM, MLP, Transformer, UNet


@pytest.mark.parametrize("network", [UNet(), Transformer(), LSTM(), MLP()], ids=lambda n: type(n).__name__)
def test_a_network_takes_nothing_over_from_the_default_one(network, capsys, monkeypatch):
    """A transformer once had the default U-Net's heads and time scale, since they are called the same."""
    given = ["fit", "--model.network", type(network).__name__, "--print_config"]
    monkeypatch.setattr("sys.argv", ["lightning_freqdiff", *given])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    written = yaml.safe_load(capsys.readouterr().out)["model"]["network"]
    assert written["init_args"] == asdict(network)


def test_labels_that_are_named_are_told(tmp_path, monkeypatch):
    """Data were once not told, as the default data set, which has no labels, says so."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{i},{t},{(i + t) % 5},{'NV'[i % 2]}" for i in range(12) for t in range(8)]
    (tmp_path / "told.csv").write_text("\n".join(["beat,t,lead,kind", *rows]) + "\n")
    data = ["--data=ArrayData", "--data.path=told.csv", "--data.id=beat", "--data.time=t", "--data.labels=kind"]
    small = ["--model.network.width=8", "--model.network.heads=2", "--trainer.max_steps=1"]
    quiet = ["--checkpoint.dirpath=run", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    monkeypatch.setattr("sys.argv", ["lightning_freqdiff", "fit", *data, *small, *quiet])
    main()
    assert lf.load("run/best.ckpt").module.vocabulary.classes == ("N", "V")
