"""The prefork pool, apart from what all pools share: processes, what travels, and what breaks."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import itertools
import os
import pickle
import random
import signal
import socket
import sqlite3
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
    CancelledError,
    GreenlabError,
    NotSendableError,
    TaskTimeoutError,
    UsageError,
    WorkerLostError,
)
from greenlab.hub import eventlet
from greenlab.pools import wire
from greenlab.pools.forkserver import ForkServer
from greenlab.pools.prefork import PreforkPool
from greenlab.pools.sending import RemoteTaskError, RemoteTraceback, dump_error

if TYPE_CHECKING:
    from collections.abc import Iterator

MIB = 1 << 20


class FakeJob:
    """A job over an iterable, which keeps what it is told."""

    def __init__(self, func: Any, items: Any, *, concurrency: Any = 100, timeout_s: Any = None) -> None:
        self.func = func
        self.concurrency = self.workers = concurrency
        self.timeout_s = timeout_s
        self.max_tasks: int | None = None
        self.max_memory: int | None = None
        self.values: dict[int, Any] = {}
        self.errors: dict[int, Any] = {}
        self.pulled = 0
        self.most_waiting = 0
        self.printed: list[tuple[str, str]] = []
        self._items = enumerate(items)

    def pull(self) -> tuple[int, Any]:
        task = next(self._items)
        self.pulled += 1
        self.most_waiting = max(self.most_waiting, self.pulled - len(self.values) - len(self.errors))
        return task

    def succeed(self, index: Any, started_s: Any, ended_s: Any, value: Any) -> None:
        self._end(index, started_s, ended_s)
        self.values[index] = value

    def fail(self, index: Any, started_s: Any, ended_s: Any, error: Any) -> None:
        self._end(index, started_s, ended_s)
        self.errors[index] = error

    def _end(self, index: Any, started_s: Any, ended_s: Any) -> None:
        assert index not in self.values
        assert index not in self.errors
        assert started_s <= ended_s <= time.perf_counter()

    def size_hint(self) -> Any:
        return None

    def write(self, stream: Any, text: Any, index: Any = None) -> None:
        self.printed.append((stream, text))

    def text(self, stream: Any = "stdout") -> str:
        return "".join(text for to, text in self.printed if to == stream)


@pytest.fixture(autouse=True)
def nothing_of_processes_left() -> Iterator[None]:
    eventlet.hubs.get_hub()  # its own descriptor is not ours to count
    me = psutil.Process()
    before = me.num_fds()
    yield
    gc.collect()
    assert [] == me.children(recursive=True)
    assert before == me.num_fds()
    hub = eventlet.hubs.get_hub()
    eventlet.sleep(0)
    assert [] == [timer for timer in [*hub.timers, *hub.next_timers] if not timer[1].called]


@pytest.fixture(autouse=True)
def time_limit() -> Iterator[None]:
    with eventlet.Timeout(60):
        yield


@pytest.fixture
def pool() -> Iterator[PreforkPool]:
    with PreforkPool(2) as pool:
        yield pool


def run(pool: PreforkPool, func: Any, items: Any, **options: Any) -> FakeJob:
    job = FakeJob(func, items, **options)
    pool.run(job)
    assert 0 == pool.in_flight
    return job


def run_script(text: Any, *args: Any) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-", *args],
        input=textwrap.dedent(text),
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def server_pid(pool: PreforkPool) -> int:
    assert pool._server is not None
    return pool._server.pid


def held(pool: PreforkPool) -> Iterator[Any]:
    return itertools.chain.from_iterable(link.outstanding.values() for link in pool._links)


def kill(thread: Any) -> None:
    thread.kill()
    with contextlib.suppress(eventlet.greenlet.GreenletExit):
        thread.wait()


def until(condition: Any) -> None:
    while not condition():
        eventlet.sleep(0.005)


# --- tasks and their ends ----------------------------------------------------------------------------------


def test_every_task_ends_once_with_its_own_result(pool: PreforkPool) -> None:
    job = run(pool, lambda x: x * x, range(20_000))
    assert {i: i * i for i in range(20_000)} == job.values


def test_items_and_results_of_every_form_arrive_as_they_were(pool: PreforkPool) -> None:
    items: list[Any] = [
        None,
        True,
        7,
        -1.5,
        2j,
        "ü" * 9,
        "long" * MIB,
        b"b",
        b"b" * MIB,
        (1, "a"),
        [1, [2]],
        {"k": {3}},
    ]
    items += [bytearray(b"x" * MIB), range(3), Path("p"), frozenset({1})]
    job = run(pool, lambda x: x, items)
    assert items == list(dict(sorted(job.values.items())).values())


def test_twenty_mib_travel_both_ways(pool: PreforkPool) -> None:
    item = os.urandom(20 * MIB)
    job = run(pool, lambda data: data[::-1], [item, b"", item])
    assert {0: item[::-1], 1: b"", 2: item[::-1]} == job.values


def test_arrays_travel_and_may_be_written_to(pool: PreforkPool) -> None:
    numpy = pytest.importorskip("numpy")

    def double(array: Any) -> Any:
        array *= 2
        return array

    whole = numpy.arange(300_000.0)
    job = run(pool, double, [whole, whole[::3], whole.reshape(3, -1).T])
    for index, sent in enumerate([whole, whole[::3], whole.reshape(3, -1).T]):
        assert (sent * 2 == job.values[index]).all()
        job.values[index] += 1


def test_a_failure_is_of_one_task_and_carries_its_traceback(pool: PreforkPool) -> None:
    def divide(x: Any) -> Any:
        return 6 // x

    job = run(pool, divide, [1, 0, 2])
    assert {0: 6, 2: 3} == job.values
    assert ZeroDivisionError is type(job.errors[1])
    assert isinstance(job.errors[1].__cause__, RemoteTraceback)
    assert "return 6 // x" in str(job.errors[1].__cause__)
    assert "_worker" not in str(job.errors[1].__cause__)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, RecursionError, MemoryError])
def test_no_exception_ends_a_worker(pool: PreforkPool, error: type[BaseException]) -> None:
    before = pool.pids

    def fail(kind: Any) -> None:
        raise kind("x")

    job = run(pool, fail, [error] * 5)
    assert [error] * 5 == [type(job.errors[i]) for i in range(5)]
    assert before == pool.pids


def test_endless_recursion_is_an_ordinary_failure(pool: PreforkPool) -> None:
    def recurse(x: Any) -> Any:
        return recurse(x)

    job = run(pool, recurse, [1])
    assert RecursionError is type(job.errors[0])


def test_an_error_that_cannot_be_pickled_is_named(pool: PreforkPool) -> None:
    class PickyError(Exception):
        def __init__(self, one: Any, two: Any) -> None:
            super().__init__(f"{one} and {two}")

    class HoldingError(Exception):
        pass

    def fail(kind: Any) -> None:
        if kind == "picky":
            raise PickyError(1, 2)
        raise HoldingError(threading.Lock())

    job = run(pool, fail, ["picky", "holding"])
    assert [RemoteTaskError] * 2 == [type(job.errors[i]) for i in range(2)]
    assert "PickyError: 1 and 2" in str(job.errors[0])
    assert "HoldingError" in job.errors[1].type_name
    assert isinstance(job.errors[0], GreenlabError)
    assert "raise PickyError" in str(job.errors[0].__cause__)


def test_an_error_that_would_not_survive_is_replaced_where_it_was_raised() -> None:
    class PickyError(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    pickled, *_ = pickle.loads(dump_error(PickyError(1, 2)).parts[0])
    assert type(pickle.loads(pickled)) is RemoteTaskError


def test_two_runs_share_the_workers(pool: PreforkPool) -> None:
    first = FakeJob(lambda x: time.sleep(0.01), range(200))
    second = FakeJob(lambda x: x, range(200))
    longer = eventlet.spawn(pool.run, first)
    until(lambda: first.values)
    pool.run(second)
    assert 200 == len(second.values)
    assert len(first.values) < 200
    longer.wait()
    assert 200 == len(first.values)


def test_runs_of_slow_tasks_take_turns() -> None:
    with PreforkPool(1) as pool:
        order: list[int] = []
        jobs: list[Any] = [FakeJob(lambda x: time.sleep(0.008), range(12)) for _ in range(2)]
        for name, job in enumerate(jobs):
            job.succeed = lambda *_, name=name: order.append(name)
        for thread in [eventlet.spawn(pool.run, job) for job in jobs]:
            thread.wait()
    assert 24 == len(order)
    assert max(len(list(group)) for group in _groups(order)) <= 3


def _groups(order: Any) -> Any:
    group: list[Any] = []
    for name in order:
        if group and group[-1] != name:
            yield group
            group = []
        group.append(name)
    yield group


def test_slow_tasks_are_pulled_only_as_they_start(pool: PreforkPool) -> None:
    job = run(pool, lambda x: time.sleep(0.01), range(20))
    assert job.most_waiting <= 2


def test_tiny_tasks_are_pulled_ahead_but_not_without_bound(pool: PreforkPool) -> None:
    job = run(pool, lambda x: None, range(20_000))
    assert 2 < job.most_waiting <= 1024


def test_concurrency_bounds_the_workers_of_a_job(pool: PreforkPool) -> None:
    job: Any = FakeJob(lambda x: time.sleep(0.005), range(20), concurrency=1)
    times: list[tuple[float, float]] = []
    job.succeed = lambda index, started_s, ended_s, value: times.append((started_s, ended_s))
    pool.run(job)
    times.sort()
    assert len(times) == 20
    assert all(ended_s <= next_s for (_, ended_s), (next_s, _) in itertools.pairwise(times))


def test_in_flight_counts_one_task_a_worker(pool: PreforkPool) -> None:
    job: Any = FakeJob(lambda x: None, range(5_000))
    seen = set()
    job.succeed = lambda *_: seen.add(pool.in_flight)
    pool.run(job)
    assert 2 in seen
    assert max(seen) <= 2


def test_a_pull_that_waits_holds_back_nothing_that_was_pulled(pool: PreforkPool) -> None:
    job: Any = FakeJob(lambda x: None, range(3_000))
    pull = job.pull

    def slow_pull() -> Any:
        if job.pulled > 1_000 and job.pulled % 100 == 50:
            until(lambda: len(job.values) == job.pulled)
        return pull()

    job.pull = slow_pull
    pool.run(job)
    assert 3_000 == len(job.values)


def test_a_slow_task_holds_back_no_result_of_earlier_ones(tmp_path: Path) -> None:
    release = str(tmp_path / "release")

    def wait(x: Any) -> Any:
        while x == 999 and not os.path.exists(release):  # noqa: PTH110
            time.sleep(0.001)

    job = FakeJob(wait, range(1_000))
    with PreforkPool(1) as pool:
        thread = eventlet.spawn(pool.run, job)
        until(lambda: len(job.values) == 999)
        Path(release).touch()
        thread.wait()
    assert 1_000 == len(job.values)


def test_what_a_job_has_to_repeat_is_pulled_when_the_rest_has_ended(pool: PreforkPool) -> None:
    again: list[Any] = []
    job: Any = FakeJob(lambda x: 1 // x, [0, 1, 2])
    pull, fail = job.pull, job.fail
    job.fail = lambda index, *args: again.append((index, 4)) if len(again) < 1 else fail(index, *args)

    def pull_again() -> Any:
        try:
            return pull()
        except StopIteration:
            if again and again[0] is not None:
                task, again[0] = again[0], None
                return task
            raise

    job.pull = pull_again
    pool.run(job)
    assert {0: 0, 1: 1, 2: 0} == job.values


def test_a_broken_job_makes_run_raise(pool: PreforkPool) -> None:
    job: Any = FakeJob(lambda x: x, range(1_000))

    def succeed(*_: Any) -> None:
        raise LookupError("broken")

    job.succeed = succeed
    with pytest.raises(LookupError):
        pool.run(job)
    assert 3 == len(run(pool, abs, [-1, -2, -3]).values)


# --- deaths ------------------------------------------------------------------------------------------------


def test_a_worker_that_exits_loses_the_task_it_held_and_no_other(pool: PreforkPool) -> None:
    before = pool.pids
    job = run(pool, lambda x: os._exit(7) if x == 500 else x, range(1_000))
    assert [500] == list(job.errors)
    assert WorkerLostError is type(job.errors[500])
    assert (7, None) == (job.errors[500].exitcode, job.errors[500].signal)
    assert job.errors[500].pid in before
    assert job.errors[500].pid not in pool.pids
    assert 999 == len(job.values)


def test_a_worker_that_crashes_tells_the_signal(pool: PreforkPool) -> None:
    job = run(pool, lambda x: os.kill(os.getpid(), signal.SIGSEGV), [1])
    assert signal.SIGSEGV == job.errors[0].signal


def test_an_item_that_crashes_the_worker_as_it_is_unpickled_fails_alone(pool: PreforkPool) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return os._exit, (9,)

    job = run(pool, lambda x: x, [1, Bomb(), 2])
    assert {0: 1, 2: 2} == job.values
    assert 9 == job.errors[1].exitcode


@pytest.mark.parametrize(("count", "task_s"), [(1_000, 0.002), (20_000, 0.0)])
def test_each_task_ends_once_while_workers_are_killed_at_random(
    pool: PreforkPool, tmp_path: Path, count: int, task_s: float
) -> None:
    log = str(tmp_path / "log")

    def note(x: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123
            file.write(f"{x}\n")
        if task_s:
            time.sleep(task_s)
        return x

    job = FakeJob(note, range(count))
    thread = eventlet.spawn(pool.run, job)
    rng = random.Random(5)
    killed = 0
    while not thread.dead and killed < 40:
        eventlet.sleep(rng.uniform(0.001, 0.02))
        if pool.pids and not thread.dead:
            with contextlib.suppress(ProcessLookupError):  # dead, and the pool does not know yet
                os.kill(rng.choice(pool.pids), signal.SIGKILL)
                killed += 1
    thread.wait()
    ran = [int(line) for line in Path(log).read_text().split()]
    assert killed > 2
    assert len(ran) == len(set(ran))
    assert set(range(count)) == set(job.values) | set(job.errors)
    assert {WorkerLostError} >= set(map(type, job.errors.values()))
    assert len(job.errors) <= killed
    until(lambda: len(pool.pids) == 2)


def test_a_task_of_an_idle_worker_that_was_killed_is_not_lost(pool: PreforkPool) -> None:
    for _ in range(20):
        os.kill(pool.pids[0], signal.SIGKILL)
        assert 4 == len(run(pool, lambda x: x, range(4)).values)
        until(lambda: len(pool.pids) == 2)


def test_the_pool_outlives_its_fork_server(pool: PreforkPool) -> None:
    job = FakeJob(lambda x: time.sleep(0.002), range(300))
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.values)
    os.kill(server_pid(pool), signal.SIGKILL)
    thread.wait()
    assert 300 == len(job.values) + len(job.errors)
    assert len(job.errors) <= 2
    assert 3 == len(run(pool, abs, range(3)).values)


def test_workers_that_a_dying_fork_server_was_asked_for_come_from_the_next(pool: PreforkPool) -> None:
    os.kill(server_pid(pool), signal.SIGSTOP)
    growing = eventlet.spawn(pool.resize, 4)
    until(lambda: pool._asked)
    os.kill(server_pid(pool), signal.SIGKILL)
    growing.wait()
    until(lambda: len(pool.pids) == 4)
    assert len(run(pool, abs, range(9)).values) == 9


def test_workers_that_cannot_live_end_the_run(pool: PreforkPool, monkeypatch: pytest.MonkeyPatch) -> None:
    job = FakeJob(lambda x: time.sleep(0.05), range(1_000))
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.values)
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    os.kill(server_pid(pool), signal.SIGKILL)
    with pytest.raises(GreenlabError, match="worker process"):
        thread.wait()
    with pytest.raises(GreenlabError, match="worker process"):
        pool.run(FakeJob(abs, [1]))
    monkeypatch.undo()
    assert 1 == len(run(pool, abs, [1]).values)


def test_workers_that_die_as_they_start_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = ForkServer.fork

    def fork_for_nobody(server: ForkServer, _: socket.socket, page_fd: int) -> None:
        ours, theirs = socket.socketpair()
        ours.close()
        with theirs:
            fork(server, theirs, page_fd)

    monkeypatch.setattr(ForkServer, "fork", fork_for_nobody)
    with PreforkPool(2) as pool, pytest.raises(GreenlabError, match="as soon as they start"):
        pool.run(FakeJob(lambda x: time.sleep(600), range(5)))


def test_a_task_that_outlasts_the_limit_is_stopped_and_fails_alone(pool: PreforkPool) -> None:
    before = pool.pids
    job = run(pool, lambda x: time.sleep(600 if x == 3 else 0.001), range(10), timeout_s=0.2)
    assert [3] == list(job.errors)
    assert TaskTimeoutError is type(job.errors[3])
    assert 9 == len(job.values)
    assert 1 == len(set(before) - set(pool.pids))


def test_a_limit_is_of_each_task_not_of_all(pool: PreforkPool) -> None:
    job = run(pool, lambda x: time.sleep(0.02), range(40), timeout_s=0.3)
    assert 40 == len(job.values)


def test_a_killed_run_stops_its_tasks_and_leaves_the_pool_usable(pool: PreforkPool, tmp_path: Path) -> None:
    log = tmp_path / "log"

    def beat(_: Any, log: str = str(log)) -> Any:
        while True:
            with open(log, "a") as file:  # noqa: PTH123
                file.write("x")
            time.sleep(0.001)

    thread = eventlet.spawn(pool.run, FakeJob(beat, range(10)))
    until(log.exists)
    kill(thread)
    size = log.stat().st_size
    assert 3 == len(run(pool, abs, range(3)).values)
    eventlet.sleep(0.05)
    assert size == log.stat().st_size


def test_any_exception_thrown_into_a_run_comes_out(pool: PreforkPool) -> None:
    with pytest.raises(eventlet.Timeout), eventlet.Timeout(0.1):
        pool.run(FakeJob(lambda x: time.sleep(600), range(10)))
    assert 3 == len(run(pool, abs, range(3)).values)


def test_killing_one_run_does_no_harm_to_another() -> None:
    with PreforkPool(1) as pool:
        doomed = FakeJob(lambda x: None, iter(int, 1))
        other = FakeJob(lambda x: x, range(20_000))
        threads = [eventlet.spawn(pool.run, job) for job in (doomed, other)]
        until(lambda: doomed.values and other.values)
        kill(threads[0])
        threads[1].wait()
    assert 20_000 == len(other.values) + len(other.errors)
    assert {} == other.errors


def test_tasks_of_a_killed_run_that_wait_behind_another_run_are_skipped(tmp_path: Path) -> None:
    log, blocked, release = (str(tmp_path / name) for name in ("log", "blocked", "release"))

    def note(_: Any) -> Any:
        with open(log, "a") as file:  # noqa: PTH123
            file.write("x")

    def block(x: Any) -> Any:
        if x == 99:
            Path(blocked).touch()
            while not os.path.exists(release):  # noqa: PTH110
                time.sleep(0.001)

    with PreforkPool(1) as pool:
        doomed, other = FakeJob(note, iter(int, 1)), FakeJob(block, range(100))
        threads = [eventlet.spawn(pool.run, job) for job in (doomed, other)]
        until(lambda: Path(blocked).exists() and any(e[0].job is doomed for e in held(pool)))
        kill(threads[0])
        size = Path(log).stat().st_size
        assert any(entry[0].job is doomed for entry in held(pool))
        Path(release).touch()
        threads[1].wait()
        until(lambda: not list(held(pool)))
    assert size == Path(log).stat().st_size
    assert (100, {}) == (len(other.values), other.errors)


def test_no_process_outlives_a_pool_whose_own_process_is_killed() -> None:
    script = """
        from greenlab.pools.prefork import PreforkPool
        pool = PreforkPool(3)
        pool.start()
        print(pool._server.pid, *pool.pids, flush=True)
        class Job:
            concurrency, timeout_s = 3, None
            func = staticmethod(lambda x: __import__("time").sleep(600))
            def pull(self): return 1, 1
        pool.run(Job())
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
    assert 4 == len(processes)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert [] == alive


# --- workers -----------------------------------------------------------------------------------------------


def test_a_worker_has_loaded_neither_eventlet_nor_the_notebook() -> None:
    loaded = run_script("""
        from greenlab.pools.prefork import PreforkPool
        def names(_):
            import sys
            return sorted(sys.modules)
        class Job:
            concurrency, timeout_s, func = 1, None, staticmethod(names)
            left = [(0, None)]
            def pull(self):
                if not self.left: raise StopIteration
                return self.left.pop()
            def succeed(self, i, s, e, value): print(*value)
            def fail(self, i, s, e, error): raise error
        with PreforkPool(1) as pool:
            pool.run(Job())
    """).split()
    assert "greenlab.pools._worker" in loaded
    for name in ("eventlet", "greenlet", "asyncio", "IPython", "matplotlib", "numpy", "gevent"):
        assert name not in loaded


def test_workers_ignore_sigint(pool: PreforkPool) -> None:
    for pid in (*pool.pids, server_pid(pool)):
        os.kill(pid, signal.SIGINT)
    before = pool.pids
    assert 100 == len(run(pool, lambda x: time.sleep(0.001), range(100)).values)
    assert before == pool.pids


def test_workers_see_path_directory_and_environment_of_the_parent(
    pool: PreforkPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_notebook.py").write_text("ANSWER = 42\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("GREENLAB_TEST", "here")

    def look(_: Any) -> Any:
        answer = importlib.import_module("beside_the_notebook").ANSWER
        return answer, os.getcwd(), os.environ["GREENLAB_TEST"], sys.stdin.read()  # noqa: PTH109

    job = run(pool, look, [0])
    assert {0: (42, str(tmp_path), "here", "")} == job.values


def test_a_worker_lets_go_of_a_job_that_has_ended(pool: PreforkPool, tmp_path: Path) -> None:
    here, log = os.getpid(), tmp_path / "log"

    class Held:
        def __del__(self) -> None:
            if os.getpid() != here:
                log.touch()

    held = Held()
    run(pool, lambda x: (x, held)[0], range(3))
    until(log.exists)


def test_resizing_adds_workers_and_lets_idle_ones_go(pool: PreforkPool) -> None:
    pool.resize(4)
    assert (4, 4) == (pool.workers, len(pool.pids))
    pool.resize(1)
    until(lambda: len(pool.pids) == 1)
    assert 50 == len(run(pool, abs, range(50)).values)


def test_a_worker_that_must_leave_finishes_what_it_holds(pool: PreforkPool) -> None:
    job = FakeJob(lambda x: time.sleep(0.002), range(200))
    thread = eventlet.spawn(pool.run, job)
    until(lambda: len(job.values) > 20)
    pool.resize(1)
    thread.wait()
    assert 200 == len(job.values)
    until(lambda: len(pool.pids) == 1)


@pytest.mark.parametrize("workers", [0, -1, 1.5, "2"])
def test_a_number_of_workers_that_is_none_is_refused(workers: Any) -> None:
    with pytest.raises(UsageError, match="workers"):
        PreforkPool(workers)


def test_an_idle_pool_wakes_nobody(pool: PreforkPool) -> None:
    run(pool, abs, range(100), timeout_s=60)
    everyone = [psutil.Process(pid) for pid in (*pool.pids, server_pid(pool))]
    eventlet.sleep(0.05)
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
    assert len(turns) < 10  # each turn counts twice; a poll every 50 ms would be 12


def test_closing_twice_and_starting_again(pool: PreforkPool) -> None:
    pids = pool.pids
    pool.close()
    pool.close()
    assert () == pool.pids
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert 3 == len(run(pool, abs, range(3)).values)


def test_a_pool_that_was_never_started_closes() -> None:
    PreforkPool(2).close()


def test_closing_a_busy_pool_ends_its_run(pool: PreforkPool) -> None:
    thread = eventlet.spawn(pool.run, FakeJob(lambda x: time.sleep(600), range(9)))
    until(lambda: pool.in_flight == 2)
    pool.close()
    with pytest.raises(GreenlabError, match="closed"):
        thread.wait()


def test_a_broken_pool_closes(pool: PreforkPool) -> None:
    for pid in (*pool.pids, server_pid(pool)):
        os.kill(pid, signal.SIGKILL)
    pool.close()


def test_a_task_may_fork(pool: PreforkPool) -> None:
    def fork(x: Any) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pid = os.fork()
        if not pid:
            print("to nobody")
            raise SystemExit
        return x, os.waitpid(pid, 0)[0] == pid

    job = run(pool, fork, range(10))
    assert {x: (x, True) for x in range(10)} == job.values


# --- what travels ------------------------------------------------------------------------------------------

UNSENDABLE = sqlite3.connect(":memory:")
UNSENDABLE.close()


def _uses_global() -> Any:
    return eval("lambda x: (helper(x), other)", {"helper": len, "other": UNSENDABLE})


def _uses_nested_global() -> Any:
    inner = eval("lambda x: conn", {"conn": UNSENDABLE})
    return lambda x: (inner(x), 1)


def _uses_closure() -> Any:
    held = UNSENDABLE
    return lambda x: (x, held)


def _uses_default() -> Any:
    return lambda x, db=UNSENDABLE: (x, db)


def _uses_keyword_default() -> Any:
    def task(x: Any, *, db: Any = UNSENDABLE) -> Any:
        return x, db

    return task


def _uses_container() -> Any:
    settings = {"fine": 1, "lock": [threading.Lock()]}
    return lambda x: settings


def _uses_attribute() -> Any:
    class Thing:
        def __init__(self) -> None:
            self.db = UNSENDABLE

    thing = Thing()
    return lambda x: thing


def _uses_partial() -> Any:
    return functools.partial(lambda x, conn: conn, conn=UNSENDABLE)


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (_uses_global, "'other' (sqlite3.Connection)"),
        (_uses_nested_global, "'conn' (sqlite3.Connection)"),
        (_uses_closure, "'held' (sqlite3.Connection)"),
        (_uses_default, "'db' (sqlite3.Connection)"),
        (_uses_keyword_default, "'db' (sqlite3.Connection)"),
        (_uses_container, "\"settings['lock'][0]\" (_thread.lock)"),
        (_uses_attribute, "'thing.db' (sqlite3.Connection)"),
        (_uses_partial, "'conn' (sqlite3.Connection)"),
    ],
)
def test_what_a_function_uses_and_cannot_be_sent_is_named_before_a_task_starts(make: Any, culprit: Any) -> None:
    pool = PreforkPool(1)
    job = FakeJob(make(), range(3))
    with pytest.raises(NotSendableError) as caught:
        pool.run(job)
    hint = "make it inside the task, or use -p green"
    assert f"cannot send {culprit}, used by the task, to a worker process: {hint}" == str(caught.value)
    assert 0 == job.pulled
    assert () == pool.pids


def test_an_item_that_cannot_be_sent_fails_alone_and_is_named(pool: PreforkPool) -> None:
    job = run(pool, lambda x: x, [0, threading.Lock(), 2, (x for x in "ab")])
    assert {0: 0, 2: 2} == job.values
    assert "item 1 (_thread.lock)" in str(job.errors[1])
    assert "item 3 (generator)" in str(job.errors[3])
    assert [NotSendableError] * 2 == [type(error) for error in job.errors.values()]


def test_a_result_that_cannot_be_sent_fails_alone_and_is_named(pool: PreforkPool) -> None:
    job = run(pool, lambda x: (i for i in "ab") if x else x, [0, 1, 0])
    assert {0: 0, 2: 0} == job.values
    assert NotSendableError is type(job.errors[1])
    what = "the task's result (a generator) cannot be sent back from a worker"
    assert f"{what}: return plain data, or use -p green" == str(job.errors[1])


def test_a_result_that_cannot_be_read_here_fails_alone(pool: PreforkPool) -> None:
    here = os.getpid()

    class Fussy:
        def __reduce__(self) -> Any:
            return _only_there, (here,)

    def _only_there(pid: Any) -> Any:
        if os.getpid() == pid:
            raise ValueError("not here")

    job = run(pool, lambda x: Fussy() if x else x, [0, 1])
    assert {0: 0} == job.values
    assert NotSendableError is type(job.errors[1])


def test_a_function_that_cannot_be_loaded_there_fails_each_task(pool: PreforkPool) -> None:
    class Absent:
        def __reduce__(self) -> Any:
            return __import__, ("no_such_module_anywhere",)

    absent = Absent()
    job = run(pool, lambda x: absent, [1, 2])
    assert [ModuleNotFoundError] * 2 == [type(job.errors[i]) for i in range(2)]


def test_functions_and_classes_of_main_travel_and_keep_their_identity() -> None:
    printed = run_script("""
        from greenlab.pools.prefork import PreforkPool
        import dataclasses, enum
        FACTOR = 3
        class Colour(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point:
            x: int
            colour: Colour = Colour.RED
            def scaled(self): return Point(self.x * FACTOR)
        class OddError(Exception):
            pass
        def helper(point):
            if point.x == 2: raise OddError("two")
            return point.scaled()
        def task(point): return helper(point)
        class Job:
            concurrency, timeout_s, func = 2, None, staticmethod(task)
            left = iter(enumerate([Point(1), Point(2), Point(3)]))
            values = {}
            def pull(self): return next(self.left)
            def succeed(self, i, s, e, value): self.values[i] = value
            def fail(self, i, s, e, error): self.values[i] = error
        method = Point.scaled
        with PreforkPool(2) as pool:
            pool.run(Job())
        values = Job.values
        assert values[0] == Point(3) and values[2] == Point(9), values
        assert type(values[0]) is Point and values[0].colour is Colour.RED
        assert type(values[1]) is OddError
        assert Point.scaled is method and method.__globals__ is globals()
        FACTOR = 5
        assert values[0].scaled() == Point(15)
        print("fine")
    """)
    assert "fine\n" == printed


def test_a_class_that_has_changed_between_two_runs_has_changed_in_the_workers(pool: PreforkPool) -> None:
    class Settings:
        limit = 1

        def get(self) -> Any:
            return self.limit

    items = [Settings() for _ in range(20)]
    assert {1} == set(run(pool, lambda s: s.get(), items).values.values())
    Settings.limit = 2
    assert {2} == set(run(pool, lambda s: s.get(), items).values.values())


def test_a_traceback_shows_the_line_of_a_cell(pool: PreforkPool) -> None:
    import linecache

    source = "def task(x):\n    return x / 0  # in the cell\n"
    name = "<cell of test_prefork>"
    namespace = {"__name__": "__main__"}
    exec(compile(source, name, "exec"), namespace)
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    job = run(pool, namespace["task"], [1])
    assert "# in the cell" in str(job.errors[0].__cause__)


# --- prints ------------------------------------------------------------------------------------------------


def test_prints_arrive_line_by_line_before_the_result(pool: PreforkPool) -> None:
    def say(x: Any) -> Any:
        print(x, "one")
        print(x, "two", end="")
        sys.stderr.write("err\n")
        sys.stdout.buffer.write(b"!\n")
        return sys.stdout.write("x\ny")

    job: Any = FakeJob(say, [5])
    seen = []
    job.succeed = lambda *args: seen.extend([*job.printed, args[3]])
    pool.run(job)
    assert 3 == seen.pop()
    assert "5 one\n5 two!\nx\ny" == "".join(text for stream, text in seen if stream == "stdout")
    assert ("stderr", "err\n") in seen


def test_a_print_is_seen_while_its_task_still_runs(pool: PreforkPool, tmp_path: Path) -> None:
    release = str(tmp_path / "release")

    def say(_: Any) -> Any:
        print("running")
        while not os.path.exists(release):  # noqa: PTH110
            time.sleep(0.001)

    job = FakeJob(say, [0])
    thread = eventlet.spawn(pool.run, job)
    until(lambda: job.printed)
    assert {} == job.values
    Path(release).touch()
    thread.wait()
    assert [("stdout", "running\n")] == job.printed


def test_warnings_of_a_task_go_to_stderr(pool: PreforkPool) -> None:
    job = run(pool, lambda x: warnings.warn("mind the gap", stacklevel=1), [0])
    assert "mind the gap" in job.text("stderr")


def test_a_flood_of_prints_arrives_whole(pool: PreforkPool) -> None:
    def flood(x: Any) -> Any:
        for i in range(20_000):
            print(x, i, "." * 50)
        sys.stdout.write("no end of line " * 100_000)

    job = run(pool, flood, range(2))
    assert 40_000 == job.text().count("\n")
    assert 200_000 == job.text().count("no end of line ")


# --- the wire ----------------------------------------------------------------------------------------------


def test_frames_survive_being_cut_anywhere() -> None:
    bodies = [b"", b"x", b"y" * 1_000, bytes(3 * wire.SMALL), b"z"]
    data = b"".join(
        b"".join(wire.frame(wire.RESULT, 1, n, wire.Parcel(wire.RAW, [body]))) for n, body in enumerate(bodies)
    )
    rng = random.Random(1)
    for _ in range(30):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            inbox, got, at = wire.Inbox(ours), [], 0
            while at < len(data):
                step = rng.choice([1, 7, 39, 41, 5_000, 100_000])
                theirs.sendall(data[at : at + step])
                at += step
                while True:
                    try:
                        got += inbox.read()
                    except BlockingIOError:
                        break
            theirs.close()
            with pytest.raises(EOFError):
                inbox.read()
        assert list(range(5)) == [frame[4] for frame in got]
        assert bodies == [bytes(frame[8]) for frame in got]


def test_an_outbox_keeps_what_the_socket_does_not_take() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        outbox, sent, got = wire.Outbox(ours), bytearray(), bytearray()
        for size in (10, 3 * MIB, 5, 5, MIB):
            part = os.urandom(size)
            sent += part
            outbox.put([part])
        assert not outbox.write()
        assert outbox
        while len(got) < len(sent):
            got += theirs.recv(MIB)
            outbox.write()
        assert not outbox
    assert sent == got


def test_errors_of_the_pool_can_be_pickled() -> None:
    for error in (RemoteTaskError("a.B", "why"), RemoteTraceback("text"), CancelledError("x")):
        assert str(error) == str(pickle.loads(pickle.dumps(error)))
