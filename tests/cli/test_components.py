"""Components chosen on the command line have their own defaults, whatever stood there before."""

from dataclasses import asdict

import pytest
import yaml

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
