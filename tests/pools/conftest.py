"""Pools with worker processes, and checks that a test leaves nothing of theirs behind.

A module takes the checks by `pytestmark = pytest.mark.usefixtures("nothing_of_processes_left", "time_limit")`.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from processes_kit import FakeJob, ProcessPool

from greenlab.hub import eventlet
from greenlab.pools.hybrid import HybridPool
from greenlab.pools.prefork import PreforkPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import celery_workers


@pytest.fixture
def nothing_of_processes_left() -> Iterator[None]:
    """Fail the test that leaves a process, a descriptor or a timer."""
    eventlet.hubs.get_hub()  # its own descriptor is not ours to count
    me = psutil.Process()
    children = set(me.children(recursive=True))  # such as the resource tracker of multiprocessing
    before = me.num_fds()
    gc.freeze()  # so that collecting looks at what the test has made, which takes a tenth of the time
    yield
    gc.collect()
    gc.unfreeze()
    assert set() == set(me.children(recursive=True)) - children
    assert before == me.num_fds()
    hub = eventlet.hubs.get_hub()
    eventlet.sleep(0)
    assert [] == [timer for timer in [*hub.timers, *hub.next_timers] if not timer[1].called]


@pytest.fixture
def time_limit() -> Iterator[None]:
    """End a green test that hangs, with a traceback of its own."""
    with eventlet.Timeout(60):
        yield


@pytest.fixture
def prefork_pool() -> Iterator[PreforkPool]:
    with PreforkPool(2) as pool:
        yield pool


@pytest.fixture
def hybrid_pool() -> Iterator[HybridPool]:
    with HybridPool() as pool:
        yield pool


@pytest.fixture(params=["prefork", "hybrid"])
def unstarted(request: pytest.FixtureRequest) -> Callable[[], ProcessPool]:
    """Makes pools that have, or will have, two worker processes."""
    return HybridPool if request.param == "hybrid" else lambda: PreforkPool(2)


@pytest.fixture
def both_pools(unstarted: Callable[[], ProcessPool]) -> Iterator[ProcessPool]:
    """A pool of either kind, with its processes."""
    with unstarted() as pool:
        pool.start(FakeJob(abs, []))
        yield pool


@pytest.fixture(params=["eventlet", "prefork"])
def worker(request: Any, started: Any, monkeypatch: pytest.MonkeyPatch) -> celery_workers.Worker:
    """A Celery worker that tests share."""
    return _use_worker(request.param, monkeypatch)


@pytest.fixture
def green_worker(started: Any, monkeypatch: pytest.MonkeyPatch) -> celery_workers.Worker:
    """The eventlet one."""
    return _use_worker("eventlet", monkeypatch)


def _use_worker(kind: str, monkeypatch: pytest.MonkeyPatch) -> celery_workers.Worker:
    import celery_workers  # here: most tests of pools need no Celery

    return celery_workers.use(kind, monkeypatch)
