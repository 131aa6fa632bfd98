"""`greenlab worker`: the mix of Celery workers for this machine, in one terminal.

One eventlet worker takes tasks that wait, one prefork worker with a process a core takes those that compute.

Guarantees: Ctrl-C, or a SIGTERM, ends both warmly: tasks that run may end; a second one ends them at once. A worker
that ends by itself is started again (Celery 5.6.3 with kombu 5.7 may end as it loses Redis); where it has not lived
for `_LIVES_S`, something is wrong with it: the other is ended too, and the exit status says so. While nothing happens
this process sleeps.

Must not import: celery, kombu.
"""

from __future__ import annotations

import contextlib
import os
import select
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
_LIVES_S: Final = 10.0
"""After a shorter life than that a worker is not started again."""
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
    workers = [_Worker(name, pool, size, options, app) for name, pool, size, _ in wanted]
    for name, pool, size, what in wanted:
        _say(f"{name:>3} | {pool}, {size:,} at a time: {what}")
    return _Launcher(workers, parent).run()


class _Worker:
    """A worker that this process has started, and starts again."""

    def __init__(self, name: str, pool: str, size: int, options: Sequence[str], app: str) -> None:
        self.name = name
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [
            sys.executable, "-m", "celery", "--quiet", "-A", app, "worker", "-P", pool, "-c", str(size),
            # The kernel tells workers apart by their names, and several of these programs may run on a machine.
            "-n", f"{name}-{os.getpid()}@%h", "-l", "info", "--without-mingle", "--without-gossip", *options,
        ]  # fmt: skip

    def start(self) -> None:
        with undebugged():
            # In a group of its own: Ctrl-C comes to us, and we pass it on once.
            self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                process_group=0, env=os.environ | {PLAIN_LOG: "1", "PYTHONWARNINGS": _warnings()},
            )  # fmt: skip
        self._started_s = time.monotonic()
        self._copier = threading.Thread(target=_copy, args=(self.name, self.process.stdout), daemon=True)
        self._copier.start()

    @property
    def has_ended(self) -> bool:
        return self.status is not None

    @property
    def status(self) -> int | None:
        return None if self.process is None else self.process.poll()

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._started_s

    def end(self) -> None:
        """Ask it to end when its tasks have."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)

    def end_now(self) -> None:
        """Kill it, and its processes."""
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def drain(self) -> None:
        """Wait for the last that it says."""
        self._copier.join(1.0)


class _Launcher:
    """Keeps workers running until they are to end."""

    def __init__(self, workers: Sequence[_Worker], parent: int | None) -> None:
        self._workers = workers
        self._parent = parent
        self._asked = 0
        self._failed = False
        self._orphaned_s = 0.0
        self._changed, self._wake = os.pipe()
        self._parents_end = _file_of(parent)

    def run(self) -> int:
        """Start all, and wait until all have ended; return the exit status."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for worker in self._workers:
                self._start(worker)
            while not all(worker.has_ended for worker in self._workers):
                self._wait()
                self._follow_parent()
                self._start_again()
            for worker in self._workers:
                worker.drain()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self._forget_parents_end()
        return 0 if self._asked and not self._failed else 1

    def _start(self, worker: _Worker) -> None:
        worker.start()
        if self._asked:  # meanwhile
            worker.end()
        threading.Thread(target=self._await, args=(worker.process,), daemon=True).start()

    def _await(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        os.write(self._wake, b"!")

    def _wait(self) -> None:
        """Wait until a worker or the parent has ended. A signal's handler gets its turn meanwhile, on every system."""
        files = [self._changed] if self._parents_end is None else [self._changed, self._parents_end]
        looks = self._parent is not None and self._parents_end is None
        if self._changed in select.select(files, [], [], 1.0 if looks else None)[0]:
            os.read(self._changed, 1)

    def _end(self, *_: Any) -> None:
        self._asked += 1
        if self._asked == 1:
            _say("ending: tasks that run may end; once more ends them at once")
        for worker in self._workers:
            worker.end() if self._asked == 1 else worker.end_now()

    def _start_again(self) -> None:
        """Start workers again that have ended by themselves; where one cannot live, end the others."""
        for worker in self._workers:
            if self._asked or self._failed or not worker.has_ended:
                continue
            if worker.age_s > _LIVES_S:
                how = f"with status {worker.status}"
                _say(f"{worker.name:>3} | has ended by itself, {how}: starting it again")
                self._start(worker)
            else:
                _say(f"{worker.name:>3} | does not stay alive: ending the other")
                self._failed = True
                for other in self._workers:
                    other.end()

    def _follow_parent(self) -> None:
        if self._parent in (None, os.getppid()):
            return
        self._forget_parents_end()
        self._orphaned_s = self._orphaned_s or time.monotonic()
        if not self._asked or (self._asked == 1 and time.monotonic() > self._orphaned_s + _GRACE_S):
            self._end()

    def _forget_parents_end(self) -> None:
        if self._parents_end is not None:
            os.close(self._parents_end)
            self._parents_end = None


def _warnings() -> str:
    """Return the environment's filters, and one for eventlet (0.41), which warns of itself as Celery imports it."""
    return ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), "ignore:::celery")))


def _file_of(pid: int | None) -> int | None:
    """Return a file that can be read when a process has ended; None where the system (macOS) has none."""
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    with contextlib.suppress(OSError):
        return os.pidfd_open(pid)
    return None


def _copy(name: str, stream: IO[bytes] | None) -> None:
    for line in stream or ():
        text = line.decode("utf-8", "replace").rstrip()
        if text:
            _say(f"{name:>3} | {text}")


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command line speaks
