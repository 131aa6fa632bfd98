"""A process, as the hybrid pool sees it, and what it has of each job.

Guarantees: nothing here waits, and sending never blocks.
Must not import: runs, live, magics, eventlet.green. The process itself is `worker`.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from greenlab.errors import GreenlabError
from greenlab.hub import eventlet
from greenlab.pools.hybrid import frames
from greenlab.pools.hybrid.frames import OF_NO_TASK, Marks
from greenlab.pools.hybrid.job import frames_of
from greenlab.pools.hybrid.job_on_worker import JobOnWorker
from greenlab.pools.processes import framing, serialization
from greenlab.pools.processes.framing import Bytes, Parcel
from greenlab.pools.processes.job import STREAMS, Printed
from greenlab.pools.processes.process import ProcessHandle
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from greenlab.pools.hybrid.job import ActiveJob
    from greenlab.pools.processes.dispatch import Batch, Dispatcher
    from greenlab.pools.processes.round_robin import RoundRobin
    from greenlab.pools.processes.supervisor import Supervisor

Event = eventlet.event.Event

_PAUSE_S: Final = 0.002
"""A reading costs some 50 µs, which is 20 % of a task that fetches: of short ones, several are read at once."""


class WorkerHandle(ProcessHandle):
    """The pool's end of one process.

    Args:
        jobs: those that run.
        supervisor: what the process reports to when it can serve.
        dispatcher: what sends tasks here.
    """

    announces_itself = True

    def __init__(
        self, jobs: RoundRobin[ActiveJob], supervisor: Supervisor[WorkerHandle], dispatcher: Dispatcher[ActiveJob]
    ) -> None:
        super().__init__()
        self._jobs = jobs
        self._supervisor = supervisor
        self._dispatcher = dispatcher
        self._marks = Marks(self.page_fd)
        self._placed: dict[int, JobOnWorker] = {}  # by the number of the job
        self._ending: dict[int, JobOnWorker] = {}
        self._slots = list(range(Marks.COUNT))
        self._answers: dict[int, Any] = {}
        self._broken: BaseException | None = None

    @property
    def load(self) -> int:
        """How many tasks were sent and have not ended, and how many jobs are still to end."""
        return sum(len(placed.outstanding) for placed in self._placed.values()) + len(self._ending)

    @property
    def job_count(self) -> int:
        """How many jobs it has."""
        return len(self._placed)

    @property
    def at_work(self) -> bool:
        """Whether a task runs there."""
        return any(self._marks.running[placed.slot] for placed in self._placed.values())

    @property
    def pause_s(self) -> float:
        """For how long not to read: what is in flight there is less than what it has."""
        jobs = self._placed.values()
        return _PAUSE_S if jobs and all(len(one.outstanding) > one.share for one in jobs) else 0.0

    def held(self, active: ActiveJob) -> int:
        """Count the tasks of a job that were sent here and have not ended."""
        placed = self._placed.get(active.number)
        return len(placed.outstanding) if placed is not None else 0

    def begun(self, active: ActiveJob) -> list[tuple[int, float]]:
        """List the tasks of a job that have begun here and have not ended: index, and when it was sent."""
        placed = self._placed.get(active.number)
        if placed is None:
            return []
        begun = self._marks.begun[placed.slot]
        return [(index, sent_s) for index, (nth, sent_s, _) in placed.outstanding.items() if nth <= begun]

    def count(self, active: ActiveJob) -> int:
        """Count the tasks of a job that have begun here and have not ended."""
        placed = self._placed.get(active.number)
        if placed is None or not placed.outstanding:
            return 0
        return min(len(placed.outstanding), self._marks.running[placed.slot])

    def room(self, active: ActiveJob, share: int) -> int:
        """How many tasks of a job may be sent now."""
        if not self.takes_tasks or self.outbox:
            return 0
        placed = self._placed.get(active.number)
        if placed is None:
            return share if self._slots else 0
        if placed.share != share:
            self.tell_share(active, share)
        return 0 if placed.recalled else placed.room

    # --- what is not begun

    def waiting(self, active: ActiveJob) -> int:
        """How many tasks of a job the process has not turned to yet."""
        placed = self._placed.get(active.number)
        if placed is None or not placed.outstanding:
            return 0
        last = placed.outstanding[next(reversed(placed.outstanding))][0]
        return max(0, last - self._marks.begun[placed.slot])

    def stands_still(self, active: ActiveJob) -> bool:
        """Whether tasks of a job wait here, and few or none have begun since this was asked last."""
        placed = self._placed[active.number]
        begun = self._marks.begun[placed.slot]
        moved, placed.seen = begun - placed.seen, begun
        return not placed.recalled and self.waiting(active) > 2 * moved

    def recall(self, active: ActiveJob) -> None:
        """Forbid the process to begin what it has not begun; what it turns to nevertheless it returns."""
        placed = self._placed[active.number]
        self._marks.recall[placed.slot] = placed.sent
        placed.recalled = True

    def take_back(self, active: ActiveJob) -> list[tuple[ActiveJob, int, Any]]:
        """Take the tasks that the process will never begin, a moment (a millisecond will do) after `recall`.

        The process writes `begun` before it looks at `recall`. So whatever is later than what is read here meets the
        recall, however late that is: also when the process is stopped for ever.
        """
        placed = self._placed.get(active.number)
        if placed is None:
            return []
        begun, recall = self._marks.begun[placed.slot], self._marks.recall[placed.slot]
        found = [
            (active, index, item)
            for index, (nth, _, item) in placed.outstanding.items()
            if begun < nth <= recall and index not in active.kill_errors
        ]
        for _, index, _ in found:
            del placed.outstanding[index]
        return found

    def _take_returned(self, placed: JobOnWorker, body: Bytes) -> None:
        """Hand to others what the process turned to when it had been recalled, and so did not begin."""
        active, again = placed.active, []
        for index, nth in pickle.loads(body):
            entry = placed.outstanding.get(index)
            if entry is None or entry[0] != nth:  # it was taken back, and may have been sent again
                continue
            del placed.outstanding[index]
            error = active.kill_errors.pop(index, None)
            if error is None:
                again.append((active, index, entry[2]))
            else:
                now_s = perf_counter()
                active.tell(index, entry[1], now_s, None, error)
        if again:
            self._dispatcher.give_again(again)

    # --- to the process

    def accepts(self, batch: Batch[ActiveJob]) -> bool:
        """Whether these tasks may be sent, which was found out a while ago."""
        return self.takes_tasks and self in batch.active.handles

    def post(self, batch: Batch[ActiveJob]) -> None:
        """Send tasks. They are outstanding from now on."""
        active = batch.active
        placed = self._placed.get(active.number)
        if placed is None:
            placed = self._place(active)
        self.outbox.put(frames_of(active, batch.tasks))
        placed.note_sent(batch.tasks)
        self.posts += 1
        self.write()

    def _place(self, active: ActiveJob) -> JobOnWorker:
        """Make a job known to the process."""
        slot, share = self._slots.pop(), active.share_of(self)
        self._marks.begun[slot] = self._marks.recall[slot] = self._marks.running[slot] = 0
        body = pickle.dumps((slot, share, active.job.timeout_s, active.blocked_after_s, active.body), 5)
        self.outbox.put(framing.frame(framing.JOB, active.number, 0, Parcel(framing.PICKLED, [body])))
        placed = self._placed[active.number] = JobOnWorker(active, slot, share)
        return placed

    def tell_share(self, active: ActiveJob, share: int) -> None:
        """Allow the process another number of the job's tasks in flight."""
        placed = self._placed.get(active.number)
        if placed is not None and placed.share != share:
            placed.share = share
            self.send(framing.frame(frames.SHARE, active.number, share, framing.NO_BODY))

    def kill(self, active: ActiveJob, index: int, error: BaseException) -> bool:
        """Have one task killed, which then fails with `error`; return whether it is here."""
        placed = self._placed.get(active.number)
        if placed is None or index not in placed.outstanding:
            return False
        active.kill_errors[index] = error
        self.send(framing.frame(frames.KILL, active.number, index, framing.NO_BODY))
        return True

    def ask(self, active: ActiveJob, question: int) -> Any:
        """Ask what runs of a job, and where; return the event that brings a list of `InFlight`."""
        self._answers[question] = event = Event()
        self.send(framing.frame(frames.HELD, active.number, question, framing.NO_BODY))
        return event

    def dont_answer(self, question: int) -> None:
        """Forget a question that took too long."""
        self._answers.pop(question, None)

    def end(self, active: ActiveJob) -> JobOnWorker | None:
        """Have the process stop what it has of a job, and forget it; return what that is, if anything."""
        placed = self._placed.pop(active.number, None)
        if placed is None or self.is_dead:
            return None
        self._ending[active.number] = placed
        self.send(framing.frame(frames.END, active.number, 0, framing.NO_BODY))
        return placed

    # --- from the process

    def take(self) -> None:
        """Read once, and tell jobs how their tasks ended; see `ProcessHandle.take`."""
        printed = Printed()
        touched: dict[int, JobOnWorker] = {}
        arrived = self.inbox.read()
        for placed in self._placed.values():
            placed.recalled = False
        for kind, form, buffers, number_of_job, number, _, start_s, end_s, body in arrived:
            if kind in STREAMS:
                active = self._jobs.get(number_of_job)
                if active is not None:
                    printed.add(active, STREAMS[kind], None if number == OF_NO_TASK else number, body)
                continue
            printed.flush()
            self.proven = self.proven or kind not in (frames.READY, frames.BROKEN)
            if kind == frames.READY:
                self._supervisor.welcome(self)
            elif kind == frames.BROKEN:
                self.break_off(GreenlabError(str(body, "utf-8", "replace")))
            elif kind == frames.ENDED:
                placed = self._ending.pop(number_of_job)
                self._slots.append(placed.slot)
                placed.ended.send()
            elif kind == frames.HOLDS:
                self._answer(number, body)
            elif kind == frames.BLOCKED:
                told = self._placed.get(number_of_job) or self._ending.get(number_of_job)
                if told is not None:
                    told.active.note_block(replace(pickle.loads(body), worker=self.pid))
            elif number_of_job in self._placed:
                placed = self._placed[number_of_job]
                if kind == frames.RESULTS:
                    self._take_results(placed, body)
                elif kind == frames.RETURNED:
                    self._take_returned(placed, body)
                else:
                    self._take_end(placed, number, kind, (start_s, end_s), (form, buffers, body))
                touched[number_of_job] = placed
        printed.flush()
        for placed in touched.values():
            placed.active.wake()
        if touched:
            self._dispatcher.watch()
        if self._broken is not None:
            raise self._broken

    def _take_results(self, placed: JobOnWorker, body: Bytes) -> None:
        ends = list(zip(*pickle.loads(body), strict=True))
        placed.note_ends(len(ends), sum(end_s - start_s for _, start_s, end_s, _ in ends))
        outstanding, kill_errors, tell = placed.outstanding, placed.active.kill_errors, placed.active.tell
        for index, start_s, end_s, value in ends:
            if outstanding.pop(index, None) is not None:
                if kill_errors:
                    kill_errors.pop(index, None)
                tell(index, start_s, end_s, value)

    def _take_end(
        self, placed: JobOnWorker, index: int, kind: int, times_s: tuple[float, float], sent: tuple[int, int, Bytes]
    ) -> None:
        if placed.outstanding.pop(index, None) is None:
            return
        placed.note_ends(1, times_s[1] - times_s[0])
        kill_error = placed.active.kill_errors.pop(index, None)
        if kind == frames.KILLED:
            placed.active.tell(index, *times_s, None, kill_error)
            return
        try:
            value, error = serialization.load_end(index, kind, *sent)
        except BaseException as fault:  # its task has been run, and so have those whose ends were read with it
            self._broken, value, error = fault, None, serialization.unreadable(index, fault)
        placed.active.tell(index, *times_s, value, error)

    def _answer(self, question: int, body: Bytes) -> None:
        event = self._answers.pop(question, None)
        if event is not None:
            event.send([InFlight(index, started_s, self.pid, where) for index, started_s, where in pickle.loads(body)])

    def account_for_loss(self, status: int) -> list[tuple[ActiveJob, int, Any]]:
        """Report to jobs the tasks that had begun as the process died, and of those that were being killed.

        Returns:
            the tasks that it had not begun, and that still have to run.
        """
        now_s, again = perf_counter(), []
        for placed in self._placed.values():
            active, begun = placed.active, self._marks.begun[placed.slot]
            for index, (nth, sent_s, item) in placed.outstanding.items():
                error = active.kill_errors.pop(index, None)
                if nth > begun and error is None:
                    again.append((active, index, item))
                else:
                    active.tell(index, sent_s, now_s, None, error or self.loss(status))
        return again

    def written(self) -> None:
        """There is room again."""
        self._dispatcher.wake()

    def close(self) -> None:
        """As ProcessHandle; its answers are not waited for any longer."""
        super().close()
        for placed in [*self._placed.values(), *self._ending.values()]:
            placed.ended.send()
        for event in self._answers.values():
            event.send([])
        self._placed.clear()
        self._ending.clear()
        self._answers.clear()
        self._marks.close()
