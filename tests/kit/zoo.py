"""A zoo: calls whose kind is known, by how they are made. Probes and advice are scored against it.

Each is a function of this module, so that it travels by name to the process that calls it. The waits are of a tenth
of a second, so that a kind shows in few calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import hashlib
import http.client
import importlib
import json
import os
import queue
import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from servers import LATE_S

import greenlab
from greenlab.probes import judge

USLEEP_US = 50_000


def name_of(call: Any) -> str:
    """Name a call, and what is bound to it."""
    return " ".join((getattr(call, "func", call).__name__, *getattr(call, "args", ())))


# -- what waits cooperatively ------------------------------------------------------------------------------


def sleep() -> None:
    time.sleep(LATE_S)


def wait_for_socket() -> bytes:
    left, right = socket.socketpair()
    timer = threading.Timer(LATE_S, left.sendall, (b"x",))
    timer.start()
    with left, right:
        data = right.recv(1)
        timer.join()
        return data


def wait_for_lock() -> bool:
    event = threading.Event()
    timer = threading.Timer(LATE_S, event.set)
    timer.start()
    done = event.wait(5)
    timer.join()
    return done


def wait_for_queue() -> Any:
    items: queue.Queue[int] = queue.Queue()
    timer = threading.Timer(LATE_S, items.put, (1,))
    timer.start()
    item = items.get(timeout=5)
    timer.join()
    return item


def run_child() -> None:
    subprocess.run([sys.executable, "-S", "-c", f"import time; time.sleep({LATE_S})"], check=True)


def look_up_name() -> Any:
    # The system's resolver itself, made late: how long it takes here by itself is not known.
    from greenlab.greening import resolver

    def late(host: Any, *args: Any) -> Any:
        if args[-1] & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not numeric")
        time.sleep(LATE_S)  # in a native thread, or it blocks
        return []

    resolver._getaddrinfo = late  # type: ignore[assignment]
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo("late.invalid", 80)


def use_executor() -> None:
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(time.sleep, [LATE_S / 2] * 2))


_gate = threading.Lock()


def wait_for_each_other() -> None:
    with _gate:
        time.sleep(LATE_S / 2)


# -- what blocks, computes, keeps the GIL ------------------------------------------------------------------


def sleep_natively() -> None:
    with greenlab.native():
        time.sleep(LATE_S)


def usleep() -> None:
    ctypes.CDLL(None).usleep(USLEEP_US)


def usleep_with_gil() -> None:
    ctypes.PyDLL(None).usleep(USLEEP_US)


def run_shell() -> None:
    os.system(f"sleep {LATE_S}")


def wait_for_sqlite() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/database"
        with (
            contextlib.closing(sqlite3.connect(path)) as holder,
            contextlib.closing(sqlite3.connect(path, timeout=LATE_S)) as other,
        ):
            holder.execute("create table t (x)")
            holder.execute("begin exclusive")
            with contextlib.suppress(sqlite3.OperationalError):
                other.execute("insert into t values (1)")


def write_and_sync() -> None:
    with tempfile.NamedTemporaryFile(dir=os.environ.get("ZOO_DISK")) as file:
        for _ in range(20):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())


def wait_for_file_lock() -> None:
    with tempfile.NamedTemporaryFile() as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        timer = threading.Timer(LATE_S, fcntl.flock, (mine, fcntl.LOCK_UN))
        timer.start()
        with Path(mine.name).open() as same:
            fcntl.flock(same, fcntl.LOCK_EX)
        timer.join()


def open_fifo() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fifo"
        os.mkfifo(path)
        timer = threading.Timer(LATE_S, path.write_text, ("x",))
        timer.start()
        path.read_text()
        timer.join()


def hash_password() -> None:
    hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 150_000)


@functools.cache
def noise() -> bytes:
    return os.urandom(2_000_000)


def compress() -> None:
    zlib.compress(noise())


@functools.cache
def _matrix() -> Any:
    import numpy as np

    return np.random.default_rng(1).random((700, 700))


def multiply_matrices() -> None:
    _matrix() @ _matrix()


def compute_in_python() -> int:
    return sum(i * i for i in range(2_000_000))


def compute_in_c_with_gil() -> int:
    return sum(range(4_000_000))


def match_expression() -> None:
    re.match(r"(a+)+$", "a" * 21 + "b")


@functools.cache
def _document() -> str:
    return json.dumps([{"number": i, "text": "x" * 20, "more": [1.5, 2.5]} for i in range(40_000)])


def parse_json() -> None:
    json.loads(_document())


def mix(percent: int) -> None:
    """Compute for some percent of a tenth of a second of CPU time, and wait for the rest."""
    end = time.thread_time() + LATE_S * percent / 100
    while time.thread_time() < end:
        pass
    time.sleep(LATE_S * (1 - percent / 100))


def mix_10() -> None:
    mix(10)


def mix_50() -> None:
    mix(50)


def mix_90() -> None:
    mix(90)


def wait_then_block() -> None:
    time.sleep(LATE_S / 2)
    ctypes.CDLL(None).usleep(USLEEP_US)


# -- what does not work ------------------------------------------------------------------------------------


def fail() -> None:
    raise ValueError("as it must")


def fail_when_greened() -> None:
    from greenlab import greening

    if greening.is_green():
        raise RuntimeError("not here")
    time.sleep(0.01)


def fail_the_second_time() -> None:
    if _seen:
        raise RuntimeError("once only")
    _seen.append(1)


_seen: list[int] = []


def blink() -> None:
    pass


# -- clients of servers ------------------------------------------------------------------------------------


def fetch(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def fetch_by_http_client(url: str) -> bytes:
    connection = http.client.HTTPConnection(url.removeprefix("http://").strip("/"))
    with contextlib.closing(connection):
        connection.request("GET", "/")
        return connection.getresponse().read()


def fetch_by_requests(url: str) -> bytes:
    import requests

    return bytes(requests.get(url, timeout=5).content)


@functools.cache
def _pool() -> Any:
    import urllib3

    return urllib3.PoolManager(maxsize=8)


def fetch_by_urllib3(url: str) -> bytes:
    return bytes(_pool().request("GET", url).data)


@functools.cache
def _client() -> Any:
    import httpx

    return httpx.Client()


def fetch_by_httpx(url: str) -> bytes:
    return bytes(_client().get(url).content)


def pop_from_redis(port: int) -> Any:
    import redis

    with redis.Redis(port=port) as client:
        return client.blpop(["nothing comes"], timeout=LATE_S)


def ask_postgres(driver: str, address: str) -> Any:
    module = importlib.import_module(driver)
    with contextlib.closing(module.connect(address)) as connection, connection.cursor() as cursor:
        cursor.execute(f"select pg_sleep({LATE_S})")
        return cursor.fetchone()


def ask_postgres_natively(address: str) -> Any:
    with greenlab.native():
        return ask_postgres("psycopg", address)


def use_pymemcache(port: int) -> Any:
    client = importlib.import_module("pymemcache.client.base").Client(("127.0.0.1", port))
    client.set("key", b"value", noreply=False)
    client.close()


def use_pylibmc(port: int) -> Any:
    client = importlib.import_module("pylibmc").Client([f"127.0.0.1:{port}"])
    client.set("key", "value")
    client.disconnect_all()


@functools.cache
def _channel(port: int) -> Any:
    import grpc

    return grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/late.Late/Wait")


def call_grpc(port: int) -> Any:
    return _channel(port)(b"")


ANIMALS = {
    sleep: judge.COOPERATES,
    wait_for_socket: judge.COOPERATES,
    wait_for_lock: judge.COOPERATES,
    wait_for_queue: judge.COOPERATES,
    run_child: judge.COOPERATES,
    look_up_name: judge.COOPERATES,
    use_executor: judge.COOPERATES,
    wait_for_each_other: judge.COOPERATES,
    mix_10: judge.COOPERATES,
    mix_50: judge.MIXED,
    mix_90: judge.COMPUTES,
    sleep_natively: judge.BLOCKS,
    usleep: judge.BLOCKS,
    run_shell: judge.BLOCKS,
    wait_for_sqlite: judge.BLOCKS,
    write_and_sync: judge.BLOCKS,
    wait_for_file_lock: judge.BLOCKS,
    open_fifo: judge.BLOCKS,
    wait_then_block: judge.BLOCKS,
    hash_password: judge.COMPUTES,
    compress: judge.COMPUTES,
    multiply_matrices: judge.COMPUTES,
    compute_in_python: judge.COMPUTES,
    usleep_with_gil: judge.HOLDS_GIL,
    compute_in_c_with_gil: judge.HOLDS_GIL,
    parse_json: judge.HOLDS_GIL,
    match_expression: judge.HOLDS_GIL,
    fail: judge.FAILS,
    fail_when_greened: judge.FAILS_GREEN,
    fail_the_second_time: judge.UNKNOWN,
    blink: judge.UNKNOWN,
}
"""What needs no server, and its kind."""
