"""The hybrid pool, apart from what all pools share: processes with hubs, what they hold, and what breaks."""

# Doubles, lambdas and deliberate misuse: what these rules see in them is meant.
# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from greenlab.errors import (
    GreenlabError,
    NotSendableError,
    TaskTimeoutError,
    WorkerLostError,
)
from greenlab.hub import eventlet
from greenlab.pools.hybrid import HybridPool
from greenlab.pools.processes.forkserver import ForkServer
from greenlab.pools.processes.sending import RemoteTaskError, RemoteTraceback
from greenlab.runs import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernel import Kernel


class Printing(Ledger):
    """A ledger that keeps what tasks print."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.printed: list[tuple[str, str, int | None]] = []
        self.on_result: Callable[[int], object] = lambda _: None

    def write(self, stream: str, text: str, index: int | None = None) -> None:
        self.printed.append((stream, text, index))

    def succeed(self, index: int, started_s: float, ended_s: float, value: Any) -> None:
        super().succeed(index, started_s, ended_s, value)
        self.on_result(index)

    def text(self, stream: str = "stdout", index: int | None = None) -> str:
        return "".join(text for to, text, of in self.printed if to == stream and index in (None, of))


@pytest.fixture(autouse=True)
def nothing_of_processes_left(request: pytest.FixtureRequest) -> Iterator[None]:
    if "kernel" in request.fixturenames:  # it keeps its pools
        yield
        return
    eventlet.hubs.get_hub()  # its own descriptor is not ours to count
    me = psutil.Process()
    before = me.num_fds()
    gc.freeze()  # so that collecting looks at what the test has made, which takes a tenth of the time
    yield
    gc.collect()
    gc.unfreeze()
    assert [] == me.children(recursive=True)
    assert before == me.num_fds()
    hub = eventlet.hubs.get_hub()
    eventlet.sleep(0)
    assert [] == [timer for timer in [*hub.timers, *hub.next_timers] if not timer[1].called]


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    with eventlet.Timeout(40):
        yield


@pytest.fixture
def pool() -> Iterator[HybridPool]:
    with HybridPool() as pool:
        yield pool


def job_of(func: Any, items: Any, **options: Any) -> Printing:
    return Printing(func, items, **{"concurrency": 8, "workers": 2, **options})


def run(pool: HybridPool, func: Any, items: Any, **options: Any) -> Printing:
    job = job_of(func, items, **options)
    pool.run(job)
    assert 0 == pool.count(job)
    return job


def kill(thread: Any) -> None:
    thread.kill()
    with contextlib.suppress(eventlet.greenlet.GreenletExit):
        thread.wait()


def until(condition: Any) -> None:
    while not condition():
        eventlet.sleep(0.005)


def nap(seconds: Any) -> Any:
    time.sleep(seconds)
    return os.getpid()


def compute(seconds: Any) -> Any:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return os.getpid()


# --- processes and shares ----------------------------------------------------------------------------------


def test_tasks_wait_together_in_every_process(pool: HybridPool) -> None:
    def meet(_: Any) -> Any:
        import threading

        if not hasattr(threading, "of_this_test"):
            threading.of_this_test = threading.Barrier(20, timeout=20)
        threading.of_this_test.wait()  # for all twenty of this process
        return os.getpid()

    job = run(pool, meet, range(40), concurrency=40)
    assert {} == job.errors
    assert [20, 20] == [job.values.count(pid) for pid in pool.pids]


def test_the_processes_together_hold_the_concurrency_and_no_more(pool: HybridPool) -> None:
    job = job_of(nap, [0.03] * 200, concurrency=5, workers=2)
    thread = eventlet.spawn(pool.run, job)
    seen = set()
    while not thread.dead:
        eventlet.sleep(0.002)
        seen.add(pool.count(job))
    assert 5 == max(seen)
    assert 5 == most_at_once(job.started_s, job.ended_s)


def test_a_slow_process_does_not_hold_its_share_back(pool: HybridPool) -> None:
    job = job_of(nap, [0.01] * 100, concurrency=4)
    pool.start(job)
    slow = pool.pids[0]
    os.kill(slow, signal.SIGSTOP)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.done >= 98)  # the stopped one has its two, of one hundred
    os.kill(slow, signal.SIGCONT)
    thread.wait()
    assert 2 == job.values.count(slow)
    assert 100 == job.done


def test_few_tasks_are_for_all_processes(pool: HybridPool) -> None:
    job = run(pool, nap, [0.05] * 4, concurrency=100)
    assert [2, 2] == [job.values.count(pid) for pid in pool.pids]


def test_tiny_tasks_are_pulled_ahead_but_not_without_bound(pool: HybridPool) -> None:
    most = 0

    def items() -> Any:
        nonlocal most
        for i in range(30_000):
            most = max(most, job.pulled - job.done)
            yield i

    job = job_of(abs, items(), concurrency=4)
    pool.run(job)
    assert list(range(30_000)) == job.values
    assert 4 < most < 2_000


def test_the_concurrency_can_be_changed_while_it_runs(pool: HybridPool) -> None:
    job = job_of(nap, [0.01] * 10_000, concurrency=2)
    pool.start(job)
    thread = eventlet.spawn(pool.run, job)
    seen = []
    for concurrency in (2, 11, 1):
        job.concurrency = concurrency
        pool.adjust(job)
        settled = job.done + 30
        until(lambda settled=settled: job.done >= settled)
        from_s = time.perf_counter()
        until(lambda settled=settled: job.done >= settled + 30)
        seen.append((from_s, time.perf_counter()))
    job.stopped = True
    thread.wait()
    # By the tasks' own times: what the pool counts as in flight includes results that are on their way.
    assert [2, 11, 1] == [most_within(job, *window) for window in seen]


def most_within(job: Any, from_s: float, to_s: float) -> int:
    """How many tasks ran at once, at the most, that ran within a window of time."""
    spans = [
        (start, end) for start, end in zip(job.started_s, job.ended_s, strict=True) if from_s <= start and end <= to_s
    ]
    return most_at_once(*zip(*spans, strict=True))


def test_a_share_that_was_lowered_holds_for_tasks_sent_ahead(pool: HybridPool) -> None:
    lowered = eventlet.event.Event()

    def items() -> Any:
        yield from [0.001] * 100
        lowered.wait()
        yield from [0.001] * 400

    job = job_of(nap, items(), concurrency=20, workers=1)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.done == 100)  # and twenty green threads wait for more
    job.concurrency = 1
    pool.adjust(job)
    lowered.send()
    thread.wait()
    assert 1 == most_at_once(job.started_s[100:], job.ended_s[100:])


def most_at_once(starts: Any, ends: Any) -> int:
    level = most = 0
    for _, step in sorted([(start, 1) for start in starts] + [(end, -1) for end in ends]):
        level += step
        most = max(most, level)
    return most


def test_the_pool_is_as_wide_as_the_widest_job_that_runs(pool: HybridPool) -> None:
    run(pool, nap, [0] * 4, workers=2)
    first = pool.pids
    wide = eventlet.spawn(run, pool, nap, [0.3] * 6, workers=3)
    until(lambda: len(pool.pids) == 3)
    narrow = run(pool, nap, [0.001] * 20, workers=1)
    assert 3 == len(pool.pids)
    assert 1 == len(set(narrow.values))
    assert 3 == len(set(wide.wait().values))
    run(pool, nap, [0] * 4, workers=1)
    until(lambda: len(pool.pids) == 1)
    assert set(pool.pids) <= {*first, *wide.wait().values}


def test_a_job_of_one_task_at_a_time_has_one_process(pool: HybridPool) -> None:
    job = run(pool, nap, [0.001] * 10, concurrency=1, workers=4)
    assert {*pool.pids} == {*job.values}
    assert 1 == len(pool.pids)


def test_what_a_job_has_to_repeat_is_pulled_while_others_wait(pool: HybridPool, tmp_path: Path) -> None:
    def second_time_lucky(i: Any) -> Any:
        path = tmp_path / str(i)
        if not path.exists():
            path.touch()
            raise ValueError(i)
        return i

    for _ in range(10):
        assert list(range(7)) == run(pool, second_time_lucky, range(7), retries=2).values
        for path in tmp_path.iterdir():
            path.unlink()


def test_a_broken_job_makes_run_raise(pool: HybridPool) -> None:
    job: Any = job_of(abs, [1, 2])

    def breaks(*_: Any) -> None:
        raise ZeroDivisionError

    job.succeed = breaks
    with pytest.raises(ZeroDivisionError):
        pool.run(job)
    assert [1] == run(pool, abs, [1]).values


# --- inside a process --------------------------------------------------------------------------------------


def test_the_standard_library_cooperates_in_a_process(pool: HybridPool) -> None:
    def talk(x: Any) -> Any:
        import socket
        import subprocess

        if not hasattr(socket, "of_this_test"):
            socket.of_this_test = socket.socketpair()
        here, there = socket.of_this_test
        if x:
            time.sleep(0.001)
            subprocess.run(["sleep", "0.001"], check=True)
            there.sendall(b"x")
            return b"x"
        return here.recv(1)  # which the others send while this one waits

    assert [b"x"] * 8 == run(pool, talk, range(8), workers=1).values


def test_a_green_run_in_a_task_works_on_the_hub_of_its_process(pool: HybridPool) -> None:
    def nested(x: Any) -> Any:
        import greenlab

        inner = greenlab.run(lambda y: (nap(0.01), x * y)[1], [1, 2, 3], pool="green", live=False)
        return inner.results

    job = run(pool, nested, range(6))
    assert {} == job.errors
    assert [[x, 2 * x, 3 * x] for x in range(6)] == job.values


def test_a_task_does_not_see_the_context_of_another(pool: HybridPool) -> None:
    import contextvars

    def look(x: Any) -> Any:
        var = vars(contextvars).setdefault("of_this_test", contextvars.ContextVar("var", default=0))
        before = var.get()
        var.set(x)
        return before

    assert [0] * 9 == run(pool, look, range(1, 10), concurrency=1).values


def test_a_process_has_loaded_no_notebook(pool: HybridPool) -> None:
    loaded = run(pool, lambda _: sorted(sys.modules), [0]).values[0]
    assert "greenlab.pools.hybrid.worker" in loaded
    for name in ("IPython", "ipykernel", "matplotlib", "numpy", "pandas"):
        assert name not in loaded


def test_processes_see_path_directory_and_environment_of_the_parent(
    pool: HybridPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool.start(job_of(abs, []))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GREENLAB_TEST", "here")
    monkeypatch.syspath_prepend("/nowhere")
    job = run(pool, lambda _: (os.getcwd(), os.environ["GREENLAB_TEST"], sys.path[0]), [0])  # noqa: PTH109
    assert [(str(tmp_path), "here", "/nowhere")] == job.values


def test_processes_ignore_sigint(pool: HybridPool) -> None:
    pool.start(job_of(abs, []))
    before = pool.pids
    job = job_of(nap, [0.002] * 200)
    thread = eventlet.spawn(pool.run, job)
    while not thread.dead:
        for pid in before:
            os.kill(pid, signal.SIGINT)
        eventlet.sleep(0.01)
    assert ({}, 200) == (job.errors, job.done)
    assert before == pool.pids


def test_a_task_may_fork(pool: HybridPool) -> None:
    def fork(x: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pid = os.fork()
        if not pid:
            print("to nobody")
            if x % 2:
                raise SystemExit
            return None
        return x, os.waitpid(pid, 0)[0] == pid

    job = run(pool, fork, range(10), concurrency=4)
    assert [(x, True) for x in range(10)] == job.values
    assert "" == job.text()


# --- what tasks end with -----------------------------------------------------------------------------------


def test_a_failure_is_of_one_task_and_its_traceback_begins_in_it(pool: HybridPool) -> None:
    def divide(x: Any) -> Any:
        return 6 // x

    for options in ({}, {"timeout_s": 9.0}):
        job = run(pool, divide, [1, 0, 2], **options)
        assert [6, None, 3] == job.values
        assert ZeroDivisionError is type(job.errors[1])
        assert isinstance(job.errors[1].__cause__, RemoteTraceback)
        assert "return 6 // x" in str(job.errors[1].__cause__)
        assert "greenlab/pools" not in str(job.errors[1].__cause__)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, MemoryError])
def test_no_exception_ends_a_process(pool: HybridPool, error: type[BaseException]) -> None:
    pool.start(job_of(abs, []))
    before = pool.pids

    def fail(kind: Any) -> None:
        time.sleep(0)
        raise kind("x")

    job = run(pool, fail, [error] * 5)
    assert [error] * 5 == [type(job.errors[i]) for i in range(5)]
    assert before == pool.pids


def test_what_cannot_travel_is_named_and_fails_alone(pool: HybridPool) -> None:
    class PickyError(Exception):
        def __init__(self, one: Any, two: Any) -> None:
            super().__init__(f"{one} and {two}")

    def task(x: Any) -> Any:
        if x == 1:
            raise PickyError(1, 2)
        return threading.Lock() if x == 2 else x

    job = run(pool, task, [0, 1, 2, threading.Lock(), 4])
    assert [0, None, None, None, 4] == job.values
    assert RemoteTaskError is type(job.errors[1])
    assert "PickyError: 1 and 2" in str(job.errors[1])
    assert [NotSendableError] * 2 == [type(job.errors[i]) for i in (2, 3)]
    assert "result (a " in str(job.errors[2])
    assert "item 3 (_thread.lock)" in str(job.errors[3])


def test_a_function_that_cannot_travel_ends_the_run_before_a_task_starts(pool: HybridPool) -> None:
    lock = threading.Lock()
    with pytest.raises(NotSendableError, match="'lock'"):
        pool.run(job_of(lambda _: lock, [1]))


def test_a_function_that_cannot_be_loaded_there_fails_each_task(pool: HybridPool) -> None:
    class Broken:
        def __reduce__(self) -> Any:
            return int, ("x",)

        def __call__(self, _: Any) -> None:
            pass

    job = run(pool, Broken(), range(3))
    assert [ValueError] * 3 == [type(job.errors[i]) for i in range(3)]


def test_arrays_and_large_values_travel_both_ways(pool: HybridPool) -> None:
    numpy = pytest.importorskip("numpy")
    whole = numpy.arange(300_000.0)
    blob = os.urandom(20 << 20)
    job = run(pool, lambda x: x[::-1], [whole, blob, "ü" * 100_000, [1, 2]])
    assert (whole[::-1] == job.values[0]).all()
    assert [blob[::-1], "ü" * 100_000, [2, 1]] == job.values[1:]


# --- limits, kills and questions ---------------------------------------------------------------------------


def test_a_task_that_computes_is_stopped_at_its_limit_and_no_other(pool: HybridPool) -> None:
    pool.start(job_of(abs, []))
    before = pool.pids

    def task(x: Any) -> Any:
        compute(60) if x == 3 else nap(0.5)
        return x

    job = run(pool, task, range(8), timeout_s=1.0)
    assert {3: TaskTimeoutError} == {i: type(error) for i, error in job.errors.items()}
    assert "longer than its timeout of 1 s" in str(job.errors[3])
    assert [0, 1, 2, None, 4, 5, 6, 7] == job.values
    assert before == pool.pids


def test_a_limit_is_of_each_task_and_not_of_the_jobs_beside_it(pool: HybridPool) -> None:
    unlimited = eventlet.spawn(run, pool, compute, [0.4] * 4, concurrency=2)
    assert {} == run(pool, nap, [0.02] * 40, timeout_s=5.0).errors
    limited = run(pool, compute, [60, 60], timeout_s=0.1, concurrency=2)
    assert [TaskTimeoutError] * 2 == [type(limited.errors[i]) for i in range(2)]
    assert {} == unlimited.wait().errors


def test_a_task_that_is_killed_fails_with_the_error_and_the_others_go_on(pool: HybridPool) -> None:
    job = job_of(nap, [60, 0.001, 60, 0.001], concurrency=4)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.done == 2)
    assert not pool.kill(job, 1, ValueError("enough"))
    assert not pool.kill(job, 17, ValueError("enough"))
    for index in (0, 2):
        assert pool.kill(job, index, ValueError(f"enough of {index}"))
    thread.wait()
    assert {0: "enough of 0", 2: "enough of 2"} == {i: str(error) for i, error in job.errors.items()}


def test_what_is_held_tells_process_start_and_place(pool: HybridPool) -> None:
    def wait_here(seconds: Any) -> None:
        time.sleep(seconds)

    job = job_of(wait_here, [60] * 6, concurrency=4)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: pool.count(job) == 4)
    held = pool.held(job)
    kill(thread)
    assert {0, 1, 2, 3} == {one.index for one in held}
    assert {one.worker for one in held} <= {*pool.pids}
    assert {(__file__, "wait_here")} == {(one.where[0], one.where[2]) for one in held if one.where is not None}
    assert None not in {one.where for one in held}
    assert all(one.started_s < time.perf_counter() for one in held)


def test_of_a_process_that_does_not_answer_is_told_what_it_holds(pool: HybridPool) -> None:
    job = job_of(nap, [60] * 4, concurrency=4)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: pool.count(job) == 4)
    stopped = pool.pids[0]
    os.kill(stopped, signal.SIGSTOP)
    ticks = []
    ticker = eventlet.spawn(lambda: [(ticks.append(1), eventlet.sleep(0.01)) for _ in range(100)])
    held = pool.held(job)
    ticker.kill()
    os.kill(stopped, signal.SIGCONT)
    kill(thread)
    assert [None, None] == [one.where for one in held if one.worker == stopped]
    assert all(one.where for one in held if one.worker != stopped)
    assert [0, 1, 2, 3] == sorted(one.index for one in held)
    assert len(ticks) > 3


# --- cancelling --------------------------------------------------------------------------------------------


def test_a_cancelled_run_stops_its_tasks_and_spares_the_processes(pool: HybridPool, tmp_path: Path) -> None:
    def tell(x: Any) -> None:
        try:
            time.sleep(60)
        finally:
            (tmp_path / str(x)).touch()

    job = job_of(tell, range(100))
    thread = eventlet.spawn(pool.run, job)
    until(lambda: pool.count(job) == 8)
    before = pool.pids
    kill(thread)
    assert 8 == len(list(tmp_path.iterdir()))
    assert 0 == pool.in_flight
    assert before == pool.pids
    assert [1, 2] == run(pool, abs, [-1, -2]).values
    assert 0 == pool.in_flight


def test_a_process_that_computes_is_replaced_when_its_run_is_cancelled(pool: HybridPool) -> None:
    job = job_of(lambda x: compute(60) if x == 0 else nap(60), range(4), concurrency=4)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: pool.count(job) == 3)  # behind the one that computes nothing begins
    before = pool.pids
    kill(thread)
    assert 1 == len(set(before) - set(pool.pids))
    assert [1, 2] == run(pool, abs, [-1, -2]).values
    assert 0 == pool.in_flight
    until(lambda: len(pool.pids) == 2)


def test_a_process_with_tasks_of_others_is_given_longer(pool: HybridPool) -> None:
    other = job_of(nap, [0.05] * 44, concurrency=2)
    runner = eventlet.spawn(pool.run, other)
    until(lambda: other.done)
    before = pool.pids
    job = job_of(compute, [0.8] * 2, concurrency=2)  # longer than the grace of a process of its own
    thread = eventlet.spawn(pool.run, job)
    until(lambda: pool.count(job) == 2)
    kill(thread)
    runner.wait()
    assert ({}, 44) == (other.errors, other.done)
    assert before == pool.pids


def test_tasks_that_refuse_to_die_end_with_their_process(pool: HybridPool) -> None:
    def stay(_: Any) -> None:
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(60)

    job = job_of(stay, range(2), concurrency=2)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: pool.count(job) == 2)
    before = pool.pids
    kill(thread)
    assert not set(before) & set(pool.pids)
    assert [1] == run(pool, abs, [-1]).values


def test_a_run_may_be_killed_at_any_moment_and_nothing_of_it_goes_on(pool: HybridPool, tmp_path: Path) -> None:
    log = str(tmp_path / "log")

    def note(x: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123
            file.write(f"{x}\n")
        time.sleep(0.003)
        return x

    rng = random.Random(11)
    for _ in range(50):
        job = job_of(note, range(100_000), concurrency=20)
        thread = eventlet.spawn(pool.run, job)
        eventlet.sleep(rng.uniform(0, 0.06))
        kill(thread)
        assert 0 == pool.in_flight
        size = os.path.getsize(log) if os.path.exists(log) else 0  # noqa: PTH110, PTH202
        assert {} == job.errors
    eventlet.sleep(0.05)
    assert size == os.path.getsize(log)  # noqa: PTH202
    assert list(range(50)) == run(pool, abs, range(50)).values
    assert 2 == len(pool.pids)


# --- deaths ------------------------------------------------------------------------------------------------


def test_a_process_that_dies_costs_the_tasks_it_had_begun_and_no_other(pool: HybridPool) -> None:
    def task(x: Any) -> Any:
        time.sleep(0.05)
        if x == 60:
            os._exit(7)
        return x

    job = run(pool, task, range(200), concurrency=20)
    assert 60 in job.errors
    assert {WorkerLostError} == {type(error) for error in job.errors.values()}
    assert {(7, None)} == {(error.exitcode, error.signal) for error in job.errors.values()}
    assert 1 == len({error.pid for error in job.errors.values()})
    assert 1 <= len(job.errors) <= 20  # ten, and those that ended in the same turn of its hub
    assert 200 == job.done
    assert 2 == len(pool.pids)
    assert list(range(200)) == _resumed(pool, job)


def _resumed(pool: HybridPool, job: Any) -> Any:
    again = job.resumed()
    again.func = lambda x: x
    pool.run(again)
    return again.values


def test_a_crash_tells_the_signal(pool: HybridPool) -> None:
    job = run(pool, lambda _: os.kill(os.getpid(), signal.SIGSEGV), [1])
    assert signal.SIGSEGV == job.errors[0].signal


def test_an_item_or_a_function_that_crashes_as_it_is_unpickled_costs_tasks_not_the_run(pool: HybridPool) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os._exit, (9,)

        def __call__(self, _: Any) -> None:
            pass

    job = run(pool, abs, [1, Bomb(), 2], concurrency=1)
    assert [1, None, 2] == job.values
    assert 9 == job.errors[1].exitcode
    job = run(pool, Bomb(), range(3))
    assert {WorkerLostError} == {type(job.errors[i]) for i in range(3)}


def test_a_task_that_closes_all_descriptors_loses_its_process(pool: HybridPool) -> None:
    job = run(pool, lambda x: os.closerange(3, 4096) if x == 20 else nap(0.01), range(40), concurrency=4)
    assert 20 in job.errors
    assert {WorkerLostError} == {type(error) for error in job.errors.values()}
    assert 40 == job.done
    assert [1] == run(pool, abs, [-1]).values


@pytest.mark.parametrize(("count", "task_s"), [(3_000, 0.002), (30_000, 0.0)])
def test_each_task_ends_once_while_processes_are_killed_and_stopped_at_random(
    pool: HybridPool, tmp_path: Path, count: int, task_s: float
) -> None:
    log = str(tmp_path / "log")

    def note(x: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123
            file.write(f"{x}\n")
        if task_s:
            time.sleep(task_s)
        return x

    job = job_of(note, range(count), concurrency=10)
    thread = eventlet.spawn(pool.run, job)
    rng = random.Random(5)
    killed = 0
    while not thread.dead and killed < 30:
        eventlet.sleep(rng.uniform(0.01, 0.08))
        if pool.pids and not thread.dead:
            with contextlib.suppress(ProcessLookupError):  # dead, and the pool does not know yet
                pid = rng.choice(pool.pids)
                os.kill(pid, signal.SIGSTOP)
                eventlet.sleep(rng.uniform(0, 0.02))
                os.kill(pid, rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGCONT]))
                os.kill(pid, signal.SIGCONT)
                killed += 1
    thread.wait()
    ran = [int(line) for line in Path(log).read_text().split()]
    assert killed > 2
    assert len(ran) == len(set(ran))
    assert count == job.done == job.pulled
    assert {WorkerLostError} >= set(map(type, job.errors.values()))
    assert set(range(count)) == {i for i, value in enumerate(job.values) if value == i} | set(job.errors)
    if task_s:
        assert len(job.errors) <= killed * 10
    until(lambda: len(pool.pids) == 2)


def test_the_tasks_of_an_idle_process_that_was_killed_are_not_lost(pool: HybridPool) -> None:
    pool.start(job_of(abs, []))
    for _ in range(10):
        os.kill(pool.pids[0], signal.SIGKILL)
        assert [0, 1, 2, 3] == run(pool, abs, range(4)).values
        until(lambda: len(pool.pids) == 2)


def test_the_pool_outlives_its_fork_server(pool: HybridPool) -> None:
    job = job_of(nap, [0.002] * 300)
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.done)
    os.kill(pool._fleet.server_pid, signal.SIGKILL)
    thread.wait()
    assert 300 == job.done
    assert job.failed <= 8
    assert [0, 1, 2] == run(pool, abs, range(3)).values


def test_processes_that_die_as_they_start_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    fork = ForkServer.fork

    def fork_for_nobody(server: ForkServer, _: socket.socket, page_fd: int) -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        with theirs:
            fork(server, theirs, page_fd)

    monkeypatch.setattr(ForkServer, "fork", fork_for_nobody)
    with HybridPool() as pool, pytest.raises(GreenlabError, match="as soon as they start"):
        pool.run(job_of(nap, [60] * 5))


def test_no_process_outlives_a_kernel_that_is_killed() -> None:
    script = """
        import greenlab, time
        from greenlab import pools
        from greenlab.hub import eventlet
        from greenlab.runs import Ledger
        pool = pools.get(greenlab.start(), "hybrid")
        job = Ledger(lambda x: [0 for _ in iter(int, 1)] if x else time.sleep(600), range(4), concurrency=4, workers=2)
        eventlet.spawn(pool.run, job)
        while pool.count(job) < 3: eventlet.sleep(0.01)
        print(pool._fleet.server_pid, *pool.pids, flush=True)
        time.sleep(600)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        processes = [psutil.Process(pid) for pid in pids]
        parent.kill()
    assert 3 == len(processes)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert [] == alive


def test_an_idle_pool_wakes_nobody(pool: HybridPool) -> None:
    run(pool, abs, range(100), timeout_s=60.0)
    everyone = [psutil.Process(pid) for pid in (*pool.pids, pool._fleet.server_pid)]
    eventlet.sleep(0.2)
    before = [process.num_ctx_switches().voluntary for process in everyone]
    turns = []
    hub = eventlet.hubs.get_hub()
    prepare = hub.prepare_timers

    def count() -> None:
        turns.append(1)
        prepare()

    hub.prepare_timers = count
    eventlet.sleep(0.3)
    del hub.prepare_timers
    assert before == [process.num_ctx_switches().voluntary for process in everyone]
    assert len(turns) < 10


def test_closing_a_busy_pool_ends_its_run_and_it_may_start_again(pool: HybridPool) -> None:
    thread = eventlet.spawn(pool.run, job_of(nap, [600] * 9))
    until(lambda: pool.in_flight == 8)
    pids = pool.pids
    pool.close()
    with pytest.raises(GreenlabError, match="closed"):
        thread.wait()
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert [1] == run(pool, abs, [-1]).values


# --- prints ------------------------------------------------------------------------------------------------


def test_prints_are_whole_lines_of_their_task_and_come_before_its_result(pool: HybridPool) -> None:
    def say(x: Any) -> Any:
        for word in ("one ", "two ", "three\n", f"rest of {x}"):
            sys.stdout.write(word)
            time.sleep(0.01)  # the others print meanwhile
        sys.stderr.write(f"err {x}\n")
        sys.stdout.buffer.write(b"!")
        return x

    job = job_of(say, range(8), concurrency=8)
    seen = {}
    job.on_result = lambda index: seen.update({index: (job.text(index=index), job.text("stderr", index))})
    pool.run(job)
    assert {i: (f"one two three\nrest of {i}!", f"err {i}\n") for i in range(8)} == seen
    assert {"one two three\n"} == {text for stream, text, _ in job.printed if text.startswith("one")}


def test_a_print_is_seen_while_its_task_still_runs(pool: HybridPool, tmp_path: Path) -> None:
    def say(_: Any) -> Any:
        print("running")
        while not (tmp_path / "release").exists():
            pass  # it computes

    job = job_of(say, [0])
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.printed)
    assert 0 == job.done
    (tmp_path / "release").touch()
    thread.wait()
    assert [("stdout", "running\n", 0)] == job.printed


def test_threads_and_warnings_of_a_task_are_shown_too(pool: HybridPool) -> None:
    def say(x: Any) -> None:
        import threading

        warnings.warn("mind the gap", stacklevel=1)
        threads = [threading.Thread(target=print, args=(f"{x} here",)), eventlet.spawn(print, f"{x} there")]
        threads[0].start()
        threads[0].join()
        threads[1].wait()

    job = run(pool, say, [7])
    assert "mind the gap" in job.text("stderr", 0)
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

    job = job_of(say, range(100), concurrency=1)
    seen = []
    job.on_result = lambda index: seen.append((index, f"first {index}\n" in job.text()))
    pool.run(job)
    assert {(i, True) for i in range(100)} == set(seen)
    said = job.text().split("\n")
    assert all(said.index(f"first {i}") < said.index(f"then {i}") for i in range(1, 100, 2))


def test_a_flood_of_prints_arrives_whole_and_does_not_stall_the_hub(pool: HybridPool) -> None:
    def flood(x: Any) -> Any:
        for i in range(20_000):
            print(x, i, "." * 50)
        sys.stdout.write("no end of line " * 100_000)

    ticks = []

    def tick() -> None:
        while True:
            ticks.append(1)
            eventlet.sleep(0)

    ticker = eventlet.spawn(tick)
    job = run(pool, flood, range(4))
    ticker.kill()
    assert 80_000 == job.text().count("\n")
    assert 400_000 == job.text().count("no end of line ")
    assert [f"{x} {i} {'.' * 50}" for x in range(1) for i in range(20_000)] == job.text(index=0).split("\n")[:-1]
    assert len(ticks) > 20  # 11 MB, of which a turn takes a quarter of one at the most


# --- in a kernel -------------------------------------------------------------------------------------------


def test_a_cell_runs_in_processes_with_hubs(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%greenrun -p hybrid -w 2 -c 100 -n 300 -o run --no-live\n"
        "import os, time\ntime.sleep(0.05)\nif i == 7: print('seven')\nos.getpid()"
    )
    assert cell.error is None
    assert "seven\n" in cell.stdout
    told = kernel.run("import os\nprint(run.counts['succeeded'], len(set(run.results)), os.getpid() in run.results)")
    assert "300 2 False\n" == told.stdout


def test_an_interrupted_cell_stops_the_processes_tasks_and_the_next_one_runs(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun -p hybrid -w 2 -c 10 -n 10 --no-live\nimport time\ntime.sleep(60)", interrupt_after=2)
    assert "KeyboardInterrupt" in str(cell.error)
    after = kernel.run("import greenlab\nprint(sum(greenlab.run(abs, range(50), pool='hybrid', workers=2).results))")
    assert "1225\n" == after.stdout
