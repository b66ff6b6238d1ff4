"""The page in a browser, served by the command."""

import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DATA = ["--data=SyntheticECG", "--data.num_series=80", "--data.length=64"]

PATIENCE = 180_000
"""Milliseconds that a browser may take on a machine that tests other things beside."""


@pytest.fixture
def address(checkpoint, tmp_path) -> Iterator[str]:
    """A page that is being served."""
    pytest.importorskip("gradio")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Behind the browser, which would else learn that it may stop a run when the run is over.
    command = [
        "nice",
        "-n",
        "19",
        sys.executable,
        "-m",
        "lightning_freqdiff",
        "app",
        f"--ckpt_path={checkpoint}",
        f"--port={port}",
    ]
    with subprocess.Popen([*command, *DATA, "--device=cpu"], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith(f"page: http://127.0.0.1:{port} "), line
        yield f"http://127.0.0.1:{port}"
        server.terminate()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")
@pytest.mark.filterwarnings("default")  # Playwright's own
def test_the_page_draws_stops_and_answers_bad_input(address):
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        playwright.expect.set_options(timeout=PATIENCE)
        page, words, asked = browser.new_page(viewport={"width": 400, "height": 800}), [], []
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: words.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: words.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        draw, stop = (page.get_by_role("button", name=name, exact=True) for name in ("Draw", "Stop"))

        page.get_by_label("Steps").fill("30")
        draw.click()
        page.wait_for_selector("#ratio")
        assert page.locator("#ratio dd").inner_text().endswith("×")
        assert page.locator(".drawn .pair img").count() == 2
        assert page.locator(".drawn img").count() == 4
        assert page.evaluate("document.documentElement.scrollWidth") <= 400

        page.get_by_label("Series").fill("0")
        draw.click()
        page.wait_for_selector("[role=alert]")
        assert "from 1 to 64, got 0" in page.locator("[role=alert]").inner_text()

        page.get_by_label("Series").fill("64")
        page.get_by_label("Steps").fill("2000")
        playwright.expect(draw).to_be_enabled()
        draw.click()
        page.get_by_text("Every network call -").wait_for()
        stop.click()
        page.get_by_text("Stopped.").wait_for()
        playwright.expect(draw).to_be_enabled()
        playwright.expect(stop).to_be_disabled()
        browser.close()
    assert not words
    assert {url.split("/")[2] for url in asked if not url.startswith("data:")} == {address.split("/")[2]}


@pytest.mark.slow
def test_uploads_are_refused(address):
    body = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nabc\r\n--x--\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=x"}
    with pytest.raises(urllib.error.HTTPError, match="413"):
        urllib.request.urlopen(urllib.request.Request(f"{address}/gradio_api/upload", body, kind))
