"""The Celery workers that a kernel knows, and what they can do.

Must not import: runs, live, magics, celery, kombu.
"""

from __future__ import annotations

import math
import platform
from collections import Counter
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from greenlab.pools.celery.settings import KINDS
from greenlab.text.format import counted
from greenlab.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from greenlab.pools.celery.messages import WorkerFacts

PROCESSES: Final = ("prefork", "processes")
"""Celery's pools that run tasks in processes, which can be ended."""
DEAD_S: Final = 8.0
"""After how long a silence a worker that holds messages counts as dead: it says what it holds every two seconds."""
DEAD_ON_HUB_S: Final = 30.0
"""The same of an eventlet worker on another machine: as long as tasks compute there, it can say nothing."""
GONE_S: Final = 1.0
"""The same where its process, on this machine, has ended: what it told last may still be on its way."""
_OF_LATE_S: Final = 3.0
"""For how long after a worker has said how many tasks it runs that is taken as so."""


class Strength(NamedTuple):
    """What workers can do together.

    Attributes:
        capacity: how many tasks they run at a time.
        cores: how many processors they may use at a time.
        elsewhere: whether some of those are of another machine.
    """

    capacity: int
    cores: int
    elsewhere: bool


class Worker:
    """A worker, as the kernel knows it.

    Attributes:
        facts: what it said of itself.
        seen_s: when it was heard last, `time.perf_counter()`.
        said_s: when it said that.
        refused: why it cannot run this kernel's functions, or empty.
    """

    def __init__(self, facts: WorkerFacts) -> None:
        self.facts = facts
        self.seen_s = self.said_s = perf_counter()
        self.refused = _mismatch(facts)

    def describe(self) -> str:
        """Return what it is, in one line."""
        facts = self.facts
        what = f"{facts.name}: {facts.pool} -c {facts.capacity:,}, takes {', '.join(facts.queues)}"
        versions = f"Python {facts.python}, greenlab {facts.greenlab}"
        seen = f"{counted(facts.running, 'task')} running, seen {perf_counter() - self.seen_s:.0f} s ago"
        return f"{what}; {versions}; {seen}{f'; refused: it {self.refused}' if self.refused else ''}"

    def silence_s(self) -> tuple[float, str]:
        """Return how long it may be silent before it counts as dead, in seconds, and what that is called.

        Of a worker on this machine the process is looked at: an eventlet one that runs is only busy.
        """
        limit_s = DEAD_ON_HUB_S if self.facts.on_hub else DEAD_S
        silent = limit_s, f"has been silent for {limit_s:g} s"
        state = self._state
        if state == "elsewhere":
            return silent
        if state == "ended":
            return GONE_S, "has ended"
        if state == "stopped":
            return DEAD_S, "is stopped"
        return (math.inf, "") if self.facts.on_hub else silent  # the main process of others always finds time to speak

    @property
    def has_ended(self) -> bool:
        """Whether its process, on this machine, is no more."""
        return self._state == "ended"

    @property
    def _state(self) -> str:
        return _state_of(self.facts.pid) if self.facts.host == platform.node() else "elsewhere"

    @property
    def stops_tasks(self) -> bool:
        """Whether it can end a task that has begun: one in a thread it cannot, nor one in the thread that is asked."""
        return self.facts.on_hub or self.facts.pool in PROCESSES

    @property
    def kind(self) -> str:
        """What its queue is for: "io" or "cpu"; empty if it takes from neither, and so is refused."""
        return _kind_of(self.facts)


class Workers:
    """The workers that have answered, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Worker] = {}
        self._strangers: dict[str, float] = {}  # when those were heard that have not said yet what they are

    def __iter__(self) -> Iterator[Worker]:
        return iter(self._known.values())

    @property
    def names(self) -> set[str]:
        """The names of all that were heard, also of those that have not said yet what they are."""
        return {*self._known, *self._strangers}

    @property
    def pids(self) -> dict[str, int]:
        """The process id of each, by name."""
        return {name: worker.facts.pid for name, worker in self._known.items()}

    @property
    def ended(self) -> set[str]:
        """The names of those whose processes, on this machine, are no more."""
        return {worker.facts.name for worker in self if worker.has_ended}

    def answered(self, since_s: float) -> list[Worker]:
        """Return those that can run this kernel's functions and have said so since then."""
        return [worker for worker in self.able if worker.seen_s >= since_s]

    def keep_answered(self, since_s: float) -> None:
        """Forget those that have said nothing since then."""
        self._known = {name: worker for name, worker in self._known.items() if worker.seen_s >= since_s}

    def add(self, facts: WorkerFacts) -> None:
        """Take note of what a worker says of itself."""
        self._known[facts.name] = Worker(facts)
        self._strangers.pop(facts.name, None)

    def note_heard(self, name: str) -> bool:
        """A worker has told something; return whether it is one that was never heard before.

        One that was started after all were asked what they are takes messages like the others.
        """
        worker, now_s = self._known.get(name), perf_counter()
        if worker is not None:
            worker.seen_s = now_s
            return False
        is_new = name not in self._strangers
        self._strangers[name] = now_s
        return is_new

    def note_all_heard(self) -> None:
        """Begin to count the silence of all anew."""
        now_s = perf_counter()
        for worker in self:
            worker.seen_s = now_s
        self._strangers = dict.fromkeys(self._strangers, now_s)

    def remove_silent(self, holders: set[str | None]) -> dict[str, str]:
        """Forget those that hold messages and count as dead; return their names, each with the reason."""
        # One that has not said yet what it is may be an eventlet one of another machine.
        now_s, unknown = perf_counter(), (DEAD_ON_HUB_S, f"has been silent for {DEAD_ON_HUB_S:g} s")
        heard_s = self._strangers | {name: worker.seen_s for name, worker in self._known.items()}
        silent = {}
        for name, seen_s in heard_s.items():
            if name in holders and now_s - seen_s > GONE_S:
                limit_s, why = self._known[name].silence_s() if name in self._known else unknown
                if now_s - seen_s > limit_s:
                    silent[name] = why
        for name in silent:
            self._known.pop(name, None)
            self._strangers.pop(name, None)
        return silent

    @property
    def able(self) -> list[Worker]:
        """Those that can run this kernel's functions."""
        return [worker for worker in self if not worker.refused]

    def serving(self, kind: str) -> list[Worker]:
        """Those that take tasks of a kind, "io" or "cpu"."""
        return [worker for worker in self.able if worker.kind == kind]

    def can_stop(self, name: str | None) -> bool:
        """Whether a worker can end a task that has begun there."""
        return name is None or name not in self._known or self._known[name].stops_tasks

    def would_take(self, kind: str) -> bool:
        """Whether a message that is in the queue of a kind would be taken: all have spoken of late, one has room.

        One that says nothing may have taken it, and may be busy.
        """
        serving, since_s = self.serving(kind), perf_counter() - _OF_LATE_S
        room = any(worker.facts.running < worker.facts.capacity for worker in serving)
        return room and all(worker.said_s > since_s for worker in serving)

    def capacity(self, kind: str) -> int:
        """How many tasks of a kind run at a time; 1 where nobody is there to say so."""
        return max(1, sum(worker.facts.capacity for worker in self.serving(kind)))

    def strength(self, kind: str) -> Strength:
        """Return what those that take tasks of a kind can do."""
        cores: Counter[str] = Counter()
        most: dict[str, int] = {}
        for worker in self.serving(kind):
            facts = worker.facts
            cores[facts.host] += 1 if facts.on_hub else facts.capacity  # a hub is one thread
            most[facts.host] = facts.cores
        usable = sum(min(count, most[host]) for host, count in cores.items())
        return Strength(self.capacity(kind), usable, elsewhere=bool(set(cores) - {platform.node()}))

    def one_by_one(self, kind: str) -> bool:
        """Whether the tasks of a message run one after another."""
        return not all(worker.facts.on_hub for worker in self.serving(kind))


def _state_of(pid: int) -> str:
    """Return whether a process of this machine is "running", "stopped" or "ended"."""
    import psutil

    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "ended"
    if status in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
        return "ended"
    return "stopped" if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else "running"


def _mismatch(facts: WorkerFacts) -> str:
    """Return why a worker cannot run this kernel's functions, or an empty text."""
    if facts.python.split(".")[:2] != platform.python_version().split(".")[:2]:
        return f"has Python {facts.python}, this kernel {platform.python_version()}"
    if facts.greenlab != __version__:
        return f"has greenlab {facts.greenlab}, this kernel {__version__}"
    if not _kind_of(facts):
        return (
            f"takes from {', '.join(facts.queues)} alone, and from no queue of greenlab's: leave its -Q out, or add one"
        )
    return ""


def _kind_of(facts: WorkerFacts) -> str:
    kinds = (kind for kind in KINDS if any(queue.startswith(f"greenlab.{kind}.") for queue in facts.queues))
    return next(kinds, "")
