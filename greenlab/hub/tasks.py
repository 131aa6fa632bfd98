"""Tasks: green threads that can also be awaited, and that keep how they failed.

Guarantees: a task starts with the context variables of its spawner; a failure that nothing waits for is printed once,
where the task's own output goes; awaiting works from the host loop and from a loop of any other thread.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import sys
import time
import traceback
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import patched
from greenlab.errors import UsageError
from greenlab.hub import nested
from greenlab.hub._quiet import eventlet
from greenlab.hub._reprs import task_bundle
from greenlab.places import is_machinery, user_place, with_cells_named
from greenlab.text.tracebacks import Raised, cut_traceback, set_traceback

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from greenlab.hub.guest import GuestHub
    from greenlab.places import Place

_get_ident = patched.original("_thread").get_ident
_ids = itertools.count(1)


class Task(eventlet.greenthread.GreenThread):  # type: ignore[misc]  # eventlet ships no types
    """One call that runs on the hub. Made by `greenlab.spawn`.

    It has eventlet's `wait()`, `kill()`, `cancel()`, `dead`, `link()` and `unlink()`, and can be awaited.

    Attributes:
        id: a small number, unique in this kernel.
        name: the name of what runs.
        spawned_s: when it was spawned, `time.monotonic()` seconds.
        on_loop: whether it waits for something of asyncio's, see `wait_async`.
        about: what it drives, such as a run; None for a task that is its own purpose.
    """

    def __init__(self, hub: GuestHub, name: str) -> None:
        super().__init__(hub.greenlet)
        self.hub = hub
        self.id = next(_ids)
        self.name = name
        self.spawned_s = time.monotonic()
        self.on_loop = False
        self.about: Any = None
        self._ended: str | None = None
        self._failure: Raised | None = None
        hub.tasks.add(self)

    @property
    def state(self) -> str:
        """One of "waiting to start", "running", "waiting", "done", "failed" and "killed"."""
        if self._ended is not None:
            return self._ended
        if self.dead:
            return "killed"
        if not self:
            return "waiting to start"
        return "running" if self is self.hub.owner() else "waiting"

    def main(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Run the function and keep its outcome. Called by eventlet when the green thread starts."""
        try:
            result = function(*args, **kwargs)
        except greenlet.GreenletExit:
            self._end("killed", exc_info=sys.exc_info())
        except BaseException as error:
            trace = error.__traceback__
            cut_traceback(error, is_machinery)
            if error.__traceback__ is None and trace is not None:  # all of it is ours: this frame alone says nothing
                set_traceback(error, trace.tb_next)
            self._failure = Raised.of(error)
            awaited = bool(self._exit_event._waiters or self._exit_funcs)
            self._end("failed", exc_info=(type(error), error, error.__traceback__))
            if not awaited:
                self._print_failure(error)
        else:
            self._end("done", result)

    def _end(self, state: str, result: Any = None, exc_info: Any = None) -> None:
        self._ended = state
        if exc_info is None:
            self._exit_event.send(result)
        else:
            self._exit_event.send_exception(*exc_info)
        self._resolve_links()

    def _print_failure(self, error: BaseException) -> None:
        told = with_cells_named("".join(traceback.format_exception(error)))
        sys.stderr.write(f"greenlab: task {self.id} ({self.name}) failed\n{told}")

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the task in a coroutine. Cancelling the wait kills the task, as with asyncio's own tasks."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        here = _get_ident() == self.hub.thread_id

        def deliver(settle: Callable[[], None]) -> None:
            if loop is self.hub.host:
                settle()
                return
            # Another thread's loop, or one of this thread whose selector waits on the hub: either must be woken.
            try:
                loop.call_soon_threadsafe(settle)
            except RuntimeError:
                if not loop.is_closed():  # else what waited there is gone with it
                    raise

        def ended(task: Task) -> None:
            deliver(lambda: _settle(future, task))

        def abandoned(settled: asyncio.Future[Any]) -> None:
            if settled.cancelled() and not self.dead:
                self.hub.call_soon_threadsafe(self._kill_soon)

        future.add_done_callback(abandoned)
        if here:
            self.link(ended)
        else:
            self.hub.call_soon_threadsafe(self.link, ended)
        return future.__await__()

    @property
    def place(self) -> Place | None:
        """Where it stands: file, line and function, the user's own where there is one; None if it has ended."""
        if self is self.hub.owner():
            return user_place(sys._getframe(1))
        return user_place(self.gr_frame)

    def wait(self) -> Any:
        """Wait for the task, cooperatively; return its value or raise its error.

        Raises:
            UsageError: the task waits for the event loop, which stands still while this cell waits; or for itself.
        """
        if self is self.hub.owner() and self._ended is None:
            raise UsageError(f"task {self.id} waits for itself, and would never end: wait for it elsewhere")
        if self.on_loop and self.hub.owner() is self.hub.root and not self.dead:
            raise UsageError(f"task {self.id} waits for the event loop, which a waiting cell stops: write await task")
        try:
            return super().wait()
        except BaseException as error:
            self._leave_wait_out(error)
            raise

    def _leave_wait_out(self, error: BaseException) -> None:
        """Set the traceback of this task's error to the one that it failed with, without the frames of the wait."""
        if self._failure is not None and error is self._failure.error:
            set_traceback(error, self._failure.trace)

    def kill(self, *error: Any) -> None:
        """As eventlet's: end the task where it stands, which may be in a greenlet that others made in it."""
        nested.kill(self.hub, self, *error)

    def _kill_soon(self) -> None:
        self.hub.schedule_call_global(0, self.kill)

    def __repr__(self) -> str:
        return f"<Task {self.id} {self.name}: {self.state}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        return task_bundle(self)


def spawn(hub: GuestHub, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Task:
    """Start `func(*args, **kwargs)` on `hub` at its next turn."""
    if _get_ident() != hub.thread_id:
        raise UsageError("spawn works on the hub's own thread: from another one use hub.call_soon_threadsafe")
    if not callable(func):
        raise UsageError(f"spawn takes a function and its arguments, not {func!r}: write spawn(f, x), not spawn(f(x))")
    task = Task(hub, getattr(func, "__name__", type(func).__name__))
    task.gr_context = contextvars.copy_context()
    hub.schedule_call_global(0, task.switch, func, args, kwargs)
    return task


def wait_async(hub: GuestHub, awaitable: Awaitable[Any]) -> Any:
    """Wait in a green thread for a coroutine or a future of the host loop.

    Returns:
        its result; its exception is raised.

    Raises:
        UsageError: no loop pumps the hub, or it stands still because a cell waits; or the caller is the cell itself.
    """
    host: Any = hub.host
    current = hub.owner()
    problem = None
    if current is hub.root:
        problem = "a cell waits for asyncio with await"
    elif host is None:
        problem = "there is no running event loop to wait for: start greenlab inside one, as in a notebook"
    elif hub.blocking:
        problem = "the event loop stands still while a cell waits: let the cell end, or write await task in it"
    if problem is not None:
        if asyncio.iscoroutine(awaitable):
            awaitable.close()  # it will never run, and must not warn of it
        raise UsageError(problem)
    future = asyncio.ensure_future(awaitable, loop=host)
    done = eventlet.event.Event()
    future.add_done_callback(lambda _: done.send(None))
    if isinstance(current, Task):
        current.on_loop = True
    try:
        done.wait()
    except BaseException:
        future.cancel()
        raise
    finally:
        if isinstance(current, Task):
            current.on_loop = False
    return future.result()


def _settle(future: asyncio.Future[Any], task: Task) -> None:
    if future.done():
        return
    try:
        result = task.wait()
    except greenlet.GreenletExit:
        future.cancel()
    except StopIteration as error:
        # asyncio refuses StopIteration in a future; PEP 479 turns it into this one too.
        wrapped = RuntimeError("the task raised StopIteration")
        wrapped.__cause__ = error
        future.set_exception(wrapped)
    except BaseException as error:
        task._leave_wait_out(error)
        future.set_exception(error)
    else:
        future.set_result(result)
