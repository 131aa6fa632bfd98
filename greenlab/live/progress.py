"""The progress of a run or a series as a line in a terminal, or as lines in a log: an observer.

Guarantees:

* tasks do nothing for it: it reads counts, ten times a second, in one green thread of its own;
* nothing is written while a prompt waits for input, so that a run in the background does not write over it;
* after `run_ended` and `series_ended` no line and no green thread of its own is left.

Must not import: runs, ipywidgets, IPython, matplotlib.
"""

from __future__ import annotations

from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlab.hub import eventlet
from greenlab.live.terminal import Part
from greenlab.live.words import done_text, format_duration
from greenlab.text.format import speed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenlab.live.terminal import TerminalLine
    from greenlab.live.watched import Watched

TICK_S = 0.1
RECENT_TICKS = 30
"""Ticks over which the rate is taken: three seconds."""
FIRST_S = 0.3
"""A run that is over by then shows no line: it would flicker."""
LOG_S, LOG_SLOWER = 10.0, 0.1
"""A log gets a line so often; of a long run, whenever it has become longer by this share."""


class ProgressLine:
    """Shows how far a run is, or the runs of a series, one after another.

    Args:
        line: the terminal's line.
        may_write: returns whether the terminal is free: in an interactive one that is while a cell waits.
        says_end: whether a line that stays says how it ended; not where a report follows.
    """

    def __init__(self, line: TerminalLine, may_write: Callable[[], bool], says_end: Callable[[], bool]) -> None:
        self._line = line
        self._may_write = may_write
        self._says_end = says_end
        self._series: Any = None
        self._run: Any = None
        self._ticker: Any = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=RECENT_TICKS + 1)
        self._began_s = self._log_due_s = 0.0

    # -- hooks ---------------------------------------------------------------------------------------------

    def run_started(self, run: Watched) -> None:
        """Begin to show a run."""
        self._run = run
        self._begin()

    def run_ended(self, run: Watched) -> None:
        """Remove the line, or replace it by one that says how the run ended."""
        self._end(lambda: [Part(f"{run.pool} run of {run.label}"), *end_parts(run)])

    def series_started(self, series: Any) -> None:
        """Begin to show the runs of a series."""
        self._series = series
        self._begin()

    def series_ended(self, series: Any) -> None:
        """Remove the line, or replace it by one that says how the series ended."""
        how = "interrupted" if series.interrupted else "ended"
        self._end(lambda: [Part(series.name), Part(f"{how} after {format_duration(self._elapsed_s)}")])

    # -- the line ------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Rewrite the line, or write one to a log when it is due."""
        run = self._series.current if self._series is not None else self._run
        if run is not self._run:
            self._run = run
            self._recent.clear()
        if not self._may_write():
            self._line.erase()
        elif self._line.in_place:
            self._line.show(*self._parts(run))
        elif self._elapsed_s >= self._log_due_s:
            self._log_due_s = self._elapsed_s + max(LOG_S, LOG_SLOWER * self._elapsed_s)
            self._line.log(self._parts(run)[0])

    def close(self) -> None:
        """Stop, also while the run goes on. Safe to call twice."""
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.kill()
            self._line.erase()

    @property
    def _elapsed_s(self) -> float:
        return perf_counter() - self._began_s

    def _begin(self) -> None:
        self._began_s, self._log_due_s = perf_counter(), LOG_S
        self._ticker = eventlet.spawn(self._tick_repeatedly)

    def _end(self, parts: Callable[[], Sequence[Part]]) -> None:
        free = self._may_write()
        self.close()
        if self._says_end():
            self._line.log(parts())
        elif free:
            self._line.erase()

    def _tick_repeatedly(self) -> None:
        eventlet.sleep(FIRST_S)
        while True:
            self.tick()
            eventlet.sleep(TICK_S)

    def _parts(self, run: Any) -> tuple[Sequence[Part], float | None]:
        if self._series is not None:
            head = Part(f"{self._series.kind}: {self._series.stage}")
        else:
            head = Part(f"{run.pool}: {run.label}")
        share = None if self._series is None else self._series.share
        if run is None:
            return [head], share
        self._recent.append((run.elapsed_s, run.done))
        then_s, done = self._recent[0] if len(self._recent) > 1 else (0.0, run.done_before)
        rate = (run.done - done) / max(run.elapsed_s - then_s, 1e-6)
        if share is not None:
            return [head, *parts_of(run, rate, (self._elapsed_s, share))], share
        return [head, *parts_of(run, rate)], run.done / run.total if run.total else None


def parts_of(run: Watched, rate: float, series: tuple[float, float] | None = None) -> list[Part]:
    """Return how far a run is, in parts of a line, the most important ones first.

    Args:
        run: one that goes on.
        rate: tasks/s over the last seconds.
        series: of a series that says how far it is, the seconds since it began, and the share that is done.
    """
    done = f"{run.done:,}" if run.total is None else f"{run.done:,} of {run.total:,}"
    parts = [Part(done), *_failed(run), _speed(run, rate), Part(f"{run.in_flight:,} in flight")]
    elapsed_s, left_s = run.elapsed_s, 0.0
    if series is not None:
        elapsed_s, share = series
        left_s = elapsed_s * (1 - share) / share if share > 0 else 0.0
    elif run.total is not None and rate > 0:
        left_s = max(run.total - run.done, 0) / rate
    return [*parts, Part(_clock(elapsed_s, float(f"{left_s:.2g}")))]


def _clock(elapsed_s: float, left_s: float) -> str:
    left = f", about {format_duration(round(left_s, 1))} left" if left_s >= 1 else ""
    return f"{format_duration(round(elapsed_s, 1))}{left}"


def end_parts(run: Any) -> list[Part]:
    """Return how a run ended, in parts of a line."""
    stopped = [Part("stopped", problem=True)] if run.cancelled else []
    rate = (run.done - run.done_before) / run.elapsed_s if run.elapsed_s > 0 else 0.0
    figures = [_speed(run, rate), Part(format_duration(run.elapsed_s))]
    return [*stopped, Part(done_text(run)), *_failed(run), *figures]


def _speed(run: Watched, rate: float) -> Part:
    return Part(speed(rate, ended=run.done - run.done_before, failed=run.failed))


def _failed(run: Watched) -> list[Part]:
    return [Part(f"{run.failed:,} failed", problem=True)] if run.failed else []
