"""Libraries that make greenlets: gevent, SQLAlchemy's and asgiref's bridges, beside green threads and in a kernel."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import gevent
import pytest
from greenlets import in_greenlet, in_main, in_task, slept

import greenlab

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from kernel import Kernel

    from greenlab.hub import GuestHub

pytestmark = pytest.mark.whole_heap


# -- gevent ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_gevent_left() -> Generator[None]:
    yield
    gevent.get_hub().destroy(destroy_loop=True)


@pytest.mark.usefixtures("no_gevent_left")
@pytest.mark.parametrize("place", [in_main, in_task])
def test_gevent_goes_on_as_before_beside_green_threads(started: GuestHub, place: Callable[..., Any]) -> None:
    local, lock = threading.local(), threading.RLock()

    def fetch(pause: Callable[[float], object]) -> Any:
        pause(0.005)
        with lock:
            return local.x

    def work() -> Any:
        local.x = "mine"
        with lock:
            made = [gevent.spawn(fetch, pause) for pause in (gevent.sleep, time.sleep, gevent.sleep)]
            return [each.value for each in gevent.joinall(made)]

    assert ["mine"] * 3 == place(work)


@pytest.mark.usefixtures("no_gevent_left")
def test_many_tasks_may_use_gevent_in_turns(started: GuestHub) -> None:
    def work(item: int) -> int:
        made = [gevent.spawn(pause, 0.001) for pause in (gevent.sleep, time.sleep, gevent.sleep)]
        time.sleep(0.001)
        gevent.joinall(made)
        in_greenlet(slept)
        gevent.sleep(0.001)
        return item

    assert list(range(20)) == greenlab.run(work, range(20), concurrency=10, live=False).results


# -- in a kernel -------------------------------------------------------------------------------------------


def test_sqlalchemy_and_asgiref_in_cells_and_in_tasks(kernel: Kernel) -> None:
    cell = kernel.run(
        """
import asyncio, time, greenlab
from asgiref.sync import async_to_sync, sync_to_async
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.util import greenlet_spawn

engine = create_async_engine("sqlite+aiosqlite://")

async def ask(number):
    async with engine.connect() as connection:
        return (await connection.execute(text(f"select {number}"))).scalar()

def late(answer):
    time.sleep(0.01)
    return answer

found = [await greenlet_spawn(late, 1), *await asyncio.gather(ask(2), ask(3))]
found += await greenlab.spawn(lambda: [greenlab.wait_async(ask(4)), greenlab.wait_async(greenlet_spawn(late, 5))])
found += [await sync_to_async(late)(6), await sync_to_async(lambda: async_to_sync(ask)(7))()]
found += [await greenlet_spawn(lambda: greenlab.run(late, [8], live=False).results[0])]
await engine.dispose()
found
"""
    )
    assert "[1, 2, 3, 4, 5, 6, 7, 8]" == cell.value, cell.error


def test_a_cell_that_waits_in_a_greenlet_can_be_interrupted(kernel: Kernel) -> None:
    kernel.run("import greenlet, time; from sqlalchemy.util import greenlet_spawn")
    for code, error in (
        ("greenlet.greenlet(time.sleep).switch(60)", "KeyboardInterrupt"),
        # As ipykernel does with any awaiting cell (`_cancel_on_sigint`).
        ("await greenlet_spawn(time.sleep, 60)", "CancelledError"),
    ):
        cell = kernel.run(code, interrupt_after=0.3)
        assert error == cell.ename
        assert cell.seconds < 30
        assert "2" == kernel.run("1 + 1").value
