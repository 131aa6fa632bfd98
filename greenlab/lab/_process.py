"""A server in a process of its own: the half that is in the program which starts it.

Guarantees:

* the server is a fresh interpreter, never a fork of the caller: it has none of its patches, threads, hub;
* it ends with `stop()`, at the end of the program, and when the program dies in any way, SIGKILL included:
  the server reads its stdin, a pipe that closes with this process (the server's half is in `_server.py`);
* `start()` and `stop()` may be called twice, and a stopped server may be started again.

Must not import: asyncio (the caller's process does not need it), anything of greenlab but errors and children.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from greenlab.children import undebugged
from greenlab.errors import GreenlabError, UsageError

if TYPE_CHECKING:
    from types import TracebackType


class Startable:
    """What is started and stopped, as often as one likes; as a context manager, for the length of a block."""

    def start(self) -> Self:
        """Start it. Does nothing if it runs already."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop it. Does nothing if it is stopped already."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class ServerProcess(Startable):
    """Starts and ends one server module, which a subclass names, with its options.

    Args:
        module: the module that is run, such as "greenlab.lab._server". It gets one argument, the options as
            JSON, and announces itself by one line of JSON on stdout: {"port": 8080} or {"error": "why not"}.
        name: what messages call it: "hub" for `hub.start()`.
    """

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._starter_pid = 0
        self._port = 0

    @property
    def pid(self) -> int | None:
        """The server's process id, or None while it is stopped."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start the server, and wait until it listens. Does nothing if it runs already.

        It then runs until `stop()` or the end of the program, even if nothing refers to this object.

        Returns:
            itself, so that `hub = FeedHub().start()` reads well.

        Raises:
            UsageError: the server cannot listen as asked; the message says why.
            GreenlabError: the server ended before it listened; what it wrote is on stderr.
        """
        if self._process is not None and self._status(self._process) is None:
            return self
        self.stop()
        with undebugged():
            self._process = subprocess.Popen(  # noqa: S603  (a module of greenlab, and this interpreter)
                # -P: a notebook's folder may hold a random.py or a queue.py that the server must not import.
                [sys.executable, "-P", "-m", self._module, json.dumps(self._options())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(import_path())},
            )
        self._starter_pid = os.getpid()
        # Else `urls = FeedHub().start().urls(9)` would lose its server with the last reference to it.
        atexit.register(self.stop)
        try:
            self._port = self._read_port(self._process)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End the server and wait until it is gone. Does nothing if it is stopped already."""
        process, self._process = self._process, None
        atexit.unregister(self.stop)
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        # Not SIGTERM: it has nothing to save, and a child inherits it if SIGTERM is ignored. In a
        # forked child of this process Popen signals nothing, since the server is not its child.
        process.kill()
        process.wait()

    def _options(self) -> dict[str, Any]:
        """Return the options that the server gets, in JSON's types."""
        raise NotImplementedError

    def _running_port(self) -> int:
        """Return the port of the running server.

        Raises:
            UsageError: it was not started, or has died.
        """
        if self._process is None:
            raise UsageError(f"start the {self._name} first: {self._name}.start()")
        status = self._status(self._process)
        if status is not None:
            raise UsageError(
                f"the {self._name}'s server ended with status {status}: {self._name}.start() starts it again"
            )
        return self._port

    def _status(self, process: subprocess.Popen[bytes]) -> int | None:
        """Return the server's exit status; None if it runs, as far as a forked child of its starter can know."""
        return process.poll() if self._starter_pid == os.getpid() else None

    @staticmethod
    def _read_port(process: subprocess.Popen[bytes]) -> int:
        assert process.stdout is not None  # noqa: S101  tells mypy what PIPE implies
        line = process.stdout.readline()
        if not line:
            raise GreenlabError(f"the server ended with status {process.wait()} before it listened")
        announced = json.loads(line)
        if "error" in announced:
            raise UsageError(announced["error"])
        return int(announced["port"])


def import_path() -> list[str]:
    """Return the server's import path: this process's, then the folder that greenlab was loaded from."""
    return [*(str(place) for place in sys.path if place), str(Path(__file__).parents[2])]
