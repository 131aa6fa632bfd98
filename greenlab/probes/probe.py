"""The parent's half of a probe: starts the process, sends it the call, and waits for the figures.

Guarantees: the process and all that it started are gone when `probe` returns or raises; while it waits, the other
green tasks of this process go on.

Must not import: IPython, asyncio.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from greenlab import messages
from greenlab.children import undebugged
from greenlab.errors import NotSendableError
from greenlab.pools.processes import serialization
from greenlab.probes.figures import DONE, Figures
from greenlab.probes.judge import UNSENDABLE, judge
from greenlab.probes.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

TIMES = 12
LIMIT_S = 10.0
LEAST_TIMES = 5
"""Twice natively, once green and alone, two at once."""
_PROGRAM = (
    "import sys; fd = int(sys.argv[1]); sys.path[:] = sys.argv[2:]; del sys.argv[1:];"
    " from greenlab.probes.subject import die_with_parent, serve; die_with_parent(); serve(fd)"
)
_GRACE_S = 1.5
"""The process stops a call itself, and reports where it stood; if the call holds the GIL, it cannot."""
_STARTING_S = 30.0


def probe(call: Callable[[], Any], name: str, *, times: int = TIMES, limit_s: float = LIMIT_S) -> Verdict:
    """Call something for real, up to `times` times, in a fresh process, and judge whether it cooperates.

    Args:
        call: what to call; it is sent by cloudpickle, with what it uses of the notebook.
        name: the name of the call in the verdict.
        times: how often at the most, 5 or more.
        limit_s: how long one call may take.
    """
    try:
        data = serialization.dump_function(call)
    except NotSendableError:
        return Verdict(name, UNSENDABLE, [f"{_culprit(call)} cannot be sent to a fresh process"])
    figures = _run_process(pickle.dumps((times, limit_s, data)))
    kind, reasons = judge(figures)
    return Verdict(name, kind, reasons, figures)


def _culprit(call: Any) -> str:
    name, value = serialization.find_culprit(call)
    what = serialization.type_name(value)
    return f"{name!r} ({what})" if name else f"a {what}"


def _run_process(request: bytes) -> Figures:
    path = [entry for entry in sys.path if isinstance(entry, str)]
    sock, child_sock = socket.socketpair()
    with sock:
        with child_sock, undebugged():
            process = subprocess.Popen(  # noqa: S603 (this interpreter, and a program from here)
                [sys.executable, "-c", _PROGRAM, str(child_sock.fileno()), *path],
                pass_fds=[child_sock.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            figures = _read_figures(sock, request)
        finally:
            # Before `wait`: while it is a zombie no other process can have its id.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    if figures.stage != DONE and not figures.stopped and figures.error is None:
        figures.status = _exit_text(status)
    return figures


def _read_figures(sock: socket.socket, request: bytes) -> Figures:
    """Send the call and read figures, each newer than the last, until the process ends or must be stopped."""
    figures: Figures = Figures(allowed_s=_STARTING_S)
    try:
        sock.settimeout(_STARTING_S)
        sock.sendall(b"".join(messages.join(request)))
        while True:
            until = time.monotonic() + figures.allowed_s + _GRACE_S
            (message,) = messages.receive(lambda size: _read(sock, size, until))  # noqa: B023
            figures = pickle.loads(message)
            if figures.stage == DONE or figures.stopped or figures.error is not None:
                return figures
    except TimeoutError:
        figures.stopped = figures.silent = True
    except (EOFError, ConnectionError):
        pass
    return figures


def _read(sock: socket.socket, size: int, until: float) -> bytes:
    data = b""
    while len(data) < size:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        chunk = sock.recv(size - len(data))
        if not chunk:
            raise EOFError
        data += chunk
    return data


def _exit_text(status: int) -> str:
    if status < 0:
        with contextlib.suppress(ValueError):
            return signal.Signals(-status).name
    return f"status {status}"
