"""The live view where it is seen: JupyterLab in a real browser."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import nbformat
import pytest

playwright = pytest.importorskip("playwright.sync_api")

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
CELLS = [
    # One run beforehand, so that the process that draws is not one that a test leaves.
    "%load_ext greenlab\nwarm = get_ipython().run_cell_magic('greenrun', '-n 1', 'None')\nprint('warm')",
    "%%greenrun -c 20 -n 200\nimport time\ntime.sleep(0.2)",
    "%%greenrun -c 5 -n 1000000\nimport time\ntime.sleep(0.05)",
    "%%greenrun -n 3\ni",
    "_run.plot()",
]
WARM, SEEN, STOPPED, SHORT, PLOT = range(len(CELLS))
PATIENCE_MS = 60_000


class Notebook:
    """A notebook in JupyterLab, by its cells' places."""

    def __init__(self, page: Any, path: Path) -> None:
        self.page = page
        self.path = path

    def cell(self, place: int) -> Any:
        """Give the locator of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(place)

    def start(self, place: int) -> None:
        """Run a cell, without waiting."""
        self.cell(place).locator(".cm-content").click()
        self.page.keyboard.press("Shift+Enter")

    def wait(self, place: int) -> None:
        """Wait until a cell has run."""
        prompt = self.cell(place).locator(".jp-InputPrompt")
        playwright.expect(prompt).to_have_text(NUMBER, timeout=PATIENCE_MS)

    def saved(self) -> Any:
        """Save the notebook and read the file."""
        before = self.path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        end = time.monotonic() + 30
        while self.path.stat().st_mtime_ns == before:
            assert time.monotonic() < end, "the notebook was not saved"
            self.page.wait_for_timeout(50)
        return json.loads(self.path.read_text())


NUMBER = re.compile(r"\[\d+\]")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A JupyterLab with settings of its own, serving an empty folder."""
    if CHROMIUM is None:
        message = "there is no Chromium to look with"
        if os.environ.get("CI"):
            pytest.fail(f"{message}, and CI installs it")
        pytest.skip(message)
    home = tmp_path_factory.mktemp("lab")
    folder = home / "notebooks"
    folder.mkdir()
    news = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    own = {
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "IPYTHONDIR": home / "ipython",
    }
    options = ["--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.root_dir={folder}"]
    options += ["--ServerApp.token=", "--ServerApp.password=", "--ServerApp.port_retries=0"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | {name: str(where) for name, where in own.items()},
            stdout=log,
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(url, server)
            yield url, folder
        finally:
            server.terminate()
            server.wait(30)


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            with urlopen(f"{url}/api"):
                return
        except OSError:
            assert server.poll() is None, "JupyterLab ended"
            assert time.monotonic() < end, "JupyterLab does not answer"
            time.sleep(0.1)


@pytest.fixture(scope="module")
def notebook(lab: tuple[str, Path]) -> Iterator[Notebook]:
    """A notebook that has loaded greenlab."""
    url, folder = lab
    path = folder / "view.ipynb"
    cells = [nbformat.v4.new_code_cell(cell) for cell in CELLS]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1250, "height": 1000})
        page.goto(f"{url}/lab/tree/view.ipynb")
        page.wait_for_selector("text=| Idle", timeout=PATIENCE_MS)
        opened = Notebook(page, path)
        opened.start(WARM)
        opened.wait(WARM)
        playwright.expect(opened.cell(WARM)).to_contain_text("warm")
        yield opened
        browser.close()


def test_a_run_is_seen_while_it_goes_on_and_leaves_its_picture(notebook: Notebook) -> None:
    cell = notebook.cell(SEEN)
    notebook.start(SEEN)
    playwright.expect(cell.locator(".widget-html")).to_contain_text("/ 200 tasks", timeout=PATIENCE_MS)
    live = cell.locator("img.widget-image")
    playwright.expect(live).to_be_visible(timeout=PATIENCE_MS)
    assert live.evaluate("image => image.naturalWidth") > 760
    notebook.wait(SEEN)
    kept = cell.locator(".jp-RenderedImage img")
    playwright.expect(kept).to_be_visible(timeout=PATIENCE_MS)
    assert [760, 1520] == kept.evaluate("image => [image.width, image.naturalWidth]")
    playwright.expect(cell.locator(".jupyter-widgets")).to_have_count(0)


def test_stop_ends_a_run_while_its_cell_runs(notebook: Notebook) -> None:
    notebook.start(STOPPED)
    button = notebook.cell(STOPPED).get_by_role("button", name="Stop")
    playwright.expect(button).to_be_visible(timeout=PATIENCE_MS)
    button.click()
    notebook.wait(STOPPED)
    playwright.expect(notebook.cell(STOPPED)).to_contain_text("cancelled", timeout=PATIENCE_MS)


def test_a_saved_notebook_has_the_picture_and_no_trace_of_widgets(notebook: Notebook) -> None:
    notebook.start(SHORT)
    notebook.wait(SHORT)
    playwright.expect(notebook.cell(SHORT).locator(".jp-RenderedImage img")).to_be_visible(timeout=PATIENCE_MS)
    saved = notebook.saved()
    assert "widgets" not in saved["metadata"]
    shown = saved["cells"][SHORT]["outputs"][0]
    assert {"image/png", "text/plain"} == set(shown["data"])
    assert "green run: 3 calls\n" == shown["data"]["text/plain"][0]


def test_a_plot_shows_itself(notebook: Notebook) -> None:
    notebook.start(PLOT)
    notebook.wait(PLOT)
    playwright.expect(notebook.cell(PLOT).locator(".jp-RenderedImage img")).to_be_visible(timeout=PATIENCE_MS)
