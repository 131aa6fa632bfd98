"""Routes: functions whose calls from green code go to another pool, and the patterns that say which.

Guarantees: a routed function is the plain function wherever there is no hub to wait on: in OS threads, in worker
processes, before the start and after the stop, in native blocks. It travels: by name where it can be imported, with
its function where it was made in the notebook.

Must not import: runs, live, magics; eventlet before a call is sent. Worker processes import this.
"""

from __future__ import annotations

import functools
import inspect
import sys
from fnmatch import fnmatchcase
from types import MethodType
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from greenlab.errors import UsageError
from greenlab.pools.this_process import inside_worker, offloads_to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from greenlab.hub import GuestHub

P = ParamSpec("P")
R = TypeVar("R")

HERE = "green"
PLACES = ("prefork", "threads", HERE)
"""Where a route may lead: to worker processes, to OS threads, or nowhere."""
_KEY = "routes"


class Routed(Generic[P, R]):
    """A function that was routed. Made by `greenlab.task`.

    Attributes:
        pool: where its calls go; None if the patterns say it, at each call.
    """

    __wrapped__: Callable[P, R]

    def __init__(self, func: Callable[P, R], pool: str | None = None) -> None:
        if not callable(func):
            raise UsageError(f"task takes a function, not {func!r}: write @greenlab.task above one")
        if inspect.iscoroutinefunction(func):
            raise UsageError("a task is blocking code, without async: write def, and call blocking functions in it")
        if pool is not None:
            check_place(pool)
        functools.update_wrapper(self, func)
        self.pool = pool

    def __call__(self, *args: P.args, **kw: P.kwargs) -> R:
        """Call it, where its route leads."""
        hub = None if inside_worker() and not offloads_to() else _hub_to_wait_on()
        pool = self.pool if hub is None or self.pool is not None else routes_of(hub).find(self.__wrapped__)
        if hub is None or pool is None or pool == HERE:
            return self.__wrapped__(*args, **kw)
        from greenlab.pools.offload import offload

        call: Any = self if pool == "prefork" else self.__wrapped__
        value: R = offload(lambda: hub, functools.partial(call, **kw) if kw else call, args, pool)
        return value

    def routed_to(self, hub: GuestHub) -> str | None:
        """Return where tasks of a run belong that calls this function; None for nowhere."""
        return self.pool or routes_of(hub).find(self.__wrapped__)

    def local(self, *args: P.args, **kw: P.kwargs) -> R:
        """Call the function here, whatever its route."""
        return self.__wrapped__(*args, **kw)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<task {name_of(self.__wrapped__)}, routed {f'to {self.pool}' if self.pool else 'by patterns'}>"

    def __reduce__(self) -> Any:
        # By name, if that name means this object; with the function, if it was made in the notebook or in a function.
        module, name = self.__module__, self.__qualname__  # type: ignore[attr-defined] # from the function
        found: Any = sys.modules.get(module) if module != "__main__" else None
        for part in name.split("."):
            found = getattr(found, part, None)
        return name if found is self else (Routed, (self.__wrapped__, self.pool))


class Routes:
    """The patterns of one hub."""

    def __init__(self) -> None:
        self.table: dict[str, str] = {}

    def replace(self, table: Mapping[str, str]) -> None:
        """Set the patterns: what was set before is forgotten.

        Raises:
            UsageError: something is no pattern, or leads nowhere.
        """
        try:
            pairs = list(table.items())
        except AttributeError:
            raise UsageError(
                f"routes are a dict of patterns, such as {{'parse_*': 'prefork'}}, not {table!r}"
            ) from None
        for pattern, pool in pairs:
            if not isinstance(pattern, str):
                raise UsageError(f"a route's pattern is text, such as 'parse_*', not {pattern!r}")
            check_place(pool)
        self.table = dict(pairs)

    def find(self, func: Callable[..., Any]) -> str | None:
        """Return where a function's calls go, by the first pattern that matches its name; None for nowhere."""
        name = name_of(func)
        names = name, f"{getattr(func, '__module__', '')}.{name}"
        for pattern, pool in self.table.items():
            if any(fnmatchcase(one, pattern) for one in names):
                return pool
        return None

    def close(self) -> None:
        """Forget the patterns."""
        self.table = {}


def routes_of(hub: GuestHub) -> Routes:
    """Return the patterns of a hub, which end with it."""
    routes: Routes = hub.keep(_KEY, Routes)
    return routes


def name_of(func: Callable[..., Any]) -> str:
    """Return the qualified name that patterns are compared with, without the functions that it was made in."""
    return str(getattr(func, "__qualname__", func)).rpartition("<locals>.")[2]


def check_place(pool: object) -> None:
    """Refuse a pool to which single calls cannot go.

    Raises:
        UsageError: the message says which can be named.
    """
    if pool not in PLACES:
        raise UsageError(f"calls are routed to {', '.join(PLACES[:-1])} or {PLACES[-1]} (here), not to {pool!r}")


def _hub_to_wait_on() -> GuestHub | None:
    if "greenlab.greening" not in sys.modules:  # no hub was started
        return None
    from greenlab.greening.scope import green_hub

    return green_hub()
