"""How tests are shared out to processes: whole files, long ones first, also after a process has died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler.loadfile import LoadFileScheduling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xdist.workermanage import WorkerController

WAITING = (
    "tests/conformance/test_stdlib.py",
    "tests/pools/test_celery_recovery.py",
    "tests/pools/test_celery.py",
    "tests/pools/test_celery_hosts.py",
    "tests/pools/test_celery_broker.py",
    "tests/notebooks/test_course.py",
    "tests/pools/test_celery_servers.py",
    "tests/examples/test_examples.py",
    "tests/lab/test_workers.py",
    "tests/pools/test_celery_faults.py",
    "tests/pools/test_celery_chaos.py",
    "tests/hub/test_interrupts_kernel.py",
)
"""Files that take long, mostly waiting, the longest first."""

COMPUTING = (
    "tests/pools/test_contract_random.py",
    "tests/house/test_browser.py",
    "tests/pools/test_contract.py",
    "tests/house/test_style.py",
    "tests/greening/test_left_behind.py",
    "tests/greening/test_stress.py",
    "tests/live/test_breaks.py",
    "tests/house/test_typing.py",
    "tests/docs/test_pages.py",
)
"""The same of those that mostly compute."""


def next_file(waiting: Sequence[str], at: int) -> str:
    """Return which of the files that are left, in their usual order, a process runs next, by its number.

    One process waits while its neighbour computes, so that together they need the processors all the time; what takes
    no time to speak of comes last, so that they end together.
    """
    first: list[str] = [*COMPUTING, *WAITING] if at % 2 else [*WAITING, *COMPUTING]
    left = set(waiting)
    return next((name for name in first if name in left), waiting[0])


class WholeFiles(LoadFileScheduling):  # type: ignore[misc]
    """`--dist loadfile` that begins with what takes longest, and ends although a process has died.

    pytest-xdist 3.8.0 begins with the files that have most tests, whatever these take; it hands all that a dead process
    ever ran to others, as files with nothing left to run, and waits for their end for ever (its issues 1323, 1327 and
    1378); and it runs the test again that the process died of.
    """

    def _assign_work_unit(self, node: WorkerController) -> None:
        at = list(self.assigned_work).index(node)
        self.workqueue.move_to_end(next_file(list(self.workqueue), at), last=False)
        super()._assign_work_unit(node)

    def remove_node(self, node: WorkerController) -> str | None:
        """Take back what a process had; return the test that it died of, if any."""
        units = [unit for unit in self.assigned_work[node].items() if not all(unit[1].values())]
        del self.assigned_work[node]
        if not units:
            return None
        first = units[0][1]
        died_of: str = next(test for test, done in first.items() if not done)
        first[died_of] = True
        self.workqueue.update((name, tests) for name, tests in units if not all(tests.values()))
        for other in self.assigned_work:
            self._reschedule(other)
        return died_of

    def _reschedule(self, node: WorkerController) -> None:
        """Hand files to a process until it has enough: it begins a test only when it knows the next one."""
        if node.shutting_down:
            return
        while self.workqueue and self._pending_of(self.assigned_work[node]) <= 2:
            self._assign_work_unit(node)
        if not self.workqueue:
            node.shutdown()
