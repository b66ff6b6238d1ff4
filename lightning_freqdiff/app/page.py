"""The page: controls, a place for what is drawn, and a server on one's own machine. A thin layer over the studio."""

import socket
from collections.abc import Callable
from typing import Any

from lightning_freqdiff.app.show import message, result
from lightning_freqdiff.app.studio import Studio, Tell
from lightning_freqdiff.model import Model

HOST, PORT = "127.0.0.1", 7860
WAITING = 16
"""Visitors who may wait for their turn."""

STYLE = """
.gradio-container { width: 100%; max-width: 76rem !important; margin: auto !important; }
.drawn .facts { display: flex; flex-wrap: wrap; gap: .8rem 2.4rem; margin: .2rem 0 1.2rem; }
.drawn .facts div { display: flex; flex-direction: column-reverse; }
.drawn .facts dt { font-size: .85rem; opacity: .75; }
.drawn .facts dd { font-size: 1.9rem; line-height: 1.15; font-weight: 650; margin: 0; }
.drawn .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.2rem; }
.drawn figure { margin: 0; }
.drawn figcaption { display: flex; justify-content: space-between; margin-bottom: .3rem; }
/* its figures are made for narrow screens */
.drawn img { width: 100%; min-width: 0 !important; height: auto; background: white; border-radius: 6px; }
.drawn h2 ~ img { max-width: 40rem; }
.drawn h2 { font-size: 1.1rem; margin: 1.8rem 0 .5rem; }
.drawn pre { white-space: pre-wrap; font-size: .85rem; padding: .8rem; border-radius: 6px; background: #8881; }
.drawn .message { font-weight: 600; padding: .8rem 1rem; border-left: 4px solid #c2410c; background: #c2410c18; }
"""


class Stopped(Exception):
    """A visitor wants no more of it."""


def check_installed() -> None:
    """Refuse where Gradio is missing.

    Raises:
        ImportError: With the extra that brings it.
    """
    try:
        import gradio  # noqa: F401
    except ImportError as error:
        raise ImportError(
            'the page needs gradio, which is not installed: pip install "lightning-freqdiff[app]"'
        ) from error


def build(studio: Studio) -> Any:
    """Return the page of a model, to be served by :func:`serve`."""
    # Gradio reads the annotations below, which is why they are evaluated in this file.
    import gradio as gr

    stopped: set[str | None] = set()
    with gr.Blocks(title="lightning_freqdiff", analytics_enabled=False) as page:
        gr.Markdown(f"# Draw time series\n{about(studio)}")
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                inputs = _controls(gr, studio)
                with gr.Row():
                    draw = gr.Button("Draw", variant="primary", min_width=100)
                    stop = gr.Button("Stop", interactive=False, min_width=100)
            with gr.Column(scale=3, min_width=300):
                drawn = gr.HTML("<p>Choose, and draw. The same noise is used for both.</p>", elem_classes="drawn")

        def begin(request: gr.Request) -> tuple[Any, Any]:
            stopped.discard(request.session_hash)
            return gr.Button(interactive=False), gr.Button(interactive=True)

        def work(values: dict[Any, Any], request: gr.Request, progress: Any = gr.Progress()) -> str:  # noqa: B008
            given = {name: values[control] for name, control in inputs.items()}
            return answer(studio, given, teller(progress, lambda: request.session_hash in stopped))

        def halt(request: gr.Request) -> None:
            stopped.add(request.session_hash)

        def end() -> tuple[Any, Any]:
            return gr.Button(interactive=True), gr.Button(interactive=False)

        own: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        buttons = [draw, stop]
        asked = draw.click(begin, outputs=buttons, queue=False, **own)
        asked = asked.then(work, set(inputs.values()), drawn, concurrency_limit=1, api_visibility="private")
        asked.then(end, outputs=buttons, queue=False, **own)
        stop.click(halt, queue=False, **own)
        page.unload(halt)
    return page.queue(max_size=WAITING, api_open=False)


def _controls(gr: Any, studio: Studio) -> dict[str, Any]:
    """Make what a visitor may set, by the names of the settings."""
    with gr.Row():
        controls = {
            "num_samples": gr.Number(8, label="Series", precision=0, min_width=100),
            "num_steps": gr.Number(200, label="Steps", precision=0, min_width=100),
        }
    controls["cache"] = gr.Dropdown(list(studio.caches), value="wiener", label="Cache")
    controls["solver"] = gr.Dropdown(studio.solvers, value=studio.solvers[0], label="Solver")
    controls["seed"] = gr.Number(0, label="Seed", precision=0)
    if studio.classes:
        choices = [("any", None), *((name, i) for i, name in enumerate(studio.class_names))]
        controls["label"] = gr.Dropdown(choices, value=None, label="Class")
    return controls


def about(studio: Studio) -> str:
    """Say what the model is; not where it lies, which is no visitor's business."""
    return repr(Model(studio.module)).removeprefix("Model(").removesuffix(")").replace("; ", " · ")


def answer(studio: Studio, given: dict[str, Any], tell: Tell) -> str:
    """Return what a visitor is shown for what they asked for: the pair that was drawn, or why there is none."""
    given = dict(given)
    cache = given.pop("cache")
    try:
        pair = studio.draw(given, cache, tell)
        tell("Pictures", 1.0)
        return result(studio, pair)
    except Stopped:
        return message("Stopped.")
    except ValueError as error:
        return message(f"{str(error)[:1].upper()}{str(error)[1:]}.".replace("`", ""))


def teller(progress: Callable[..., Any], halted: Callable[[], bool]) -> Tell:
    """Return what tells a bar of the progress, each percent once, and ends the work where it was halted."""
    last: list[Any] = []

    def tell(what: str, share: float) -> None:
        if halted():
            raise Stopped
        now = [what, int(100 * share)]
        if now != last:
            last[:] = now
            progress(share, desc=what)

    return tell


def check_port(host: str, port: int) -> None:
    """Refuse, before a model is loaded, where nothing can listen.

    Raises:
        ValueError: For a port that is none, or in use, and for a host that is not this machine.
    """
    if not 1 <= port <= 65535:
        raise ValueError(f"expected a port from 1 to 65535, got {port}: set `port`")
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except socket.gaierror as error:
        raise ValueError(f"expected an address of this machine, got {host!r}: set `host`") from error
    except OSError as error:
        raise ValueError(
            f"expected a free port of this machine, but {host}:{port} cannot be listened on ({error.strerror}): set "
            "`port`"
        ) from error


def serve(studio: Studio, host: str = HOST, port: int = PORT) -> Any:
    """Serve the page of a model in the background, and return it; ``close()`` ends it.

    Nothing is sent anywhere: no usage figures, fonts from this machine, no link through another's server, no uploads.
    """
    import gradio as gr

    page = build(studio)
    theme = gr.themes.Default(
        primary_hue="orange",
        neutral_hue="slate",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    page.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        max_file_size=0,
        enable_monitoring=False,
        ssr_mode=False,
        mcp_server=False,
        footer_links=[],
        theme=theme,
        css=STYLE,
    )
    return page
