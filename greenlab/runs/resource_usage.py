"""What a run costs: processor time, memory, and how busy the machine was meanwhile.

A `UsageMeter` observes one run after another. It reads at the run's start, a few times a second, and at its end.

Guarantees: a pool's start-up is not counted; after `run_ended` there is no green thread of the meter's own left.
Bounds: a worker's time is known to a clock tick, 10 ms on Linux; what a worker used after the last reading before it
died is lost; memory that an earlier run of this process has freed is used again without showing; the pages that
workers cores_used with each other are counted in each.

Must not import: live, magics; psutil before a run starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import process_time
from typing import TYPE_CHECKING, Any

from greenlab.hub import eventlet

if TYPE_CHECKING:
    from greenlab.runs.run import Run

EVERY_S = 0.2

LEAST_S = 0.2
"""The machine counts its time in ticks of 10 ms, so that the figures of a shorter run mean little."""


@dataclass(frozen=True)
class Usage:
    """The resources that one run used.

    Attributes:
        own_cpu_s: processor time of this process, in seconds.
        workers_cpu_s: processor time of the pool's worker processes, in seconds.
        memory: bytes at the peak: the growth of this process during the run, and all that its workers hold.
        busy: how busy the cores that this process may use were, with other processes' work: 0 to 1.
        cores: how many cores these are.
        elapsed_s: how long the run took, in seconds.
    """

    own_cpu_s: float
    workers_cpu_s: float
    memory: int
    busy: float
    cores: int
    elapsed_s: float

    @property
    def cpu_s(self) -> float:
        """Processor time of this process and the workers, in seconds."""
        return self.own_cpu_s + self.workers_cpu_s

    @property
    def cores_used(self) -> float:
        """How many cores the run kept busy, as a mean over its time."""
        return self.cpu_s / self.elapsed_s if self.elapsed_s > 0 else 0.0


class UsageMeter:
    """Measures what the runs of one pool cost.

    Attributes:
        usage: that of the run that ended last, or None.
    """

    def __init__(self) -> None:
        import psutil

        self._psutil: Any = psutil
        self._me = psutil.Process()
        self._base = self._peak = 0
        self._worker_cpu: dict[int, tuple[float, float]] = {}
        self._processes: dict[int, Any] = {}
        self._begin: tuple[float, tuple[float, float]] = 0.0, (0.0, 0.0)
        self._ticker: Any = None
        self.usage: Usage | None = None

    def run_started(self, run: Run) -> None:
        """Begin to measure."""
        self._worker_cpu = {}
        self._base, self._peak = int(self._me.memory_info().rss), 0
        self._read(run, first=True)
        self._begin = process_time(), self._machine_times()
        self._ticker = eventlet.spawn(self._read_repeatedly, run)

    def run_ended(self, run: Run) -> None:
        """Measure for the last time."""
        ticker, self._ticker = self._ticker, None
        if ticker is None:
            return  # the run never started
        ticker.kill()
        self._read(run)
        own_s, (busy, all_s) = self._begin
        busy_now, all_now = self._machine_times()
        self.usage = Usage(
            own_cpu_s=process_time() - own_s,
            workers_cpu_s=sum(last - first for first, last in self._worker_cpu.values()),
            memory=self._peak,
            # Linux's idle time may step back, and the cores_used would leave its bounds.
            busy=min(max((busy_now - busy) / (all_now - all_s), 0.0), 1.0) if all_now > all_s else 0.0,
            cores=len(self._cores()),
            elapsed_s=run.elapsed_s,
        )

    def _read_repeatedly(self, run: Run) -> None:
        while True:
            eventlet.sleep(EVERY_S)
            self._read(run)

    def _read(self, run: Run, *, first: bool = False) -> None:
        memory = int(self._me.memory_info().rss) - self._base
        for pid in _worker_pids(run):
            try:
                worker = self._processes.get(pid) or self._processes.setdefault(pid, self._psutil.Process(pid))
                used_s, resident = _cpu(worker), int(worker.memory_info().rss)
            except self._psutil.Error:
                continue  # it has just died, and another takes its place
            memory += resident
            # One that was forked during the run has used all of its time in it.
            begin_s = self._worker_cpu.get(pid, (used_s if first else 0.0, 0.0))[0]
            self._worker_cpu[pid] = begin_s, used_s
        self._peak = max(self._peak, memory)

    def _machine_times(self) -> tuple[float, float]:
        """Return the busy and the whole time of the usable cores since the machine started, in seconds."""
        busy = total = 0.0
        every = self._psutil.cpu_times(percpu=True)
        for core in self._cores():
            if core < len(every):
                spent = every[core]
                # Linux counts a guest's time in `user` too.
                whole = sum(spent) - getattr(spent, "guest", 0.0) - getattr(spent, "guest_nice", 0.0)
                total += whole
                busy += whole - spent.idle - getattr(spent, "iowait", 0.0)
        return busy, total

    def _cores(self) -> list[int]:
        if hasattr(self._me, "cpu_affinity"):
            return list(self._me.cpu_affinity())
        return list(range(self._psutil.cpu_count() or 1))


def _cpu(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _worker_pids(run: Run) -> tuple[int, ...]:
    return run._pool.pids
