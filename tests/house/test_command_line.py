"""`greenlab lab`: which copy of the course is opened, at which address, and what is said where it cannot be."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen
from zipfile import ZipFile

import jupyter_core.paths
import pytest
from doc_pages import links

import greenlab
from greenlab import __main__ as command_line

ROOT = Path(__file__).parents[2]


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """What the process would have become; the user is not root, and stands in an empty folder."""
    commands: list[list[str]] = []
    monkeypatch.setattr(os, "execv", lambda _program, arguments: commands.append(arguments[1:]))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.chdir(tmp_path)
    return commands


def test_the_course_is_copied_and_opened_at_its_first_lesson(executed: list[list[str]], tmp_path: Path) -> None:
    assert 0 == command_line.main(["lab", "--no-browser", "--port", "9999"])
    folder = tmp_path / "greenlab-course"
    assert {file.name for file in command_line.lessons_folder().glob("*.ipynb")} == {
        file.name for file in folder.iterdir()
    }
    first = "--LabApp.default_url=/lab/tree/00_start_here.ipynb"
    page = ["-m", "jupyterlab", f"--ServerApp.root_dir={folder}", first]
    assert [[*page, "--no-browser", "--port", "9999"]] == executed


def test_another_folder_may_be_named_and_options_go_through(executed: list[list[str]], tmp_path: Path) -> None:
    command_line.main(["lab", "my course", "--port=1"])
    assert f"--ServerApp.root_dir={tmp_path / 'my course'}" in executed[0]
    command_line.main(["lab", "here", "--notebook-dir=/"])
    assert ["-m", "jupyterlab", "here/00_start_here.ipynb", "--notebook-dir=/"] == executed[1]


def test_a_newer_course_adds_its_lessons_and_never_touches_what_the_reader_has(
    executed: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tmp_path / "newer"
    newer.mkdir()
    monkeypatch.setattr(command_line, "lessons_folder", lambda: newer)
    (newer / "00_a.ipynb").write_text("first")
    (newer / "01_b.ipynb").write_text("first")
    command_line.main(["lab", "mine"])
    mine = tmp_path / "mine"
    (mine / "00_a.ipynb").write_text("edited by the reader")
    for lesson in ("00_a", "01_b", "02_c"):
        (newer / f"{lesson}.ipynb").write_text("newer")
    command_line.main(["lab", "mine"])
    texts = {file.name: file.read_text() for file in mine.iterdir()}
    assert {"00_a.ipynb": "edited by the reader", "01_b.ipynb": "first", "02_c.ipynb": "newer"} == texts


def test_the_lessons_are_beside_the_package_in_a_checkout_and_inside_it_when_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "greenlab"
    package.mkdir(parents=True)
    monkeypatch.setattr(command_line, "__file__", str(package / "__main__.py"))
    assert tmp_path / "site-packages" / "notebooks" == command_line.lessons_folder()
    (package / "course").mkdir()
    assert package / "course" == command_line.lessons_folder()


@pytest.mark.parametrize(("command", "extra"), [("lab", "lab"), ("worker", "celery")])
def test_what_is_not_installed_is_said_with_where_from_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: Any, command: str, extra: str
) -> None:
    monkeypatch.setattr(command_line, "find_spec", lambda _name: None)
    assert 2 == command_line.main([command])
    told = capsys.readouterr().err
    assert told.endswith(
        f' is not installed: pip install "jupyter-greenlab[{extra}]" where greenlab is installed, '
        f'or pip install ".[{extra}]" in a checkout\n'
    )


def printed(capsys: Any, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        command_line.main(list(arguments))
    assert 0 == ended.value.code
    return " ".join(capsys.readouterr().out.split())


def test_it_says_its_version(capsys: Any) -> None:
    assert f"greenlab {greenlab.__version__}" == printed(capsys, "--version")


@pytest.mark.parametrize(
    ("command", "says"),
    [("lab", "All other options go to JupyterLab"), ("worker", "All other options go to both workers")],
)
def test_the_help_of_a_command_says_that_other_options_go_through(capsys: Any, command: str, says: str) -> None:
    assert says in printed(capsys, command, "-h")


def test_root_is_told_in_one_line_what_to_do_unless_it_was_said(
    executed: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(jupyter_core.paths, "jupyter_config_path", lambda: [str(tmp_path / "config")])
    parts = tmp_path / "config" / "jupyter_server_config.d"  # each environment with JupyterLab has such a folder
    parts.mkdir(parents=True)
    (parts / "jupyterlab.json").write_text("{}")
    assert 2 == command_line.main(["lab"])
    told = capsys.readouterr().err
    assert "greenlab: JupyterLab does not start for root: use another user, or greenlab lab --allow-root\n" == told
    assert not (tmp_path / "greenlab-course").exists()
    assert [] == executed
    command_line.main(["lab", "--allow-root"])
    assert "--allow-root" in executed[-1]
    says_so = [
        (tmp_path / "config" / "jupyter_server_config.py", "c.ServerApp.allow_root = True"),
        (parts / "root.json", '{"ServerApp": {"allow_root": true}}'),
    ]
    for count, (file, text) in enumerate(says_so, 2):
        file.write_text(text)
        command_line.main(["lab"])
        assert count == len(executed)
        file.unlink()
    assert 2 == command_line.main(["lab"])


OFFLINE = """\
import sys

def refuse(event, arguments):
    if event == "socket.getaddrinfo" and arguments[0] not in (None, "", "localhost", "127.0.0.1", "::1"):
        raise OSError(f"there is no network for {arguments[0]}")
    if event == "socket.connect" and isinstance(arguments[1], tuple) and arguments[1][0] not in ("127.0.0.1", "::1"):
        raise OSError(f"there is no network for {arguments[1]}")

sys.addaudithook(refuse)
"""
"""What a Python runs first that is to reach nothing but its own machine."""


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The package as a wheel brings it, in a folder where nothing but it is."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheels")],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    (wheel,) = (tmp_path / "wheels").iterdir()
    with ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "installed")
    return tmp_path / "installed"


def test_the_long_description_of_a_wheel_leads_to_no_file_of_the_repository(installed: Path) -> None:
    (metadata,) = installed.glob("*.dist-info/METADATA")
    text = metadata.read_text(encoding="utf-8")
    assert "\n# greenlab\n" in text
    assert "the tour shows all there is" in " ".join(text.split())
    assert "[eventlet](https://eventlet.readthedocs.io)" in text
    assert [] == [url for url in links(text) if not url.startswith("https:")]
    assert "The figures of this one" not in text  # a picture's caption


def ask(url: str) -> bytes:
    """Ask a server that prints its address a moment before it listens there."""
    end_s = time.monotonic() + 60
    while True:
        try:
            with urlopen(url) as answer:
                return bytes(answer.read())
        except URLError:
            assert time.monotonic() < end_s
            time.sleep(0.05)


def test_a_wheel_serves_the_course_offline_and_prints_the_lessons_own_address(installed: Path, tmp_path: Path) -> None:
    (installed / "sitecustomize.py").write_text(OFFLINE)
    home = tmp_path / "home"
    home.mkdir()
    server = subprocess.Popen(
        [sys.executable, "-m", "greenlab", "lab", "--allow-root", "--no-browser", "--ServerApp.port=0"],
        cwd=home, env={**os.environ, "PYTHONPATH": str(installed)},
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stderr is not None
    try:
        address = re.compile(r"(http://localhost:\d+)/lab/tree/(00_start_here\.ipynb)(\?token=\w+)")
        found = next(filter(None, map(address.search, server.stderr)))
        opened = json.loads(ask("{}/api/contents/{}{}".format(*found.groups())))["content"]["cells"][0]["source"]
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stderr.close()
    assert opened.startswith("# 0. Start here")
    brought = sorted((installed / "greenlab" / "course").glob("*.ipynb"))
    assert [lesson.name for lesson in brought] == sorted(path.name for path in (home / "greenlab-course").iterdir())
    assert [lesson.name for lesson in brought] == sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
