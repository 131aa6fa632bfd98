"""Celery's client: kombu asks eventlet where it runs, and keeps the answer; Celery waits for results by it.

* kombu keeps the first answer (`kombu.utils.compat`). It is made to ask again when the greening starts and when it
  ends, or the answer would be kept when it is no longer true.
* Where kombu says "eventlet", Celery 5.7 starts a green thread for each result backend, which drains it for ever, and a
  backend belongs to a green task: a thousand tasks that wait for one result each would leave a thousand green threads
  and connections behind, and the main greenlet's would be dead once the hub has stopped. So the green thread that waits
  drains, as each thread does without greenlab.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


def switch_kombu(module: ModuleType) -> Callable[[], None]:
    """Make kombu ask anew; what is returned makes it ask anew again."""
    compat: Any = module

    def forget() -> None:
        compat._environment = None

    forget()
    return forget


def switch_celery(module: ModuleType) -> Callable[[], None]:
    """Have the green thread that waits for a result drain its backend; what is returned puts Celery's drainer back."""
    drainers: Any = module.drainers
    of_eventlet, of_threads = drainers["eventlet"], drainers["default"]
    drainers["eventlet"] = of_threads

    def back() -> None:
        if drainers["eventlet"] is of_threads:
            drainers["eventlet"] = of_eventlet

    return back
