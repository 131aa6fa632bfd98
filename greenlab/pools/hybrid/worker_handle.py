"""A process, as the hybrid pool sees it, and what it has of each job.

Guarantees: nothing here waits, and sending never blocks.
Must not import: runs, live, magics, eventlet.green. The process itself is `worker`.
"""

from __future__ import annotations

import pickle
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from greenlab.errors import GreenlabError
from greenlab.hub import eventlet
from greenlab.pools.hybrid import frames
from greenlab.pools.hybrid.frames import NOBODY, Marks
from greenlab.pools.processes import framing, serialization
from greenlab.pools.processes.framing import Bytes, Parcel
from greenlab.pools.processes.job import Printed
from greenlab.pools.processes.process import Process
from greenlab.pools.protocol import InFlight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenlab.pools.hybrid.job import ActiveJob

Event = eventlet.event.Event

_AHEAD_S: Final = 0.025
"""How much work a process may have waiting: more than what a result needs to the kernel and the next task back, where
both wait for the processor, or else slots stand idle. What lies behind tasks that turn out slow is recalled."""
_MOST_AHEAD: Final = 512
_MEMORY_S: Final = 0.05  # over how long the pace of a process is measured
_PAUSE_S: Final = 0.002
"""A reading costs some 50 µs, which is 20 % of a task that fetches: of short ones, several are read at once."""
_STREAMS: Final = {framing.STDOUT: "stdout", framing.STDERR: "stderr"}
_NOTHING: Final = Parcel(framing.NOTHING, [])


Entry = tuple[int, float, Any]
"""A task at a process: the how-manieth of its job there, when it was sent, and its item."""


class PoolCallbacks(Protocol):
    """What a link asks of the pool."""

    def welcome(self, link: WorkerHandle) -> None:
        """Take the process into service: it has said that it is ready."""

    def wake_all(self) -> None:
        """Look again at what may be sent: there is room at a process."""

    def watch(self) -> None:
        """See to what waits at a process while another one could take it: tasks have ended here."""

    def give_again(self, active: ActiveJob, tasks: list[tuple[int, Any]]) -> None:
        """Give to other processes what this one did not begin."""


class JobOnWorker:
    """What one process has of one job.

    Attributes:
        slot: where the process counts its tasks, see `Marks`.
        share: how many tasks it was told to have in flight.
        outstanding: the tasks that were sent and have not ended, by index.
        ended: an event that comes when nothing of the job runs there any more.
        seen: how many had begun when somebody looked.
        silent: whether tasks were recalled, and the process has said nothing since.
    """

    def __init__(self, active: ActiveJob, slot: int, share: int) -> None:
        self.active = active
        self.slot = slot
        self.share = share
        self.outstanding: dict[int, Entry] = {}
        self.ended = Event()
        self.seen = 0
        self.silent = False
        self._sent = 0
        self._pace = 0.0  # ends a second, of late
        self._paced_s = perf_counter()
        self._task_s = 0.0  # how long a task takes, of late

    @property
    def sent(self) -> int:
        """How many tasks were sent so far."""
        return self._sent

    def note_sent(self, index: int, item: Any) -> None:
        """Keep a task that is sent now."""
        self._sent += 1
        self.outstanding[index] = (self._sent, perf_counter(), item)

    def note_ends(self, count: int, duration_s: float) -> None:
        """Measure the pace, an average that forgets within `_MEMORY_S`, and how long the tasks took, all together."""
        now_s = perf_counter()
        past_s, self._paced_s = now_s - self._paced_s, now_s
        self._pace = self._pace * max(0.0, 1 - past_s / _MEMORY_S) + count / max(_MEMORY_S, past_s)
        self._task_s += min(1.0, count / self.share) * (duration_s / count - self._task_s)

    @property
    def _ahead(self) -> int:
        """How many tasks may wait there, beyond those that are in flight.

        Of tasks that take long, many may end at once: it is by Little's law that these are not many a second.
        """
        past_s = perf_counter() - self._paced_s
        pace = self._pace * max(0.0, 1 - past_s / _MEMORY_S)
        return min(_MOST_AHEAD, int(_AHEAD_S * min(pace, self.share / max(self._task_s, 1e-9))))

    @property
    def room(self) -> int:
        """How many tasks may be sent now; 0 also when so few may that it is better to wait."""
        ahead = self._ahead
        count = len(self.outstanding)
        room = self.share + ahead - count
        return room if count < self.share or 2 * room >= max(ahead, 1) else 0


class WorkerHandle(Process):
    """The pool's end of one process.

    Args:
        actives: the jobs that run, by number.
        office: the pool.
    """

    def __init__(self, actives: Mapping[int, ActiveJob], office: PoolCallbacks) -> None:
        super().__init__()
        self.marks = Marks(self.page_fd)
        self.stints: dict[int, JobOnWorker] = {}
        self.posts = 0
        self._useful = False
        self._broken: BaseException | None = None
        self._actives = actives
        self._office = office
        self._ending: dict[int, JobOnWorker] = {}
        self._slots = list(range(Marks.COUNT))
        self._answers: dict[int, Any] = {}

    @property
    def load(self) -> int:
        """How many tasks were sent and have not ended, and how many jobs are still to end."""
        return sum(len(stint.outstanding) for stint in self.stints.values()) + len(self._ending)

    @property
    def useful(self) -> bool:
        """Whether it did more than to start, and to say why it ends."""
        return self._useful

    @property
    def at_work(self) -> bool:
        """Whether a task runs there."""
        return any(self.marks.running[stint.slot] for stint in self.stints.values())

    @property
    def pause_s(self) -> float:
        """For how long not to read: what is in flight there is less than what it has."""
        stints = self.stints.values()
        return _PAUSE_S if stints and all(len(one.outstanding) > one.share for one in stints) else 0.0

    def begin(self) -> None:
        """As Process: it says itself when its hub turns."""

    def held(self, active: ActiveJob) -> int:
        """Count the tasks of a job that were sent here and have not ended."""
        stint = self.stints.get(active.number)
        return len(stint.outstanding) if stint is not None else 0

    def begun(self, active: ActiveJob) -> list[tuple[int, float]]:
        """List the tasks of a job that have begun here and have not ended: index, and when it was sent."""
        stint = self.stints.get(active.number)
        if stint is None:
            return []
        begun = self.marks.begun[stint.slot]
        return [(index, sent_s) for index, (nth, sent_s, _) in stint.outstanding.items() if nth <= begun]

    def count(self, active: ActiveJob) -> int:
        """Count the tasks of a job that have begun here and have not ended."""
        stint = self.stints.get(active.number)
        if stint is None or not stint.outstanding:
            return 0
        return min(len(stint.outstanding), self.marks.running[stint.slot])

    def room(self, active: ActiveJob, share: int) -> int:
        """How many tasks of a job may be sent now."""
        if not self.open or self.outbox:
            return 0
        stint = self.stints.get(active.number)
        if stint is None:
            return share if self._slots else 0
        if stint.share != share:
            self.tell_share(active, share)
        return 0 if stint.silent else stint.room

    # --- what is not begun

    def waiting(self, active: ActiveJob) -> int:
        """How many tasks of a job the process has not turned to yet."""
        stint = self.stints.get(active.number)
        if stint is None or not stint.outstanding:
            return 0
        last = stint.outstanding[next(reversed(stint.outstanding))][0]
        return max(0, last - self.marks.begun[stint.slot])

    def stands(self, active: ActiveJob) -> bool:
        """Whether tasks of a job wait here, and few or none have begun since this was asked last."""
        stint = self.stints[active.number]
        begun = self.marks.begun[stint.slot]
        moved, stint.seen = begun - stint.seen, begun
        return not stint.silent and self.waiting(active) > 2 * moved

    def recall(self, active: ActiveJob) -> None:
        """Forbid the process to begin what it has not begun; what it turns to nevertheless it returns."""
        stint = self.stints[active.number]
        self.marks.recall[stint.slot] = stint.sent
        stint.silent = True

    def take_back(self, active: ActiveJob) -> list[tuple[int, Any]]:
        """Take the tasks that the process will never begin, a moment (a millisecond will do) after `recall`.

        The process writes `begun` before it looks at `recall`. So whatever is later than what is read here meets the
        recall, however late that is: also when the process is stopped for ever.
        """
        stint = self.stints.get(active.number)
        if stint is None:
            return []
        begun, recall = self.marks.begun[stint.slot], self.marks.recall[stint.slot]
        found = [
            (index, item)
            for index, (nth, _, item) in stint.outstanding.items()
            if begun < nth <= recall and index not in active.sentences
        ]
        for index, _ in found:
            del stint.outstanding[index]
        return found

    def _take_returned(self, stint: JobOnWorker, body: Bytes) -> None:
        """Give to others what the process turned to when it had been recalled, and so did not begin."""
        active, again = stint.active, []
        for index, nth in pickle.loads(body):
            entry = stint.outstanding.get(index)
            if entry is None or entry[0] != nth:  # it was taken back, and may have been sent again
                continue
            del stint.outstanding[index]
            error = active.sentences.pop(index, None)
            if error is None:
                again.append((index, entry[2]))
            else:
                now_s = perf_counter()
                active.tell(index, entry[1], now_s, None, error)
        if again:
            self._office.give_again(active, again)

    # --- to the process

    def post(self, active: ActiveJob, share: int, tasks: list[tuple[int, Any]], parts: list[Bytes]) -> None:
        """Send tasks: `parts` are their frames."""
        stint = self.stints.get(active.number)
        if stint is None:
            slot = self._slots.pop()
            self.marks.begun[slot] = self.marks.recall[slot] = self.marks.running[slot] = 0
            stint = self.stints[active.number] = JobOnWorker(active, slot, share)
            body = pickle.dumps((slot, share, active.job.timeout_s, active.blocked_after_s, active.body), 5)
            parts = [*framing.frame(framing.JOB, active.number, 0, Parcel(framing.PICKLED, [body])), *parts]
        for index, item in tasks:
            stint.note_sent(index, item)
        self.posts += 1
        self.send(parts)

    def tell_share(self, active: ActiveJob, share: int) -> None:
        """Let the process have another number of the job's tasks in flight."""
        stint = self.stints.get(active.number)
        if stint is not None and stint.share != share:
            stint.share = share
            self.send(framing.frame(frames.SHARE, active.number, share, _NOTHING))

    def kill(self, active: ActiveJob, index: int) -> None:
        """Have one task killed."""
        self.send(framing.frame(frames.KILL, active.number, index, _NOTHING))

    def ask(self, active: ActiveJob, question: int) -> Any:
        """Ask what runs of a job, and where; return the event that brings a list of `InFlight`."""
        self._answers[question] = event = Event()
        self.send(framing.frame(frames.HELD, active.number, question, _NOTHING))
        return event

    def dont_answer(self, question: int) -> None:
        """Forget a question that took too long."""
        self._answers.pop(question, None)

    def end(self, active: ActiveJob) -> JobOnWorker | None:
        """Let the process stop what it has of a job, and forget it; return what that is, if anything."""
        stint = self.stints.pop(active.number, None)
        if stint is None or self.dead:
            return None
        self._ending[active.number] = stint
        self.send(framing.frame(frames.END, active.number, 0, _NOTHING))
        return stint

    # --- from the process

    def take(self) -> None:
        """Read once, and tell jobs how their tasks ended; see `Process.take`."""
        printed = Printed()
        touched: dict[int, JobOnWorker] = {}
        arrived = self.inbox.read()
        for stint in self.stints.values():
            stint.silent = False
        for kind, form, buffers, number_of_job, number, _, start_s, end_s, body in arrived:
            if kind in _STREAMS:
                active = self._actives.get(number_of_job)
                if active is not None:
                    printed.add(active, _STREAMS[kind], None if number == NOBODY else number, body)
                continue
            printed.flush()
            self._useful = self._useful or kind not in (frames.READY, frames.BROKEN)
            if kind == frames.READY:
                self._office.welcome(self)
            elif kind == frames.BROKEN:
                self.break_off(GreenlabError(str(body, "utf-8", "replace")))
            elif kind == frames.ENDED:
                stint = self._ending.pop(number_of_job)
                self._slots.append(stint.slot)
                stint.ended.send()
            elif kind == frames.HOLDS:
                self._answer(number, body)
            elif kind == frames.BLOCKED:
                told = self.stints.get(number_of_job) or self._ending.get(number_of_job)
                if told is not None:
                    told.active.note_block(replace(pickle.loads(body), worker=self.pid))
            elif number_of_job in self.stints:
                stint = self.stints[number_of_job]
                if kind == frames.RESULTS:
                    self._take_results(stint, body)
                elif kind == frames.RETURNED:
                    self._take_returned(stint, body)
                else:
                    self._take_end(stint, number, kind, (start_s, end_s), (form, buffers, body))
                touched[number_of_job] = stint
        printed.flush()
        for stint in touched.values():
            stint.active.wake()
        if touched:
            self._office.watch()
        if self._broken is not None:
            raise self._broken

    def _take_results(self, stint: JobOnWorker, body: Bytes) -> None:
        ends = list(zip(*pickle.loads(body), strict=True))
        stint.note_ends(len(ends), sum(end_s - start_s for _, start_s, end_s, _ in ends))
        outstanding, sentences, tell = stint.outstanding, stint.active.sentences, stint.active.tell
        for index, start_s, end_s, value in ends:
            if outstanding.pop(index, None) is not None:
                if sentences:
                    sentences.pop(index, None)
                tell(index, start_s, end_s, value)

    def _take_end(
        self, stint: JobOnWorker, index: int, kind: int, times_s: tuple[float, float], sent: tuple[int, int, Bytes]
    ) -> None:
        if stint.outstanding.pop(index, None) is None:
            return
        stint.note_ends(1, times_s[1] - times_s[0])
        sentence = stint.active.sentences.pop(index, None)
        if kind == frames.KILLED:
            stint.active.tell(index, *times_s, None, sentence)
            return
        try:
            value, error = serialization.load_end(index, kind, *sent)
        except BaseException as fault:  # its task has been run, and so have those whose ends were read with it
            self._broken, value, error = fault, None, serialization.unreadable(index, fault)
        stint.active.tell(index, *times_s, value, error)

    def _answer(self, question: int, body: Bytes) -> None:
        event = self._answers.pop(question, None)
        if event is not None:
            event.send([InFlight(index, started_s, self.pid, where) for index, started_s, where in pickle.loads(body)])

    def written(self) -> None:
        """There is room again."""
        self._office.wake_all()

    def close(self) -> None:
        """As Process; nobody waits any longer for its answers."""
        super().close()
        for stint in [*self.stints.values(), *self._ending.values()]:
            stint.ended.send()
        for event in self._answers.values():
            event.send([])
        self.stints.clear()
        self._ending.clear()
        self._answers.clear()
        self.marks.close()
