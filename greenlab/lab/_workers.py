"""`Workers`: Celery workers with a broker of their own, beside a program or a notebook.

Guarantees: they end with `stop()`, at the end of the program, and when the program dies in any way; other workers on
the machine are not touched, nor found.
Must not import: celery, anything of greenlab but errors, children and this folder.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

from greenlab.children import undebugged
from greenlab.errors import GreenlabError
from greenlab.lab._checks import check_whole
from greenlab.lab._process import Startable, import_path

_FOLDER = "XDG_RUNTIME_DIR"
_OTHERS = ("GREENLAB_BROKER", "GREENLAB_BACKEND", "GREENLAB_SECRET")
_START_S = 60.0
_WARM_S = 1.0  # lessons end their tasks before their workers; Celery 5.7's eventlet pool takes 5 s to end warmly
_BROKER_S = 10.0


class Workers(Startable):
    """`greenlab worker`, with an embedded broker of its own: what one would start in a terminal.

    While they run, this process finds their broker, and no other: `-p celery` and Celery's tasks go there. It is a
    context manager.

    Args:
        eventlet: tasks at a time of the eventlet worker; 0 for none.
        prefork: processes of the prefork worker; 0 for none.
        app: the module of the Celery application, with tasks on `greenlab.celery.app`.
    """

    def __init__(self, *, eventlet: int = 200, prefork: int = 2, app: str = "greenlab.celery") -> None:
        check_whole("eventlet", eventlet, "0 for none", low=0)
        check_whole("prefork", prefork, "0 for none", low=0)
        self._wanted = (eventlet > 0) + (prefork > 0)
        self._options = ["worker", "-A", app, "-c", str(eventlet), "-w", str(prefork)]
        self._process: subprocess.Popen[bytes] | None = None
        self._environ: dict[str, str | None] = {}
        # The same each time, for Celery keeps a broker's address; and short, as the path of a Unix socket must be.
        self._folder = Path(f"/tmp/greenlab-{os.getuid()}-{os.getpid()}")  # noqa: S108 - made private, or refused

    @property
    def pid(self) -> int | None:
        """The id of the process that keeps the workers, or None."""
        return None if self._process is None else self._process.pid

    @property
    def said(self) -> str:
        """What the workers have said so far."""
        log = self._folder / "workers.log"
        return log.read_text("utf-8", "replace") if log.exists() else ""

    def start(self) -> Self:
        """Start them, and wait until they take tasks. Does nothing if they run already.

        Raises:
            GreenlabError: they do not start; the message has the last of what they said.
        """
        if self._process is not None and self._process.poll() is None:
            return self
        self.stop()
        _remove_left(self._folder.parent)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        for name in (_FOLDER, *_OTHERS):
            self._environ[name] = os.environ.pop(name, None)
        os.environ[_FOLDER] = str(self._folder)
        atexit.register(self.stop)
        try:
            self._launch()
        except BaseException:
            self.stop()
            raise
        return self

    def _launch(self) -> None:
        with (self._folder / "workers.log").open("wb") as log, undebugged():
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                [sys.executable, "-P", "-m", "greenlab", *self._options, "--parent", str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Neither an interrupt of the kernel is theirs nor the signal that ends it, which leaves them no time.
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(import_path())},
            )
        end = time.monotonic() + _START_S
        while self.said.count(" ready.") < self._wanted:
            if self._process.poll() is not None or time.monotonic() > end:
                raise GreenlabError(f"the workers do not start: {self.said.strip().rpartition(chr(10))[2]}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End them and their broker, and wait until they are gone. Does nothing if they are stopped already."""
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process is not None:
            self._end(process)
        for name, value in self._environ.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        self._environ.clear()

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        for wait_s in (_WARM_S, None):  # the second signal ends tasks that run
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.send_signal(signal.SIGTERM)
                process.wait(wait_s)
                break
        end = time.monotonic() + _BROKER_S
        while (self._folder / "greenlab" / "broker.sock").exists() and time.monotonic() < end:
            time.sleep(0.02)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __repr__(self) -> str:
        state = "stopped" if self._process is None else "started"
        return f"<Workers: greenlab {' '.join(self._options)}, {state}>"


def _remove_left(parent: Path) -> None:
    """Remove the folders of programs that were killed."""
    for folder in parent.glob(f"greenlab-{os.getuid()}-*"):
        pid = folder.name.rpartition("-")[2]
        if pid.isdecimal() and not (folder / "greenlab" / "broker.sock").exists():
            try:
                os.kill(int(pid), 0)
            except ProcessLookupError:
                shutil.rmtree(folder, ignore_errors=True)
            except PermissionError:
                continue  # another user's program has this id now
