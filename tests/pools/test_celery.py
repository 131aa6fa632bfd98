"""The celery pool's own: real workers on the embedded broker, eventlet and prefork."""

# mypy: disable-error-code="arg-type, attr-defined"

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import types
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from kernel import Kernel
from waiting import wait_until

import greenlab
from greenlab import pools
from greenlab.api.run import prepare
from greenlab.hub import eventlet
from greenlab.pools.celery.app import make_app
from greenlab.runs import Ledger
from greenlab.runs.hub_state import state_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def run(func: Callable[[Any], Any], items: Any, **options: Any) -> Any:
    return greenlab.run(func, items, pool="celery", live=False, **options)


def nap(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def whose(_: Any) -> int:
    return os.getpid()


def divide(x: float) -> float:
    return 1 / x


def speak(x: Any) -> Any:
    print("said", x)
    return x


# --- from a notebook ----------------------------------------------------------------------------------------


def test_cells_race_green_against_celery_and_leave_runs_there(worker: celery_workers.Worker) -> None:
    with Kernel() as kernel:
        assert kernel.run("%load_ext greenlab").error is None
        raced = kernel.run("%%greenrace -p green,celery -c 5 --no-live -o race x in range(10)\nx * 2")
        assert raced.error is None
        assert "'celery'" in kernel.run("sorted(race.runs)").value
        assert "True" == kernel.run("race.runs['celery'].results == race.runs['green'].results").value
        left = "%%greenrun -p celery -c 5 --detach --no-live -o later x in range(5)\nimport time\ntime.sleep(0.2)\n-x"
        assert kernel.run(left).error is None
        assert "[0, -1, -2, -3, -4]" == kernel.run("later.wait().results").value


# --- what a run has ----------------------------------------------------------------------------------------


def test_tasks_run_in_the_worker(worker: celery_workers.Worker) -> None:
    pids = set(run(whose, range(10)).results)
    assert pids <= {worker.process.pid, *worker.children}


def test_an_error_has_the_traceback_of_the_worker(worker: celery_workers.Worker) -> None:
    made = run(divide, [1, 0])
    assert {1: ZeroDivisionError} == {index: type(error) for index, error in made.errors.items()}
    assert "return 1 / x" in str(made.errors[1].__cause__)
    assert "greenlab/pools/celery" not in str(made.errors[1].__cause__)


def test_what_tasks_print_arrives_here(worker: celery_workers.Worker, capsys: pytest.CaptureFixture[str]) -> None:
    run(speak, range(3))
    assert ["said 0", "said 1", "said 2"] == sorted(capsys.readouterr().out.split("\n")[:-1])
    assert "said 0" not in worker.said


def test_what_the_hub_of_a_worker_prints_goes_to_its_log() -> None:
    program = (
        "import eventlet; eventlet.monkey_patch()\n"
        "from greenlab.pools.celery.batch import Printing\n"
        "Printing(None)\n"
        "eventlet.hubs.get_hub().schedule_call_global(0, print, 'where a callback has raised')\n"
        "eventlet.sleep(0.01)\n"
        "print('the worker')\n"
    )
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True)
    assert ("where a callback has raised\nthe worker\n", "") == (ran.stdout, ran.stderr)


def test_no_more_tasks_are_in_flight_than_asked_for(green_worker: celery_workers.Worker) -> None:
    made = run(nap, [0.2] * 20, concurrency=5)
    times = zip(made.ledger.started_s, made.ledger.ended_s, strict=True)
    edges = sorted(edge for start, end in times for edge in ((start, 1), (end, -1)))
    held, most = 0, 0
    for _, change in edges:
        held += change
        most = max(most, held)
    assert 5 == most


def test_many_brief_tasks_travel_in_few_messages(worker: celery_workers.Worker) -> None:
    run(len, ["x"] * 50)
    before = worker.said.count("received")
    made = run(len, ["xx"] * 5000)
    assert [2] * 5000 == made.results
    assert worker.said.count("received") - before < 500


def test_a_slow_task_does_not_hold_those_behind_it_in_its_message(worker: celery_workers.Worker) -> None:
    run(nap, [0] * 200, concurrency=50)  # so that many are sent together
    made = run(nap, [*[0] * 100, 3, *[0] * 100], concurrency=50)
    ends = made.ledger.ended_s
    assert max(ends[:100] + ends[101:]) < ends[100]


def test_the_concurrency_can_be_raised_while_a_run_goes_on(green_worker: celery_workers.Worker, started: Any) -> None:
    pool = pools.get(started, "celery")
    ledger = Ledger(nap, [0.2] * 60, concurrency=1)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: ledger.done >= 1, limit_s=30)
    ledger.concurrency = 60
    pool.adjust(ledger)
    begin = time.perf_counter()
    runner.wait()
    assert time.perf_counter() - begin < 0.2 * 30


def test_one_task_is_killed_and_the_others_go_on(worker: celery_workers.Worker, started: Any) -> None:
    pool = pools.get(started, "celery")
    ledger = Ledger(nap, [60, 0.01, 0.01, 0.01], concurrency=2)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: ledger.done == 3, limit_s=30)
    assert [0] == [one.index for one in pool.held(ledger)]
    assert pool.kill(ledger, 0, greenlab.CancelledError("enough"))
    assert not pool.kill(ledger, 1, greenlab.CancelledError("it has ended"))
    runner.wait()
    assert {0: "enough"} == {index: str(error) for index, error in ledger.errors.items()}


def test_a_kill_costs_none_of_those_that_travel_with_the_task(started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    celery_workers.use("prefork", monkeypatch)
    pool = pools.get(started, "celery")
    ledger = Ledger(nap, [0.0] * 1990 + [20.0] + [0.0] * 9, concurrency=2)
    runner = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: any(held.index == 1990 for held in pool.held(ledger)), limit_s=30)
    assert pool.kill(ledger, 1990, greenlab.CancelledError("enough"))
    runner.wait()
    assert {1990: "enough"} == {index: str(error) for index, error in ledger.errors.items()}
    assert 2000 == ledger.done


def test_a_task_that_has_begun_in_a_thread_of_a_worker_is_not_said_to_be_killed(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_workers.use("threads", monkeypatch)
    made = prepare(nap, [1.5], pool="celery", live=False)
    made.start()
    wait_until(made.tasks_in_flight, limit_s=30)
    assert not made.kill(0)
    (task,) = [task for task in started.tasks if task.about is made]
    assert f"nothing was killed: {task.id}.0 cannot be stopped where it runs" == repr(greenlab.kill(f"{task.id}.0"))
    assert [1.5] == made.wait().results


def test_a_task_that_waits_for_a_thread_of_a_worker_is_killed_before_it_begins(
    started: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    celery_workers.use("threads", monkeypatch)
    pool: Any = pools.get(started, "celery")
    before = Ledger(nap, [1.5] * 10, concurrency=10)
    first = eventlet.spawn(pool.run, before)
    wait_until(lambda: len(pool.held(before)) == 10, limit_s=30)
    ledger = Ledger(lambda x: (tmp_path / str(x)).touch(), range(3), concurrency=3)
    second = eventlet.spawn(pool.run, ledger)
    wait_until(lambda: 3 == sum(len(message.tasks) for message in [*pool._jobs.values()][-1].out.values()))
    assert pool.kill(ledger, 1, greenlab.CancelledError("enough"))
    first.wait()
    second.wait()
    assert {1: "enough"} == {index: str(error) for index, error in ledger.errors.items()}
    assert {"0", "2"} == {path.name for path in tmp_path.iterdir()}


def test_a_time_limit_in_a_thread_of_a_worker_is_told_when_the_call_has_returned(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_workers.use("threads", monkeypatch)
    made = run(nap, [0.01, 0.5], timeout=0.2)
    assert {1: greenlab.TaskTimeoutError} == {index: type(error) for index, error in made.errors.items()}
    assert made.ledger.ended_s[1] - made.ledger.started_s[1] >= 0.5


def test_the_hubs_state_lists_the_workers(green_worker: celery_workers.Worker, started: Any) -> None:
    run(len, ["x"])
    (line,) = state_of(started).remote
    assert "eventlet -c 100, takes greenlab.io.py3" in line
    wait_until(lambda: "0 tasks running, seen 0 s ago" in state_of(started).remote[0])  # it ends after its last word
    assert "0 tasks running, seen 0 s ago" in repr(state_of(started))


def spin(seconds: float) -> None:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def test_what_holds_a_workers_hub_is_told_with_the_workers_name(green_worker: celery_workers.Worker) -> None:
    run(spin, [0.0])  # the worker imports this module first, which may take as long
    made = run(spin, [0.4, 0.0])
    (block,) = [block for block in made.blocked if block.worker]
    assert ("spin", 0) == (block.function, block.index)
    assert str(block.worker).endswith("@test")
    assert block.duration_s == pytest.approx(0.4, rel=0.5)


def test_what_holds_a_workers_hub_is_told_before_the_result_that_ends_the_run(
    green_worker: celery_workers.Worker,
) -> None:
    def hold(seconds: float) -> bytes:
        spin(seconds)
        return bytes(100_000)  # too long to wait for others: it is told at once

    run(hold, [0.0])
    blocked = [run(hold, [0.2]).blocked for _ in range(5)]
    assert [["spin"]] * 5 == [[block.function for block in blocks if block.worker] for blocks in blocked]


def test_functions_of_a_kernel_travel_by_value(worker: celery_workers.Worker) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec("factor = 3\ndef triple(x):\n    return factor * x", names)
    assert [0, 3, 6] == run(names["triple"], range(3)).results


# --- where tasks go -----------------------------------------------------------------------------------------


@pytest.fixture
def mix(started: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[celery_workers.Worker, celery_workers.Worker]]:
    """An eventlet worker, and a prefork worker beside it on the same broker."""
    green = celery_workers.use("eventlet", monkeypatch)
    with celery_workers.working("-P", "prefork", "-c", "2", folder=green.folder) as processes:
        yield green, processes


def test_tasks_go_where_their_route_leads(
    mix: tuple[celery_workers.Worker, celery_workers.Worker], started: Any
) -> None:
    green, processes = mix
    assert {green.process.pid} == set(run(whose, range(4)).results)
    to_processes = greenlab.task(pool="prefork")(whose)
    assert set(run(to_processes, range(4)).results) <= set(processes.children)
    greenlab.route({"whose": "prefork"})
    assert set(run(greenlab.task(whose), range(4)).results) <= set(processes.children)
    calls = run(lambda x: greenlab.offload(whose, x), range(20), concurrency=20)
    assert set(calls.results) <= set(processes.children)
    calls = run(lambda x: to_processes(x) + 0, range(20), concurrency=20)
    assert set(calls.results) <= set(processes.children)
    halves = run(lambda x: greenlab.offload(divide, x), [0, 2])
    assert [ZeroDivisionError, float] == [type(one) for one in halves.outcomes]
    told = str(halves.errors[0].__cause__)
    assert "return 1 / x" in told
    assert "lambda x: greenlab.offload(divide, x)" in told
    assert "/eventlet/" not in told


def test_a_call_is_made_where_it_is_if_no_worker_has_processes(green_worker: celery_workers.Worker) -> None:
    made = run(lambda x: greenlab.offload(whose, x), range(2))
    assert {green_worker.process.pid} == set(made.results)


@pytest.mark.parametrize("kind", ["prefork", "threads"])
def test_a_task_that_holds_no_hub_makes_the_calls_that_it_offloads_where_it_is(
    kind: str, started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    celery_workers.use(kind, monkeypatch)

    def place(_: Any = None) -> tuple[int, int]:
        return os.getpid(), threading.get_ident()

    made = run(lambda pool: (place(), greenlab.offload(place, 1, pool=pool)), ["prefork", "threads"] * 2)
    assert [True] * 4 == [here == there for here, there in made.results]
    wrong = run(lambda x: x and greenlab.offload(place, x, pool="nowhere"), range(2))
    assert "offload goes to prefork or threads" in str(wrong.errors[1])


# --- what travels ------------------------------------------------------------------------------------------


def test_what_is_greened_here_is_in_a_worker_what_stands_there(worker: celery_workers.Worker) -> None:
    from threading import Lock
    from time import sleep

    assert (time.sleep, threading.Lock) == (sleep, Lock)
    assert isinstance(sleep, types.FunctionType)
    assert [None] * 3 == run(sleep, [0.0] * 3).results
    places = run(lambda _: (sleep is time.sleep, Lock is threading.Lock), range(3))
    assert [(True, True)] * 3 == places.results


def test_a_result_that_no_message_may_hold_fails_by_itself(worker: celery_workers.Worker) -> None:
    made = run(bytes, [10, 40 << 20])
    assert {1: greenlab.NotSendableError} == {index: type(error) for index, error in made.errors.items()}
    assert "MiB" in str(made.errors[1].__cause__ or made.errors[1])


def test_an_item_that_no_message_may_hold_fails_by_itself(worker: celery_workers.Worker) -> None:
    made = run(len, [b"12", bytes(40 << 20), "x" * (40 << 20), list(range(10)), [bytes(40 << 20)]])
    assert [1, 2, 4] == [index for index, error in made.errors.items() if isinstance(error, greenlab.NotSendableError)]
    assert "40 MiB" in str(made.errors[1])
    assert [2, 10] == [made.outcomes[0], made.outcomes[3]]


def test_an_error_that_no_message_may_hold_costs_no_neighbour_and_is_named(worker: celery_workers.Worker) -> None:
    def fail(size: int) -> int:
        if size > 10:
            raise ValueError("x" * size)
        return size

    made = run(fail, [10, 70 << 20, 10])
    assert [10, 10] == [made.outcomes[0], made.outcomes[2]]
    assert "ValueError: xxx" in str(made.errors[1])
    assert "(it has " in str(made.errors[1])
    assert "raise ValueError" in str(made.errors[1].__cause__)


def test_a_print_that_no_message_may_hold_arrives(
    worker: celery_workers.Worker, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(size: int) -> int:
        print("x" * size)
        return size

    assert [1, 65 << 20] == run(say, [1, 65 << 20]).results
    assert (65 << 20) + 3 == len(capsys.readouterr().out)


# --- the broker --------------------------------------------------------------------------------------------


def test_an_app_that_was_made_without_a_broker_finds_it_when_it_sends(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = make_app(None)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    for need in (app.connection_for_write, app.connection_for_read, lambda: app.backend):
        with pytest.raises(greenlab.UsageError, match="greenlab worker"):
            need()
    celery_workers.use("eventlet", monkeypatch)
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1)
    assert app.backend.client.ping()


def test_the_embedded_broker_ends_with_its_last_worker() -> None:
    with celery_workers.working("-P", "solo") as worker:
        socket = worker.folder / "greenlab" / "broker.sock"
        assert socket.exists()
        with celery_workers.working("-P", "solo", folder=worker.folder):
            pass
        assert socket.exists()
        worker.process.kill()
        worker.process.wait()
        wait_until(lambda: not socket.exists(), limit_s=30)
