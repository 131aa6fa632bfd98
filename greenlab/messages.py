"""Messages over a stream of bytes: how many parts there are, how long each is, and then the parts.

For every pair of processes of greenlab's that exchange whole messages: the kernel and the process that draws, the
kernel and a probe. Between a pool and its workers a frame has a head of its own, which says how many parts its body has
(`pools.processes.framing`); the body is made and split here.

Guarantees: nothing here reads or writes, or copies a part; the caller does, in its own way.

Must not import: anything of greenlab.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["join", "lengths_of", "receive", "split"]

Bytes: TypeAlias = bytes | bytearray | memoryview
_LENGTH: Final = Struct("<Q")


def lengths_of(parts: Sequence[Bytes]) -> bytes:
    """Return how long parts are, in the form in which that is sent before them."""
    return b"".join(_LENGTH.pack(memoryview(part).nbytes) for part in parts)


def join(*parts: Bytes) -> list[Bytes]:
    """Return what to send for a message, in this order: how many parts and their lengths, and the parts."""
    return [_LENGTH.pack(len(parts)) + lengths_of(parts), *parts]


def receive(read: Callable[[int], bytes]) -> list[bytes]:
    """Receive a message.

    Args:
        read: returns exactly as many bytes as it is told, or raises.
    """
    (count,) = _LENGTH.unpack(read(_LENGTH.size))
    lengths = [length for (length,) in _LENGTH.iter_unpack(read(_LENGTH.size * count))]
    return [read(length) for length in lengths]


def split(body: Bytes, count: int) -> list[memoryview]:
    """Split what begins with the lengths of its parts, without a copy."""
    view = memoryview(body)
    at = _LENGTH.size * count
    parts = []
    for (length,) in _LENGTH.iter_unpack(view[:at]):
        parts.append(view[at : at + length])
        at += length
    return parts
