"""`app` as a user meets it, up to where a browser takes over."""

import socket
import sys
from types import SimpleNamespace

import pytest

from lightning_freqdiff.__main__ import main
from lightning_freqdiff.app import page
from lightning_freqdiff.cli import app as command


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Run `app`: its code, and what it wrote."""
    monkeypatch.chdir(tmp_path)

    def run(*args) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lightning_freqdiff", "app", *map(str, args)])
        code = 0
        try:
            main()
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def served(monkeypatch) -> list:
    """Serve nothing, and let Ctrl-C come at once: what would have been served."""
    asked = []

    def serve(*args):
        asked.append(args)
        return SimpleNamespace(close=lambda verbose: asked.append("closed"))

    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(page, "check_installed", lambda: None)
    monkeypatch.setattr(page, "check_port", lambda host, port: None)
    monkeypatch.setattr(page, "serve", serve)
    monkeypatch.setattr(command.threading, "Event", lambda: SimpleNamespace(wait=interrupt))
    return asked


def test_the_extra_is_named_where_it_is_missing(call, monkeypatch):
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, err = call("--ckpt_path=none.ckpt")
    assert code == 1
    assert err == ('error: the page needs gradio, which is not installed: pip install "lightning-freqdiff[app]"\n')


def test_what_is_no_checkpoint(call, served):
    code, _, err = call("--ckpt_path=none.ckpt")
    assert code == 1
    assert err.count("\n") == 1
    assert "none.ckpt" in err
    assert "--ckpt_path" in err
    assert not served


def test_a_port_in_use_is_said_before_a_model_is_read(call, monkeypatch):
    monkeypatch.setattr(page, "check_installed", lambda: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, _, err = call("--ckpt_path=none.ckpt", f"--port={taken.getsockname()[1]}")
    assert code == 1
    assert "in use" in err
    assert err.endswith("set --port\n")


def test_it_listens_on_this_machine_alone_and_ctrl_c_ends_it(call, served, checkpoint):
    code, out, err = call(f"--ckpt_path={checkpoint}", "--device=cpu")
    assert (code, err) == (0, "")
    assert out == "page: http://127.0.0.1:7860 (Ctrl-C ends it)\n"
    (studio, host, port), closed = served
    assert (host, port, closed) == ("127.0.0.1", 7860, "closed")
    assert studio.train is None


def test_another_host_is_said_and_data_are_taken(call, served, checkpoint):
    data = ["--data=SyntheticECG", "--data.num_series=60", "--data.length=64"]
    _, out, _ = call(f"--ckpt_path={checkpoint}", "--device=cpu", "--host=0.0.0.0", *data)
    assert "everyone who can reach this machine can open the page (--host)" in out
    assert served[0][0].train.shape[1:] == (64, 1)


def test_data_of_another_shape_are_refused(call, served, checkpoint):
    code, _, err = call(f"--ckpt_path={checkpoint}", "--device=cpu", "--data=SyntheticECG", "--data.num_series=60")
    assert code == 1
    assert "set --data" in err
    assert not served
