"""Frames between a pool and its worker processes, and the page of memory they share.

A frame is a head of fixed size and a body. Bodies are pickles; large bytes and the buffers of arrays travel
beside the pickle, so that a big value is copied by the kernel only.

Guarantees: the pool's half (`Inbox`, `Outbox`) never blocks, whatever has been done to the socket module: it
raises or reports instead, and the caller waits in its own way. A frame is delivered whole or not at all.
Must not import: eventlet, asyncio, or anything of greenlab but messages; worker processes load this.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from collections import deque
from struct import Struct
from typing import TYPE_CHECKING, Final, TypeAlias

from greenlab import messages

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable

Bytes: TypeAlias = bytes | bytearray | memoryview
Frame: TypeAlias = tuple[int, int, int, int, int, int, float, float, Bytes]

# kind, form, out-of-band buffers, job, number, size of the body, start and end of the task
HEAD: Final = Struct("<BBHIQQdd")
HEAD_SIZE: Final = HEAD.size

# What a frame is: to a worker …
JOB: Final = 1  # the function of a job
BATCH: Final = 2  # the items of tasks number, number + 1, … in one pickle of a list
TASK: Final = 3  # one item
FORGET: Final = 4  # the job has ended
# … and from one.
RESULT: Final = 5
ERROR: Final = 6
SKIPPED: Final = 7  # the task was not begun: its job had been cancelled, or it was recalled, or the worker leaves
STDOUT: Final = 8
STDERR: Final = 9
FULL: Final = 10  # the worker has more memory than it may: it begins no further task

# How a body is to be read.
NOTHING: Final = 0  # None, without a body
PICKLED: Final = 1
RAW: Final = 2  # bytes, as they are
SHARED: Final = 0x80  # beside one of these: the body is in the ring, and this frame says where

SMALL: Final = 1 << 16  # below this, copying costs less than another system call
RING: Final = 1 << 24 if hasattr(os, "memfd_create") else 0
"""Bytes of shared memory for large bodies, each way; it takes real memory from when it was first used. On macOS such
memory would be a file, and the disk would be kept busy."""
_CHUNK: Final = 1 << 18
_MANY: Final = 512  # sendmsg takes 1024 parts on Linux and macOS


class Parcel:
    """A value made ready to be sent: its form, and the parts of its body."""

    __slots__ = ("buffers", "form", "parts", "size")

    def __init__(self, form: int, parts: list[Bytes], buffers: int = 0) -> None:
        self.form = form
        self.parts = parts
        self.buffers = buffers
        self.size = sum(len(part) for part in parts)


NO_BODY: Final = Parcel(NOTHING, [])


def with_buffers(body: bytes, buffers: list[memoryview]) -> Parcel:
    """Put a pickle and the buffers that it left out into one parcel: the lengths, the pickle, the buffers."""
    return Parcel(PICKLED, [messages.lengths_of([body, *buffers]), body, *buffers], len(buffers))


def split_buffers(body: Bytes, buffers: int) -> tuple[memoryview, list[memoryview]]:
    """Undo `with_buffers`, without a copy: the pickle, and its buffers."""
    pickled, *beside = messages.split(body, buffers + 1)
    return pickled, beside


def frame(kind: int, job: int, number: int, parcel: Parcel, times_s: tuple[float, float] = (0.0, 0.0)) -> list[Bytes]:
    """Return the parts of a frame, in the order to send them; `times_s` are the start and end of the task."""
    head = HEAD.pack(kind, parcel.form, parcel.buffers, job, number, parcel.size, *times_s)
    return [head, *parcel.parts]


class Inbox:
    """Reads frames from a non-blocking socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._rest: bytes = b""
        self._large: bytearray | None = None
        self._filled = 0

    def read(self) -> list[Frame]:
        """Read once; return the frames that are complete.

        Raises:
            BlockingIOError: there is nothing to read now.
            EOFError: there will be no more.
            OSError: the connection broke.
        """
        if self._large is not None:
            return self._read_large(self._large)
        chunk = self._sock.recv(_CHUNK)
        if not chunk:
            raise EOFError
        return self._cut(self._rest + chunk if self._rest else chunk)

    def _cut(self, data: bytes) -> list[Frame]:
        frames: list[Frame] = []
        at, end = 0, len(data)
        unpack, head_size = HEAD.unpack_from, HEAD_SIZE
        while end - at >= head_size:
            head = unpack(data, at)
            start = at + head_size
            stop = start + head[5]
            if stop > end:
                if head[5] > SMALL:
                    self._large = bytearray(head_size + head[5])
                    self._filled = end - at
                    self._large[: end - at] = memoryview(data)[at:]
                    at = end
                break
            frames.append((*head, data[start:stop]))
            at = stop
        self._rest = data[at:]
        return frames

    def _read_large(self, large: bytearray) -> list[Frame]:
        with memoryview(large) as view:
            count = self._sock.recv_into(view[self._filled :])
        if not count:
            raise EOFError
        self._filled += count
        if self._filled < len(large):
            return []
        self._large = None
        return [(*HEAD.unpack_from(large), memoryview(large)[HEAD_SIZE:])]


class Outbox:
    """Writes parts to a non-blocking socket, and keeps what it does not take yet."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._kept: deque[Bytes] = deque()
        self.sent = 0  # bytes, ever

    def __bool__(self) -> bool:
        """Whether something still waits to be written."""
        return bool(self._kept)

    def put(self, parts: Iterable[Bytes]) -> None:
        """Add parts; `write` sends them."""
        small: list[Bytes] = []
        for part in parts:
            if len(part) < SMALL:
                small.append(part)
                continue
            if small:
                self._kept.append(b"".join(small))
                small = []
            self._kept.append(part)
        if small:
            self._kept.append(b"".join(small))

    def write(self) -> bool:
        """Write what the socket takes now; return whether that was all.

        Raises:
            OSError: the other end is gone.
        """
        kept = self._kept
        try:
            while kept:
                if len(kept) == 1:
                    sent = self._sock.send(kept[0])
                else:
                    sent = self._sock.sendmsg([kept[i] for i in range(min(len(kept), _MANY))])
                self.sent += sent
                while kept and sent >= len(kept[0]):
                    sent -= len(kept.popleft())
                if sent:
                    kept[0] = memoryview(kept[0])[sent:]
        except BlockingIOError:
            return False
        return True


class Page:
    """Memory that a pool shares with one worker: what it does, and what it shall do next.

    A number, of a task, is one word, written and read in one piece. The numbers that a worker is given rise.

    Of the worker:
        taken: the task that it turned to last, written before it looks at `recall` and `skip`;
        running: the task that it began last, written after. It survives the worker's death, which is how the
            pool knows which task was lost;
        started_s: since when, written before `taken`.
    Of the pool:
        recall: no task up to this one shall be begun any more. The pool writes it, reads `taken` a moment
            later, and knows that no task above that has been begun, nor ever will be (see `WorkerHandle.take_back`);
        skip: a flag a job: its tasks shall not be begun;
        stop, limit_s: this task has outlasted its limit, of so many seconds (told by SIGUSR1);
        asked: goes up by one when the pool asks where the task stands (told by SIGUSR1).
    Of both: `read_there` and `read_here`, up to where the worker and the pool have read the rings (see `ring_buffer`),
    which lie behind this page in the same memory.
    """

    SIZE: Final = 8192
    _FLAGS: Final = 128
    _PLACE: Final = 4096
    _LONGEST: Final = 1000  # characters of a file name, or of a function's

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, self.SIZE)
        view = memoryview(self._map)
        words = [view[at : at + 8] for at in range(0, self._FLAGS, 8)]
        self.taken, self.running, self.recall, self.stop, self.asked, self._answered = (
            word.cast("Q") for word in words[:6]
        )
        self.started_s, self.limit_s = (word.cast("d") for word in words[6:8])
        self.read_there, self.read_here = (word.cast("Q") for word in words[8:10])
        self.skip = view[self._FLAGS : self._PLACE]
        self._place = view[self._PLACE :]

    @staticmethod
    def open_fd() -> int:
        """Return a descriptor of fresh memory, for a page and two rings, here and in the worker."""
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("greenlab")
        else:  # macOS
            with tempfile.TemporaryFile() as file:
                fd = os.dup(file.fileno())
        os.ftruncate(fd, Page.SIZE + 2 * RING)
        return fd

    @classmethod
    def flag_of(cls, job: int) -> int:
        """Return which flag of `skip` is that of a job."""
        return job % (cls._PLACE - cls._FLAGS)

    @property
    def is_asked(self) -> bool:
        """Whether a question of the pool has no answer yet."""
        return self.asked[0] != self._answered[0]

    def answer(self, place: tuple[str, int, str] | None) -> None:
        """Write where the running task stands."""
        asked = self.asked[0]
        if place is not None:
            name, line, function = place
            place = name[-self._LONGEST :], line, function[-self._LONGEST :]
        told = pickle.dumps((self.running[0], place), 5)
        self._place[: len(told)] = told
        self._answered[0] = asked

    def place_of(self, number: int) -> tuple[str, int, str] | None:
        """Return the last answer, if it is of this task."""
        if self.is_asked or not self._answered[0]:
            return None
        told, place = pickle.loads(self._place)
        return place if told == number else None

    def close(self) -> None:
        """Release the memory."""
        views = (self.taken, self.running, self.recall, self.stop, self.asked, self._answered)
        for view in (*views, self.read_there, self.read_here, self.started_s, self.limit_s, self.skip, self._place):
            view.release()
        self._map.close()
