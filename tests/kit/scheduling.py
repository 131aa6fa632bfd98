"""How tests are shared out to processes: whole files, also after a process has died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xdist.scheduler.loadfile import LoadFileScheduling

if TYPE_CHECKING:
    from xdist.workermanage import WorkerController


class WholeFiles(LoadFileScheduling):  # type: ignore[misc]
    """`--dist loadfile` that ends although a process has died.

    pytest-xdist 3.8.0 hands all that the dead process ever ran to others, as files with nothing left to run, and waits
    for their end for ever (its issues 1323, 1327 and 1378); and it runs the test again that the process died of.
    """

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
