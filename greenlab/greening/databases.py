"""PostgreSQL drivers, whose C libraries wait by themselves: psycopg2 and psycopg 3, each by its own switch.

* psycopg2 has a wait callback. It is one for the process; this one waits on the hub for green callers, and natively
  for other threads. Its documentation's limits hold while it is set: no COPY, no large objects.
* psycopg 3 looks up `psycopg.waiting.wait` at each call; `PSYCOPG_WAIT_FUNC` is the switch that sets it. Green callers
  get `wait_selector`, which cooperates as the selectors do; others get what psycopg chose for itself.

Celery's client and the locks of multiprocessing are switched by the same means (see `messaging`, `semaphores`).

Guarantees: a driver that is imported later is switched when it is imported; `restore` switches all back. A wait
callback that the user set is left alone, before and after.
"""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Any

from greenlab.greening.messaging import switch_celery, switch_kombu
from greenlab.greening.scope import green_hub
from greenlab.greening.semaphores import switch_locks, switch_values
from greenlab.greening.waiting import READ, WRITE, wait_fd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
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
            raise sys.modules["psycopg2"].OperationalError(f"poll() of psycopg2 said {state}")
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


def _switch_psycopg2(module: ModuleType) -> Callable[[], None]:
    extensions: Any = module
    if extensions.get_wait_callback() is not None:
        return _nothing
    extensions.set_wait_callback(_wait_psycopg2)

    def back() -> None:
        if extensions.get_wait_callback() is _wait_psycopg2:
            extensions.set_wait_callback(None)

    return back


def _switch_psycopg(module: ModuleType) -> Callable[[], None]:
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


_SWITCHES: dict[str, Callable[[ModuleType], Callable[[], None]]] = {
    "psycopg2.extensions": _switch_psycopg2,
    "psycopg.waiting": _switch_psycopg,
    "kombu.utils.compat": switch_kombu,
    "celery.backends.asynchronous": switch_celery,
    "multiprocessing.synchronize": switch_locks,
    "multiprocessing.sharedctypes": switch_values,
    "billiard.synchronize": switch_locks,
    "billiard.sharedctypes": switch_values,
    "loky.backend.synchronize": switch_locks,
    "joblib.externals.loky.backend.synchronize": switch_locks,
}


class Databases:
    """The drivers that are switched, and the finder that waits for those to come."""

    def __init__(self) -> None:
        self._back: list[Callable[[], None]] = []

    def switch(self) -> None:
        """Switch what is loaded, and what will be."""
        sys.meta_path.insert(0, self)
        for name in _SWITCHES:
            module = sys.modules.get(name)
            if module is not None:
                self._switch(name, module)

    def restore(self) -> None:
        """Switch everything back, and wait for nothing more."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        while self._back:
            self._back.pop()()

    def _switch(self, name: str, module: ModuleType) -> None:
        self._back.append(_SWITCHES[name](module))

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find what Python finds; have a driver switched once it is executed."""
        if name not in _SWITCHES:
            return None
        spec: ModuleSpec | None = None
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            if finder is not self and find is not None and (spec := find(name, path, target)) is not None:
                break
        if spec is None or spec.loader is None:
            return spec
        # A loader belongs to its spec: nothing is left behind on it when the module is loaded.
        loader: Any = spec.loader
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                self._switch(name, module)

        loader.exec_module = exec_module
        return spec
