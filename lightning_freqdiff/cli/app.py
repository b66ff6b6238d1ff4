"""`app` on the command line."""

from __future__ import annotations

import threading
from typing import Any

import torch
from jsonargparse import ArgumentParser

from lightning_freqdiff.app import page
from lightning_freqdiff.app.studio import Studio
from lightning_freqdiff.data import SeriesData
from lightning_freqdiff.keywords import spelt
from lightning_freqdiff.model import load
from lightning_freqdiff.running import MatmulPrecision, find_device


def add_app(parser: ArgumentParser) -> None:
    """Add the options of `app`."""
    parser.add_argument(
        "--ckpt_path", type=str, required=True, help="A checkpoint, the folder of a run, or one of save_pretrained."
    )
    parser.add_argument(
        "--host", type=str, default=page.HOST, help="Address to listen on; by default, this machine's own."
    )
    parser.add_argument("--port", type=int, default=page.PORT, help="Port to listen on.")
    parser.add_argument("--device", type=str, default="auto", help="cpu, cuda, cuda:1 ...; auto takes a GPU if any.")
    parser.add_argument("--threads", type=int, default=None, help="CPU threads; PyTorch's default if not given.")
    parser.add_argument(
        "--matmul_precision",
        type=MatmulPrecision,
        default="high",
        help="Products of float32 numbers: highest in float32, high in TF32 on a GPU, medium in bfloat16.",
    )
    parser.add_subclass_arguments(
        SeriesData, "data", required=False, help="Training set to show the closest series of."
    )


def app(config: Any) -> None:
    """Serve the page of a model until Ctrl-C."""
    page.check_installed()
    page.check_port(config.host, config.port)
    torch.set_float32_matmul_precision(config.matmul_precision)
    with spelt(path="ckpt_path"):
        model = load(config.ckpt_path)
    model.module.to(find_device(config.device))
    data = config.get("data")
    if data is not None:
        data.prepare_data()
        data.expect_shape(*model.shape)
    served = page.serve(Studio(model, data), config.host, config.port)
    print(f"page: http://{config.host}:{config.port} (Ctrl-C ends it)", flush=True)
    if config.host not in ("127.0.0.1", "localhost", "::1"):
        print("note: everyone who can reach this machine can open the page (--host)", flush=True)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        served.close(verbose=False)
