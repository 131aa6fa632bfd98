"""What becomes of messages when a worker dies, or the broker has been away.

Guarantees: a task that may have begun is not run again, it fails with `WorkerLostError`; one that certainly has not
goes elsewhere.

Must not import: runs, live, magics, celery, kombu.
"""

from __future__ import annotations

import math
import warnings
from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple

from greenlab.errors import WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.celery import messages, settings
from greenlab.pools.celery.workers import DEAD_ON_HUB_S, DEAD_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from greenlab.pools.celery.connection import Connection
    from greenlab.pools.celery.dispatch import Dispatcher
    from greenlab.pools.celery.job import ActiveJob, Message
    from greenlab.pools.celery.workers import Workers

_LOOK_S: Final = 1.0
_AWAY_S: Final = 2.0
"""A look that comes later than that tells nothing of how long workers have been silent."""
_UNCLAIMED_S: Final = 3.0
"""How long after a worker was found dead idle ones have to take what waits in the queue."""
_QUIET_S: Final = 6.0
"""After how long without a word of it a worker is asked whether it has a message: it says so every two seconds."""
_ASK_EVERY_S: Final = 2.0
"""How often workers are asked for a message that the broker took back from one."""
_UNTOLD: Final = "what it reported was lost with the broker"
_BACK_S: Final = 30.0
"""How long workers have to find a broker that is back."""


class State(NamedTuple):
    """What a worker has answered to `messages.ASK_AGAIN`: messages that it has, and that are through."""

    held: list[str]
    through: list[str]


class Recovery:
    """Looks after the messages of jobs that run.

    Args:
        jobs: those that run, by id.
        workers: those that are known.
        dispatcher: sends again what has not begun.
        connect: returns the connection to workers.
    """

    def __init__(
        self,
        jobs: Mapping[str, ActiveJob],
        workers: Workers,
        dispatcher: Dispatcher,
        connect: Callable[[], Connection],
    ) -> None:
        self._jobs = jobs
        self._workers = workers
        self._dispatcher = dispatcher
        self._connect = connect
        self._catching_up = False
        self._hangs = False
        self._asked_s = math.inf  # since when all are asked whether they are there
        self._death_s = -math.inf  # when a worker was last found dead
        self._idle_s: dict[str, float] = {}  # since when workers of a kind would take what they are sent
        self._missing: set[str] = set()  # kinds that nobody takes, of which that was said
        self._states: dict[str, State] = {}

    def catch_up(self) -> None:
        """Find out what was lost with the broker: messages on their way there, and reports on their way back."""
        connection = self._connect()
        # What was sent later than that, the new broker has.
        out = {
            id_: (active, message)
            for active in self._jobs.values()
            for id_, message in active.out.items()
            if message.sent_s < connection.lost_s
        }
        if not out:
            return
        self._catching_up = True
        try:
            self._ask_what_became_of(connection, out)
        finally:
            self._workers.note_all_heard()
            self._catching_up = False

    def _ask_what_became_of(self, connection: Connection, out: dict[str, tuple[ActiveJob, Message]]) -> None:
        self._states.clear()
        before = self._workers.pids
        end_s = perf_counter() + _BACK_S
        # Workers find the broker a little later than this kernel: they are asked until all have answered.
        while self._unanswered() and perf_counter() < end_s:
            connection.ask(messages.ASK_HELLO, connection.reply_queue)
            connection.ask(messages.ASK_AGAIN, connection.reply_queue, list(out))
            eventlet.sleep(_LOOK_S)
        eventlet.sleep(_LOOK_S)  # processes of a prefork worker find the broker by themselves, and tell their results
        # One that ended with the broker, and was started again under its name, knows nothing of what it had.
        everybody = not self._unanswered() and before.items() <= self._workers.pids.items()
        held = {id_ for state in self._states.values() for id_ in state.held}
        through = {id_ for state in self._states.values() for id_ in state.through}
        for id_, (active, message) in out.items():
            if id_ in held or active.out.get(id_) is not message:
                continue
            # Where one has had it, or may have been lost with it, nobody knows what of it was begun.
            message.begun = message.worker is not None or id_ in through or not everybody
            self.lose(active, message, WorkerLostError(0, how=_UNTOLD))

    def _unanswered(self) -> set[str]:
        """Return the names of workers that have not said what they have."""
        return {worker.facts.name for worker in self._workers} - set(self._states)

    def watch(self) -> None:
        """Look, while jobs run, whether workers that have messages are silent."""
        while True:
            look_s = perf_counter() + _LOOK_S
            eventlet.sleep(_LOOK_S)
            if perf_counter() - look_s > _AWAY_S:  # this kernel was stopped, or computed: it has not listened
                self._workers.note_all_heard()
                self._connect().note_arrival()
                continue
            if self._catching_up or self._connect().broken or not self._answers():  # then all are silent
                continue
            silent = self._workers.remove_silent(self._expected_to_speak())
            for active in list(self._jobs.values()):
                for message in [one for one in active.out.values() if one.worker in silent]:
                    how = f"the Celery worker {message.worker} {silent[str(message.worker)]}"
                    self.lose(active, message, WorkerLostError(0, how=how))
            if silent:
                self._death_s = perf_counter()
            self._note_idle()
            self._lose_unclaimed()
            self._give_redelivered_again()
            self._ask_of_forgotten()
            missing = {active.kind for active in self._jobs.values() if not self._workers.serving(active.kind)}
            if missing:
                self._ask_for_workers(missing)

    def _ask(self, kind: str, *about: object) -> None:
        """Ask something of all workers, without waiting for a broker that stands still."""
        connection = self._connect()
        eventlet.spawn(connection.ask, kind, connection.reply_queue, *about)

    def _answers(self) -> bool:
        """Return whether the broker answers; warn where it begins not to."""
        answers = self._connect().answers()
        if not answers:
            self._workers.note_all_heard()
            if not self._hangs:
                warnings.warn("the broker does not answer, and the run waits for it", RuntimeWarning, stacklevel=2)
        self._hangs = not answers
        return answers

    def _expected_to_speak(self) -> set[str | None]:
        """Return the names of workers that would not be silent if they lived.

        Those that hold messages say so by themselves. Where a message is claimed by nobody, a worker may have died
        with it that held no other: then all are asked.
        """
        now_s = perf_counter()
        out = [message for active in self._jobs.values() for message in active.out.values()]
        if not any(message.worker is None and now_s - message.sent_s > _UNCLAIMED_S for message in out):
            self._asked_s = math.inf
        else:
            self._asked_s = min(self._asked_s, now_s)
            self._ask(messages.ASK_HELLO)
        holders = {message.worker for message in out}
        return holders | self._workers.names if now_s - self._asked_s > DEAD_S else holders

    def _note_idle(self) -> None:
        """Note since when the workers of a kind would have taken what waits in their queue."""
        now_s = perf_counter()
        for kind in {active.kind for active in self._jobs.values()}:
            if self._workers.would_take(kind):
                self._idle_s.setdefault(kind, now_s)
            else:
                self._idle_s.pop(kind, None)

    def _lose_unclaimed(self) -> None:
        """Give up messages that a worker took from the broker, and died with before it could say so.

        Those that wait in the queue would have been taken by another worker, if one has nothing to do. What the dead
        one had begun of them nobody knows, so none of it is run again. Where no worker is known to have died, one may
        have that was never heard, or one that computes: then this takes as long as such a one may be silent.
        """
        now_s = perf_counter()
        for active in list(self._jobs.values()):
            idle_s = self._idle_s.get(active.kind, math.inf)
            for message in [one for one in active.out.values() if one.worker is None]:
                patience_s = _UNCLAIMED_S if message.sent_s < self._death_s else DEAD_ON_HUB_S
                since_s = max(message.sent_s, idle_s, self._death_s)
                if now_s - since_s > patience_s:
                    message.begun = True
                    how = "it took the message and has been silent since"
                    self.lose(active, message, WorkerLostError(0, how=how))

    def _give_redelivered_again(self) -> None:
        """Send messages again that the broker took back from a worker, and of which that worker has said nothing.

        First all are asked: one that lives may still have it, having lost the broker for a moment only.
        """
        now_s = perf_counter()
        asked = []
        for active in list(self._jobs.values()):
            for message in [one for one in active.out.values() if one.redelivered and one.worker is None]:
                if self._workers.names <= message.denied:
                    self.lose(active, message, WorkerLostError(0))
                elif now_s - message.asked_s > _ASK_EVERY_S:
                    message.asked_s = now_s
                    asked.append(message.id)
        if asked:
            self._ask(messages.ASK_AGAIN, asked)

    def _ask_of_forgotten(self) -> None:
        """Ask about messages that the worker which has them, and says so every two seconds, no longer speaks of."""
        now_s = perf_counter()
        quiet = [
            message
            for active in self._jobs.values()
            for message in active.out.values()
            if message.worker is not None and now_s - max(message.heard_s, message.asked_s) > _QUIET_S
        ]
        if quiet:
            for message in quiet:
                message.asked_s = now_s
            self._ask(messages.ASK_AGAIN, [message.id for message in quiet])

    def note_state(self, worker: str, held: list[str], through: list[str], strange: list[str]) -> None:
        """A worker has answered which messages it has, which are through, and which never came.

        What it had to tell of those that are through it has told again before that. Of what is not known by then the
        report was lost, as a broker was.
        """
        self._states[worker] = State(held, through)
        self.note_held(worker, held)
        if self._catching_up:
            return
        for active in list(self._jobs.values()):
            for id_ in strange:
                if id_ in active.out:
                    active.out[id_].denied.add(worker)
            for message in [active.out[id_] for id_ in (*through, *strange) if id_ in active.out]:
                if message.worker == worker and message.asked_s > -math.inf:
                    message.begun = True
                    self.lose(active, message, WorkerLostError(0, how=_UNTOLD))

    def note_held(self, worker: str, held: list[str]) -> None:
        """A worker has these messages."""
        for active in self._jobs.values():
            for message in [active.out[id_] for id_ in held if id_ in active.out]:
                message.worker, message.heard_s, message.asked_s = worker, perf_counter(), -math.inf

    def note_redelivered(self, id_: str) -> None:
        """A worker has refused a message that the broker had given to another one before.

        What that one has begun of it, it has told: then nothing changes, it ends there or is lost with the worker.
        """
        for active in self._jobs.values():
            if id_ in active.out:
                active.out[id_].redelivered = True

    def note_worker(self) -> None:
        """A worker has come: what it takes is no longer missing."""
        self._missing = {kind for kind in self._missing if not self._workers.serving(kind)}

    def _ask_for_workers(self, kinds: set[str]) -> None:
        """Look for others, when all that took what jobs have sent are gone: the runs wait for them."""
        for kind in kinds - self._missing:
            which = "" if not self._workers.able else f" that takes from {settings.queue_of(kind)}"
            said = f"no Celery worker{which} is left, and the run waits for one"
            warnings.warn(said, RuntimeWarning, stacklevel=2)
        self._missing |= kinds
        self._ask(messages.ASK_HELLO)

    def lose(self, active: ActiveJob, message: Message, error: WorkerLostError) -> None:
        """A worker has died with a message: its tasks failed if it had begun, and go elsewhere if not."""
        active.out.pop(message.id, None)
        tasks, message.tasks = message.tasks, {}
        if not message.begun:
            self._dispatcher.give_again(active, list(tasks.items()))
            return
        now_s = perf_counter()
        for index in tasks:
            active.tell(index, message.begun_s, now_s, None, active.killed.pop(index, error))
        active.wake()
