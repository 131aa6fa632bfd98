"""The hybrid pool, apart from what all pools share: its processes and their shares, and what tasks find there."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from processes_kit import FakeJob, most_at_once, run
from tasks import nap
from waiting import wait_until

from greenlab.hub import eventlet
from greenlab.runs import Ledger

if TYPE_CHECKING:
    from pathlib import Path

    from greenlab.pools.hybrid import HybridPool

pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")


@pytest.fixture
def pool(hybrid_pool: HybridPool) -> HybridPool:
    return hybrid_pool


# --- processes and shares ----------------------------------------------------------------------------------


def test_tasks_wait_together_in_every_process(pool: HybridPool) -> None:
    def meet(_: Any) -> Any:
        import threading

        barrier = vars(threading).setdefault("of_this_test", threading.Barrier(20, timeout=20))
        barrier.wait()  # for all twenty of this process
        return os.getpid()

    job = run(pool, meet, range(40), concurrency=40)
    assert {} == job.errors
    assert [20, 20] == [job.results.count(pid) for pid in pool.pids]


def test_the_processes_together_hold_the_concurrency_and_no_more(pool: HybridPool) -> None:
    job = FakeJob(nap, [0.03] * 200, concurrency=5, workers=2)
    thread = eventlet.spawn(pool.run, job)
    seen = set()
    while not thread.dead:
        eventlet.sleep(0.002)
        seen.add(pool.count(job))
    assert 5 == max(seen)
    assert 5 == most_at_once(job.spans.values())


def test_a_process_that_is_stopped_holds_nothing_back_that_it_has_not_begun(pool: HybridPool) -> None:
    job = FakeJob(nap, [0.01] * 100, concurrency=4)
    pool.start(job)
    slow = pool.pids[0]
    os.kill(slow, signal.SIGSTOP)
    pool.run(job)
    os.kill(slow, signal.SIGCONT)
    assert 0 == job.results.count(slow)
    assert 100 == job.done


def test_few_tasks_are_for_all_processes(pool: HybridPool) -> None:
    job = run(pool, nap, [0.05] * 4, concurrency=100)
    assert [2, 2] == [job.results.count(pid) for pid in pool.pids]


def test_the_concurrency_can_be_changed_while_it_runs(pool: HybridPool) -> None:
    job = FakeJob(nap, [0.01] * 10_000, concurrency=2)
    pool.start(job)
    thread = eventlet.spawn(pool.run, job)
    seen = []
    for concurrency in (2, 11, 1):
        job.concurrency = concurrency
        pool.adjust(job)
        settled = job.done + 30
        wait_until(lambda settled=settled: job.done >= settled)
        from_s = time.perf_counter()
        wait_until(lambda settled=settled: job.done >= settled + 30)
        seen.append((from_s, time.perf_counter()))
    job.stopped = True
    thread.wait()
    # By the tasks' own times: what the pool counts as in flight includes results that are on their way.
    assert [2, 11, 1] == [most_within(job, *window) for window in seen]


def most_within(job: FakeJob, from_s: float, to_s: float) -> int:
    """How many tasks ran at once, at the most, that ran within a window of time."""
    return most_at_once((start, end) for start, end in job.spans.values() if from_s <= start and end <= to_s)


def test_a_share_that_was_lowered_holds_for_tasks_sent_ahead(pool: HybridPool) -> None:
    lowered = eventlet.event.Event()

    def items() -> Any:
        yield from [0.001] * 100
        lowered.wait()
        yield from [0.001] * 400

    job = FakeJob(nap, items(), concurrency=20, workers=1)
    thread = eventlet.spawn(pool.run, job)
    wait_until(lambda: job.done == 100)  # and twenty green threads wait for more
    job.concurrency = 1
    pool.adjust(job)
    lowered.send()
    thread.wait()
    assert 1 == most_at_once(span for index, span in job.spans.items() if index >= 100)


def test_the_pool_is_as_wide_as_the_widest_job_that_runs(pool: HybridPool) -> None:
    run(pool, nap, [0] * 4, workers=2)
    first = pool.pids
    wide = eventlet.spawn(run, pool, nap, [0.3] * 6, workers=3)
    wait_until(lambda: len(pool.pids) == 3)
    narrow = run(pool, nap, [0.001] * 20, workers=1)
    assert 3 == len(pool.pids)
    assert 1 == len(set(narrow.results))
    assert 3 == len(set(wide.wait().results))
    run(pool, nap, [0] * 4, workers=1)
    wait_until(lambda: len(pool.pids) == 1)
    assert set(pool.pids) <= {*first, *wide.wait().results}


def test_a_job_of_one_task_at_a_time_has_one_process(pool: HybridPool) -> None:
    job = run(pool, nap, [0.001] * 10, concurrency=1, workers=4)
    assert {*pool.pids} == {*job.results}
    assert 1 == len(pool.pids)


def test_what_a_job_has_to_repeat_is_pulled_while_others_wait(pool: HybridPool, tmp_path: Path) -> None:
    def second_time_lucky(i: Any) -> Any:
        path = tmp_path / str(i)
        if not path.exists():
            path.touch()
            raise ValueError(i)
        return i

    for _ in range(10):
        job = Ledger(second_time_lucky, range(7), concurrency=8, workers=2, retries=2)
        pool.run(job)
        assert list(range(7)) == job.values
        for path in tmp_path.iterdir():
            path.unlink()


# --- inside a process --------------------------------------------------------------------------------------


def test_the_standard_library_cooperates_in_a_process(pool: HybridPool) -> None:
    def talk(x: Any) -> Any:
        import socket
        import subprocess

        if not hasattr(socket, "of_this_test"):
            vars(socket)["of_this_test"] = socket.socketpair()
        here, there = vars(socket)["of_this_test"]
        if x:
            time.sleep(0.001)
            subprocess.run(["sleep", "0.001"], check=True)
            there.sendall(b"x")
            return b"x"
        return here.recv(1)  # which the others send while this one waits

    assert [b"x"] * 8 == run(pool, talk, range(8), workers=1).results


def test_a_green_run_in_a_task_works_on_the_hub_of_its_process(pool: HybridPool) -> None:
    def nested(x: Any) -> Any:
        import greenlab

        inner = greenlab.run(lambda y: (nap(0.01), x * y)[1], [1, 2, 3], pool="green", live=False)
        return inner.results

    job = run(pool, nested, range(6))
    assert {} == job.errors
    assert [[x, 2 * x, 3 * x] for x in range(6)] == job.results


def test_what_holds_the_hub_of_a_process_is_told_the_job_by_line(pool: HybridPool) -> None:
    def task(x: Any) -> int:
        time.sleep(0.03)
        if x in (5, 19):
            end_s = time.thread_time() + 0.3
            while time.thread_time() < end_s:
                pass
        return os.getpid()

    job = run(pool, task, range(20), concurrency=8)
    assert {"task 5", "task 19"} == {block.who for block in job.blocks}
    for block in job.blocks:
        assert block.index is not None
        assert (job.results[block.index], "task", "CPU") == (block.worker, block.function, block.kind)
        assert 0.2 < block.duration_s
        assert f"task {block.index} in worker {block.worker}" in str(block)


def test_a_task_does_not_see_the_context_of_another(pool: HybridPool) -> None:
    import contextvars

    def look(x: Any) -> Any:
        var = vars(contextvars).setdefault("of_this_test", contextvars.ContextVar("var", default=0))
        before = var.get()
        var.set(x)
        return before

    assert [0] * 9 == run(pool, look, range(1, 10), concurrency=1).results


def test_a_process_has_loaded_no_notebook(pool: HybridPool) -> None:
    loaded = run(pool, lambda _: sorted(sys.modules), [0]).values[0]
    assert "greenlab.pools.hybrid.worker" in loaded
    for name in ("IPython", "ipykernel", "matplotlib", "numpy", "pandas"):
        assert name not in loaded


# --- prints ------------------------------------------------------------------------------------------------


def test_prints_are_whole_lines_of_their_task_and_come_before_its_result(pool: HybridPool) -> None:
    def say(x: Any) -> Any:
        for word in ("one ", "two ", "three\n", f"rest of {x}"):
            sys.stdout.write(word)
            time.sleep(0.01)  # the others print meanwhile
        sys.stderr.write(f"err {x}\n")
        sys.stdout.buffer.write(b"!")
        return x

    job: Any = FakeJob(say, range(8), concurrency=8)
    seen = {}
    job.succeed = lambda index, *_: seen.update({index: (job.text(index=index), job.text("stderr", index))})
    pool.run(job)
    assert {i: (f"one two three\nrest of {i}!", f"err {i}\n") for i in range(8)} == seen
    assert {"one two three\n"} == {text for stream, text, _ in job.printed if text.startswith("one")}


def test_what_threads_and_green_threads_of_a_task_print_is_shown_too(pool: HybridPool) -> None:
    def say(x: Any) -> None:
        import threading

        threads = [threading.Thread(target=print, args=(f"{x} here",)), eventlet.spawn(print, f"{x} there")]
        threads[0].start()
        threads[0].join()
        threads[1].wait()

    job = run(pool, say, [7])
    assert "7 there\n" in job.text("stdout", 0)
    assert "7 here\n" in job.text()


def test_what_a_joined_thread_printed_comes_before_what_its_task_prints_and_before_its_result(pool: HybridPool) -> None:
    def say(x: Any) -> None:
        import threading

        thread = threading.Thread(target=print, args=(f"first {x}",))
        thread.start()
        thread.join()
        if x % 2:
            print(f"then {x}")

    job: Any = FakeJob(say, range(100), concurrency=1)
    seen = []
    job.succeed = lambda index, *_: seen.append((index, f"first {index}\n" in job.text()))
    pool.run(job)
    assert [(i, True) for i in range(100)] == seen
    said = job.text().split("\n")
    assert all(said.index(f"first {i}") < said.index(f"then {i}") for i in range(1, 100, 2))
