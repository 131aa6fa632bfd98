"""Stress and leaks: no wake-up is lost between threads and green tasks, and nothing piles up.

`GREENLAB_STRESS_S` sets how many seconds each kind of stress lasts (1 by default, 30 in nightly runs), and how often
what may pile up is repeated: thirty times a second of it. A lost
wake-up shows as a worker that never ends: each has a time-out that is far above what it can take.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from typing import Any

import pytest

import greenlab

pytestmark = pytest.mark.whole_heap

STRESS_S = float(os.environ.get("GREENLAB_STRESS_S", "1"))
TURNS = int(30 * STRESS_S)
THREADS, TASKS = 8, 50
STUCK_S = 30


def everybody(work: Any) -> Any:
    """Run `work(stop)` in many threads and green tasks at once; give the threads' and the tasks' counts."""
    stop = threading.Event()
    by_threads: list[int] = []
    threads = [threading.Thread(target=lambda: by_threads.append(work(stop.is_set))) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    tasks = [greenlab.spawn(work, stop.is_set) for _ in range(TASKS)]
    time.sleep(STRESS_S)
    stop.set()
    by_tasks = [task.wait() for task in tasks]
    for thread in threads:
        thread.join(STUCK_S)
    assert not any(thread.is_alive() for thread in threads), "a thread waits for ever"
    return by_threads, by_tasks


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Condition", "Semaphore"])
def test_no_wake_up_of_a_lock_is_lost(started_once: Any, kind: Any) -> None:
    lock = getattr(threading, kind)()
    inside = total = 0

    def work(over: Any) -> Any:
        nonlocal inside, total
        mine = 0
        while not over():
            assert lock.acquire(timeout=STUCK_S), "a wake-up was lost"
            try:
                inside += 1
                assert inside == 1
                if mine % 7 == 0:
                    time.sleep(0)  # tasks switch, and threads give way, with the lock held
                total += 1
                mine += 1
                inside -= 1
            finally:
                lock.release()
            if mine % 5 == 0:
                time.sleep(0)
        return mine

    by_threads, by_tasks = everybody(work)
    assert total == sum(by_threads) + sum(by_tasks)
    assert min(by_tasks) > 0


def test_no_wake_up_of_a_queue_is_lost(started_once: Any) -> None:
    box: queue.Queue[int] = queue.Queue(maxsize=3)
    lock = threading.Lock()
    put = got = 0

    def work(over: Any) -> Any:
        nonlocal put, got
        mine = 0
        while not over():
            box.put(1, timeout=STUCK_S)
            box.get(timeout=STUCK_S)
            mine += 1
            with lock:
                put, got = put + 1, got + 1
            if mine % 5 == 0:
                time.sleep(0)
        return mine

    by_threads, by_tasks = everybody(work)
    assert put == got == sum(by_threads) + sum(by_tasks)
    assert box.empty()
    assert min(by_tasks) > 0


def test_no_wake_up_of_a_condition_is_lost(started_once: Any) -> None:
    """A token goes round: whoever gets it hands it on to the next of the other kind."""
    condition = threading.Condition()
    turn = rounds = 0

    def work(_over: Any, me: Any, everyone: Any) -> Any:
        nonlocal turn, rounds
        mine = 0

        def mine_or_over() -> Any:
            return turn in (me, -1)

        with condition:
            while True:
                assert condition.wait_for(mine_or_over, STUCK_S), "a wake-up was lost"
                if turn == -1:
                    return mine
                mine, rounds, turn = mine + 1, rounds + 1, (me + 1) % everyone
                condition.notify_all()

    count = 6
    results: dict[int, int] = {}
    threads = [
        threading.Thread(target=lambda me=me: results.__setitem__(me, work(None, me, count)))
        for me in range(0, count, 2)
    ]
    for thread in threads:
        thread.start()
    tasks = {me: greenlab.spawn(work, None, me, count) for me in range(1, count, 2)}
    time.sleep(STRESS_S)
    with condition:
        turn = -1
        condition.notify_all()
    results.update({me: task.wait() for me, task in tasks.items()})
    for thread in threads:
        thread.join(STUCK_S)
    assert rounds == sum(results.values())
    assert max(results.values()) - min(results.values()) <= 1
    assert rounds > count


def test_killed_and_timed_out_waiters_lose_nobodys_wake_up(started_once: Any) -> None:
    lock = threading.Lock()
    done = []

    def patient(i: Any) -> Any:
        with lock:
            done.append(i)

    for _ in range(200):
        lock.acquire()
        doomed = [greenlab.spawn(lock.acquire) for _ in range(3)]
        hasty = [greenlab.spawn(lock.acquire, True, 0.0005) for _ in range(3)]
        waiting = greenlab.spawn(patient, 1)
        time.sleep(0)
        threading.Thread(target=lock.release).start()
        for task in doomed:
            task.kill()
        for task in hasty:
            if task.wait():
                lock.release()
        waiting.wait()
        assert lock.acquire(timeout=STUCK_S)
        lock.release()
    assert 200 == len(done)


def script(code: Any) -> Any:
    """Run code in an interpreter of its own, and give the JSON that it prints last."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


MEASURE = """
    import gc, json, os, sys, threading, _thread
    import greenlet, psutil
    import greenlab
    from greenlab import greening, hub
    def state():
        for _ in range(3):
            gc.collect()
        return {
            "descriptors": psutil.Process().num_fds(),
            "threads": threading.active_count(),
            "greenlets": sum(isinstance(each, greenlet.greenlet) for each in gc.get_objects()),
            "patched": len(greening.replaced()),
            "finders": len(sys.meta_path),
            "objects": len(gc.get_objects()),
        }
"""


def test_many_loads_and_unloads_leave_nothing() -> None:
    before, after = script(
        MEASURE
        + f"""
    def turn():
        greenlab.start()
        greenlab.spawn(lambda: None).wait()
        greenlab.stop()
    for _ in range(5):
        turn()
    before = state()
    for _ in range({TURNS}):
        turn()
    print(json.dumps([before, state()]))
    """
    )
    grown = after.pop("objects") - before.pop("objects")
    assert before == after
    assert 0 == after["patched"]
    assert grown < 10, "what is measured with, and no more, however many turns"


def test_tens_of_thousands_of_tasks_leave_nothing() -> None:
    before, after = script(
        MEASURE
        + f"""
    import time
    greenlab.start()
    local, lock = threading.local(), threading.Lock()
    def task():
        local.x = 1
        with lock:
            time.sleep(0)
    def wave(count):
        for task_ in [greenlab.spawn(task) for _ in range(count)]:
            task_.wait()
    wave(1000)
    before = state()
    for _ in range({TURNS}):
        wave(1000)
    after = state()
    greenlab.stop()
    print(json.dumps([before, after]))
    """
    )
    grown = after.pop("objects") - before.pop("objects")
    assert before == after
    assert grown < 10 * TURNS, "less than one object in a hundred tasks"


def test_a_thousand_waits_in_threads_leave_no_reference_cycles(started_once: Any) -> None:
    from greenlab.greening.waiting import in_thread

    def fails() -> Any:
        raise LookupError

    with warnings.catch_warnings():  # of what other tests left: loops that jupyter_client never closes
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
    gc.disable()
    try:
        for _ in range(100):
            with pytest.raises(LookupError):
                in_thread(started_once, fails)
        assert gc.collect() < 500
    finally:
        gc.enable()


def test_threads_that_end_while_others_wait_for_their_rlock_break_no_memory() -> None:
    code = """
    import random, threading, time
    import greenlab

    class Holder(threading.Thread):
        def run(self):
            delay_s = random.random() / 10_000
            with self.lock:
                time.sleep(delay_s)

    greenlab.start()
    for _ in range(60):
        Holder.lock = threading.RLock()
        threads = [Holder() for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    greenlab.stop()
    """
    run = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(  # memory that is freed shows at once
        run, env=os.environ | {"PYTHONMALLOC": "debug"}, capture_output=True, text=True, timeout=100, check=False
    )
    assert (0, "") == (done.returncode, done.stderr)
