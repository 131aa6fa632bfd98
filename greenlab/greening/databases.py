"""PostgreSQL drivers, whose C libraries wait by themselves: psycopg2 and psycopg 3, each by its own switch.

* psycopg2 has a wait callback. It is one for the process; this one waits on the hub for green callers, and natively
  for other threads. Its documentation's limits hold while it is set: no COPY, no large objects.
* psycopg 3 looks up `psycopg.waiting.wait` at each call; `PSYCOPG_WAIT_FUNC` is the switch that sets it. Green callers
  get `wait_selector`, which cooperates as the selectors do; others get what psycopg chose for itself.

Guarantees: a wait callback that the user set is left alone, before and after. They are switched by `switches`.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Any

from greenlab.greening.scope import green_hub
from greenlab.greening.waiting import READ, WRITE, wait_fd

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_native_poll = select.poll


def _wait_psycopg2(connection: Any, cursor: Any = None) -> None:  # noqa: ARG001 (psycopg2's signature)
    """Wait for a connection of psycopg2's, as its documentation of green support says."""
    extensions: Any = sys.modules["psycopg2.extensions"]

    while True:
        state = connection.poll()
        if state == extensions.POLL_OK:
            return
        if state not in (extensions.POLL_READ, extensions.POLL_WRITE):
            raise sys.modules["psycopg2"].OperationalError(f"poll() of psycopg2 returned {state}")
        event = READ if state == extensions.POLL_READ else WRITE
        try:
            if green_hub() is not None:
                wait_fd(connection.fileno(), event)
            else:
                poll = _native_poll()
                poll.register(connection.fileno(), event)
                poll.poll()
        except KeyboardInterrupt:
            connection.cancel()  # as psycopg2 does without a callback; the next poll() raises QueryCanceled


def switch_psycopg2(module: ModuleType) -> Callable[[], None]:
    """Set psycopg2's wait callback, unless the user has; what is returned unsets it."""
    extensions: Any = module
    if extensions.get_wait_callback() is not None:
        return _nothing
    extensions.set_wait_callback(_wait_psycopg2)

    def back() -> None:
        if extensions.get_wait_callback() is _wait_psycopg2:
            extensions.set_wait_callback(None)

    return back


def switch_psycopg(module: ModuleType) -> Callable[[], None]:
    """Have psycopg 3 wait cooperatively for green callers; what is returned puts its own choice back."""
    waiting: Any = module
    chosen, cooperative = waiting.wait, waiting.wait_selector

    def wait(*args: Any, **kwargs: Any) -> Any:
        return (chosen if green_hub() is None else cooperative)(*args, **kwargs)

    waiting.wait = wait

    def back() -> None:
        if waiting.wait is wait:
            waiting.wait = chosen

    return back


def _nothing() -> None:
    pass
