"""Time limits of the tasks at one worker process: which is near, and what is done about a task that outlasts its own.

Guarantees: such a task is told to end, and where that has no effect its worker is killed; a task that ends in time, and
those beside it, are left alone; while no limit is near, nothing is woken.
Must not import: runs, live, magics, eventlet.green.
"""

from __future__ import annotations

import signal
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from greenlab.errors import TaskTimeoutError
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.prefork.job import Entry
    from greenlab.pools.processes.framing import Page
    from greenlab.pools.protocol import Job

get_hub = eventlet.hubs.get_hub

_GRACE_S: Final = 1.0
"""How long a task that was told to end may take to clean up before its worker is killed: a `finally` that closes
connections or removes files needs less, and a task that cannot be told should not keep a run waiting."""


class LimitedWorker(Protocol):
    """What is asked of a worker; see `worker_handle.WorkerHandle`."""

    outstanding: dict[int, Entry]

    @property
    def running(self) -> tuple[int, Entry] | None:
        """The task that runs now, and its number."""

    @property
    def is_dead(self) -> bool:
        """Whether its process has ended."""

    def end_task(self, number: int) -> bool:
        """Kill the worker, if this is the task that it runs."""


class TimeLimit:
    """Watches the tasks of one worker, from `watch` on until none with a limit is there.

    Args:
        handle: the pool's end of the worker.
        page: what that shares with it.
        signal_it: sends the worker a signal.
    """

    def __init__(self, handle: LimitedWorker, page: Page, signal_it: Callable[[int], object]) -> None:
        self._handle = handle
        self._page = page
        self._signal = signal_it
        self._overdue = 0  # the task that was told to end, having outlasted its limit
        self._timer: Any = None

    def watch(self, job: Job) -> None:
        """Watch the tasks of a job that has been sent to the worker."""
        if job.timeout_s is not None and self._timer is None:
            self._look_in(job.timeout_s)

    def loss(self, number: int, job: Job) -> TaskTimeoutError | None:
        """Return what a task fails with whose worker was killed for its limit; None if that is not why."""
        if self._overdue != number:
            return None
        return TaskTimeoutError(
            f"the task ran longer than its timeout of {job.timeout_s:g} s, did not end "
            f"within {_GRACE_S:g} s of being told to, and its worker was replaced"
        )

    def close(self) -> None:
        """Watch no longer."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_in(self, left_s: float) -> None:
        """See to it that the task that runs in `left_s` seconds is not over its limit."""
        self._timer = get_hub().schedule_call_global(left_s, self._look)

    def _look(self) -> None:
        """The hub calls this, so it must not wait."""
        self._timer = None
        left_s = self._left_s()
        if left_s is None or self._handle.is_dead:
            return
        number, running = self._page.running[0], self._handle.running
        if left_s <= 0 and running is not None:
            limit_s = running[1][0].job.timeout_s or 0.0
            if self._overdue == number:
                self._handle.end_task(number)
            else:
                self._overdue = number
                self._page.limit_s[0] = limit_s
                self._page.stop[0] = number
                self._signal(signal.SIGUSR1)
            left_s = min(limit_s, _GRACE_S)
        self._look_in(max(left_s, 0.001))

    def _left_s(self) -> float | None:
        """Seconds until the running task reaches its limit, at the soonest; None if no limit is near."""
        limits = [active.job.timeout_s for active, _, _ in self._handle.outstanding.values()]
        soonest = min((limit for limit in limits if limit is not None), default=None)
        started_s, running = self._page.started_s[0], self._handle.running
        if running is None or running[1][0].job.timeout_s is None or running[0] != self._page.running[0]:
            return soonest
        limit_s = running[1][0].job.timeout_s
        left_s = started_s + limit_s - perf_counter()
        if running[0] == self._overdue:
            return left_s + _GRACE_S
        return min(left_s, limit_s)  # while the function is loaded, `started_s` lies ahead
