"""`greenlab worker`: the mix of Celery workers for this machine, in one terminal.

One eventlet worker takes tasks that wait, one prefork worker with a process a core takes those that compute.

Guarantees: Ctrl-C, or a SIGTERM, ends both warmly: tasks that run may end; a second one ends them at once. Where one
worker ends by itself, the other is ended too, and the exit status says so.

Must not import: celery, kombu.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import IO, TYPE_CHECKING, Any, Final

from greenlab.children import undebugged
from greenlab.pools.celery import settings
from greenlab.pools.this_process import count_cores

if TYPE_CHECKING:
    from collections.abc import Sequence

GREEN: Final = 1000
_GRACE_S: Final = 10.0
"""How long tasks that run may take to end when the program that wanted them has gone."""
PLAIN_LOG: Final = "GREENLAB_PLAIN_LOG"
"""Set in the workers' environment: their log then has what a person reads, and not two lines a message."""


def run(
    concurrency: int = GREEN,
    processes: int | None = None,
    options: Sequence[str] = (),
    *,
    app: str = "greenlab.celery",
    parent: int | None = None,
) -> int:
    """Run the workers until they are ended.

    Args:
        concurrency: tasks at a time of the eventlet worker; 0 for none.
        processes: processes of the prefork worker, by default one a core; 0 for none.
        options: what else to tell both workers, as `celery worker` takes it.
        app: the module of the application.
        parent: the id of the program that started this process, with which they end; None for none.

    Returns:
        the exit status.

    Raises:
        UsageError: there is no broker, or no secret.
    """
    found = settings.find(start=True)
    count = count_cores() if processes is None else processes
    wanted = [
        *([("io", "eventlet", concurrency, "tasks that wait")] if concurrency else []),
        *([("cpu", "prefork", count, "tasks that compute")] if count else []),
    ]
    where = "the embedded broker, for kernels on this machine" if found.embedded else "GREENLAB_BROKER"
    _say(f"greenlab worker: messages come by {where}; Ctrl-C ends it")
    workers = []
    for name, pool, size, what in wanted:
        _say(f"{name:>3} | {pool}, {size:,} at a time: {what}")
        workers.append(_start(name, pool, size, options, app))
    threads = [threading.Thread(target=_copy, args=(name, worker.stdout), daemon=True)
               for (name, *_), worker in zip(wanted, workers, strict=True)]  # fmt: skip
    for thread in threads:
        thread.start()
    return _wait(workers, threads, parent)


def _start(name: str, pool: str, size: int, options: Sequence[str], app: str) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "celery", "--quiet", "-A", app, "worker", "-P", pool, "-c", str(size),
        "-n", f"{name}@%h", "-l", "info", "--without-mingle", "--without-gossip", *options,
    ]  # fmt: skip
    with undebugged():
        # In a group of its own: Ctrl-C comes to us, and we pass it on once.
        return subprocess.Popen(  # noqa: S603 - our own interpreter and code
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0,
            env=os.environ | {PLAIN_LOG: "1", "PYTHONWARNINGS": "ignore"},
        )  # fmt: skip


def _wait(workers: Sequence[subprocess.Popen[bytes]], threads: Sequence[threading.Thread], parent: int | None) -> int:
    asked = 0
    orphaned_s = 0.0
    ended = threading.Event()

    def end(*_: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            _say("ending: tasks that run may end; once more ends them at once")
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL) if asked > 1 else worker.send_signal(signal.SIGTERM)

    def follow_parent() -> None:
        nonlocal orphaned_s
        if parent in (None, os.getppid()):
            return
        orphaned_s = orphaned_s or time.monotonic()
        if not asked or (asked == 1 and time.monotonic() > orphaned_s + _GRACE_S):
            end()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        watchers = [threading.Thread(target=_await, args=(worker, ended), daemon=True)
                    for worker in workers]  # fmt: skip
        for watcher in watchers:
            watcher.start()
        while not ended.wait(1.0):  # short, so that a signal's handler gets its turn on every system
            follow_parent()
        if not asked:
            _say("a worker has ended by itself: ending the other")
            for worker in workers:
                worker.send_signal(signal.SIGTERM)
        for worker in workers:
            while worker.poll() is None:
                follow_parent()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    worker.wait(1.0)
        for thread in threads:
            thread.join(1.0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0 if asked else 1


def _await(worker: subprocess.Popen[bytes], ended: threading.Event) -> None:
    worker.wait()
    ended.set()


def _copy(name: str, stream: IO[bytes] | None) -> None:
    for line in stream or ():
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            _say(f"{name:>3} | {text}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command line speaks
