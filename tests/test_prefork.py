"""The prefork pool, apart from what all pools share: tasks and their ends, and the workers."""

from __future__ import annotations

import importlib
import itertools
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import prefork_kit
import psutil
import pytest
from prefork_kit import MIB, FakeJob, run, run_script, server_pid, until

from greenlab.errors import (
    GreenlabError,
)
from greenlab.hub import eventlet
from greenlab.pools.prefork import PreforkPool
from greenlab.pools.processes.sending import RemoteTaskError, RemoteTraceback, dump_error

# Fixtures, the last two for every test.
pool, time_limit, nothing_of_processes_left = (
    prefork_kit.pool,
    prefork_kit.time_limit,
    prefork_kit.nothing_of_processes_left,
)


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


# --- workers -----------------------------------------------------------------------------------------------


def test_a_worker_has_loaded_neither_eventlet_nor_the_notebook() -> None:
    loaded = run_script("""
        from greenlab.pools.prefork import PreforkPool
        def names(_):
            import sys
            return sorted(sys.modules)
        class Job:
            concurrency, timeout_s, max_tasks, max_memory, func = 1, None, None, None, staticmethod(names)
            left = [(0, None)]
            def pull(self):
                if not self.left: raise StopIteration
                return self.left.pop()
            def succeed(self, i, s, e, value): print(*value)
            def fail(self, i, s, e, error): raise error
        with PreforkPool(1) as pool:
            pool.run(Job())
    """).split()
    assert "greenlab.pools.prefork.worker" in loaded
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
