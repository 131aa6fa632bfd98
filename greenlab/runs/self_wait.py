"""Tasks that wait for runs: a task may wait for other runs, but not for its own.

Must not import: live, magics.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from greenlab.errors import UsageError
from greenlab.hub import current
from greenlab.hub.worker_greenlet import job_of
from greenlab.runs.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def waiting_for(run: Ledger) -> Iterator[None]:
    """Record, while the `with` block runs, that the calling task waits for a run.

    Raises:
        UsageError: that run cannot end before the calling task does, directly or by way of other runs.
    """
    # The green pool marks its green threads with the job whose tasks they run. In a process of the hybrid pool that is
    # the kernel's job, which no run of the process can wait for.
    hub = current()
    own = None if hub is None else job_of(hub.owner())
    if not isinstance(own, Ledger):
        yield
        return
    if _waits_for(run, own):
        raise UsageError(
            "this task waits for a run that ends only when this task has ended: wait for that run outside its tasks"
        )
    own.awaited.append(run)
    try:
        yield
    finally:
        own.awaited.remove(run)


def _waits_for(run: Ledger, other: Ledger) -> bool:
    """Return whether a task of `run` waits for `other`, or for a run that does; every run waits for itself."""
    todo, seen = [run], set()
    while todo:
        ledger = todo.pop()
        if ledger is other:
            return True
        if id(ledger) not in seen:
            seen.add(id(ledger))
            todo += ledger.awaited
    return False
