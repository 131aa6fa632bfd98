"""The auto pool: what it makes of tasks of a kind, and how it moves. Its contract is held by pools/test_contract.py."""

# mypy: disable-error-code="arg-type, attr-defined, no-any-return"

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import greenlet
import pytest
from autos import MOVING, make_pool
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.advising import auto_pool
from greenlab.advising.advice import Plan, TaskCost
from greenlab.api.run import prepare
from greenlab.hub import eventlet
from greenlab.pools.celery.workers import Strength
from greenlab.runs import Ledger


@pytest.fixture(autouse=True)
def _hub(started: Any) -> Any:
    return started


def cost(cpu: float = 0.0, blocked: float = 0.0, wait: float = 0.0, **others: Any) -> TaskCost:
    return TaskCost(cpu + blocked + wait, cpu, blocked, wait, **others)


def job(left: int | None, concurrency: int = 100, workers: int = 2) -> Any:
    return SimpleNamespace(kind=None, concurrency=concurrency, workers=workers, size_hint=lambda: left)


# -- the choice, without any clock ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "left", "pool"),
    [
        (cost(cpu=1e-4, wait=0.1), 10_000, "green"),
        (cost(cpu=0.01), 1000, "prefork"),
        (cost(cpu=0.01), None, "prefork"),  # nobody knows how many: as of a thousand
        (cost(cpu=0.01), 30, "green"),  # done before processes are there
        (cost(cpu=0.01), 0, "green"),
        (cost(cpu=0.01, cpu_free_s=0.01), 1000, "threads"),
        (cost(cpu=0.01, cpu_free_s=0.01, other_threads_s=0.01), 1000, "green"),  # it keeps both cores busy by itself
        (cost(cpu=1e-4, blocked=0.02), 1000, "threads"),
        (cost(cpu=1e-4, blocked=0.02, blocked_gil_s=0.02), 1000, "prefork"),
        (cost(cpu=0.01, wait=0.15), 1000, "hybrid"),
        (cost(cpu=0.01, wait=0.15, sendable=False), 1000, "green"),
        (cost(cpu=1e-4, blocked=0.02, sendable=False), 1000, "threads"),
    ],
)
def test_the_rest_goes_where_it_ends_clearly_sooner(
    monkeypatch: pytest.MonkeyPatch, what: TaskCost, left: int | None, pool: str
) -> None:
    monkeypatch.setattr(pools, "count_cores", lambda: 2)
    startup_s = {"prefork": 0.3, "hybrid": 0.6}
    assert pool == auto_pool.choose_plan(what, job(left), startup_s).pool


# -- real tasks ----------------------------------------------------------------------------------------------


def usleep(_: Any) -> int:
    ctypes.CDLL(None).usleep(20_000)
    return threading.get_ident()


def compute(x: Any) -> Any:
    end = time.thread_time() + 0.01
    while time.thread_time() < end:
        pass
    return x, os.getpid()


def test_what_waits_stays_in_green_and_comes_to_its_full_concurrency() -> None:
    at_once = []

    def nap(x: Any) -> Any:
        at_once.append(run.in_flight)
        time.sleep(0.02)
        return x

    run = prepare(nap, range(1000), pool="auto", concurrency=100)
    assert list(range(1000)) == run.complete().results
    assert run.moved.startswith("stayed in green: a task waits ")
    assert (True, 100) == (at_once[5] <= auto_pool.FIRST, max(at_once))


def test_what_blocks_without_computing_moves_to_threads() -> None:
    run = greenlab.run(usleep, range(200), pool="auto", live=False)
    assert run.moved.startswith("moved to threads after ")
    assert "blocks 2" in run.moved
    assert run.moved in repr(run)
    assert (200, "auto") == (run.counts["succeeded"], run.pool)
    idents = run.results
    assert threading.get_ident() == idents[0]
    assert threading.get_ident() not in idents[100:]


def test_what_computes_is_seen_to_compute_and_to_keep_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def choose(what: TaskCost, *_: Any) -> Plan:
        seen.append(what)
        return Plan("prefork", 1, 1, 1.0, "", 1.0)

    ledger = Ledger(compute, range(40), concurrency=20)
    auto_pool.AutoPool(greenlab.start(), choose).run(ledger)
    (what,) = seen
    assert what.cpu_s == pytest.approx(0.01, rel=0.2)
    assert what.cpu_free_s < what.cpu_s / 2
    assert what.wait_s < what.cpu_s / 2
    assert list(range(40)) == [x for x, _ in ledger.values]
    assert os.getpid() == ledger.values[0][1] != ledger.values[-1][1]


def test_a_wait_for_the_hub_that_others_hold_is_no_wait_of_a_task() -> None:
    seen = []

    def choose(what: TaskCost, *_: Any) -> Plan:
        seen.append(what)
        return Plan("green", 1, None, 1.0, "", 1.0)

    def wait_and_compute(_: Any) -> None:
        time.sleep(0.02)
        compute(0)

    ledger = Ledger(wait_and_compute, range(30), concurrency=10)
    auto_pool.AutoPool(greenlab.start(), choose).run(ledger)
    (what,) = seen
    # Ten at once queue for the hub for some 90 ms each.
    assert 0.018 < what.wait_s < 0.06
    assert what.cpu_s == pytest.approx(0.01, rel=0.3)


def test_what_holds_the_hub_for_long_is_moved_before_many_have_run() -> None:
    def block(_: Any) -> int:
        ctypes.CDLL(None).usleep(300_000)
        return threading.get_ident()

    run = greenlab.run(block, range(20), pool="auto", live=False)
    here = run.results.count(threading.get_ident())
    assert auto_pool.LEAST_LONG <= here <= 5
    assert f"moved to threads after {here} tasks" in run.moved


def test_a_first_task_that_imports_is_not_taken_for_the_others() -> None:
    first = [True]

    def work(_: Any) -> None:
        if first:
            first.clear()
            ctypes.CDLL(None).usleep(400_000)
        time.sleep(0.01)

    run = greenlab.run(work, range(100), pool="auto", live=False)
    assert run.moved.startswith("stayed in green: a task ")


def test_what_cannot_be_sent_stays_and_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "count_cores", lambda: 2)
    lock = threading.Lock()

    def compute_with(_: Any) -> None:
        with lock:
            compute(0)

    run = greenlab.run(compute_with, iter(range(60)), pool="auto", workers=2, live=False)
    assert run.moved.startswith("stayed in green: a task computes ")
    assert "prefork is out of the question, for 'lock' (_thread.lock)" in run.moved.replace("RLock", "lock")
    assert 60 == run.counts["succeeded"]


@pytest.mark.parametrize("what", ["an item", "a result"])
def test_so_does_what_has_items_or_results_that_cannot_be_sent(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(pools, "count_cores", lambda: 2)
    items = [threading.Lock() if what == "an item" else 0 for _ in range(60)]

    def work(_: Any) -> Any:
        compute(0)
        return threading.Lock() if what == "a result" else 0

    run = greenlab.run(work, iter(items), pool="auto", workers=2, live=False)
    assert f"for {what} (" in run.moved
    assert 60 == run.counts["succeeded"]


def test_a_few_tasks_end_before_there_is_anything_to_tell() -> None:
    run = greenlab.run(abs, [-1, -2], pool="auto", live=False)
    assert "stayed in green: it ended before there was enough to tell" == run.moved
    assert "" == greenlab.run(abs, [-1], live=False).moved


# -- on the way ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MOVING)
def test_every_task_runs_once_on_both_sides_of_the_move(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, name: str
) -> None:
    def leave(x: Any) -> Any:
        with (tmp_path / str(x)).open("a") as file:
            file.write(f"{os.getpid()} {threading.get_ident()}\n")
        time.sleep(0.002)
        return x

    pool = make_pool(greenlab.start(), name, monkeypatch)
    ledger = Ledger(leave, iter(range(80)), concurrency=4, workers=2)
    pool.run(ledger)
    assert list(range(80)) == ledger.values
    said = [(tmp_path / str(x)).read_text().splitlines() for x in range(80)]
    assert {1} == set(map(len, said))
    assert 2 <= len({line for (line,) in said})
    assert pool.decision(ledger).startswith(f"moved to {name.removeprefix('auto to ')} after ")


@pytest.mark.parametrize("name", MOVING)
def test_a_cancel_at_the_move_leaves_nothing_in_flight(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pool = make_pool(greenlab.start(), name, monkeypatch)
    ledger = Ledger(time.sleep, [0.001] * 10_000, concurrency=4, workers=2)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: pool.decision(ledger), pause_s=0)
    ledger.stopped = True
    runner.kill()
    with pytest.raises(greenlet.GreenletExit):
        runner.wait()
    assert (0, 0) == (pool.in_flight, pool.count(ledger))
    assert ledger.done < 10_000


@pytest.mark.parametrize("name", MOVING)
def test_a_rate_goes_on_after_the_move_and_few_more_begin_in_green(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    pool = make_pool(greenlab.start(), name, monkeypatch)
    ledger = Ledger(lambda _: (os.getpid(), threading.get_ident()), range(40), concurrency=30, workers=2, rate=200)
    pool.run(ledger)
    starts = sorted(ledger.started_s)
    assert [pytest.approx(0.005, abs=1e-6)] * 39 == [b - a for a, b in itertools.pairwise(starts)]
    assert ledger.values.count((os.getpid(), threading.get_ident())) <= 4


def test_a_task_may_be_killed_after_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = make_pool(greenlab.start(), "auto to hybrid", monkeypatch)
    ledger = Ledger(lambda x: time.sleep(30 if x == 5 else 0.001), range(10), concurrency=2, workers=1)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: ledger.done == 9 and [5] == [held.index for held in pool.held(ledger)])
    assert pool.kill(ledger, 5, greenlab.CancelledError("enough"))
    runner.wait()
    assert {5: "enough"} == {index: str(error) for index, error in ledger.errors.items()}


def test_a_pool_that_cannot_be_started_leaves_the_rest_in_green(monkeypatch: pytest.MonkeyPatch) -> None:
    here = greenlab.start()
    pool = make_pool(here, "auto to prefork", monkeypatch)

    def refuse(_: Any) -> None:
        raise greenlab.GreenlabError("no process could be started")

    monkeypatch.setattr(pools.get(here, "prefork"), "start", refuse)
    ledger = Ledger(abs, range(20), concurrency=4)
    pool.run(ledger)
    assert list(range(20)) == ledger.values
    assert "but prefork cannot be started: no process could be started" in pool.decision(ledger)


@pytest.mark.parametrize(("elsewhere", "pool"), [(True, "celery"), (False, "prefork")])
def test_where_this_machine_is_the_limit_workers_of_others_get_the_rest(
    monkeypatch: pytest.MonkeyPatch, elsewhere: bool, pool: str
) -> None:
    here, kinds = greenlab.start(), []
    celery, prefork = pools.get(here, "celery"), pools.get(here, "prefork")
    monkeypatch.setattr(celery, "strength", lambda kind: Strength(40, 20, elsewhere and kind == "cpu"))

    def start(part: Any) -> None:
        kinds.append(part.kind)
        prefork.start(part)

    monkeypatch.setattr(celery, "start", start)
    monkeypatch.setattr(celery, "run", prefork.run)
    run = greenlab.run(compute, range(150), pool="auto", live=False)
    assert list(range(150)) == [x for x, _ in run.results]
    assert run.moved.startswith(f"moved to {pool} after ")
    assert run.limit == (run.concurrency if elsewhere else pools.count_cores())
    assert (["cpu"] if elsewhere else []) == kinds
    assert elsewhere == ("the processors of this machine are the limit" in run.moved)


def test_in_a_worker_process_auto_stays_in_it() -> None:
    def inner(_: Any) -> Any:
        run = greenlab.run(usleep, range(40), pool="auto", concurrency=4, live=False)
        return run.moved, len(run.results)

    ((told, count),) = greenlab.run(inner, [1], pool="prefork", workers=1, live=False).results
    assert (True, 40) == (told.startswith("moved to threads"), count)


def test_workers_go_with_auto_and_a_sweep_does_not() -> None:
    assert [1] == greenlab.run(abs, [1], pool="auto", workers=1, live=False).results
    with pytest.raises(greenlab.UsageError, match="name the pool"):
        greenlab.sweep(abs, [1], pool="auto")


def test_a_block_of_an_auto_run_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    run = greenlab.run(lambda _: ctypes.CDLL(None).usleep(250_000), [1], pool="auto", live=False)
    assert ["task 0"] == [block.who for block in run.blocked]


# -- how it grows, on a clock that the test sets --------------------------------------------------------------


class Growing:
    """A job on its way through the sample, whose clock, sample and pool the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(auto_pool, "perf_counter", lambda: self.now_s)
        monkeypatch.setattr(auto_pool, "LEAST_TASKS", 10_000)  # nothing is decided meanwhile
        self.adjusted: list[Any] = []
        self.timers: list[Any] = []
        self.sample: Any = SimpleNamespace(ended=0, held_s=0.0, record_end=lambda *_: None)
        self.job: Any = auto_pool._AutoJob(auto_pool.AutoPool(greenlab.start()), job(1000))
        hub = SimpleNamespace(schedule_call_global=lambda *call: self.timers.append(call))
        pool = SimpleNamespace(adjust=self.adjusted.append)
        vars(self.job).update(_sample=self.sample, _owner=SimpleNamespace(hub=hub), pool=pool)

    def end(self, tasks: int, in_s: float, held_s: float = 0.0) -> None:
        """So many tasks end in a time, for some of which the hub is held."""
        self.now_s += in_s
        self.sample.ended += tasks
        self.sample.held_s += held_s
        self.job._on_task_end(0.0, 1.0, None, succeeded=True)


def test_twice_as_many_are_in_flight_whenever_as_many_as_there_are_have_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(monkeypatch)
    first = growing.job.part.most
    assert first is not None
    growing.end(first - 1, 0.001)
    assert first == growing.job.part.most
    growing.end(1, 0.001)
    assert 2 * first == growing.job.part.most
    growing.end(1, 0.001)
    assert 2 * first == growing.job.part.most, "counted from the last time"
    assert [growing.job.part] == growing.adjusted


def test_a_hub_that_had_no_time_to_spare_since_it_was_asked_is_given_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(monkeypatch)
    first = growing.job.part.most
    assert first is not None
    growing.end(first, 0.1, held_s=0.1)
    assert first == growing.job.part.most
    growing.end(first, 0.1)
    assert 2 * first == growing.job.part.most, "only what was held since then counts"
    growing.end(2 * first, 0.1, held_s=0.06)
    assert 2 * first == growing.job.part.most


def test_tasks_that_take_long_are_joined_by_more_though_none_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = Growing(monkeypatch)
    first = growing.job.part.most
    assert first is not None
    growing.now_s += 1
    growing.job._on_timer()
    assert 2 * first == growing.job.part.most
    assert [(auto_pool.GROW_S, growing.job._on_timer)] == growing.timers, "it looks again"
    growing.sample.ended += 1
    growing.job._on_timer()
    assert 2 * first == growing.job.part.most, "what ends asks by itself"
    growing.job._decided = True
    growing.job._on_timer()
    assert 2 == len(growing.timers), "and once it is decided no more"


def test_the_modules_of_pools_that_it_may_move_to_are_there_before_the_first_task() -> None:
    code = (
        "import sys, greenlab\nfrom greenlab import pools\nseen = []\n"
        "greenlab.run(lambda _: seen.append(set(sys.modules)), range(1), pool='auto')\n"
        "for name in {*pools.LOCAL, 'celery'} - {'auto'}:\n    pools.get(greenlab.start(), name)\n"
        "print(sorted(name for name in set(sys.modules) - seen[0] if name.startswith('greenlab.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "[]\n" == done.stdout
