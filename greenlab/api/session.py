"""The hub's start and stop, and the calls that run on it: `start`, `stop`, `spawn`, `offload`, `ps`, `kill`.

Must not import: magics; at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from greenlab import greening, hub, patched, runs
from greenlab.errors import UsageError
from greenlab.hub.watchdog import watchdog_of
from greenlab.text.tracebacks import frame_left_out

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from greenlab.hub import GuestHub, Task
    from greenlab.runs import Listing
    from greenlab.runs.listing import Killed

__all__ = ["kill", "native", "offload", "ps", "spawn", "start", "stop", "wait_async"]

native = greening.native


def start(*, blocked_after: float | None = None) -> GuestHub:
    """Start the hub in this thread and green the standard library for it. Twice is the same as once.

    In a running asyncio loop (a Jupyter kernel) the hub becomes the loop's guest; elsewhere it turns while this
    thread waits for something green.

    Args:
        blocked_after: seconds that one green thread may hold the hub before it is reported as blocked (0.1 at first;
            `math.inf` reports nothing); None leaves it as it is.

    Returns:
        the hub.

    Raises:
        UsageError: greenlab has been started in another thread, or eventlet or gevent has patched the process.
    """
    patched.refuse()
    if not greening.may_green():
        raise UsageError("greenlab runs in one thread, and this is another one: call it where it was started")
    new = hub.current() is None
    here = hub.start()
    try:
        greening.green(here)
        watchdog = watchdog_of(here)
    except BaseException:
        if new:
            hub.stop()
        raise
    if blocked_after is not None:
        watchdog.after_s = blocked_after
    return here


def stop() -> None:
    """Put every patched object back, end worker processes and the hub. Tasks that still run are abandoned."""
    hub.stop()


def spawn(func: Callable[..., Any], *args: Any, **kw: Any) -> Task:
    """Run `func(*args, **kw)` in the background on the hub.

    Returns:
        a `Task`: eventlet's `GreenThread` (`wait()`, `kill()`, `dead`, `link()`) that can also be awaited.

    Raises:
        UsageError: `func` is not callable, or the caller is not on the hub's thread.
    """
    return hub.spawn(start(), func, *args, **kw)


def offload(func: Callable[..., Any], *args: Any, pool: str = "prefork") -> Any:
    """Run one call elsewhere, from a green task, and wait for it cooperatively: fetch green, parse in a process.

    In a task that runs in a worker process already the call is made there.

    Args:
        func: what to call.
        args: its arguments; with prefork they are sent to a worker process, and the value is sent back.
        pool: "prefork", for what computes, or "threads" (an OS thread), for what blocks: files, sqlite, C libraries.

    Returns:
        what the call returns; its exception is raised.

    Raises:
        UsageError: no such pool, or nothing to call.
        NotSendableError: the function, an argument or the value cannot be sent.
        WorkerLostError: the worker died.
    """
    from greenlab.pools.offload import offload as run_elsewhere

    with frame_left_out:
        return run_elsewhere(start, func, args, pool)


def wait_async(awaitable: Awaitable[Any]) -> Any:
    """Wait, in a green task, for a coroutine or future of the notebook's event loop.

    Returns:
        its result; its exception is raised.

    Raises:
        UsageError: the loop cannot run: a cell waits, or there is none; or the caller is a cell, which uses await.
    """
    return hub.wait_async(start(), awaitable)


def ps() -> Listing:
    """List what runs now: background tasks, runs and their tasks, each with state, age and where it stands."""
    return runs.list_tasks(start())


def kill(*ids: int | str) -> Killed:
    """Kill background tasks and tasks of runs, and cancel runs.

    Args:
        ids: as `ps` lists them: 3 for a task or a run, "3.17" for task 17 of run 3.

    Returns:
        a list of the ids that were killed, shown as a sentence; what had ended meanwhile is not among them.

    Raises:
        UsageError: something is no id; nothing was killed.
    """
    return runs.kill(start(), ids)
