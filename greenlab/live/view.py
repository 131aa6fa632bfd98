"""The live view of one run: an observer that samples it four times a second, and updates its header half as often.

Guarantees:

* tasks do nothing for it: a view reads counts, from one green thread of its own;
* the hub's thread never draws, see `greenlab.live.drawing.client`; if that cannot draw, the text remains;
* what the user does arrives on any thread, and is done on the hub's;
* a view that raises is dropped with one warning, and the run goes on;
* after `run_ended` there is no green thread, widget or process of the view's own left.

Must not import: matplotlib, numpy, ipywidgets, IPython (a display imports the last two when it is shown).
"""

from __future__ import annotations

import os
import time
import warnings
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from greenlab.hub import eventlet
from greenlab.live.choose_display import choose_display
from greenlab.live.displays import Controls, Display, Final, Progress, Slider, cell_number, is_cell
from greenlab.live.drawing.client import Drawing, DrawingClient
from greenlab.live.samples import Columns
from greenlab.live.snapshot import facts_of, records_of, samples_of
from greenlab.live.words import failure_html, header_html, progress_line
from greenlab.pools.registry import spec_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.live.snapshot import Facts, Samples
    from greenlab.live.watched import Watched

TICK_S = 0.25
HEADER_S = 0.4
"""How long a header stays, so that every second sample changes it: numbers that change four times a second cannot be
read, and the message to the front end would be most of what a sample costs."""
RECENT_TICKS = 8
"""Ticks over which the header's rate is taken: two seconds."""
FIRST_FRAME_S = 0.3
"""A run that is over by then shows its last picture only: anything before would flicker."""
FRAMES_A_RUN = 20
SHORTEST_FRAME_S, LONGEST_FRAME_S = 0.5, 2.0
"""A long run changes slowly: a picture waits for 1/`FRAMES_A_RUN` of the run's length, between these."""
FRAMES_SHARE, BUSY_FRAME_S = 0.03, 1.0
"""A picture takes 17 ms of another core, and twice that if it is the other half of the kernel's own, whose tasks it
then slows down: pictures wait, so that drawing takes this share of the time at the most; but not longer than this."""
LIVE_SCALE, FINAL_SCALE = 1.5, 2.0
FINAL_WAIT_S = 10.0
"""A process that draws for the first time ever makes its font cache first, which takes seconds."""
SLIDER_FACTOR, SLIDER_LEAST = 10, 100
"""How far concurrency can be raised: by this factor, but to so many at the least."""
SLIDER_STEPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
"""Steps in each power of ten: equal distances are about equal factors."""


class View:
    """Shows a run while it goes on, and leaves its picture when it has ended: an observer of one run.

    Args:
        call_soon_threadsafe: runs a function on the hub's thread, soon; called from any thread.
        client: the process that draws. By default the view starts its own, and ends it with the run; a shared one
            stays warm between runs.
        widgets: whether the front end can show widgets; without them a picture is replaced in place.
        saved_text: returns the plain text of the finished output, beside its picture. By default the run's name
            and summary; `name_line` makes notebooks that compare equal whenever they are run (strict nbval).
    """

    def __init__(
        self,
        call_soon_threadsafe: Callable[[Callable[[], object]], object],
        *,
        client: DrawingClient | None = None,
        widgets: bool = True,
        saved_text: Callable[[Watched], str] | None = None,
    ) -> None:
        self._saved_text = saved_text
        self._soon = call_soon_threadsafe
        self._owns_client = client is None
        self._client = client or DrawingClient()
        self._widgets = widgets
        self._display = Display()
        self._run: Watched | None = None
        self._columns = Columns()
        self._recent: deque[tuple[float, int]] = deque([(0.0, 0)], maxlen=RECENT_TICKS + 1)
        self._ticker: Any = None
        self._header_due_s = 0.0
        self._frame_due_s = FIRST_FRAME_S
        self._draw_time_s = 0.0
        self._drawing = False
        self._stopping = False
        self._failure = ""
        self._cell: int | None = None
        self._left_picture = False

    def stands_in(self, cell: int | None) -> bool:
        """Return whether the run's picture, live or left, stands in a cell; None for the one that runs now."""
        is_live = self._run is not None and self._display.draws
        return (is_live or self._left_picture) and is_cell(self._cell, cell)

    def run_started(self, run: Watched) -> None:
        """Show the first output under the cell, and begin to sample."""
        self._run = run
        self._recent[0] = (0.0, run.done_before)
        self._cell = cell_number()
        controls = Controls(
            lambda: self._soon(self._stop), lambda value: self._soon(lambda: self._set_concurrency(value))
        )
        try:
            self._display = choose_display(controls, widgets=self._widgets)
            self._display.show(self._progress(run, self._facts_of(run), 0.0))
            if self._display.draws:
                self._client.start()
        except BaseException:
            self.close()
            raise
        self._ticker = eventlet.spawn(self._sample_repeatedly)

    def run_ended(self, run: Watched) -> None:
        """Replace the live output by the one that a notebook keeps: the exact picture and the numbers."""
        if self._run is None:  # it was dropped
            return
        self._stop_sampling()
        try:
            self._columns.add_sample(run)
            # Of a run in which nothing began there is nothing to draw: the error below the cell says why.
            drawing = self._last_drawing(run) if self._display.draws and run.begun else None
            summary = run.summary() if run.begun else "no task has begun"
            text = self._saved_text(run) if self._saved_text else _joined(name_line(run), summary)
            failure = failure_html(run.first_failure if run.failed else "")
            self._display.finish(Final(text, summary, drawing, failure))
            self._left_picture = drawing is not None
        finally:
            self.close()

    def close(self) -> None:
        """Stop, also while the run goes on. Safe to call twice."""
        self._stop_sampling()
        self._display.close()
        self._run = None
        if self._owns_client:
            self._client.close()

    def tick(self) -> None:
        """Take a sample; update the header when it is due, and ask for a picture if none is being drawn."""
        run = self._run
        if run is None:
            return
        self._columns.add_sample(run)
        facts = self._facts_of(run)
        rate = self._recent_rate(facts)
        if facts.elapsed_s >= self._header_due_s or (facts.failed and not self._failure):
            self._header_due_s = facts.elapsed_s + HEADER_S
            self._display.update(self._progress(run, facts, rate))
        if self._display.draws and not self._drawing and facts.elapsed_s >= self._frame_due_s:
            self._drawing = True
            self._frame_due_s = facts.elapsed_s + frame_s(facts.elapsed_s, self._draw_time_s)
            eventlet.spawn(self._draw_frame, samples_of(run, facts, self._columns))

    def _facts_of(self, run: Watched) -> Facts:
        latest = self._columns
        facts = facts_of(run, titled=self._display.titled)
        return replace(facts, p50_s=latest.p50_s[-1], p99_s=latest.p99_s[-1])

    def _progress(self, run: Watched, facts: Facts, rate: float) -> Progress:
        name, in_flight = name_line(run), run.in_flight
        if facts.failed and not self._failure:
            self._failure = failure_html(run.first_failure)
        return Progress(
            name,
            progress_line(name, facts, in_flight, rate),
            header_html(facts, in_flight, rate),
            slider_of(facts),
            self._failure,
        )

    def _sample_repeatedly(self) -> None:
        try:
            while True:
                eventlet.sleep(TICK_S)
                self.tick()
        except Exception as error:
            self._ticker = None  # this green thread, which must not be killed
            self._drop(error)

    def _draw_frame(self, samples: Samples) -> None:
        began_s = time.perf_counter()
        drawing = self._client.draw(samples, LIVE_SCALE)
        self._draw_time_s = time.perf_counter() - began_s
        # If it cannot be drawn, `_drawing` stays: there is no point in asking again.
        if drawing is None or self._run is None:
            return
        self._drawing = False
        try:
            self._display.picture(drawing)
        except Exception as error:
            self._drop(error)

    def _drop(self, error: Exception) -> None:
        """Drop this view, which cannot be shown, with a warning."""
        self._run = None
        try:
            warnings.warn(
                f"greenlab dropped the live view: {type(error).__name__}: {error}; the run goes on without it",
                RuntimeWarning,
                stacklevel=2,
            )
        finally:
            self.close()

    def _last_drawing(self, run: Watched) -> Drawing | None:
        self._client.start()  # another one, if it has died
        return self._client.draw(records_of(run, self._columns), FINAL_SCALE, FINAL_WAIT_S)

    def _recent_rate(self, facts: Facts) -> float:
        self._recent.append((facts.elapsed_s, facts.done))
        then_s, done = self._recent[0]
        return (facts.done - done) / max(facts.elapsed_s - then_s, 1e-6)

    def _stop(self) -> None:
        if (
            self._run is not None and not self._stopping
        ):  # a second click must not disturb the end that the first one began
            self._stopping = True
            self._display.stopping()
            self._run.cancel()

    def _set_concurrency(self, value: int) -> None:
        if self._run is not None and self._run.running and not self._stopping:
            self._columns.add_sample(self._run)  # the last moment of the old limit
            self._run.concurrency = value

    def _stop_sampling(self) -> None:
        ticker, self._ticker = self._ticker, None
        if ticker is not None:
            ticker.kill()


def name_line(run: Watched) -> str:
    """Return a line that names a run, without a number that varies: test tools compare it with a saved one."""
    return f"{run.pool} run: {run.label}"


def frame_s(elapsed_s: float, draw_time_s: float) -> float:
    """Return how long a picture stays at the least, in seconds.

    Args:
        elapsed_s: how long the run has gone on.
        draw_time_s: how long drawing the picture before took.
    """
    busy_s = min(draw_time_s / FRAMES_SHARE, BUSY_FRAME_S)
    return min(max(elapsed_s / FRAMES_A_RUN, busy_s, SHORTEST_FRAME_S), LONGEST_FRAME_S)


def slider_of(facts: Facts) -> Slider:
    """Return the slider of a run: what can be changed while it goes on, and how far.

    More in flight than there are tasks make no difference; where their number is not known, ten times what the run
    began with is enough to see whether more is better. Workers are processes, of which a few a core are enough.
    """
    value, spec = facts.concurrency, spec_of(facts.pool)
    if spec.task_a_worker:
        most = max(4 * (os.cpu_count() or 1), 2 * value)
        return Slider("workers", value, tuple(range(1, most + 1)), continuous=False)
    most = max(SLIDER_FACTOR * value, SLIDER_LEAST)
    most = max(min(most, spec.most or most, facts.total or most), value)
    round_ones = (int(step * 10**power) for power in range(len(str(most))) for step in SLIDER_STEPS)
    steps = {step for step in round_ones if step <= most} | {value, most}
    return Slider("concurrency", value, tuple(sorted(steps)), continuous=True)


def _joined(name: str, summary: str) -> str:
    # The first line is `name_line`, so that a sanitizer can cut off what varies.
    return summary if summary.startswith(name + "\n") else f"{name}\n{summary}"
