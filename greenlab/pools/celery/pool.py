"""The celery pool: tasks on Celery's workers, eventlet or prefork, on this machine or on others.

Celery carries and runs the messages; what a run needs beyond that is here: many short tasks travel in one message and
long ones alone, results are streamed back as they come, and a worker that dies is noticed within seconds.

Guarantees:

* each task is reported exactly once, and is begun at most once unless it is retried: those that had begun at a worker
  that dies fail with `WorkerLostError`, those that had not go elsewhere;
* a broker that goes away is waited for; what was done stays done;
* no worker, or none that can run this kernel's functions, is one clear error before a task is pulled.

Bounds: a task that has begun on a `threads` worker is not stopped: a kill of it is refused, and a time limit is told
when its call has returned; where a task of an eventlet worker computes, none of that worker gets its turn. A worker of
another machine counts as dead when it has been silent for `workers.DEAD_S`, an eventlet one for
`workers.DEAD_ON_HUB_S`; of one on this machine the process is looked at.
Two moments remain in which a task may begin twice: a broker dies as it has handed a message to one worker and not yet
said that it took it, so that it is sent once more; a worker is killed, or cut off, as a task has begun and that is not
yet told. What a broker delivers a second time is refused (`worker.WorkerSide.refuse_redelivered`), and what a worker
had not begun when it was stopped or cut off it returns (`lease.Lease`).

Must not import: runs, live, magics.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import UsageError, WorkerLostError
from greenlab.hub import eventlet
from greenlab.pools.celery import messages, settings
from greenlab.pools.celery.dispatch import Dispatcher
from greenlab.pools.celery.job import ActiveJob, Message
from greenlab.pools.celery.messages import Report, WorkerFacts
from greenlab.pools.celery.recovery import Recovery
from greenlab.pools.celery.workers import Strength, Worker, Workers
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.pools.celery.connection import Connection
    from greenlab.pools.protocol import Job

_HELLO_S: Final = 3.0
"""How long workers have to say that they are there."""
_FIRST_ANSWER_S: Final = 1.0
"""How long `%greenhub` waits for an answer."""
_ANSWER_S: Final = 0.2
"""How long it waits for others."""
_MORE_S: Final = 0.05
"""How long to wait for further workers after the first has answered."""
_END_S: Final = 10.0
"""How long workers have to say that nothing of a run runs any more."""
_LOOK_S: Final = 0.5
"""How often it is looked whether those that have not said so live."""
_ASK_AGAIN_S: Final = 1.0
"""For how long it is taken as known which workers there are, while no job runs."""


class CeleryPool:
    """Runs jobs on Celery's workers.

    Args:
        blocked_after_s: returns how long a task may hold a hub before that is reported.
        place_of: returns where a function's route leads, see `greenlab.pools.routes`.
    """

    name = "celery"
    pids: tuple[int, ...] = ()  # workers are processes of others, on whatever machine

    def __init__(
        self, blocked_after_s: Callable[[], float], place_of: Callable[[Any], str | None] = lambda _: None
    ) -> None:
        self._place_of = place_of
        self._connection: Connection | None = None
        self._workers = Workers()
        self._dispatcher = Dispatcher(self._workers, self._open, blocked_after_s)
        self._jobs: dict[str, ActiveJob] = {}
        self._arrived = eventlet.event.Event()
        self._watcher: Any = None
        self._asking = eventlet.semaphore.Semaphore(1)
        self._asked_s = -math.inf
        self._recovery = Recovery(self._jobs, self._workers, self._dispatcher, self._open)

    # --- what a run calls

    @property
    def in_flight(self) -> int:
        """Tasks being run at this moment, as far as workers have said."""
        return sum(self._count(active) for active in self._jobs.values())

    def count(self, job: Job) -> int:
        """Count the tasks of one job that have begun and not ended."""
        return sum(self._count(active) for active in self._jobs.values() if active.job is job)

    def start(self, job: Job) -> None:  # noqa: ARG002 - as Pool
        """Find workers.

        Raises:
            UsageError: none answers, or none can run this kernel's functions.
        """
        self.find_workers()

    def find_workers(self) -> list[Worker]:
        """Ask which workers there are; return those that answer.

        Raises:
            UsageError: none does, or none can run this kernel's functions.
        """
        connection = self._open()
        asked_s = perf_counter()
        while not self._workers.answered(asked_s) and perf_counter() < asked_s + _HELLO_S:
            # More than once: a worker that is just starting says that it is ready before it hears questions.
            with eventlet.Timeout(_HELLO_S, False):  # the broker may go away meanwhile
                connection.ask(messages.ASK_HELLO, connection.reply_queue)
            if not self._workers.answered(asked_s):  # the answer may have come while the question was sent
                with eventlet.Timeout(_HELLO_S / 6, False):
                    self._arrived.wait()
        eventlet.sleep(_MORE_S)
        if not self._jobs:  # another run may have to do with those that are slow to answer
            self._workers.keep_answered(asked_s)
        if self._workers.able:
            return list(self._workers)
        refused = "; ".join(f"{worker.facts.name} {worker.refused}" for worker in self._workers)
        if refused:
            raise UsageError(f"no Celery worker can run this kernel's tasks: {refused}")
        self._open()
        how = "`greenlab worker`" if connection.settings.embedded else "`celery -A greenlab.celery worker -P eventlet`"
        secret = "" if connection.settings.embedded else f", with the {settings.SECRET} that this kernel has"
        raise UsageError(f"no Celery worker answers at {connection.broker}: start some with {how}{secret}")

    def serves(self, kind: str) -> bool:
        """Return whether a worker takes tasks of a kind, "io" or "cpu"; asks them, where that is not known.

        Waits cooperatively.
        """
        with self._asking:  # the others that want to know wait for the answer
            stale = not self._jobs or not self._workers.serving(kind)
            if stale and perf_counter() > self._asked_s + _ASK_AGAIN_S:
                with contextlib.suppress(UsageError):
                    self.find_workers()
                self._asked_s = perf_counter()
        return bool(self._workers.serving(kind))

    def strength(self, kind: str) -> Strength:
        """Return what the workers that take tasks of a kind can do; nothing of those of the embedded broker, all local.

        Asks them, as `serves` does.
        """
        if settings.find().embedded or not self.serves(kind):
            return Strength(0, 0, elsewhere=False)
        return self._workers.strength(kind)

    def describe_workers(self) -> list[str]:
        """Return a line for each worker that answers: its name, pool, `-c`, queues, versions, tasks, when it was seen.

        Asks them, where there is a broker; waits shortly and cooperatively.
        """
        with contextlib.suppress(UsageError), eventlet.Timeout(_HELLO_S, False):  # the broker may have gone with them
            if self._connection is None:
                settings.find()  # before kombu is loaded
            connection, arrived = self._open(), self._arrived
            connection.ask(messages.ASK_HELLO, connection.reply_queue)
            with eventlet.Timeout(_FIRST_ANSWER_S, False):
                arrived.wait()
            eventlet.sleep(_ANSWER_S)
        return [worker.describe() for worker in self._workers]

    def run(self, job: Job) -> None:
        """Run every task of `job`; wait for the last."""
        if not self._workers.able:
            self.find_workers()
        self._open()
        active = ActiveJob(job, self._kind_of(job))
        self._jobs[active.id] = active
        if self._watcher is None or self._watcher.dead:
            self._watcher = eventlet.spawn(self._guard, self._recovery.watch)
        sender = eventlet.spawn(self._dispatcher.send, active)
        try:
            self._dispatcher.pull(active)
            while active.outstanding and active.failure is None:
                active.wait()
            if active.failure is not None:
                raise active.failure
        finally:
            sender.kill()
            self._end(active)
            del self._jobs[active.id]
            if not self._jobs:
                self._watcher.kill()

    def adjust(self, job: Job) -> None:
        """Follow `job.concurrency`."""
        for active in self._jobs.values():
            if active.job is job:
                if self._connection is not None:
                    eventlet.spawn(self._connection.ask, messages.ASK_LIMIT, active.id, self._dispatcher.limit(active))
                active.wake()

    def held(self, job: Job) -> list[InFlight]:
        """List the tasks of a job that have begun; where they stand is not known here."""
        return [InFlight(index, begun_s) for index, begun_s in self.begun(job)]

    def begun(self, job: Job) -> list[tuple[int, float]]:
        """List the tasks of a job that have begun, and when."""
        return [
            (index, message.begun_s)
            for active in self._jobs.values()
            if active.job is job
            for message in active.out.values()
            if message.begun
            for index in message.tasks
        ]

    def kill(self, job: Job, index: int, error: BaseException) -> bool:
        """End one task: at a worker, unless it has begun in a thread there, or on its way."""
        for active in self._jobs.values():
            if active.job is not job:
                continue
            for place, (waiting, _) in enumerate(active.waiting):
                if waiting == index:
                    del active.waiting[place]
                    active.fail_now(index, error)
                    active.wake()
                    return True
            for message in active.out.values():
                if index in message.tasks and self._connection is not None:
                    if message.begun and not self._workers.can_stop(message.worker):
                        return False
                    active.killed[index] = error
                    self._ask_to_kill(active, message)
                    return True
        return False

    def _ask_to_kill(self, active: ActiveJob, message: Message) -> None:
        """Ask the worker of a message to end those of its tasks that are to be killed.

        Where its process is ended for that, only once no other task would end with it: those behind a task that takes
        long are returned, and those before it are told with that.
        """
        if self._connection is None:
            return
        if message.worker is None:  # the worker that takes it will be asked, if it is not too late then
            if not all(worker.stops_tasks for worker in self._workers.serving(active.kind)):
                for index in message.tasks.keys() & active.killed.keys():
                    eventlet.spawn(self._connection.ask, messages.ASK_KILL, active.id, message.id, index)
            return
        if len(message.tasks) > 1 and self._workers.one_by_one(active.kind):
            return
        for index in message.tasks.keys() & active.killed.keys() - message.kill_asked:
            message.kill_asked.add(index)
            eventlet.spawn(self._connection.ask, messages.ASK_KILL, active.id, message.id, index)

    def close(self) -> None:
        """Close the connection. Workers stay."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _kind_of(self, job: Job) -> str:
        """Choose the queue: for tasks that compute where that is known or a route says so, else for those that wait."""
        computes = job.kind == "cpu" or (job.kind is None and self._place_of(job.func) == "prefork")
        kinds = ("cpu", "io") if computes else ("io", "cpu")
        return kinds[0] if self._workers.serving(kinds[0]) else kinds[1]

    def _count(self, active: ActiveJob) -> int:
        begun = sum(len(message.tasks) for message in active.out.values() if message.begun)
        return min(begun, self._dispatcher.limit(active))

    def _end(self, active: ActiveJob) -> None:
        """Stop what workers have of a job, and wait until they have."""
        if not active.out or self._connection is None or self._connection.broken:
            active.out.clear()  # nobody can be told; workers find out when they report
            return
        holders = {message.worker for message in active.out.values()}
        if None in holders:  # any worker may be about to take it
            holders |= {worker.facts.name for worker in self._workers.serving(active.kind)}
        out = list(active.out)
        try:
            end_s = perf_counter() + _END_S
            with eventlet.Timeout(_END_S, False):
                connection = self._open()  # the run may end because nobody reads what workers say
                connection.ask(messages.ASK_END, connection.reply_queue, active.id, out)
            while holders - {None, *active.ended_at, *self._workers.ended} and perf_counter() < end_s:
                active.wait(min(_LOOK_S, max(0.01, end_s - perf_counter())))
        except UsageError:  # the broker has gone by now: what the run ends with is to be told, and not this
            pass
        finally:
            active.out.clear()

    # --- what workers report

    def _open(self) -> Connection:
        if self._connection is None:
            from greenlab.pools.celery.connection import Connection

            self._connection = Connection(self)
        try:
            self._connection.open()
        except Exception as error:
            where = self._connection.broker
            raise UsageError(f"the broker {where} cannot be reached: {error}") from error
        if self._connection.broken and not self._jobs:  # a run that goes on waits for it
            raise UsageError(f"the broker {self._connection.broker} is away")
        return self._connection

    @property
    def busy(self) -> bool:
        """As `connection.Listener`."""
        return bool(self._jobs)

    def heard(self, report: Report, offset_s: float) -> None:
        """A worker has told something."""
        if self._workers.note_heard(report.worker) and self._connection is not None:
            eventlet.spawn(self._connection.ask, messages.ASK_HELLO, self._connection.reply_queue)
        for kind, *about in report.told:
            if kind == messages.HELLO:
                self._workers.add(WorkerFacts(*about[0]))
                self._recovery.note_worker()
                arrived, self._arrived = self._arrived, eventlet.event.Event()
                arrived.send()
            elif kind in (messages.PRINTED, messages.BLOCKED, messages.ENDED):
                active = self._jobs.get(about[0])
                if active is not None:
                    self._heard_of_job(active, report.worker, offset_s, kind, about[1:])
            elif kind == messages.STATE:
                self._recovery.note_state(report.worker, *about)
            elif kind == messages.HELD:
                self._recovery.note_held(report.worker, about[0])
            elif kind == messages.REDELIVERED:
                self._recovery.note_redelivered(about[0])
            else:
                self._heard_of_message(report.worker, offset_s, kind, *about)
        for active in self._jobs.values():
            active.wake()

    def _heard_of_job(self, active: ActiveJob, worker: str, offset_s: float, kind: str, about: list[Any]) -> None:
        if kind == messages.PRINTED:
            index, stream, text = about
            active.job.write(stream, text, index)
        elif kind == messages.BLOCKED:
            block = about[0]
            times = {"started_s": block.started_s + offset_s, "ended_s": block.ended_s + offset_s}
            active.job.note_block(replace(block, **times))
        else:
            active.ended_at.add(worker)

    def _heard_of_message(self, worker: str, offset_s: float, kind: str, id_: str, *about: Any) -> None:
        active = next((one for one in self._jobs.values() if id_ in one.out), None)
        if active is None:
            return
        message = active.out[id_]
        message.worker, message.heard_s = worker, perf_counter()
        if kind == messages.BEGUN:
            message.begun, message.begun_s = True, message.heard_s
        elif kind == messages.RESULTS:
            active.take_results(message, offset_s, *about)
        elif kind == messages.RETURNED:
            back = [(index, message.tasks.pop(index)) for index in about[0] if index in message.tasks]
            self._dispatcher.give_again(active, back)
        elif kind == messages.LOST:
            pid, signum, code = about
            self._recovery.lose(active, message, WorkerLostError(pid, signal=signum, exitcode=code))
        else:
            active.take_end(message, offset_s, kind, *about)
        if not message.tasks:
            active.out.pop(id_, None)
        elif active.killed:
            self._ask_to_kill(active, message)

    # --- what goes wrong

    def lost_broker(self, why: str) -> None:
        """As `connection.Listener`."""
        if self._jobs:
            warnings.warn(f"the broker is away, and the run waits for it: {why}", RuntimeWarning, stacklevel=2)

    def found_broker(self) -> None:
        """As `connection.Listener`."""
        eventlet.spawn(self._guard, self._recovery.catch_up)

    def fail(self, error: Exception) -> None:
        """As `connection.Listener`: runs end with the error, they would wait for ever for what is not told."""
        for active in self._jobs.values():
            active.failure = active.failure or error
            active.wake()

    def _guard(self, look_after: Callable[[], None]) -> None:
        try:
            look_after()
        except Exception as error:
            self.fail(error)
