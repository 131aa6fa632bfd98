"""Large bodies on their way between a pool and a worker, in memory that both have mapped.

A socket copies what it carries into the kernel and out again, a buffer's worth at a time, and wakes both ends for
each. Here a body is copied twice, once in and once out, and the socket carries where it lies.

Guarantees: nothing here waits; where there is no room, or no such memory (macOS), the socket carries the body. One
side writes and the other reads, in the order of the frames; the reader copies at once, so nothing keeps a ring full.
Bound: memory that a ring has used stays with the worker until that leaves, `framing.RING` each way at the most.
Must not import: eventlet, asyncio, or anything of greenlab but framing; worker processes load this.
"""

from __future__ import annotations

import mmap
from struct import Struct
from typing import TYPE_CHECKING, Final

from greenlab.pools.processes.framing import HEAD, RING, SHARED, SMALL, Bytes, Page, Parcel, frame

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENTRY: Final = Struct("<QQ")  # where a body begins, and how long it is


class Ring:
    """One direction. Positions are bytes since the ring was made; they only rise.

    Args:
        fd: the memory that both sides share, a page and two rings.
        index: which of the two this is.
        read: the word in which the reader says up to where it has read.
    """

    def __init__(self, fd: int, index: int, read: memoryview) -> None:
        self._map = mmap.mmap(fd, RING, offset=Page.SIZE + index * RING) if RING else None
        self._view = memoryview(self._map) if self._map is not None else memoryview(b"")
        self._read = read
        self._written = 0

    def frame(
        self, kind: int, job: int, number: int, parcel: Parcel, times_s: tuple[float, float] = (0.0, 0.0)
    ) -> list[Bytes]:
        """Return the parts of a frame, as `framing.frame` does; a large body is put here, if there is room."""
        position = self._put(parcel.parts, parcel.size) if SMALL <= parcel.size <= RING else None
        if position is None:
            return frame(kind, job, number, parcel, times_s)
        head = HEAD.pack(kind, parcel.form | SHARED, parcel.buffers, job, number, _ENTRY.size, *times_s)
        return [head, _ENTRY.pack(position, parcel.size)]

    def _put(self, parts: Sequence[Bytes], size: int) -> int | None:
        """Copy parts to one stretch of the ring; return its position, or None if there is no room now."""
        start, read = self._written, self._read[0]
        offset = start % RING
        # From the beginning where that is possible: memory that was used before is in the cache, and is there.
        if offset and (read >= start or offset + size > RING):
            start, offset = start + RING - offset, 0
        if read < self._written and start + size - read > RING:
            return None
        at = offset
        for part in parts:
            self._view[at : at + len(part)] = part
            at += len(part)
        self._written = start + size
        return start

    def take(self, entry: Bytes, *, writable: bool) -> Bytes:
        """Copy a body out, and make room."""
        position, size = _ENTRY.unpack(entry)
        offset = position % RING
        view = self._view[offset : offset + size]
        body = bytearray(view) if writable else bytes(view)
        self._read[0] = position + size
        return body

    def close(self) -> None:
        """Release the memory."""
        self._view.release()
        if self._map is not None:
            self._map.close()
