"""Values and errors that raise where they are pickled, read or printed. It imports little: workers load this module."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class FrozenError(Exception):
    """Forbids what Python's own machinery, and ours, would set."""

    number: int


class BadPickle:
    """Raises where it is pickled."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error("in __reduce__")


class BadLoad:
    """Raises where it is unpickled, but not in the process that has made it."""

    def __init__(self, error: type[BaseException]) -> None:
        self.state = error, os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return load_badly, self.state


def load_badly(error: type[BaseException], pid: int) -> BadLoad:
    if os.getpid() != pid:
        raise error("in the reader")
    return BadLoad(error)


class BadError(Exception):
    """Raises where it is printed or pickled."""

    def __init__(self, error: type[BaseException]) -> None:
        super().__init__()
        self.error = error

    def __str__(self) -> str:
        raise self.error("in __str__")

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error("in __reduce__")


class BadLoadError(Exception):
    def __init__(self, error: type[BaseException]) -> None:
        super().__init__("told")
        self.state = error, os.getpid()

    def __reduce__(self) -> tuple[Any, ...]:
        return load_badly, self.state


def double_list(x: list[int]) -> list[int]:
    return x * 2
