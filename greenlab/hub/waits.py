"""What a green thread waits for, known from the code that gave up the hub.

Guarantees: asking costs a few dictionary look-ups, and happens only while switches are recorded, counted or stepped;
nothing is marked or patched, and what is kept is what was found, by code object.

Must not import: greening, pools, runs, live, magics. It knows some of their functions by name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from types import CodeType


class Wait(NamedTuple):
    """A kind of wait.

    Attributes:
        kind: one of `KINDS`.
        words: what is waited for, to follow "waits for".
        rank: of several functions that call each other, the highest says what it is.
    """

    kind: str
    words: str
    rank: int = 0


KINDS = ("socket", "sleep", "lock", "queue", "other", "end")
"""The kinds: a descriptor, the clock, another green thread's release, its item, anything else; and no more at all."""

OTHER = Wait("other", "something else")
SLEEP = Wait("sleep", "the clock", 1)
SOCKET = Wait("socket", "a socket or a pipe", 1)
LOCK = Wait("lock", "a lock", 1)

# A file, by the end of its name; the beginning of a function's qualified name; what it waits for.
_RULES = (
    ("/greenlab/pools/green.py", "_Workers._loop", Wait("other", "its next turn", 9)),
    ("/eventlet/greenthread.py", "sleep", SLEEP),
    ("/eventlet/hubs/__init__.py", "trampoline", SOCKET),
    ("/eventlet/event.py", "Event.wait", Wait("other", "another task", 1)),
    ("/eventlet/semaphore.py", "", LOCK),
    ("/eventlet/queue.py", "", Wait("queue", "a queue", 3)),
    ("/greenlab/greening/waiting.py", "in_thread", Wait("other", "an OS thread", 5)),
    ("/greenlab/greening/waiting.py", "sleep", SLEEP),
    ("/greenlab/greening/waiting.py", "wait_fd", SOCKET),
    ("/greenlab/greening/adopted.py", "AdoptedQueue.", Wait("queue", "an item of a queue", 4)),
    ("/greenlab/greening/adopted.py", "", LOCK),
    ("/greenlab/greening/locks.py", "", LOCK),
    ("/greenlab/greening/queues.py", "", Wait("queue", "an item of a queue", 4)),
    ("/threading.py", "Condition.", Wait("lock", "a condition", 2)),
    ("/threading.py", "Event.", Wait("lock", "an event", 3)),
    ("/threading.py", "Semaphore.", Wait("lock", "a semaphore", 3)),
    ("/threading.py", "Barrier.", Wait("lock", "a barrier", 3)),
    ("/queue.py", "Queue.put", Wait("queue", "room in a queue", 4)),
    ("/queue.py", "Queue.join", Wait("queue", "a queue to be done", 4)),
    ("/queue.py", "", Wait("queue", "an item of a queue", 4)),
)
_DEEPEST = 12
_known: dict[CodeType, Wait | None] = {}


def wait_of(frame: Any) -> Wait:
    """Return what a green thread waits for.

    Args:
        frame: of the function that gives up the hub, or of one that it called.
    """
    found: Wait | None = None
    for _ in range(_DEEPEST):
        if frame is None:
            break
        code = frame.f_code
        try:
            wait = _known[code]
        except KeyError:
            wait = _known[code] = _rule(code)
        if wait is not None:
            if found is None or wait.rank > found.rank:
                found = wait
        elif found is not None:
            break
        frame = frame.f_back
    return found or OTHER


def _rule(code: CodeType) -> Wait | None:
    name = code.co_filename.replace("\\", "/")
    for file, function, wait in _RULES:
        if name.endswith(file) and code.co_qualname.startswith(function):
            return wait
    return None
