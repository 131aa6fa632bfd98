"""What the contract suite has every pool do. It imports little: each new worker process loads this module."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any


def double(x: Any) -> Any:
    return 2 * x


def fail_odd(x: Any) -> Any:
    if x % 2:
        raise ValueError(x)
    return x


def quit_on_two(x: Any) -> Any:
    if x == 2:
        raise SystemExit(3)
    if x == 3:
        raise KeyboardInterrupt
    return x


def deep(x: Any) -> Any:
    return deep(x)


class FussyError(Exception):
    """Cannot be rebuilt from its args."""

    def __init__(self, one: Any, two: Any) -> None:
        super().__init__(f"{one} and {two}")
        self.one = one


def raise_fussy(x: Any) -> None:
    raise FussyError(x, "more")


def nap(seconds: Any) -> Any:
    end = time.perf_counter() + seconds
    # In short steps, for an OS thread can be stopped only between two calls.
    while (left := end - time.perf_counter()) > 0:
        time.sleep(min(left, 0.02))
    return seconds


class Task:
    """A task that notes that it ran, and fails for some items, or the first times it is tried."""

    def __init__(self, folder: Path, fails: Any, tries: int = 0) -> None:
        self.folder = str(folder)
        self.fails = frozenset(fails)
        self.tries = tries

    def __call__(self, item: Any) -> Any:
        path = Path(self.folder, str(item))
        # Not `with open`: an OS thread may be stopped just before the block begins, and the file would be left to warn.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(fd, b".")
        os.close(fd)
        if item % 3 == 0:
            time.sleep(0.0005)
        if item in self.fails or path.stat().st_size <= self.tries:
            raise ValueError(item)
        return -item


def nap_now_and_then(item: int) -> int:
    if item % 5 == 0:
        time.sleep(0.002)
    return item
