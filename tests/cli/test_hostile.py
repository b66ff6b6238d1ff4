"""Command lines that are wrong: each ends in one line that names the setting, what was expected and what came."""

import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from lightning_freqdiff.__main__ import main

FILES = {
    "list.yaml": "- 1\n- 2\n",
    "empty.yaml": "",
    "broken.yaml": "trainer: {max_steps: 3\nmodel: [}\n",
    "unknown.yaml": "trainer: {max_stepz: 3}\n",
    "compare.yaml": "ckpt_path: x.ckpt\nrounds: 3\n",
    "latin.yaml": "trainer: {max_steps: 3} # \udce9",
}


@pytest.fixture
def refused(monkeypatch, tmp_path, capfd, checkpoint):
    """Run the command line into an error, in a folder with files of all kinds: its one line."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, text in FILES.items():
        Path(name).write_text(text, errors="surrogateescape")
    np.save("x.npy", np.random.default_rng(0).normal(size=(40, 12, 1)).astype(np.float32))

    def run(line: str) -> str:
        words = shlex.split(line.replace("CKPT", str(checkpoint)))
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *words])
        with pytest.raises(SystemExit) as leaving:
            main()
        assert leaving.value.code in (1, 2)
        _, err = capfd.readouterr()
        (error,) = [text for text in err.splitlines() if text.startswith("error: ")]
        assert "Traceback" not in err
        assert "FREQDIFF_TRACEBACK" not in error
        assert "<class" not in error
        return error.removeprefix("error: ")

    return run


LINES = {
    # values
    "fit --trainer.max_steps many": "--trainer.max_steps: expected an integer, got many",
    "fit --trainer.max_steps ''": "--trainer.max_steps: expected an integer, got nothing",
    "fit --model.network.width 1e9": "--model.network.width: expected an integer or null, got 1e9",
    "fit --model.colour pink": "--model.colour: expected equal, white or a number, got pink",
    "fit --model.domain fourier": "--model.domain: expected frequency, .*lapped or a Domain, got fourier",
    "fit --model.domain Wavelet --model.domain.filter bior2.2": r"got 'bior2\.2': set --model\.domain\.filter$",
    "fit --model.network.preset huge": "--model.network.preset: expected small, base or large, got huge",
    "fit --seed_everything x": "--seed_everything: expected true or false or an integer, got x",
    "fit --model.shape 3": "--model.shape: expected a list or null, got 3",
    "fit --data ArrayData --data.path x.npy --data.window x": "--data.window: expected an integer or null, got x",
    "describe --data ArrayData --data.path x.npy --data.window 0": "expected --data.window of at least 2, got 0",
    "fit --model.sde VP --model.sde.beta_min -1": "set --model.sde.beta_min, --model.sde.beta_max",
    "fit --trainer 3": "--trainer: expected settings, one by one as --trainer.NAME or in a YAML file, got 3",
    "fit --seed_everything -4": "expected a seed from 0 to 4294967295, got -4: set --seed_everything",
    "fit --trainer.max_steps -5": "expected max_steps >= -1, got -5: set --trainer.max_steps",
    "fit --trainer.val_check_interval 0": "set --trainer.val_check_interval",
    "fit --trainer.accumulate_grad_batches 0": "set --trainer.accumulate_grad_batches",
    "fit --ema.decay 2": "expected a decay from 0 to 1, got 2.0: set --ema.decay",
    "fit --checkpoint.save_top_k -3": "set --checkpoint.save_top_k",
    "fit --data.length 100000000000 --data.num_series 4": "expected room for 2.91 TiB at once",
    "fit --data.num_series 10000000000000000000000000": "expected numbers of at most 19 digits",
    "compare --ckpt_path CKPT --threads 0": "expected threads from 1 to 1,024, got 0: set --threads",
    "evaluate --generated x.npy --reference x.npy --threads 9999999": "set --threads",
    "tune --ckpt_path CKPT --tolerance 0.1 --confirm 0": "got 0: set --confirm",
    "tune --ckpt_path CKPT --tolerance 0.1 --name a/b": "got 'a/b': set --name",
    # classes
    "fit --model.network ''": "--model.network: expected one of LSTM, .* or a dotted path .*, got nothing",
    "fit --model.network torch.nn.Linear": "--model.network: expected one of LSTM, .*, got torch.nn.Linear",
    "fit --trainer.logger nothing": "--trainer.logger: expected one of .*a dotted path .*, got nothing",
    "fit --trainer.callbacks+=Nothing": "expected one of .*CacheCallback, .*, one of Lightning's, or a dotted path",
    "predict --ckpt_path CKPT --trainer.callbacks+=CacheCallback --trainer.callbacks.policy X": "E2CRF, .*, got X",
    "predict --ckpt_path CKPT --sampling.guidance 3": "expected (one of .*)?a dotted path to your own class, got 3",
    "predict --ckpt_path CKPT --trainer.callbacks+=E2CRFCache --trainer.callbacks+=WienerCache": (
        "expected at most one cache, got E2CRFCache and WienerCache: remove one from --trainer.callbacks"
    ),
    # data sets of samples
    "predict --ckpt_path CKPT --sampling.shard 5/4": "expected a shard i/n .*, got 5/4: set --sampling.shard",
    "predict --ckpt_path CKPT --sampling.output nosuch://x": "fsspec knows, got nosuch://x: set --sampling.output",
    "predict --ckpt_path CKPT --sampling.output memory://x --sampling.format csv": "set --sampling.format",
    "predict --ckpt_path CKPT --sampling.shard 0/2 --sampling.output .": "holds broken.yaml, .*set --sampling.output",
    "predict --ckpt_path CKPT --sampling.shard 0/2 --metrics sw": "leave --metrics out",
    # names
    "fit --trainer.max_stepz 3": r"--trainer.max_stepz 3 \(is it --trainer.max_steps\?\)",
    "compare --ckpt_path CKPT --num_samples 4": r"--num_samples 4 \(is it --sampling.num_samples\?\)",
    "fit --model.network.nonsense 3": (
        "--model.network.nonsense: the class that --model.network names, or the default one, has no such setting"
    ),
    "fit --data ArrayData": "expected --data.path, got none",
    "evaluate --generated x.npy": "expected --reference, got none",
    "predict --tolerance 0.1": "unrecognized arguments: --tolerance 0.1",
    "fit predict": "unrecognized arguments: predict",
    "": "expected a command: ",
    # files
    "fit --config list.yaml": "--config: expected a YAML file of settings, got - 1 - 2",
    "fit --config empty.yaml": "--config: expected a YAML file of settings, got an empty one",
    "fit --config broken.yaml": "--config: expected a YAML file of settings, got something else",
    "fit --config unknown.yaml": "trainer.max_stepz",
    "fit --config compare.yaml": "'fit' does not accept option 'rounds'",
    "fit --config latin.yaml": "mend the YAML file",
    "compare --ckpt_path CKPT --callbacks latin.yaml": "latin.yaml: expected a preset of the form",
    "predict --ckpt_path ''": "set --ckpt_path",
    "fit --ckpt_path best": "none at best: set --ckpt_path",
    "predict --ckpt_path=~/none.ckpt": "found none at /.*/home/none.ckpt: set --ckpt_path",
    "compare --ckpt_path=~/none.ckpt": "found none at /.*/home/none.ckpt: set --ckpt_path",
    "calibrate --ckpt_path CKPT --output .": "expected a file name ending in .npz, got .: set --output",
    "tune --ckpt_path CKPT --tolerance 0.1 --output x.npy": "cannot write to the .* x.npy .*: set --output",
    "describe --data SyntheticECG --output x.npy": "cannot write to the output folder x.npy .*: set --output",
    "fit --trainer.logger.save_dir x.npy": r"cannot use .*x.npy/fit \(Not a directory\)",
}


@pytest.mark.parametrize("line", LINES)
def test_a_wrong_command_line_ends_in_one_line(refused, line):
    assert re.search(LINES[line], refused(line))
    assert not Path("~").exists()


@pytest.fixture
def spoilt(checkpoint, tmp_path):
    """Checkpoints with something wrong, by what it is."""

    def make(what: str) -> Path:
        content = torch.load(checkpoint, weights_only=True)
        state = content["state_dict"]
        name = next(name for name in state if name.endswith("weight"))
        match what:
            case "nan":
                state[name][0] = torch.nan
            case "missing":
                del state[name]
            case "shape":
                state[name] = torch.zeros(3, 3)
            case "settings":
                content["hyper_parameters"]["network"]["init_args"]["nonsense"] = 1
            case "class":
                content["hyper_parameters"]["network"]["class_path"] = "none.Such"
            case "model alone":
                del content["optimizer_states"]
        torch.save(content, tmp_path / "spoilt.ckpt")
        return tmp_path / "spoilt.ckpt"

    return make


NEEDS = {
    "predict": "--sampling.output=out",
    "validate": "--data=SyntheticECG",
    "test": "--data=SyntheticECG",
    "compare": "--output=out",
    "tune": "--tolerance=0.1",
    "calibrate": "",
    "fit": "",
}


@pytest.mark.parametrize("command", NEEDS)
def test_weights_that_are_no_numbers_are_refused_by_every_command(refused, spoilt, command):
    said = refused(f"{command} --ckpt_path {spoilt('nan')} {NEEDS[command]}")
    assert "expected weights of finite numbers, but 1 of" in said
    assert "set --ckpt_path" in said
    assert not [path for name in ("out", "runs", "spoilt.calibration.npz") if (path := Path(name)).exists()]


@pytest.mark.parametrize("command", ["fit", "predict"])
@pytest.mark.parametrize("what", ["missing", "shape", "settings", "class", "model alone"])
def test_checkpoints_that_do_not_fit_are_refused(refused, spoilt, command, what):
    path = spoilt(what)
    if what == "model alone":
        if command == "fit":
            assert "to go on training from" in refused(f"fit --ckpt_path {path}")
        return
    said = refused(f"{command} --ckpt_path {path}")
    assert "spoilt.ckpt" in said
    assert "set --ckpt_path" in said
    assert len(said) < 500


@pytest.mark.slow
def test_home_is_found_in_every_path(monkeypatch, tmp_path, capfd, checkpoint, blank_pictures):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home/model.ckpt").write_bytes(checkpoint.read_bytes())
    few = "--ckpt_path=~/model.ckpt --sampling.num_samples=2 --sampling.num_steps=2"
    for line in (
        f"predict {few} --sampling.output=~/drawn",
        f"compare {few} --output=~/compared --rounds=1 --solvers=false",
        f"calibrate {few} --sampling.num_steps=20 --output=~/fitted.npz",
        "describe --data SyntheticECG --data.length 16 --output=~/described",
    ):
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", *line.split()])
        main()
    left = {path.name for path in (tmp_path / "home").iterdir()}
    assert left == {"model.ckpt", "drawn", "compared", "fitted.npz", "described"}
    assert not (tmp_path / "~").exists()
