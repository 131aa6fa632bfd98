"""One call in another pool, waited for cooperatively: fetch green, parse in a process.

The calls of all green tasks go through one standing job a pool, so that a call costs no more than a task of a run: the
workers are warm, and calls that come together travel together.

Guarantees: the value or the exception, with its traceback, comes back to the caller; killing the caller stops the
call where the pool can (a worker process is replaced; an OS thread goes on, and its outcome is dropped); what the call
prints goes where its caller's own output goes; when nothing was called for a second, the standing job ends. In a worker
process, which may have no processes of its own, the call is made where it is, unless an eventlet worker sends it on.

Must not import: runs, live, magics.
"""

from __future__ import annotations

import sys
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from greenlab.errors import CancelledError, GreenlabError, NotSendableError, UsageError
from greenlab.hub import current, eventlet
from greenlab.places import is_machinery
from greenlab.pools import registry
from greenlab.pools.this_process import count_cores, inside_worker, offloads_to
from greenlab.text.tracebacks import cut_traceback, frame_left_out

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub import GuestHub
    from greenlab.hub.blocks import Block
    from greenlab.pools.protocol import Pool

POOLS = ("prefork", "threads")
THREADS = 100
"""How many calls may be in OS threads at a time; more wait for their turn."""
_IDLE_S = 1.0


def offload(find_hub: Callable[[], GuestHub], func: Callable[..., Any], args: tuple[Any, ...], pool: str) -> Any:
    """Run `func(*args)` in a process or an OS thread.

    Args:
        find_hub: returns the hub to wait on; not called where the call is made in place.
        func: what to call.
        args: with what.
        pool: which of `POOLS`.

    Raises:
        UsageError: no such pool, or nothing to call.
        NotSendableError: the function, an argument or the value cannot travel.
        Exception: what the call raised.
    """
    if not callable(func):
        raise UsageError(f"offload takes a function and its arguments, not {func!r}: write offload(f, x)")
    if pool not in POOLS:
        raise UsageError(f"offload goes to {' or '.join(POOLS)}, not to {pool!r}")
    elsewhere = offloads_to()
    if elsewhere is None and inside_worker() and (pool == "prefork" or current() is None):
        return func(*args)  # it may have no processes, and no task of it waits on a hub, or that is told as a block
    hub = find_hub()
    if elsewhere is not None and not (pool == "prefork" and _serves_processes(hub, elsewhere)):
        return func(*args)
    job: OffloadJob = hub.keep(f"offload {pool}", lambda: OffloadJob(hub, pool))
    with frame_left_out:
        return job.call(func, args)


def _serves_processes(hub: GuestHub, elsewhere: str) -> bool:
    """Return, in a task of a Celery eventlet worker, whether a prefork worker takes calls that compute.

    Where none does, the call is made where it is; that it holds the hub is then reported like any other block.
    """
    pool: Any = registry.keep(hub, elsewhere)
    return bool(pool.serves("cpu"))


class _Call:
    """A call under way."""

    def __init__(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.name = str(getattr(func, "__name__", func))
        self.func = func
        self.args = args
        self.context = copy_context()
        self.ended = eventlet.event.Event()


class OffloadJob:
    """Takes calls for one pool: a `greenlab.pools.protocol.Job` that has a task a call."""

    def __init__(self, hub: GuestHub, pool: str) -> None:
        self.pool = pool
        self.kind = "cpu" if pool == "prefork" else "io"
        self.timeout_s: float | None = None
        self.max_tasks: int | None = None
        self.max_memory: int | None = None
        self.workers = count_cores()
        self._pool_name = offloads_to() or pool
        # A pool of other machines has a limit of its own.
        self.concurrency = self.workers if self._pool_name == "prefork" else THREADS
        self.func: Callable[[Any], Any] = _call_here if pool == "threads" else _packed_call()
        self._hub = hub
        self._todo: deque[tuple[int, Any]] = deque()
        self._calls: dict[int, _Call] = {}
        self._number = 0
        self._server: Any = None
        self._came: Any = None

    def call(self, func: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Run one call in the pool, and wait for it."""
        call = _Call(func, args)
        index = self._number
        self._number += 1
        self._todo.append((index, self._item(call)))
        self._calls[index] = call
        if self._server is None:
            self._server = eventlet.spawn(self._serve)
        elif self._came is not None:
            came, self._came = self._came, None
            came.send(None)
        try:
            value, error = call.ended.wait()
        except BaseException:
            if self._calls.pop(index, None) is not None:  # the caller was killed or interrupted
                self._withdraw(index)
            raise
        if error is None:
            return value
        try:
            with frame_left_out:
                raise error  # here: thrown in by the event it would have all frames of the wait
        finally:
            del error

    def _item(self, call: _Call) -> Any:
        if self.pool == "threads":
            return call
        from greenlab.pools.processes import serialization

        return serialization.dump_function(call.func), call.args

    def _withdraw(self, index: int) -> None:
        waiting = len(self._todo)
        self._todo = deque(task for task in self._todo if task[0] != index)
        if len(self._todo) == waiting:
            self._find_pool().kill(self, index, CancelledError("its caller was stopped"))

    def _find_pool(self) -> Pool:
        find = registry.get if offloads_to() is None else registry.keep
        return find(self._hub, self._pool_name)

    def _serve(self) -> None:
        """Run the standing job, until nothing was called for a while."""
        error: BaseException = GreenlabError("the offloaded call was stopped before it ended")
        try:
            self._find_pool().run(self)
        except GreenlabError as trouble:
            error = trouble
        finally:
            self._server = self._came = None
            self._todo.clear()
            calls, self._calls = self._calls, {}
            for call in calls.values():
                call.ended.send((None, error))

    def close(self) -> None:
        """End the standing job; it is an error for callers that still wait."""
        if self._server is not None:
            self._server.kill()

    # -- what the pool calls -------------------------------------------------------------------------------

    def size_hint(self) -> int | None:
        """Return None: more calls may come."""
        return None

    def pull(self) -> tuple[int, Any]:
        """Wait for the next call."""
        while not self._todo:
            self._came = eventlet.event.Event()
            with eventlet.Timeout(_IDLE_S, False):
                self._came.wait()
            self._came = None
            if not self._todo and not self._calls:
                raise StopIteration
        return self._todo.popleft()

    def succeed(self, index: int, _started_s: float, _ended_s: float, value: Any) -> None:
        """Send a caller its value."""
        call = self._calls.pop(index, None)
        if call is not None:
            call.ended.send((value, None))

    def fail(self, index: int, _started_s: float, _ended_s: float, error: BaseException) -> None:
        """Raise the error in its caller."""
        call = self._calls.pop(index, None)
        if call is None:
            return
        cut_traceback(error, is_machinery)
        if isinstance(error, NotSendableError) and str(error).startswith("cannot send item"):
            cause, error = (
                error.__cause__,
                NotSendableError(
                    f"cannot send {_unsendable_of(call)} of {call.name} to a worker process: make it inside the call"
                ),
            )
            error.__cause__ = cause
        call.ended.send((None, error))

    def write(self, stream: str, text: str, index: int | None = None) -> None:
        """Print where the caller prints."""
        call = self._calls.get(index) if index is not None else None
        if call is None:
            _print(stream, text)
        else:
            call.context.copy().run(_print, stream, text)

    def note_block(self, block: Block) -> None:
        """Do nothing: the pools of calls have no hub that could be blocked."""


def _call_here(call: _Call) -> Any:
    return call.context.copy().run(call.func, *call.args)


def _unsendable_of(call: _Call) -> str:
    """Return what cannot travel, of a call that cannot: the first such argument, by its place and type."""
    from greenlab.pools.processes import serialization

    for place, argument in enumerate(call.args, 1):
        if not serialization.is_sendable(argument):
            return f"argument {place} ({serialization.type_name(argument)})"
    return "the arguments"


def _packed_call() -> Callable[[Any], Any]:
    from greenlab.pools.processes import packed

    return packed.call


def _print(stream: str, text: str) -> None:
    getattr(sys, stream).write(text)
