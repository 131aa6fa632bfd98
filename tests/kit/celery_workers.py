"""Celery workers for tests: real ones on the embedded broker, which live as long as the test process needs them.

A worker costs seconds to start, so each kind is started once, and serves every test of this process that asks for it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from greenlab.pools.celery import embedded

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

OPTIONS = {
    "eventlet": ("-P", "eventlet", "-c", "100"),
    "prefork": ("-P", "prefork", "-c", "2"),
    "threads": ("-P", "threads", "-c", "10"),
    "examples": ("-P", "eventlet", "-c", "100"),
}
APPS = {"examples": "greenlab.examples"}
PATIENCE_S = 60.0
_DETACH = """
import subprocess, sys
worker = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
print(worker.pid)
"""
"""Starts a worker that is no child of the test's: tests look at the children that they leave."""

_running: dict[str, Worker] = {}


class Worker:
    """A worker, with a runtime folder of its own unless it is given one.

    Args:
        options: as `celery worker` takes them.
        folder: its runtime folder.
        app: the application.
        within: a command that runs it, in other namespaces for example.
        environ: more of its environment.

    Attributes:
        name: its node name.
        folder: where its embedded broker is.
        log: what it says.
    """

    def __init__(
        self, options: Sequence[str], folder: Path | None = None, app: str = "greenlab.celery",
        within: Sequence[str] = (), **environ: str,
    ) -> None:  # fmt: skip
        # Not pytest's: the path of a Unix socket must be short.
        self.folder = folder or Path(tempfile.mkdtemp(prefix="gl-", dir="/tmp"))
        self._owns = folder is None
        self._options = options
        self.name = f"w{time.monotonic_ns()}@test"
        self.log = self.folder / f"{self.name}.log"
        command = [
            *within, sys.executable, "-m", "celery", "-A", app, "worker", *options, "-l", "info",
            "--without-mingle", "--without-gossip", "-n", self.name,
        ]  # fmt: skip
        with self.log.open("wb") as log:
            pid = subprocess.check_output(
                [sys.executable, "-c", _DETACH, *command],
                env=os.environ | {"XDG_RUNTIME_DIR": str(self.folder)} | environ,
                stderr=log,
            )
        self.process = psutil.Process(int(pid))

    def wait_ready(self) -> None:
        """Wait until it takes messages."""
        end = time.monotonic() + PATIENCE_S
        while " ready." not in self.said:
            if not self.is_alive or time.monotonic() > end:
                raise AssertionError(f"the worker does not start: {self.said}")
            time.sleep(0.05)

    @property
    def said(self) -> str:
        """Its log so far."""
        return self.log.read_text("utf-8", "replace")

    @property
    def children(self) -> list[int]:
        """The ids of its own children."""
        return [child.pid for child in self.process.children()]

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return bool(self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE)

    def close(self) -> None:
        """End it, and wait until its embedded broker has gone too."""
        if self.is_alive:
            # Celery 5.6 takes five seconds to end an eventlet worker; processes of others end only with it.
            (self.process.kill if "eventlet" in self._options else self.process.terminate)()
            try:
                self.process.wait(20)
            except psutil.TimeoutExpired:
                for one in [*self.process.children(recursive=True), self.process]:
                    one.kill()
        socket = self.folder / "greenlab" / "broker.sock"
        end = time.monotonic() + 10
        while self._owns and socket.exists() and time.monotonic() < end:
            time.sleep(0.02)
        if self._owns:
            shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def starting(
    *options: str, folder: Path | None = None, app: str = "greenlab.celery", within: Sequence[str] = (), **environ: str
) -> Iterator[Worker]:
    """Run a worker of one test's own, which waits for it itself: several get ready at the same time."""
    worker = Worker(options, folder, app, within, **environ)
    try:
        yield worker
    finally:
        worker.close()


@contextlib.contextmanager
def working(
    *options: str, folder: Path | None = None, app: str = "greenlab.celery", within: Sequence[str] = (), **environ: str
) -> Iterator[Worker]:
    """Run a worker of one test's own, once it takes messages."""
    with starting(*options, folder=folder, app=app, within=within, **environ) as worker:
        worker.wait_ready()
        yield worker


@contextlib.contextmanager
def launched(
    folder: Path, *, eventlet: int = 0, prefork: int = 0, lives_s: float = 0.0
) -> Iterator[tuple[subprocess.Popen[str], Iterator[str]]]:
    """Run what `greenlab worker` runs, on an embedded broker in a folder; give its process and the lines that it says.

    A worker that has lived for `lives_s` is started again when it ends by itself.
    """
    program = (
        "from greenlab.pools.celery import launcher\n"
        f"launcher._LIVES_S = {lives_s}\n"
        f"raise SystemExit(launcher.run({eventlet}, {prefork}))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"XDG_RUNTIME_DIR": str(folder)},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        yield process, iter(process.stdout.readline, "")


def network(broker: str) -> dict[str, str]:
    """Return the environment of a worker, or a kernel, on a broker that others reach too.

    A worker there has no import path from its kernel, so it is given this process's.
    """
    return {"GREENLAB_BROKER": broker, "GREENLAB_SECRET": "x" * 32, "PYTHONPATH": os.pathsep.join(sys.path)}


def shared(kind: str) -> Worker:
    """Return the worker of a kind that this process's tests share."""
    if kind not in _running:
        _running[kind] = Worker(OPTIONS[kind], app=APPS.get(kind, "greenlab.celery"))
        atexit.register(_running[kind].close)
        _running[kind].wait_ready()
    return _running[kind]


def use(kind: str, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Let the celery pool of this test find the shared worker of a kind."""
    worker = shared(kind)
    for name in ("GREENLAB_BROKER", "GREENLAB_BACKEND", "GREENLAB_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(worker.folder))
    assert embedded.find()
    return worker
