"""The life of a worker process: its states, and the one table of which may follow which, and why.

    STARTING ──► FORKED ──► SERVING ──► RETIRING          Every state but DEAD and CLOSED may also go to ENDING
                    │          │           │              (from FORKED on), and each of them to CLOSED, when
                    ├──────────┴───────────┤              the pool is closed.
                    ▼                      ▼
                 ENDING ───────────────► DEAD ──► CLOSED

Both pools with worker processes use it. `ProcessHandle` in `process.py` makes the transitions, `Supervisor` decides on
them.

Guarantees: a handle is in one state at a time; a transition that is not in the table raises AssertionError, which names
both states.

Must not import: anything of greenlab.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "Transition", "WorkerState", "check_transition"]


class WorkerState(Enum):
    """Where a worker process is in its life."""

    STARTING = "starting"
    """The fork server was asked for it, and has not answered."""
    FORKED = "forked"
    """It exists, and has not said that it can work."""
    SERVING = "serving"
    """It takes tasks. No other state does."""
    RETIRING = "retiring"
    """It does what it holds, and then leaves; its replacement is forked meanwhile."""
    ENDING = "ending"
    """It was killed, or its connection has ended: its death is still to be heard of."""
    DEAD = "dead"
    """It has ended; what it sent last is still to be read, and its tasks are to be accounted for."""
    CLOSED = "closed"
    """All has been accounted for, and nothing of it is left here."""


class Transition(NamedTuple):
    """One row of the table.

    Attributes:
        reason: what brings it about.
        effect: what is done in it.
    """

    reason: str
    effect: str


_RETIRED: Final = "there are too many, its modules are old, or it has had its share of tasks or memory"
_LEAVES: Final = "it takes no more tasks, and its connection is closed for writing once it holds none"
_KILLED: Final = "it was killed for a task, its connection has ended, or what it sent cannot be read"
_SIGKILL: Final = "it takes no more tasks; the fork server sends SIGKILL to its process group"
_EXITED: Final = "the fork server heard of its exit, or has ended itself"
_LAST_WORDS: Final = "what it sent last is read, its tasks are accounted for, and another one is forked"
_CLOSED: Final = "the pool is closed"
_LET_GO: Final = "its green threads are killed, its socket and shared memory are closed"

_S = WorkerState
TRANSITIONS: Final[Mapping[tuple[WorkerState, WorkerState], Transition]] = {
    (_S.STARTING, _S.FORKED): Transition(
        "the fork server answered with its process id", "a green thread reads what it sends"
    ),
    (_S.STARTING, _S.CLOSED): Transition("it could not be forked, or the pool is closed", _LET_GO),
    (_S.FORKED, _S.SERVING): Transition("it can work: at once, or as soon as it says so", "it takes tasks"),
    (_S.FORKED, _S.RETIRING): Transition(_RETIRED, _LEAVES),
    (_S.FORKED, _S.ENDING): Transition(_KILLED, _SIGKILL),
    (_S.FORKED, _S.DEAD): Transition(_EXITED, _LAST_WORDS),
    (_S.FORKED, _S.CLOSED): Transition(_CLOSED, _LET_GO),
    (_S.SERVING, _S.RETIRING): Transition(_RETIRED, _LEAVES),
    (_S.SERVING, _S.ENDING): Transition(_KILLED, _SIGKILL),
    (_S.SERVING, _S.DEAD): Transition(_EXITED, _LAST_WORDS),
    (_S.SERVING, _S.CLOSED): Transition(_CLOSED, _LET_GO),
    (_S.RETIRING, _S.ENDING): Transition(_KILLED, _SIGKILL),
    (_S.RETIRING, _S.DEAD): Transition(_EXITED, _LAST_WORDS),
    (_S.RETIRING, _S.CLOSED): Transition(_CLOSED, _LET_GO),
    (_S.ENDING, _S.DEAD): Transition(_EXITED, _LAST_WORDS),
    (_S.ENDING, _S.CLOSED): Transition(_CLOSED, _LET_GO),
    (_S.DEAD, _S.CLOSED): Transition("its tasks are accounted for, or the pool is closed", _LET_GO),
}
"""From one state to another: every transition that there is."""


def check_transition(before: WorkerState, after: WorkerState) -> None:
    """Refuse a transition that is not in the table.

    Raises:
        AssertionError: it is not; the message names both states.
    """
    if (before, after) not in TRANSITIONS:
        raise AssertionError(f"a worker that is {before.value} cannot become {after.value}")
