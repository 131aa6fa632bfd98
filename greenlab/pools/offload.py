"""One call in another pool, waited for cooperatively: fetch green, parse in a process.

Guarantees: the value or the exception, with its traceback, comes back to the caller; killing the caller stops the
call where the pool can (a worker process is replaced; an OS thread goes on, and its outcome is dropped).

Must not import: runs, live, magics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab import pools
from greenlab.errors import GreenlabError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub

POOLS = ("prefork", "threads")


def offload(hub: GuestHub, func: Callable[..., Any], args: tuple[Any, ...], pool: str) -> Any:
    """Run `func(*args)` in a process or an OS thread.

    Raises:
        UsageError: no such pool, or nothing to call.
        Exception: what the call raised.
    """
    if not callable(func):
        raise UsageError(f"offload takes a function and its arguments, not {func!r}: write offload(f, x)")
    if pool == "threads":
        from greenlab.greening.waiting import in_thread

        return in_thread(hub, func, *args)
    if pool != "prefork":
        raise UsageError(f"offload goes to {' or '.join(POOLS)}, not to {pool!r}")
    call = _Call(func, args, pools.count_cores())
    pools.get(hub, pool).run(call)
    return call.outcome()


class _Apply:
    """The task of an offloaded call: its item is the arguments."""

    def __init__(self, func: Callable[..., Any]) -> None:
        self.func = func

    def __call__(self, args: tuple[Any, ...]) -> Any:
        return self.func(*args)


class _Call:
    """A job of one task: a `greenlab.pools.protocol.Job`."""

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...], workers: int) -> None:
        self.func = _Apply(func)
        self.concurrency = self.workers = workers
        self.timeout_s: float | None = None
        self.max_tasks: int | None = None
        self.max_memory: int | None = None
        self._todo = [args]
        self._value: Any = None
        self._error: BaseException | None = GreenlabError("the offloaded call was stopped before it ended")

    def outcome(self) -> Any:
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # no cycle through the traceback
        return self._value

    def size_hint(self) -> int:
        return len(self._todo)

    def pull(self) -> tuple[int, Any]:
        if not self._todo:
            raise StopIteration
        return 0, self._todo.pop()

    def succeed(self, _index: int, _started_s: float, _ended_s: float, value: Any) -> None:
        self._value, self._error = value, None

    def fail(self, _index: int, _started_s: float, _ended_s: float, error: BaseException) -> None:
        self._error = error

    def write(self, stream: str, text: str, index: int | None = None) -> None:  # noqa: ARG002 (of the protocol)
        import sys

        getattr(sys, stream).write(text)
