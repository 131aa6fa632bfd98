"""`greenlab lab`: which copy of the course is opened, at which address, and what is said where it cannot be."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import jupyter_core.paths
import pytest

from greenlab import __main__ as command_line

if TYPE_CHECKING:
    from pathlib import Path


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


def test_jupyterlab_prints_the_lessons_own_address(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "greenlab", "lab", "--allow-root", "--no-browser", "--ServerApp.port=0"],
        cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert server.stderr is not None
    try:
        address = re.compile(r"http://localhost:\d+/lab/tree/00_start_here\.ipynb\?token=\w+")
        assert any(address.search(line) for line in server.stderr)
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        server.stderr.close()
