"""What the greening costs those who do not wait: ratios against the native calls, in the same run.

    python tests/benchmarks/bench_greening.py

Targets: an uncontended Lock within 5 times the native one; a native thread's socket round trip within 1.1 times.
Measures alternate, and medians are compared, so that a machine that slows down slows both.
"""

from __future__ import annotations

import _thread
import socket
import statistics
import threading
import time
from typing import TYPE_CHECKING, Any

import greenlab

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 21
LOOPS = 20_000
TRIPS = 2_000

# In a dict: names that stand in a module by themselves would be greened with the rest.
NATIVE = {"Lock": _thread.allocate_lock, "RLock": _thread.RLock, "local": _thread._local}


def lock_pairs(lock: Any) -> float:
    """Time one acquire and release, in seconds."""
    acquire, release = lock.acquire, lock.release
    begin = time.perf_counter()
    for _ in range(LOOPS):
        acquire()
        release()
    return (time.perf_counter() - begin) / LOOPS


def with_blocks(lock: Any) -> float:
    """Time one `with lock`, in seconds."""
    begin = time.perf_counter()
    for _ in range(LOOPS):
        with lock:
            pass
    return (time.perf_counter() - begin) / LOOPS


def attribute(local: Any) -> float:
    """Time one read of a thread-local's attribute, in seconds."""
    local.x = 1
    begin = time.perf_counter()
    for _ in range(LOOPS):
        local.x  # noqa: B018
    return (time.perf_counter() - begin) / LOOPS


def round_trips() -> float:
    """Time one round trip over loopback between two native threads, in seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    for each in (left, right):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    taken: list[float] = []

    def echo() -> None:
        while data := right.recv(100):
            right.sendall(data)

    def ask() -> None:
        begin = time.perf_counter()
        for _ in range(TRIPS):
            left.sendall(b"x" * 64)
            left.recv(100)
        taken.append((time.perf_counter() - begin) / TRIPS)
        left.shutdown(socket.SHUT_WR)

    with left, right:
        threads = [threading.Thread(target=each) for each in (echo, ask)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return taken[0]


def under_greenlab(measure: Callable[[], float]) -> float:
    """Measure while greenlab is loaded."""
    greenlab.start()
    try:
        return measure()
    finally:
        greenlab.stop()


def compare(name: str, native: Callable[[], float], green: Callable[[], float]) -> float:
    """Print and give the ratio of two medians."""
    both = [(native(), green()) for _ in range(ROUNDS)]
    plain, ours = (statistics.median(each) for each in zip(*both, strict=True))
    print(f"{name:46} {plain * 1e6:9.3f} {ours * 1e6:9.3f} {ours / plain:7.2f}")
    return float(ours / plain)


def main() -> None:
    print(f"{'microseconds, medians':46} {'native':>9} {'greened':>9} {'ratio':>7}")
    greenlab.start()
    lock, rlock, local = threading.Lock(), threading.RLock(), threading.local()
    compare("Lock.acquire + release", lambda: lock_pairs(NATIVE["Lock"]()), lambda: lock_pairs(lock))
    compare("with Lock", lambda: with_blocks(NATIVE["Lock"]()), lambda: with_blocks(lock))
    compare("RLock.acquire + release", lambda: lock_pairs(NATIVE["RLock"]()), lambda: lock_pairs(rlock))
    compare("threading.local, main greenlet", lambda: attribute(NATIVE["local"]()), lambda: attribute(local))
    compare(
        "threading.local, green task",
        lambda: attribute(NATIVE["local"]()),
        lambda: greenlab.spawn(attribute, local).wait(),
    )
    greenlab.stop()
    compare("socket round trip of native threads", round_trips, lambda: under_greenlab(round_trips))


if __name__ == "__main__":
    main()
