"""A batch in a process of a prefork worker, or in a thread: its tasks run one after another.

Guarantees: they run in the order of their indexes; where one takes longer than `PATIENCE_S`, those behind it are
returned and go elsewhere.

Must not import: runs, live, magics, celery.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections import deque
from contextvars import copy_context
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import TaskTimeoutError
from greenlab.pools.celery import messages
from greenlab.pools.celery.batch import Printing, Results, prepare
from greenlab.pools.processes.remote_task import Killed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenlab.pools.celery.reports import Reports

PATIENCE_S: Final = 0.05
"""How long a task may take before those that wait behind it are returned."""


class SerialBatches:
    """Runs tasks one after another: in a child of a prefork worker, or in a thread."""

    running = 0  # each process runs the one of its message

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._printing = Printing(reports)
        self._killed: set[tuple[str, int]] = set()  # also of messages that have not come yet

    def run(self, message: str, batch: messages.Batch) -> None:
        """Run the tasks of a batch."""
        results = Results(self._reports, batch.reply_queue, message)
        results.tell(messages.BEGUN)
        queue = deque(messages.tasks_of(batch))
        watch = _Watch(queue, results)
        try:
            while True:
                task = watch.next()
                if task is None:
                    break
                index, item = task
                if (message, index) in self._killed:
                    self._killed.discard((message, index))
                    now_s = perf_counter()
                    results.fail(index, now_s, now_s, Killed())
                    continue
                owner = ((batch.reply_queue, batch.job), index)
                started_s = perf_counter()
                try:
                    value = copy_context().run(_call_limited, batch, owner, item)
                except BaseException as error:
                    self._printing.end(owner)
                    results.fail(index, started_s, perf_counter(), error)
                else:
                    self._printing.end(owner)
                    results.succeed(index, started_s, perf_counter(), value)
        finally:
            watch.close()
            results.flush()
            self._reports.flush()

    def kill(self, job: str, message: str, index: int) -> None:  # noqa: ARG002 - as Batches
        """Let a task not begin, in a thread: nothing ends one that has. A process is ended by its worker instead."""
        self._killed.add((message, index))

    def end(self, job: str) -> None:
        """Do nothing: messages that have not begun are dropped, and those that have go on."""

    def set_limit(self, job: str, limit: int) -> None:
        """Do nothing: the kernel sends as many messages as may run."""


class _Watch:
    """Returns the tasks behind one that takes long, and tells the results before it."""

    def __init__(self, queue: deque[tuple[int, Any]], results: Results) -> None:
        self._queue = queue
        self._results = results
        self._lock = threading.Lock()
        self._taken = 0
        self._timer: threading.Timer | None = None
        if len(queue) > 1:
            self._start()

    def next(self) -> tuple[int, Any] | None:
        with self._lock:
            self._taken += 1
            return self._queue.popleft() if self._queue else None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _start(self) -> None:
        self._timer = threading.Timer(PATIENCE_S, self._look, [self._taken])
        self._timer.daemon = True
        self._timer.start()

    def _look(self, seen: int) -> None:
        with self._lock:
            stands = self._taken == seen
            behind = [index for index, _ in self._queue] if stands else []
            if stands:
                self._queue.clear()
        if behind:
            self._results.tell(messages.RETURNED, behind)
        if stands:
            self._results.flush()
        elif self._queue:
            self._start()


def _call_limited(batch: messages.Batch, owner: Any, item: Any) -> Any:
    func, item = prepare(batch, owner, item)
    with _limit(batch.timeout_s) as check:
        value = func(item)
    check()
    return value


@contextlib.contextmanager
def _limit(timeout_s: float | None) -> Iterator[Callable[[], None]]:
    """Raise in the main thread when the time is over; in another one, when the call has returned."""
    if timeout_s is None:
        yield lambda: None
        return
    error = TaskTimeoutError.after(timeout_s)
    started_s = perf_counter()
    if threading.current_thread() is not threading.main_thread():

        def check() -> None:
            if perf_counter() - started_s > timeout_s:
                raise error

        yield check
        return

    def ring(*_: Any) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, timeout_s)
    try:
        yield lambda: None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
