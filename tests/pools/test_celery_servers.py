"""The brokers that teams have: Redis and RabbitMQ as Debian ships them, with real workers."""

# mypy: disable-error-code="arg-type"

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Any

import brokers
import celery_workers
import pytest

import greenlab
from greenlab import pools
from greenlab.api.run import prepare

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    """A broker with a green worker and one of processes; its URL."""
    start = {"redis": brokers.redis, "rabbitmq": brokers.rabbitmq}[request.param]
    with start() as url:
        environ = celery_workers.network(url)
        with (
            celery_workers.starting("-P", "eventlet", "-c", "100", **environ) as green,
            celery_workers.starting("-P", "prefork", "-c", "2", **environ) as processes,
        ):
            green.wait_ready()
            processes.wait_ready()
            yield url


@pytest.fixture(autouse=True)
def _broker(server: str, started: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in celery_workers.network(server).items():
        monkeypatch.setenv(name, value)


def run(func: Any, items: Any, **options: Any) -> Any:
    return greenlab.run(func, items, pool="celery", live=False, **options)


def halve(x: int) -> float:
    print("halving", x)
    time.sleep(0.01)
    return x / (x != 7)


def nap(seconds: float) -> None:
    time.sleep(seconds)


def whose(_: Any) -> int:
    return os.getpid()


def test_values_errors_and_what_is_printed_come_back(capsys: pytest.CaptureFixture[str]) -> None:
    made = run(halve, range(300), concurrency=50)
    assert [ZeroDivisionError] == [type(error) for error in made.errors.values()]
    assert [x / 1 for x in range(300) if x != 7] == [one for one in made.outcomes if isinstance(one, float)]
    assert {f"halving {x}" for x in range(300)} == set(capsys.readouterr().out.split("\n")) - {""}


def make(size: int) -> bytes:
    if size < 0:
        raise ValueError("x" * -size)
    return bytes(size)


@pytest.mark.parametrize("where", [None, "prefork"])
def test_a_result_or_error_that_a_broker_refuses_costs_no_neighbour(server: str, where: str | None) -> None:
    func = greenlab.task(pool=where)(make) if where else make
    large, half = brokers.RABBITMQ_TAKES_BYTES + 1, brokers.RABBITMQ_TAKES_BYTES // 2
    # An error travels with its message in three places.
    made = run(func, [20_000] * 5 + [large, -half] + [20_000] * 5, concurrency=12)
    assert [20_000] * 10 == [len(one) for index, one in enumerate(made.outcomes) if index not in (5, 6)]
    if server.startswith("redis"):
        assert [large] == [len(made.outcomes[5])]
        assert half == len(str(made.errors[6]))
    else:
        assert isinstance(made.errors[5], greenlab.NotSendableError)
        for error in made.errors.values():
            assert re.search(f"size.* {brokers.RABBITMQ_TAKES_BYTES}", str(error))
            assert "\n" not in str(error)


def test_items_that_a_broker_refuses_together_are_sent_one_by_one_and_one_too_large_fails(server: str) -> None:
    large = brokers.RABBITMQ_TAKES_BYTES
    sizes = [10, large // 32, large // 2, large // 2, large, 20]
    made = run(len, map(bytes, sizes), concurrency=6)
    kept = [index for index, size in enumerate(sizes) if server.startswith("redis") or size < large]
    assert [sizes[index] for index in kept] == [made.outcomes[index] for index in kept]
    assert set(range(6)) - set(kept) == made.errors.keys()
    for error in made.errors.values():
        assert isinstance(error, greenlab.NotSendableError)
        assert str(brokers.RABBITMQ_TAKES_BYTES) in str(error)
        assert "\n" not in str(error)


def test_a_function_that_a_broker_refuses_is_named(server: str) -> None:
    data = bytes(brokers.RABBITMQ_TAKES_BYTES)
    if server.startswith("redis"):
        assert [len(data)] == run(lambda _: len(data), range(1)).results
        return
    with pytest.raises(greenlab.NotSendableError, match="the task's function to a worker: it has 16 MiB"):
        run(lambda _: len(data), range(100))
    assert [0, 1] == run(abs, range(2)).results


def test_nothing_reads_any_more_when_greenlab_has_stopped(started: Any) -> None:
    run(halve, range(3))
    pool: Any = pools.get(started, "celery")
    reader = pool._connection._reader
    assert not reader.dead
    greenlab.stop()
    assert reader.dead


def test_calls_that_are_offloaded_come_by_the_queue_of_those_that_compute() -> None:
    green = set(run(whose, range(20)).results)
    processes = set(run(greenlab.task(pool="prefork")(whose), range(20)).results)
    calls = set(run(lambda x: greenlab.offload(whose, x), range(20)).results)
    assert 1 == len(green)
    assert not green & processes
    assert not green & calls


def test_a_run_is_stopped_and_the_next_one_goes_on() -> None:
    slow = prepare(nap, [0.01] * 20 + [60.0] * 50, pool="celery", concurrency=100).start()
    while slow.done < 20:
        time.sleep(0.01)
    slow.cancel()
    slow.wait()
    assert 20 == slow.done - slow.failed
    assert list(range(10)) == run(abs, range(10)).results
