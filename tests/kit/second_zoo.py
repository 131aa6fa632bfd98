"""A second zoo, of calls that no threshold was set by: what the first one scores is a fit, and this a test of it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import lzma
import os
import random
import select
import signal
import socket
import sqlite3
import threading
import time

from servers import LATE_S
from zoo import noise

from greenlab.probes import judge


def poll_pipe() -> None:
    reading, writing = os.pipe()
    timer = threading.Timer(LATE_S, os.write, (writing, b"x"))
    timer.start()
    select.select([reading], [], [])
    timer.join()
    os.close(reading)
    os.close(writing)


def sleep_in_asyncio() -> None:
    asyncio.run(asyncio.sleep(LATE_S))


def join_thread() -> None:
    thread = threading.Thread(target=time.sleep, args=(LATE_S,))
    thread.start()
    thread.join()


def wait_for_condition() -> None:
    condition = threading.Condition()
    with condition:
        condition.wait(LATE_S)


def serve_and_fetch() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with server.accept()[0] as connection:
                time.sleep(LATE_S)
                connection.sendall(b"late")

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.create_connection(server.getsockname()) as client:
            client.recv(4)
        thread.join()


def read_pipe() -> None:
    reading, writing = os.pipe()
    timer = threading.Timer(LATE_S, os.write, (writing, b"x"))
    timer.start()
    os.read(reading, 1)
    timer.join()
    os.close(reading)
    os.close(writing)


def wait_for_signal() -> None:
    signal.sigtimedwait({signal.SIGUSR2}, LATE_S)


def compress_hard() -> None:
    lzma.compress(noise()[:300_000])


def derive_key() -> None:
    hashlib.scrypt(b"password", salt=b"salt", n=2**14, r=8, p=1)


def query_sqlite() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "with recursive n(i) as (select 1 union all select i + 1 from n limit 400000) select sum(i) from n"
        )


def sort_numbers() -> None:
    sorted(_numbers(), reverse=True)


@functools.cache
def _numbers() -> list[float]:
    return [random.Random(i).random() for i in range(200_000)]


def render_template() -> None:
    for i in range(30_000):
        "{:>10} {:<10} {:.3f}".format(i, "x" * (i % 10), i / 7)


ANIMALS = {
    poll_pipe: judge.COOPERATES,
    join_thread: judge.COOPERATES,
    wait_for_condition: judge.COOPERATES,
    serve_and_fetch: judge.COOPERATES,
    read_pipe: judge.COOPERATES,  # `os.read` is greened
    wait_for_signal: judge.BLOCKS,
    compress_hard: judge.COMPUTES,
    derive_key: judge.COMPUTES,
    query_sqlite: judge.COMPUTES,
    render_template: judge.COMPUTES,
    sort_numbers: judge.HOLDS_GIL,
    sleep_in_asyncio: judge.FAILS_GREEN,  # one asyncio loop at a time runs in an OS thread
}
"""Each and its kind."""
