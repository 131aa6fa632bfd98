"""One contract, every pool."""

# Doubles, lambdas and deliberate misuse: what these rules see in them is meant.
# mypy: disable-error-code="arg-type, attr-defined, func-returns-value, misc, union-attr, var-annotated"

from __future__ import annotations

import itertools
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import greenlet
import pytest
from autos import POOLS, make_pool
from contract_tasks import deep, double, fail_odd, nap, quit_on_two, raise_fussy
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.hub import eventlet
from greenlab.pools.protocol import Pool
from greenlab.runs import Ledger
from greenlab.runs.run import Run

if TYPE_CHECKING:
    from greenlab.runs.observers import Observer


@pytest.fixture(params=POOLS)
def pool(request: Any, started: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Each pool in turn; the hub's stop ends it."""
    return make_pool(started, request.param, monkeypatch)


def work(pool: Any, func: Any, items: Any, **options: Any) -> Any:
    """Run a job to its end and give its ledger."""
    ledger = Ledger(func, items, concurrency=options.pop("concurrency", 4), **options)
    pool.run(ledger)
    return ledger


def test_every_task_ends_once_with_its_own_value(pool: Any) -> None:
    ledger = work(pool, double, range(1000))
    assert [2 * i for i in range(1000)] == ledger.values
    assert (1000, 1000, 0) == (ledger.pulled, ledger.done, ledger.failed)


def test_a_limit_that_is_never_reached_costs_nothing(pool: Any) -> None:
    if pool.name == "prefork":  # its concurrency is how many workers there are
        return
    for items in (range(1000), iter(range(1000))):
        ledger = work(pool, double, items, concurrency=10**7)
        assert [2 * i for i in range(1000)] == ledger.values


def test_a_task_that_raises_fails_alone(pool: Any) -> None:
    ledger = work(pool, fail_odd, range(10))
    assert [1, 3, 5, 7, 9] == sorted(ledger.errors)
    assert "7" == str(ledger.errors[7])
    assert [0, 2, 4, 6, 8] == [v for v in ledger.values if v is not None]


def test_tasks_start_and_end_in_time_order(pool: Any) -> None:
    begin = time.perf_counter()
    ledger = work(pool, nap, [0.01] * 8)
    end = time.perf_counter()
    for started, ended in zip(ledger.started_s, ledger.ended_s, strict=True):
        assert begin <= started < ended <= end
        assert ended - started >= 0.01


def test_system_exit_and_keyboard_interrupt_fail_one_task_only(pool: Any) -> None:
    ledger = work(pool, quit_on_two, range(6))
    assert {2: SystemExit, 3: KeyboardInterrupt} == {i: type(e) for i, e in ledger.errors.items()}
    assert [0, 1, None, None, 4, 5] == ledger.values


def test_a_recursion_error_is_an_ordinary_failure(pool: Any) -> None:
    ledger = work(pool, deep, range(2))
    assert [RecursionError] * 2 == [type(e) for e in ledger.errors.values()]
    assert [0] == work(pool, double, [0]).values


def test_an_exception_that_resists_rebuilding_still_names_itself(pool: Any) -> None:
    ledger = work(pool, raise_fussy, [1])
    assert "1 and more" in str(ledger.errors[0])
    assert "FussyError" in f"{type(ledger.errors[0]).__name__} {ledger.errors[0]}"


def test_an_endless_iterator_is_pulled_only_as_fast_as_tasks_start(pool: Any) -> None:
    pulled = []

    def endless() -> Any:
        for i in itertools.count():
            pulled.append(i)
            yield 0.02

    ledger = Ledger(nap, endless(), concurrency=4)
    runner = eventlet.spawn(pool.run, ledger)
    ahead = []
    while ledger.done < 12:
        eventlet.sleep(0.005)
        ahead.append(len(pulled) - ledger.done)
    ledger.stopped = True
    runner.wait()
    assert ledger.done == ledger.pulled == len(pulled)
    assert max(ahead) <= 2 * 4


def test_an_iterator_that_waits_is_asked_by_one_green_thread_at_a_time(pool: Any) -> None:
    def slow() -> Any:
        for i in range(6):
            eventlet.sleep(0.002)
            yield i

    assert [0, 2, 4, 6, 8, 10] == work(pool, double, slow()).values


def test_an_iterator_that_raises_ends_the_job_and_keeps_what_was_begun(pool: Any) -> None:
    def broken() -> Any:
        yield from range(5)
        raise OSError("the list ends here")

    ledger = work(pool, double, broken())
    assert [0, 2, 4, 6, 8] == ledger.values
    assert "the list ends here" == str(ledger.source_error)


def test_killing_the_runner_stops_the_tasks_in_flight_and_the_pool_lives_on(pool: Any) -> None:
    ledger = Ledger(nap, [60] * 10, concurrency=3)
    runner = eventlet.spawn(pool.run, ledger)
    eventlet.sleep(0.1)
    ledger.stopped = True
    runner.kill()
    with pytest.raises(greenlet.GreenletExit):
        runner.wait()
    assert 0 == ledger.done
    assert 0 == pool.in_flight
    assert [0, 2] == work(pool, double, [0, 1]).values


def test_which_tasks_are_in_flight_is_known_and_when_they_began(pool: Any) -> None:
    ledger = Ledger(nap, [60] * 10, concurrency=3)
    before_s = time.perf_counter()
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: pool.begun(ledger) and pool.count(ledger) == len(pool.begun(ledger)))
    begun = pool.begun(ledger)
    assert {index for index, _ in begun} == {task.index for task in pool.held(ledger)} <= {0, 1, 2}
    assert all(before_s <= began_s <= time.perf_counter() for _, began_s in begun)
    assert [] == pool.begun(Ledger(nap, [], concurrency=1))
    ledger.stopped = True
    runner.kill()
    with pytest.raises(greenlet.GreenletExit):
        runner.wait()
    assert [] == pool.begun(ledger)


def test_a_task_over_its_timeout_fails_and_the_others_go_on(pool: Any) -> None:
    ledger = work(pool, nap, [0.001, 60, 0.001], timeout_s=0.2)
    assert {1: greenlab.TaskTimeoutError} == {i: type(e) for i, e in ledger.errors.items()}
    assert [0.001, None, 0.001] == ledger.values


def test_two_jobs_at_once_are_both_served(pool: Any) -> None:
    ledgers = [Ledger(nap, [0.005] * 60, concurrency=2) for _ in range(2)]
    runners = [eventlet.spawn(pool.run, ledger) for ledger in ledgers]
    while sum(ledger.done for ledger in ledgers) < 60:
        eventlet.sleep(0.002)
    halfway = [ledger.done for ledger in ledgers]
    for runner in runners:
        runner.wait()
    assert [60, 60] == [ledger.done for ledger in ledgers]
    assert min(halfway) > 0


def test_failed_tasks_are_tried_again(pool: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:

        def second_time_lucky(i: Any) -> Any:
            path = Path(folder, str(i))
            if not path.exists():
                path.touch()
                raise ValueError(i)
            return i

        ledger = work(pool, second_time_lucky, range(5), retries=2)
    assert ([0, 1, 2, 3, 4], {}) == (ledger.values, ledger.errors)


def test_retries_end_and_the_last_error_stays(pool: Any) -> None:
    ledger = work(pool, fail_odd, [1], retries=2)
    assert "1" == str(ledger.errors[0])
    assert (1, 1) == (ledger.done, ledger.failed)


def test_a_rate_spaces_the_starts_and_counts_latency_from_the_intended_one(pool: Any) -> None:
    ledger = work(pool, double, range(6), rate=100)
    gaps = [b - a for a, b in itertools.pairwise(sorted(ledger.started_s))]
    assert [pytest.approx(0.01, abs=1e-6)] * 5 == gaps


def test_large_items_and_results_go_through(pool: Any) -> None:
    blob = os.urandom(1 << 20)
    assert [blob * 2] * 3 == work(pool, lambda b: b * 2, [blob] * 3).values


def test_a_pool_offers_all_that_the_protocol_names(pool: Any) -> None:
    offered = set(Pool.__annotations__) | {name for name in vars(Pool) if not name.startswith("_")}
    assert {"name", "pids"} <= offered
    assert [] == [name for name in sorted(offered) if not hasattr(pool, name)]
    assert tuple is type(pool.pids)


class EverythingObserver:
    """An `Observer` that keeps what it hears of."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def run_started(self, run: Any) -> None:
        assert run.running
        self.heard.append("started")

    def hub_blocked(self, run: Any, block: Any) -> None:
        assert run.running
        assert block.ended_s > block.started_s
        self.heard.append("blocked")

    def run_ended(self, run: Any) -> None:
        assert not run.running
        self.heard.append("ended")


def test_an_observer_hears_of_every_event_that_it_is_promised(pool: Any, started: Any) -> None:
    def compute(seconds: float) -> None:
        end_s = time.perf_counter() + seconds
        while time.perf_counter() < end_s:
            pass

    observer = EverythingObserver()
    wants_all: Observer = observer
    run = Run(started, pool, Ledger(compute, [0.4, 0.0, 0.0], concurrency=2), observers=[wants_all])
    run.start().wait()
    spec = pools.spec_of(pool.name)
    on_a_hub = spec.on_hub or spec.own_hubs or pool.name == pools.AUTO  # which begins in green
    assert ("started", "ended") == (observer.heard[0], observer.heard[-1])
    assert {"started", "ended", *(["blocked"] if on_a_hub else [])} <= set(observer.heard)
    assert (1, 1) == (observer.heard.count("started"), observer.heard.count("ended"))


def test_close_is_safe_twice(pool: Any) -> None:
    pool.close()
    pool.close()


def test_an_unknown_pool_is_refused_with_those_there_are(started: Any) -> None:
    with pytest.raises(greenlab.UsageError, match="use green, threads"):
        pools.get(started, "gren")


# -- the green pool's own ----------------------------------------------------------------------------------


def test_a_green_run_of_short_tasks_lets_others_have_the_hub(started: Any) -> None:
    ticks = []

    def tick() -> None:
        while True:
            ticks.append(time.perf_counter())
            eventlet.sleep(0)

    ticker = eventlet.spawn(tick)
    work(pools.get(started, "green"), double, range(200_000), concurrency=10)
    ticker.kill()
    assert len(ticks) > 10


def test_the_concurrency_of_a_green_run_can_be_changed_while_it_runs(started: Any) -> None:
    pool = pools.get(started, "green")
    ledger = Ledger(nap, [0.01] * 10_000, concurrency=2)
    runner = eventlet.spawn(pool.run, ledger)
    seen = []
    for concurrency in (2, 10, 1):
        ledger.concurrency = concurrency
        pool.adjust(ledger)
        eventlet.sleep(0.1)
        seen.append(max(_sampled(pool)))
    ledger.stopped = True
    runner.wait()
    assert [2, 10, 1] == seen


def _sampled(pool: Any) -> Any:
    for _ in range(20):
        eventlet.sleep(0.002)
        yield pool.in_flight


def test_one_green_task_does_not_see_the_context_of_the_one_before(started: Any) -> None:
    import contextvars

    var = contextvars.ContextVar("var", default=0)

    def look(x: Any) -> Any:
        before = var.get()
        var.set(x)
        return before

    assert [0, 0, 0] == work(pools.get(started, "green"), look, [1, 2, 3], concurrency=1).values
