"""A real JupyterLab in a real browser, and a notebook in it, as a person works with them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import nbformat
from playwright.sync_api import expect, sync_playwright
from servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

CHROMIUMS = "chromium", "chromium-browser", "google-chrome"
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_MS = 60_000
_DONE, _RUNS = re.compile(r"\[\d+\]"), re.compile(r"\[\*\]")
_SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false"},
    # Cells out of sight stay in the page, where a test finds them by their place.
    "notebook-extension/tracker": {"windowingMode": "none"},
}
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


class Lab:
    """A JupyterLab with settings of its own.

    Attributes:
        url: where it listens.
        folder: the notebooks that it serves.
    """

    def __init__(self, home: Path, url: str) -> None:
        self.url = url
        self.folder = home / "notebooks"
        self.folder.mkdir()
        self._settings = home / "settings" / "@jupyterlab"
        for name, settings in _SETTINGS.items():
            self.set(name, settings)

    def set(self, name: str, settings: dict[str, str]) -> None:
        """Change settings of an extension; a page that is loaded then follows them."""
        path = self._settings / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(settings))


class Notebook:
    """A notebook in JupyterLab, by its cells' places; or in another front end that is made of its parts.

    Args:
        idle: what the page has when its kernel waits for work.
        where: the front end's part of the address.
    """

    def __init__(self, page: Any, lab: Lab, name: str, idle: str = "text=| Idle", where: str = "lab/tree") -> None:
        self.page = page
        self.path = lab.folder / name
        self._url = f"{lab.url}/{where}/{name}"
        self._idle = idle

    def open(self) -> None:
        """Load the page, or load it again: the kernel goes on."""
        self.page.goto(self._url)
        self.page.wait_for_selector(self._idle, timeout=PATIENCE_MS)

    def cell(self, place: int) -> Any:
        """Give the locator of a cell."""
        return self.page.locator(".jp-Notebook .jp-Cell").nth(place)

    def start(self, place: int) -> None:
        """Run a cell, without waiting for its end.

        A page may show an idle kernel before it can ask that to run anything, and then drops what is asked.
        """
        before = self._prompt(place).inner_text()
        for last in (False, False, True):
            self.cell(place).locator(".cm-content").click()
            self.page.keyboard.press("Shift+Enter")
            try:
                expect(self._prompt(place)).not_to_have_text(before, timeout=PATIENCE_MS / 6)
            except AssertionError:
                if last:
                    raise
            else:
                return

    def wait(self, place: int) -> None:
        """Wait until a cell has run."""
        expect(self._prompt(place)).to_have_text(_DONE, timeout=PATIENCE_MS)

    def interrupt(self) -> None:
        """Stop what runs, if anything does."""
        if self.page.locator(".jp-InputPrompt", has_text=_RUNS).count():
            self.page.keyboard.press("Escape")
            self.page.keyboard.type("ii")
            expect(self.page.locator(".jp-InputPrompt", has_text=_RUNS)).to_have_count(0, timeout=PATIENCE_MS)

    def expect_running(self, place: int) -> None:
        """Fail unless a cell runs at this moment."""
        expect(self._prompt(place)).to_have_text(_RUNS)

    def picture(self, place: int) -> Any:
        """Give the locator of the picture that a cell has left."""
        return self.cell(place).locator(".jp-RenderedImage img, .jp-RenderedHTMLCommon img")

    def saved(self) -> Any:
        """Save the notebook and read the file."""
        before = self.path.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        end = time.monotonic() + 30
        while True:
            assert time.monotonic() < end, "the notebook was not saved"
            self.page.wait_for_timeout(50)
            if self.path.stat().st_mtime_ns != before:
                with contextlib.suppress(json.JSONDecodeError):  # it is being written
                    return json.loads(self.path.read_text())

    def _prompt(self, place: int) -> Any:
        return self.cell(place).locator(".jp-InputPrompt")


def contrasts(element: Any) -> dict[str, float]:
    """Give the contrast of each word in an element against what is behind it, as WCAG 2 defines it."""
    colors = """root => [...root.querySelectorAll("span, b")].filter(e => e.innerText.trim()).map(element => {
        const parts = text => text.match(/[\\d.]+/g).map(Number);
        let opacity = 1, back = [0, 0, 0, 0];
        const ink = parts(getComputedStyle(element).color);
        for (let e = element; e && !(back.length < 4 || back[3] > 0); e = e.parentElement) {
            back = parts(getComputedStyle(e).backgroundColor);
            opacity *= Number(getComputedStyle(e).opacity);
        }
        const seen = ink.slice(0, 3).map((value, i) => opacity * value + (1 - opacity) * back[i]);
        return [element.innerText, seen, back.slice(0, 3)];
    })"""
    lights = [(words, _luminance(ink), _luminance(back)) for words, ink, back in element.evaluate(colors)]
    return {words: (max(pair) + 0.05) / (min(pair) + 0.05) for words, *pair in lights}


@contextlib.contextmanager
def serving(home: Path) -> Iterator[Lab]:
    """Run a JupyterLab in a folder of its own."""
    port = free_port()
    lab = Lab(home, f"http://127.0.0.1:{port}")
    own = {
        "JUPYTERLAB_SETTINGS_DIR": home / "settings",
        "JUPYTERLAB_WORKSPACES_DIR": home / "workspaces",
        "JUPYTER_CONFIG_DIR": home / "config",
        "JUPYTER_RUNTIME_DIR": home / "runtime",
        "IPYTHONDIR": home / "ipython",
    }
    options = ["--no-browser", "--allow-root", f"--port={port}", f"--ServerApp.root_dir={lab.folder}"]
    options += ["--ServerApp.token=", "--ServerApp.password=", "--ServerApp.port_retries=0"]
    with (home / "log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            env=os.environ | {name: str(where) for name, where in own.items()},
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(lab.url, server)
            yield lab
        finally:
            server.terminate()
            server.wait(30)


@contextlib.contextmanager
def browsing(chromium: str) -> Iterator[Any]:
    """Open a browser; give a page of it."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=QUIET)
        try:
            yield browser.new_page(viewport={"width": 1250, "height": 1000})
        finally:
            browser.close()


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    """Write a notebook of code cells that have not run."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel}
    )
    nbformat.write(made, path)


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


def _luminance(color: list[float]) -> float:
    parts = [c / 255 / 12.92 if c <= 0.04045 * 255 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]
