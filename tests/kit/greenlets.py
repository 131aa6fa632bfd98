"""Greenlets that others made, and the places where they are started: cells, tasks, coroutines."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import greenlet

import greenlab

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def in_greenlet(function: Callable[..., Any], *args: Any) -> Any:
    return greenlet.greenlet(function).switch(*args)


async def as_greenlet(function: Callable[..., Any], *args: Any) -> Any:
    """Bridge from a coroutine to blocking code, which may `await_`: as SQLAlchemy and greenback do it."""
    inner = greenlet.greenlet(function)
    asked = inner.switch(*args)
    while not inner.dead:
        try:
            answer = await asked
        except BaseException as error:
            asked = inner.throw(error)
        else:
            asked = inner.switch(answer)
    return asked


def await_(awaitable: Awaitable[Any]) -> Any:
    parent = greenlet.getcurrent().parent
    assert parent is not None
    return parent.switch(awaitable)


def in_main(function: Callable[[], Any]) -> Any:
    return function()


def in_task(function: Callable[[], Any]) -> Any:
    return greenlab.spawn(function).wait()


def in_run(function: Callable[[], Any]) -> Any:
    (result,) = greenlab.run(lambda _: function(), [None], live=False).results
    return result


def in_coroutine(function: Callable[[], Any]) -> Any:
    return asyncio.run(as_greenlet(function))


def in_coroutine_of_a_task(function: Callable[[], Any]) -> Any:
    return greenlab.spawn(asyncio.run, as_greenlet(function)).wait()


PLACES = [in_main, in_task, in_run, in_coroutine, in_coroutine_of_a_task]


def slept() -> str:
    time.sleep(0.01)
    return "came"


def soon(function: Callable[..., object], *args: Any) -> None:
    """Have a background task call something in a moment."""

    def work() -> None:
        time.sleep(0.001)
        function(*args)

    greenlab.spawn(work)


def tick(ticks: list[int]) -> None:
    while True:
        ticks.append(1)
        time.sleep(0.001)
