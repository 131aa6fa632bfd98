"""queue.SimpleQueue under greenlab: what C's is, also in finalizers, in signal handlers and across forks."""

from __future__ import annotations

import gc
import os
import pickle
import queue
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from system import forked

import greenlab
from greenlab.greening import queues

NATIVE: list[Any] = [queue.SimpleQueue]


def test_green_tasks_and_threads_put_and_get(started: Any) -> None:
    box: queue.SimpleQueue[Any] = queue.SimpleQueue()
    tasks = [greenlab.spawn(box.get) for _ in range(3)]
    thread_got: list[Any] = []
    thread = threading.Thread(target=lambda: thread_got.append(box.get()))
    thread.start()
    time.sleep(0)
    assert [False] * 3 == [task.dead for task in tasks]
    box.put("green")

    def put_three() -> None:
        box.put("native")
        box.put_nowait("native")
        box.put("green")

    putter = threading.Thread(target=put_three)
    putter.start()
    got = [task.wait() for task in tasks]
    putter.join()
    thread.join()
    assert ["green", "green", "native", "native"] == sorted(got + thread_got)
    assert box.empty()
    assert 0 == box.qsize()


def test_a_timeout_ends_a_wait_and_a_kill_passes_the_item_on(started: Any) -> None:
    box: queue.SimpleQueue[Any] = queue.SimpleQueue()
    with pytest.raises(queue.Empty):
        box.get(timeout=0.01)
    first, second = greenlab.spawn(box.get), greenlab.spawn(box.get)
    time.sleep(0)
    box.put("item")  # wakes the first, which is killed before it runs
    first.kill()
    assert "item" == second.wait()
    assert not box._waiters  # type: ignore[attr-defined]


def test_a_finalizer_that_puts_in_the_middle_of_a_put_does_not_deadlock(started: Any) -> None:
    box: queue.SimpleQueue[Any] = queue.SimpleQueue()

    class Item:
        def __del__(self) -> None:
            box.put("finalized")

    def trace(frame: Any, event: str, _arg: Any) -> Any:
        """Drop an item at every line of every put and get."""
        if event == "line" and frame.f_code.co_filename in (queue.__file__, queues.__file__, threading.__file__):
            Item()
        return trace

    def use() -> list[Any]:
        sys.settrace(trace)
        try:
            box.put("put")
            return [box.get(timeout=5), box.get(timeout=5)]
        finally:
            sys.settrace(None)

    assert {"put", "finalized"} == set(greenlab.spawn(use).wait())
    weakref.finalize(use, box.put, "gone")
    del use
    gc.collect()
    got = []
    while not box.empty():
        got.append(box.get())
    assert "gone" in got


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers here")
def test_a_signal_handler_that_puts_wakes_a_task_though_the_hub_polls(started: Any) -> None:
    box: queue.SimpleQueue[Any] = queue.SimpleQueue()
    former = signal.signal(signal.SIGALRM, lambda *_: box.put("signalled"))
    try:
        waiting = greenlab.spawn(box.get)
        begin = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert "signalled" == waiting.wait()
        assert time.monotonic() - begin < 30  # with no timer of its own the hub polls for a minute
    finally:
        signal.signal(signal.SIGALRM, former)


def test_a_child_forked_while_threads_use_a_queue_can_use_it(started: Any) -> None:
    box: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()

    def use() -> None:
        while not stop.is_set():
            box.put(1)
            box.get()

    def child() -> bool:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(20)  # one that hangs is killed
        box.put("mine")
        while box.get(timeout=5) != "mine":
            pass
        return True

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert [0] * 20 == [forked(child) for _ in range(20)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_a_child_forked_while_an_executor_is_in_use_ends(started: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        pool.submit(os.getpid).result()
        assert isinstance(pool._work_queue, queues.SimpleQueue)

        def child() -> bool:
            from concurrent.futures import thread

            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(20)
            thread._python_exit()  # what the interpreter does at its end
            return True

        futures = [pool.submit(os.getpid) for _ in range(1000)]
        assert [0] * 5 == [forked(child) for _ in range(5)]
        assert {os.getpid()} == {future.result() for future in futures}


def test_it_is_cs_type_for_whoever_looks(started: Any) -> None:
    assert queue.SimpleQueue is not NATIVE[0]
    assert ("_queue", "SimpleQueue") == (queue.SimpleQueue.__module__, queue.SimpleQueue.__qualname__)
    assert "_queue.SimpleQueue[int]" == str(queue.SimpleQueue[int])

    class Mine(queue.SimpleQueue[int]):
        def __init__(self, size: int) -> None:
            self.size = size

    mine = Mine(3)
    mine.put(1)
    assert (3, 1) == (mine.size, greenlab.spawn(mine.get).wait())
    calls: list[Any] = [
        lambda make: make().get(timeout=-1),
        lambda make: make().get(timeout="x"),
        lambda make: make().get(timeout=1e300),
        lambda make: make().get(timeout=float("nan")),
        lambda make: make().get(timeout=0),
        lambda make: make().get(False),
        lambda make: make().get_nowait(),
        lambda make: make(1),
        lambda make: pickle.dumps(make()),
        lambda make: setattr(make(), "colour", "green"),
        lambda make: weakref.ref(make()) is None,
        lambda make: make().put(1, True, -1),
    ]
    for number, call in enumerate(calls):
        assert outcome(call, NATIVE[0]) == outcome(call, queue.SimpleQueue), f"call {number}"


def outcome(call: Any, make: Any) -> Any:
    try:
        return call(make)
    except AttributeError:
        return AttributeError
    except Exception as error:
        return type(error), str(error)
