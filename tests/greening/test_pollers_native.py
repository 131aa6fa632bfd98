"""A greened select.epoll answers and fails as C's does, and is native where nobody is green; eventlet says who is."""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import select
import selectors
import socket
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import eventlet.patcher
import pytest
from system import forked

import greenlab

# In a list, for names of modules that are the native type become the green one.
NATIVE: list[Any] = [getattr(select, "epoll", None)]

pytestmark = pytest.mark.skipif(NATIVE[0] is None, reason="no epoll on this system")


def test_other_threads_native_blocks_and_forked_children_wait_natively(started: Any, pipe: Any) -> None:
    reader, writer = pipe
    poller = select.epoll()
    poller.register(reader, select.EPOLLIN)
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(poller.poll(30)))
    switches = started.switches
    with greenlab.native():
        thread.start()
        os.write(writer, b"x")
        thread.join()
        got.append(poller.poll(30))
    assert [[(reader, select.EPOLLIN)]] * 2 == got
    assert switches == started.switches
    assert 0 == forked(lambda: [(reader, select.EPOLLIN)] == poller.poll(30) and isinstance(poller, select.epoll))
    poller.close()


def test_it_goes_on_natively_after_the_hub_has_stopped(pipe: Any) -> None:
    greenlab.start()
    poller = select.epoll()
    poller.register(pipe[0], select.EPOLLIN)
    greenlab.stop()
    assert select.epoll is NATIVE[0]
    os.write(pipe[1], b"x")
    assert [(pipe[0], select.EPOLLIN)] == poller.poll()
    poller.close()


TIMEOUTS: list[Any] = [
    "x", b"1", [], float("nan"), float("inf"), -float("inf"), 2**70, -2**70, 1e300, 2147483.648, -9e9, 0, False,
]  # fmt: skip


CALLS: tuple[Any, ...] = (
    *((lambda make, timeout=timeout: make().poll(timeout)) for timeout in TIMEOUTS),
    *((lambda make, most=most: make().poll(0.001, most)) for most in (0, -2, "x", None, 2**40)),
    lambda make: make().poll(0.001, 1, 2),
    lambda make: make().poll(seconds=1),
    lambda make: make().poll(-0.0005),
    lambda make: make(0),
    lambda make: make("x"),
    lambda make: make(flags=12345),
    lambda make: make(1, 2, 3),
    lambda make: make().register(-1),
    lambda make: make().register(10**6),
    lambda make: make().register("x"),
    lambda make: make().register(None, 1),
    lambda make: make().register(0, "x"),
    lambda make: make().register(0, -1),
    lambda make: make().register(fd=10**6, eventmask=1),
    lambda make: make().modify(0, 1),
    lambda make: make().unregister(0),
    lambda make: make.fromfd("x"),
    lambda make: make.fromfd(10**6).poll(0.001),
    lambda make: make.fromfd(10**6).register(0),
    lambda make: make.fromfd(-1).closed,
    lambda make: pickle.dumps(make()),
    lambda make: copy.copy(make()),
    lambda make: setattr(make(), "colour", "green"),
    lambda make: setattr(make(), "closed", True),
    lambda make: type("Mine", (make,), {}),
    lambda make: make() == make(),
    lambda make: bool(make()),
    lambda make: type(make()) is make,
    lambda make: isinstance(make(), make),
    lambda make: repr(make).replace("pollers", ""),
    lambda make: repr(make())[:26],
    lambda make: make.poll.__doc__,
    lambda make: make.__doc__,
    lambda make: make().__enter__().__exit__(),
    lambda make: make().__enter__().__exit__(None, None, None),
    *((lambda make, name=name, args=args: getattr(closed(make), name)(*args)) for name, args in (
        ("poll", ()), ("poll", (0.001,)), ("register", (0,)), ("modify", (0, 1)), ("unregister", (0,)), ("fileno", ()),
        ("close", ()), ("__enter__", ()), ("__exit__", ()),
    )),
    lambda make: closed(make).closed,
)  # fmt: skip


def closed(make: Any) -> Any:
    poller = make()
    poller.close()
    return poller


def outcome(call: Any, make: Any) -> Any:
    try:
        return call(make)
    except AttributeError:
        return AttributeError
    except Exception as error:
        # How arguments are counted is said in Python's words, or in C's.
        return type(error), "arguments" if " argument" in str(error) else str(error)


def test_it_answers_and_fails_as_cs_does(started: Any) -> None:
    def outcomes(make: Any) -> list[Any]:
        return [outcome(call, make) for call in CALLS]

    assert select.epoll is not NATIVE[0]
    with greenlab.native():
        expected = outcomes(NATIVE[0])
    for number, (native, green) in enumerate(zip(expected, outcomes(select.epoll), strict=True)):
        assert native == green, f"call {number}"
    assert expected == greenlab.spawn(outcomes, select.epoll).wait()


def test_a_timeout_of_another_type_is_left_to_c_which_does_not_hold_the_hub(started: Any) -> None:
    class Seconds:
        def __index__(self) -> int:
            return 1

    ticks = 0

    def tick() -> None:
        nonlocal ticks
        while True:
            time.sleep(0.001)
            ticks += 1

    ticker = greenlab.spawn(tick)
    seconds: Any = Seconds()
    assert [] == select.epoll().poll(seconds)
    assert 2 < ticks
    ticker.kill()


def test_selectors_and_loops_hold_native_pollers(started: Any) -> None:
    assert "EpollSelector" == selectors.DefaultSelector.__name__
    with selectors.DefaultSelector() as selector:
        inside: Any = selector
        assert type(inside._selector) is NATIVE[0]
    loop: Any = asyncio.new_event_loop()
    assert type(loop._selector._selector) is NATIVE[0]
    loop.close()
    assert type(started.poll) is type(eventlet.patcher.original("select").epoll())


def test_names_of_it_that_libraries_imported_before_cooperate() -> None:
    code = """
        import select, sys, types
        library = types.ModuleType("some_library")
        library.epoll = select.epoll
        native = [select.epoll]  # a plain name of this module would be exchanged, too
        sys.modules["some_library"] = library
        import greenlab
        greenlab.start()
        assert library.epoll is select.epoll is not native[0]
        greenlab.stop()
        assert library.epoll is select.epoll is native[0]
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_eventlet_says_who_is_green(started: Any) -> None:
    asked = eventlet.patcher.is_monkey_patched
    for module in (socket, "socket", select, "thread", threading, "time", time, os, "subprocess", "select"):
        assert asked(module)
    for module in ("builtins", "MySQLdb", asyncio, "asyncio", sys):
        assert not asked(module)
    assert greenlab.spawn(asked, "socket").wait()
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(asked("socket")))
    thread.start()
    thread.join()
    with greenlab.native():
        seen.append(asked("socket"))
    assert [False, False] == seen
    assert 0 == forked(lambda: not asked("socket"))
    greenlab.stop()
    assert not asked("socket")
    assert asked is not eventlet.patcher.is_monkey_patched
    assert not eventlet.patcher.is_monkey_patched("socket")
