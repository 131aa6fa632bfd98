"""What a probe measured: plain data, which is sent from the probed process to the one that judges it.

Times are seconds. For the time in which a call held the hub's thread, there are the wall time, the CPU time of that
thread, and how long it waited for a processor (`schedstat` of Linux; elsewhere it counts as 0). So a call that
computes can be told from one that blocks also while the machine is busy with something else.

Must not import: eventlet, asyncio, IPython.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median_low

from greenlab.places import format_place


@dataclass(frozen=True)
class Measurement:
    """One call in a green task, alone; or the mean of a few in a row.

    Attributes:
        wall_s: from its start to its end.
        held_s: how much of it nothing else could run on the hub.
        cpu_s: CPU time of the hub's thread meanwhile.
        delay_s: how much of `held_s` the thread waited for a processor.
        longest_s: the longest time without a switch of the hub.
    """

    wall_s: float
    held_s: float
    cpu_s: float
    delay_s: float = 0.0
    longest_s: float = 0.0

    @property
    def blocked_s(self) -> float:
        """How much of it the thread waited natively: it held the hub and did not compute."""
        return max(0.0, self.held_s - self.delay_s - self.cpu_s)

    @property
    def waited_s(self) -> float:
        """How much of it other green tasks could run."""
        return max(0.0, self.wall_s - self.held_s)

    @property
    def shares(self) -> tuple[float, float, float]:
        """CPU, blocked and waited, as parts of 1; the wait for a processor is left out."""
        parts = (max(self.cpu_s, 0.0), self.blocked_s, self.waited_s)
        whole = sum(parts) or 1.0
        cpu, blocked, waited = (part / whole for part in parts)
        return cpu, blocked, waited


@dataclass(frozen=True)
class Place:
    """The place in the code at which the hub's thread stood while it was held.

    Attributes:
        function, filename, lineno: the innermost Python frame.
        source: the expression of that line that was being evaluated, or the line, or nothing.
        names: what is called there, as far as that is known, and the modules of the stack, innermost first.
    """

    function: str
    filename: str
    lineno: int
    source: str
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = format_place((self.filename, self.lineno, self.function))
        return f"{self.source} ({where})" if self.source else where


@dataclass
class GilLook:
    """What a native thread saw of the GIL while the hub was held.

    Attributes:
        watched_s: how long it tried to run.
        missed_s: how much of that it could not run, because the GIL was kept.
        missed_s2: the sum of the squares of the times that make it up, see `Figures.piece_s`.
    """

    watched_s: float = 0.0
    missed_s: float = 0.0
    missed_s2: float = 0.0


LOAD, NATIVE, AGAIN, GREEN, TOGETHER, DONE = "load", "native", "again", "green", "together", "done"
"""The stages of a probe: load the call, call it natively, once more, green and alone, several at once."""


@dataclass
class Figures:
    """Everything that a probe measured. It is sent at the start of each stage, and at the end.

    Attributes:
        stage: the stage that began last.
        error: what the call raised in that stage, as one line, or None.
        stopped: whether the call did not end in the time allowed, and was stopped.
        silent: whether it was stopped from outside, because no other thread of its process could run.
        status: how the process died in that stage, or None.
        limit_s: the longest that one call might take.
        allowed_s: how long the present stage may take.
        calls: how often the call was begun so far.
        times: how often it might have been called.
        native_s: how long it took natively, the first time and the second.
        alone: samples of it green and alone.
        at_once: how many ran at once, and each how many times in a row (`loops`).
        together_s: how long they took, all of them.
        gap_s: the longest time between two ticks of a green ticker beside them.
        gil: what a native thread saw of the GIL in each sample alone, and in that of several at once.
        others_cpu_s: CPU time of the process' other threads, per call.
        place: where the hub's thread stood for most of the time that it was held.
    """

    stage: str = LOAD
    error: str | None = None
    stopped: bool = False
    silent: bool = False
    status: str | None = None
    limit_s: float = 10.0
    allowed_s: float = 60.0
    calls: int = 0
    times: int = 0
    native_s: list[float] = field(default_factory=list)
    alone: list[Measurement] = field(default_factory=list)
    at_once: int = 0
    loops: int = 1
    together_s: float = 0.0
    gap_s: float = 0.0
    gil: list[GilLook] = field(default_factory=list)
    others_cpu_s: float = 0.0
    place: Place | None = None

    @property
    def typical(self) -> Measurement:
        """The middle sample, by how long it held the hub."""
        return sorted(self.alone, key=lambda sample: sample.held_s)[len(self.alone) // 2]

    @property
    def overlap(self) -> float:
        """How many calls went on at once: the time that they take one after another, by the time they took."""
        one_by_one = self.at_once * self.loops * self.typical.wall_s
        return one_by_one / self.together_s if self.together_s else 0.0

    @property
    def watched_s(self) -> float:
        """How long a native thread tried to run while the hub was held."""
        return sum(look.watched_s for look in self.gil)

    @property
    def gil_missed(self) -> float:
        """Part of the time held in which no other thread could run Python, 0 to 1: that of the middle sample.

        A call that keeps the GIL keeps it each time. A machine that stands still for a moment looks the same, once.
        """
        # What was seen for a moment only, as a call had ended, says nothing of it.
        least_s = max((look.watched_s for look in self.gil), default=0.0) / 10
        shares = [min(1.0, look.missed_s / look.watched_s) for look in self.gil if look.watched_s > least_s]
        return median_low(shares) if shares else 0.0

    @property
    def piece_s(self) -> float:
        """The mean length of the times without the GIL, weighted by their length."""
        missed_s = sum(look.missed_s for look in self.gil)
        return sum(look.missed_s2 for look in self.gil) / missed_s if missed_s else 0.0
