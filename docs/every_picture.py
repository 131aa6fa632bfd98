"""Every picture in every state that it may be in, drawn from fixed figures, and the page that shows them."""

from __future__ import annotations

import html
import math
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from fixed_runs import FixedRun, FixedTimeline, lane, latencies, queued, race, sweep, waits_and_blocks

from greenlab.comparing.race_analysis import RaceRun
from greenlab.lab import predict
from greenlab.live.drawing import curves, run_figure, timeline_figure, waterfall
from greenlab.live.series_snapshot import snapshot_of
from greenlab.live.snapshot import facts_of, records_of, samples_of
from greenlab.live.words import header_html
from greenlab.text.theme import INVERTED, TURNED_DEG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenlab.comparing.race import Race
    from greenlab.live.drawing.style import CardFigure
    from greenlab.live.series_snapshot import RaceSnapshot, SweepSnapshot

BLOCK = "line 12 of Cell In[3], in parse: CPU, the cell's task"
CONCURRENCIES = (1, 4, 12, 25, 50, 100, 200)


class State(NamedTuple):
    """One picture.

    Attributes:
        name: that of its file.
        words: what is to be seen.
        make: makes its figure.
        above: HTML that stands above it, as in a live view.
    """

    name: str
    words: str
    make: Callable[[], CardFigure]
    above: str = ""


# -- what the pictures are of ------------------------------------------------------------------------------------


@cache
def feeds() -> FixedRun:
    """Return 2,000 tasks that take as long as feeds of the open web; some fail, and one holds the hub."""
    return queued(
        latencies(2_000, 0.15, seed=4),
        150,
        blocks=[(1.3, 1.55, BLOCK)],
        fails=dict.fromkeys(range(59, 2_000, 60), "ConnectionError"),
        label="url in urls",
    )


@cache
def few() -> FixedRun:
    """Return a dozen tasks of which two fail."""
    took_s = [0.05 + 0.03 * (7 * number % 5) for number in range(12)]
    names = [f"{number}  …feeds/{number}" for number in range(12)]
    return queued(took_s, 4, fails={4: "TimeoutError", 10: "TimeoutError"}, names=names, label="url in urls[:12]")


def cut() -> FixedRun:
    """Return the same, stopped while four of them ran."""
    return few().at(0.21, stopped=True)


def empty(until_s: float = 2.0, *, stopped: bool = True) -> FixedRun:
    """Return a run in which nothing has ended."""
    return queued([60.0] * 300, 100, label="url in urls").at(until_s, stopped=stopped)


def unstarted() -> FixedRun:
    """Return a run that could not begin: what its function uses cannot be sent to a process."""
    why = "cannot send 'lock', used by the task, to a worker process: make it inside the task, or use -p green"
    about: dict[str, Any] = {"pool": "prefork", "concurrency": 2, "total": 300, "stopped": True, "until_s": 0.0008}
    return FixedRun([], [], label="i", refused=why, **about)


@cache
def racing() -> dict[str, list[FixedRun]]:
    """Return three runs in each of four pools: a task waits for 20 ms, and is in a C library for 5 ms."""
    about = {"label": "wait_and_block"}
    return {
        "green": [waits_and_blocks(200, 10, 1, 0.02, 0.005, seed=n, pool="green", **about) for n in range(3)],
        "threads": [waits_and_blocks(200, 10, 10, 0.02, 0.005, seed=n, pool="threads", **about) for n in range(3, 6)],
        "prefork": [waits_and_blocks(200, 2, 2, 0.02, 0.005, seed=n, pool="prefork", **about) for n in range(6, 9)],
        "hybrid": [waits_and_blocks(200, 10, 2, 0.02, 0.005, seed=n, pool="hybrid", **about) for n in range(9, 12)],
    }


def race_of(*pools: str, **about: Any) -> RaceSnapshot:
    """Return the race of some of these pools."""
    return _race_snapshot(race({pool: racing()[pool] for pool in pools}, label="wait_and_block", **about))


def _race_snapshot(made: Race) -> RaceSnapshot:
    return cast("RaceSnapshot", snapshot_of(made))


def race_going_on() -> RaceSnapshot:
    """Return a race whose first pool has run, and whose second runs."""
    first, second = racing()["green"][0], racing()["threads"][0]
    made = race({"green": [first], "threads": [], "prefork": []}, label="wait_and_block", ended=False)
    made.repeat, made.current, made.stage = 1, second.at(0.25), "threads"  # type: ignore[assignment]
    return _race_snapshot(made)


def race_far_apart() -> RaceSnapshot:
    """Return a race of waits alone, in which one pool is far behind, and another could not run."""
    waiting = {
        pool: [waits_and_blocks(2_000, places, places, 0.1, 0.0005, seed=seed, pool=pool, label="url in urls")]
        for seed, (pool, places) in enumerate({"green": 500, "threads": 500, "prefork": 2}.items())
    }
    made = race({**waiting, "celery": []}, label="url in urls", failures={"celery": "no worker answers"})
    return _race_snapshot(made)


def race_stopped() -> RaceSnapshot:
    """Return a race that was interrupted in its second pool."""
    made = race({"green": racing()["green"][:1], "threads": [], "prefork": []}, label="wait_and_block")
    cut: Any = racing()["threads"][0].at(0.25, stopped=True)
    made.all_runs.append(RaceRun("threads", 1, cut, None, "interrupted"))
    made.interrupted = True
    return _race_snapshot(made)


def race_failed() -> RaceSnapshot:
    """Return a race in which every task failed in every pool."""
    why = "every task failed: 40 ZeroDivisionError"
    made = race({"green": [], "threads": []}, label="fetch", failures=dict.fromkeys(("green", "threads"), why))
    return _race_snapshot(made)


def sweep_stopped() -> SweepSnapshot:
    """Return a sweep that was interrupted at its third concurrency."""
    made = sweep(CONCURRENCIES, 2, servers=40, seconds=2.0, label="ask")
    made.ended = made.interrupted = True
    return cast("SweepSnapshot", snapshot_of(made))


def sweep_of(tried: int, seconds: float = 2.0) -> SweepSnapshot:
    """Return a sweep over a server with forty places, of which so many points have been tried."""
    made = sweep(CONCURRENCIES, tried, servers=40, seconds=seconds, label="ask")
    if not made.ended:
        made.stage = made._stage_at(made.concurrencies[tried])
    return cast("SweepSnapshot", snapshot_of(made))


def fetching() -> FixedTimeline:
    """Return four green threads that fetch and share a lock, and one that parses what they have fetched."""
    lanes = [lane("Task 1 (parse)", (0.055, "queue"), *[(0.012, "held"), (0.018, "queue")] * 3, (0.02, "held"))]
    for number in range(4):
        waited = 0.02 + 0.01 * number
        lanes.append(
            lane(
                f"Task {number + 2} (fetch)",
                (0.001, "held"),
                (waited, "socket"),
                (0.001, "held"),
                *([(0.03 * number - 0.01 * number, "lock"), (0.001, "held")] if number else []),
                (0.03, "sleep"),
                (0.001, "held"),
            )
        )
    return FixedTimeline(lanes, 0.17)


def blocking() -> FixedTimeline:
    """Return forty tasks that sleep, of which one computes meanwhile."""
    lanes = [
        lane(f"task {number}", (0.0002 * number, ""), (0.0002, "held"), (0.16, "sleep"), (0.0002, "held"))
        for number in range(40)
    ]
    lanes[7] = lane("task 7", (0.0014, ""), (0.0002, "held"), (0.0384, "sleep"), (0.12, "held"))
    return FixedTimeline(lanes, 0.17, [(0.04, 0.16)])


# -- the pictures ------------------------------------------------------------------------------------------------


def ended(run: FixedRun, scale: float = 2.0) -> CardFigure:
    """Draw a run as its last picture."""
    source = records_of(run, run.columns())  # type: ignore[arg-type]  # a view sets its concurrency
    return waterfall.draw(source, scale) if source.has_bars else run_figure.draw(curves.picture_of(source), scale)


def live(run: FixedRun, scale: float = 2.0) -> CardFigure:
    """Draw a run as a live view does."""
    source = samples_of(run, facts_of(run, titled=False), run.columns())  # type: ignore[arg-type]
    return waterfall.draw(source, scale) if source.has_bars else run_figure.draw(curves.picture_of(source), scale)


def header(run: FixedRun) -> str:
    """Return what a live view writes above its picture."""
    columns = run.columns()
    rate = (columns.done[-1] - columns.done[max(-9, -len(columns.done))]) / min(2.0, run.elapsed_s)
    facts = facts_of(run, titled=False)  # type: ignore[arg-type]
    latest = replace(facts, p50_s=columns.p50_s[-1], p99_s=columns.p99_s[-1])
    return header_html(latest, run.in_flight, rate)


def raced(source: RaceSnapshot) -> CardFigure:
    """Draw a race."""
    from greenlab.live.drawing import race_figure

    return race_figure.draw(source).figure


def swept(source: SweepSnapshot) -> CardFigure:
    """Draw a sweep."""
    from greenlab.live.drawing import sweep_figure

    return sweep_figure.draw(source).figure


def every_fails() -> FixedRun:
    """Return a run in which every task fails, more and more slowly."""
    took_s = [0.02 + 0.0002 * number for number in range(400)]
    return queued(took_s, 20, fails=dict.fromkeys(range(400), "ConnectionRefusedError"), label="url in urls")


def limited() -> FixedRun:
    """Return a run whose rate keeps what is in flight far below its limit."""
    starts_s = [0.02 * number for number in range(200)]
    ends_s = [start_s + 0.05 + 0.005 * (number % 3) for number, start_s in enumerate(starts_s)]
    return FixedRun(starts_s, ends_s, label="url in urls", total=200)


def huge() -> FixedRun:
    """Return a run of half an hour."""
    return queued(latencies(100_000, 80.0, seed=2, spread=0.3), 5_000, label="row in table", pool="threads")


def turned() -> FixedRun:
    """Return a run whose concurrency is turned from 50 to 200 while it goes on."""
    return queued(latencies(3_000, 0.15, seed=8, spread=0.3), 50, more=(4.0, 200), label="url in urls")


def long_names() -> FixedRun:
    """Return a run with a label, failures and a block that are too long for their lines."""
    return queued(
        [0.1 + 0.001 * number for number in range(120)],
        10,
        blocks=[
            (0.5, 0.9, "line 118 of a_module_with_quite_a_long_name.py, in a_function_with_a_long_name_too: CPU, " * 2)
        ],
        fails={n: f"{'Very' * (n % 5)}LongNamedProtocolViolationError" for n in range(3, 120, 7)},
        label="customer, order, position in joined(customers, orders, positions, by='number')",
        pool="hybrid",
    )


def states() -> dict[str, list[State]]:
    """Return all pictures, by the headings that they stand below."""
    return {
        "A run": [
            State("run", "It has ended; some tasks failed, and one blocked the hub.", lambda: ended(feeds())),
            _live("run-running", "It goes on: no title, for a header stands above it.", feeds().at(2.4)),
            _live("run-waiting", "It goes on, and nothing has ended yet.", empty(0.9, stopped=False)),
            State("run-stopped", "It was stopped.", lambda: ended(feeds().at(1.2, stopped=True))),
            State("run-failed", "Every task failed.", lambda: ended(every_fails())),
            State("run-empty", "It was stopped before anything had ended.", lambda: ended(empty())),
            State("run-unstarted", "It could not begin.", lambda: ended(unstarted())),
            State("run-turned", "Its concurrency was turned from 50 to 200 while it went on.", lambda: ended(turned())),
            State("run-limited", "Its rate is limited: few are in flight.", lambda: ended(limited())),
            State("run-huge", "A hundred thousand tasks, in half an hour.", lambda: ended(huge())),
            State("run-long", "What is written is too long for its line.", lambda: ended(long_names())),
        ],
        "A run of few tasks": [
            State("few", "It has ended; two tasks failed.", lambda: ended(few())),
            _live("few-running", "It goes on: its rows are there from the start.", few().at(0.21)),
            State("few-stopped", "It was stopped: what was cut short is hatched.", lambda: ended(cut())),
            State("few-one", "One task.", lambda: ended(queued([0.3], 1, label="1 call", names=["task 0"]))),
        ],
        "A race": [
            State("race", "It has ended; each pool ran three times.", lambda: raced(race_of(*racing()))),
            State("race-running", "It goes on: the second pool runs.", lambda: raced(race_going_on())),
            State("race-far", "One pool is far behind, one could not run.", lambda: raced(race_far_apart())),
            State("race-failed", "Every pool failed.", lambda: raced(race_failed())),
            State("race-stopped", "It was interrupted in its second pool.", lambda: raced(race_stopped())),
        ],
        "A sweep": [
            State("sweep", "It has ended.", lambda: swept(sweep_of(7))),
            State("sweep-running", "It goes on: three of seven have been tried.", lambda: swept(sweep_of(3))),
            State("sweep-stopped", "It was interrupted at its third point.", lambda: swept(sweep_stopped())),
            State("sweep-thin", "Too few tasks have ended for an advice.", lambda: swept(sweep_of(7, seconds=0.5))),
        ],
        "A trace": [
            State("timeline", "Four fetch, share a lock, and one parses.", lambda: timeline_figure.draw(fetching())),
            State("timeline-blocked", "One of forty tasks blocks the hub.", lambda: timeline_figure.draw(blocking())),
        ],
    }


def _live(name: str, words: str, run: FixedRun) -> State:
    return State(name, words, lambda: live(run), header(run))


# -- the page ----------------------------------------------------------------------------------------------------

PAGE = """\
# Every picture

<!-- made by docs/draw_pictures.py: change docs/every_picture.py, and run it again -->

Each picture that greenlab draws, in every state that it may be in. `python docs/draw_pictures.py` draws them from
figures that are worked out, not measured, so that they are the same everywhere, and a test compares what is on them.
[Reading the pictures](pictures.md) says what they mean.
"""
NARROW, DARK = ("run", "few", "race", "sweep", "timeline"), ("run", "few-running", "race", "sweep", "timeline-blocked")


def page(alts: dict[str, str]) -> str:
    """Return the page, in Markdown.

    Args:
        alts: what each picture shows, in words.
    """
    return "\n".join([PAGE, *_sections(alts)])


def _sections(alts: dict[str, str]) -> Iterator[str]:
    for heading, pictures in states().items():
        yield f"## {heading}\n"
        for state in pictures:
            yield f"**{state.words}**\n"
            if state.above:
                yield f'<div style="max-width:760px">{state.above}</div>\n'
            yield f'{_image(state.name, alts)}{{ width="760" }}\n'
    yield "## A prediction\n"
    for words, guess in (("The guess was off.", 400.0), ("No guess was made.", None)):
        made = predict("How many tasks/s will 100 in flight reach?", unit="tasks/s", guess=guess).compare(1_240.0)
        yield f"**{words}**\n\n{made._repr_mimebundle_()['text/html']}\n"
    yield "## On a dark page\n\nWhat is light becomes dark, and keeps its hue.\n"
    turn = f"filter:invert({INVERTED}) hue-rotate({TURNED_DEG}deg)"
    for name in DARK:
        image = f'<img src="images/{name}.png" alt="{html.escape(alts[name])}" width="640" style="{turn}">'
        yield f'<p class="dark-page">{image}</p>\n'
    yield "## On a narrow page\n\nAt 600 pixels, and at the width of a phone.\n"
    for name in NARROW:
        yield f'{_image(name, alts)}{{ width="600" }}\n'
        yield f'{_image(name, alts)}{{ width="360" }}\n'


def _image(name: str, alts: dict[str, str]) -> str:
    words = "".join(f"\\{char}" if char in "[]\\*_`<" else char for char in alts[name])
    return f"![{words}](images/{name}.png)"


# -- what is on a picture ----------------------------------------------------------------------------------------


def content(figure: CardFigure) -> dict[str, Any]:
    """Return what is on a picture: its size, its words, and each series' count, least and highest value, and mean."""
    from greenlab.live.drawing.style import size_px

    words = [text.get_text() for text in texts(figure)]
    series: dict[str, list[float]] = {}
    for axes in figure.axes:
        for artist in axes.get_children():
            values = _values(artist)
            if artist.get_gid() and values:
                key = f"{axes.get_label()}: {artist.get_gid()}"
                series.setdefault(key, [])
                series[key] = [*series[key], len(values), min(values), max(values), math.fsum(values) / len(values)]
    return {
        "size": list(size_px(figure)),
        "words": words,
        "series": {key: [float(f"{value:.4g}") for value in values] for key, values in series.items()},
    }


def texts(figure: CardFigure) -> list[Any]:
    """Draw a picture, and return the texts that can be read on it; a figure has others, of ticks off its axes."""
    from unittest.mock import patch

    from matplotlib.text import Text

    drawn: list[Any] = []
    draw = Text.draw

    def noted(text: Any, renderer: Any) -> None:
        drawn.append(text)
        draw(text, renderer)

    with patch.object(Text, "draw", noted):
        figure.canvas.draw()
    return [text for text in drawn if text.get_text().strip() and text.get_visible()]


def _values(artist: Any) -> list[float]:
    found: Any
    from matplotlib.collections import PolyCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle, StepPatch

    if isinstance(artist, StepPatch):
        found = artist.get_data()[0]
    elif isinstance(artist, Line2D):
        found = artist.get_xydata().ravel()  # type: ignore[union-attr]
    elif isinstance(artist, Rectangle):
        found = [artist.get_x(), artist.get_width(), artist.get_y(), artist.get_height()]
    elif isinstance(artist, PolyCollection):
        vertices: list[Any] = [path.vertices for path in artist.get_paths()]
        found = [value for each in vertices for value in each.ravel()]
    else:
        found = []
    return [float(value) for value in found if math.isfinite(value)]
