"""Races: the same tasks in each pool, who won and how sure that is, what it cost, the picture, the live board."""

from __future__ import annotations

import _thread
import time
from dataclasses import dataclass, field
from typing import Any

import matplotlib.text
import numpy as np
import pytest

import greenlab
from greenlab import UsageError, pools
from greenlab.api import compare
from greenlab.comparing.race import Race
from greenlab.comparing.race_analysis import RaceRun
from greenlab.hub import eventlet
from greenlab.live import POOL_COLORS as COLORS
from greenlab.live import DrawingClient
from greenlab.live.drawing import race_figure
from greenlab.live.drawing.client import Drawing
from greenlab.live.series_snapshot import RaceSnapshot, RunTimes, SeriesRow, snapshot_of
from greenlab.live.series_view import SeriesView
from greenlab.runs import Latency
from greenlab.runs.resource_usage import Usage, UsageMeter

NAN = float("nan")


def double(x: int) -> int:
    time.sleep(0.002)
    return x * 2


def burn(_: int) -> int:
    return sum(i * i for i in range(30_000))


def fail(_: int) -> None:
    raise OSError("gone")


def unsendable() -> Any:
    lock = _thread.allocate_lock()
    return lambda x: (lock.locked(), x)


# -- real races ----------------------------------------------------------------------------------------------


def test_every_pool_runs_the_same_items_and_gives_the_same_results(started: Any) -> None:
    race = greenlab.race(double, iter(range(30)), concurrency=10, pools=("green", "prefork"), workers=2)
    assert ["green", "prefork"] == list(race.runs)
    assert [x * 2 for x in range(30)] == race.runs["green"].results == race.runs["prefork"].results
    assert (10, 2) == (race.runs["green"].concurrency, race.runs["prefork"].concurrency)
    assert race.runs["green"].startup_s < 0.01 < max(one.run.startup_s for one in race.all_runs)


def test_by_default_all_pools_that_run_on_this_machine_race() -> None:
    assert compare.POOLS == tuple(n for n in ("green", "threads", "prefork", "hybrid") if n in pools.NAMES)


def test_pools_warm_up_uncounted_and_alternate_between_repeats(started: Any) -> None:
    calls: list[int] = []
    race = greenlab.race(calls.append, range(25), pools="green,prefork", repeat=3, warm_up=4, workers=1)
    order = [(one.pool[0], one.repeat) for one in race.all_runs]
    assert [("g", 0), ("p", 0), ("g", 1), ("p", 1), ("p", 2), ("g", 2), ("g", 3), ("p", 3)] == order
    assert 4 + 3 * 25 == len(calls)
    assert 3 == len(race.runs_of("green"))
    assert [4, 4] == [one.run.done for one in race.all_runs if not one.counts]


def test_without_a_warm_up_everything_counts(started: Any) -> None:
    calls: list[int] = []
    greenlab.race(calls.append, range(25), pools=["green"], warm_up=0)
    assert 25 == len(calls)


def test_a_pool_that_fails_as_a_whole_has_its_reason_told_and_the_others_race_on(started: Any) -> None:
    race = greenlab.race(unsendable(), range(20), pools=("prefork", "green"), repeat=2)
    assert ["green"] == list(race.runs)
    assert "NotSendableError: cannot send 'lock'" in race.failures["prefork"]
    assert 1 == repr(race).count("failed: NotSendableError")
    assert "green alone finished" in repr(race)


def test_a_pool_in_which_every_task_fails_is_not_the_fastest(started: Any) -> None:
    pid = __import__("os").getpid()

    def only_elsewhere(x: int) -> int:
        if __import__("os").getpid() == pid:
            raise OSError("not here")
        return x

    race = greenlab.race(only_elsewhere, range(20), pools=("green", "prefork"), workers=1)
    assert "every task failed: 20 OSError" == race.failures["green"]
    assert {"OSError": 20} == race.runs["green"].error_types
    assert list(range(20)) == race.runs["prefork"].results


def test_a_race_raises_only_when_every_pool_failed(started: Any) -> None:
    with pytest.raises(
        greenlab.RunError, match="every pool failed: green: every task failed: 5 OSError; prefork: every"
    ):
        greenlab.race(fail, range(5), pools=("green", "prefork"), workers=1)
    with pytest.raises(greenlab.NotSendableError, match="cannot send 'lock'"):
        greenlab.race(unsendable(), range(5), pools=("prefork",), workers=1)


def test_failing_fast_ends_the_race_at_the_first_failure(started: Any) -> None:
    calls: list[int] = []

    def third_fails(x: int) -> None:
        calls.append(x)
        time.sleep(0.001)
        if x == 2:
            raise OSError("gone")

    with pytest.raises(greenlab.RunError, match="fail fast"):
        greenlab.race(third_fails, range(100), pools=("green", "prefork"), concurrency=1, fail_fast=True)
    # Stopped while it warmed up, which is ten tasks; one had begun when it was stopped.
    assert [0, 1, 2] == calls[:3]
    assert len(calls) < 10


def test_the_processor_time_of_this_process_and_of_the_workers_is_counted(started: Any) -> None:
    race = greenlab.race(burn, range(200), pools=("green", "prefork"), workers=1)
    green, prefork = (race.median_run(pool) for pool in ("green", "prefork"))
    assert green is not None
    assert prefork is not None
    assert green.usage is not None
    assert prefork.usage is not None
    # All that either did was to compute the same, here and there.
    assert 0 == green.usage.workers_cpu_s
    assert green.usage.own_cpu_s > 0.5 * prefork.usage.workers_cpu_s > 0
    assert prefork.usage.own_cpu_s < 0.5 * prefork.usage.workers_cpu_s
    assert prefork.usage.memory > 2**20
    assert 0 < green.usage.busy <= 1


def test_how_busy_the_machine_was_stays_within_its_bounds_when_idle_time_steps_back(
    started: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([(10.0, 100.0), (31.0, 120.0)])
    monkeypatch.setattr(UsageMeter, "_machine_times", lambda _self: next(times))
    race = greenlab.race(abs, range(3), pools=("green",), warm_up=0)
    one = race.median_run("green")
    assert one is not None
    assert one.usage is not None
    assert 1.0 == one.usage.busy


def test_the_processor_time_of_a_worker_that_was_replaced_is_counted(started: Any) -> None:
    def die_then_burn(x: int) -> int:
        if x == 0:
            __import__("os")._exit(3)
        return sum(i * i for i in range(1_000_000))

    race = greenlab.race(die_then_burn, range(4), pools=("prefork",), workers=1, warm_up=0)
    one = race.median_run("prefork")
    assert one is not None
    assert one.usage is not None
    assert ["WorkerLostError"] == [type(error).__name__ for error in one.run.errors.values()]
    # Three tasks of some 60 ms each; the meter may look at the new worker when they are all but over.
    assert one.usage.workers_cpu_s >= 0.06


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pools": ()}, "name the pools"),
        ({"pools": ("green", "grn")}, "no pool 'grn'"),
        ({"repeat": 0}, "repeat must be a whole number of 1 or more"),
        ({"warm_up": -1}, "warm_up must be a whole number of 0 or more"),
        ({"concurrency": 0}, "concurrency must be"),
        ({"items": 5}, "an int is not"),
        ({"items": iter([])}, "the items are empty"),
    ],
)
def test_a_mistake_is_one_line_before_anything_runs(options: dict[str, Any], says: str) -> None:
    given = {"items": [1, 2], **options}
    with pytest.raises(UsageError) as caught:
        greenlab.race(pytest.fail, given.pop("items"), **given)
    greenlab.stop()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_items_that_raise_end_the_race_before_it_begins() -> None:
    def items() -> Any:
        yield 1
        raise OSError("gone")

    with pytest.raises(greenlab.SourceError, match="the items ended early: OSError: gone"):
        greenlab.race(pytest.fail, items())


# -- who won -------------------------------------------------------------------------------------------------


@dataclass
class FakeRun:
    """A run that has ended as the test says."""

    pool: str
    throughput: float
    concurrency: int = 10
    tasks: int = 100
    failed: int = 0
    p50_s: float = 0.1
    blocked: list[Any] = field(default_factory=list)
    started_s: float = 50.0
    startup_s: float = 0.0
    running: bool = False

    @property
    def done(self) -> int:
        return self.tasks

    @property
    def elapsed_s(self) -> float:
        return self.tasks / self.throughput

    @property
    def latency(self) -> Latency:
        return Latency(self.p50_s, self.p50_s, 2 * self.p50_s, 2 * self.p50_s)

    @property
    def counts(self) -> dict[str, int]:
        return {"succeeded": self.tasks - self.failed}

    @property
    def error_types(self) -> dict[str, int]:
        return {"OSError": self.failed} if self.failed else {}

    def times(self) -> tuple[list[float], list[float]]:
        ends_s = [50.0 + self.elapsed_s * (i + 1) / self.tasks for i in range(self.tasks)]
        return [end - self.p50_s for end in ends_s], ends_s


def usage(cpu_s: float = 0.1, busy: float = 0.2, workers: float = 0.0, elapsed_s: float = 1.0) -> Usage:
    return Usage(cpu_s, workers, 2**20, busy, 2, elapsed_s)


def raced(rates: dict[str, list[float]], used: Usage | None = None, **run: Any) -> Race:
    """A race that has ended with these throughputs."""
    race = Race(
        [1] * 100, pools=list(rates), repeat=max(map(len, rates.values())), label="x in y", make_run=pytest.fail
    )
    for pool, each in rates.items():
        for at, rate in enumerate(each, 1):
            fake: Any = FakeRun(pool, rate, **run)
            race.all_runs.append(RaceRun(pool, at, fake, used or usage()))
    race.ended = True
    return race


@pytest.mark.parametrize(
    ("rates", "winner", "says"),
    [
        ({"green": [1000], "prefork": [100]}, "green", "green was the fastest: 10 times the throughput of prefork"),
        ({"green": [1000], "prefork": [950]}, None, "no clear winner: green and prefork are within 10%, and one run"),
        ({"green": [90, 100, 110], "prefork": [95, 105, 115]}, None, "prefork and green are within the spread"),
        ({"green": [100, 101, 102], "prefork": [103, 104, 105]}, "prefork", "prefork was the fastest: 1.03 times"),
        # Two repeats that do not overlap are chance once in three.
        ({"green": [100, 101], "prefork": [103, 104]}, None, "within the spread"),
        ({"green": [100, 101], "prefork": [203, 204]}, "prefork", "2.0 times the throughput of green (medians of 2)"),
        (
            {"green": [100, 99, 101], "prefork": [10, 11, 12], "threads": [100, 98, 102]},
            None,
            "no clear winner: green and threads are within the spread; green had 9.1 times the throughput of prefork",
        ),
        ({"green": [], "prefork": [100]}, "prefork", "prefork alone finished"),
    ],
)
def test_the_verdict_is_as_sure_as_the_spread(rates: dict[str, list[float]], winner: str | None, says: str) -> None:
    race = raced(rates)
    assert winner == race.winner
    assert says in race.verdict


def test_the_run_of_a_pool_is_its_median_one() -> None:
    race = raced({"green": [30, 10, 20], "prefork": [1, 4, 3, 2]})
    assert 20 == race.runs["green"].throughput
    assert 2 == race.runs["prefork"].throughput


def test_tasks_that_fail_fast_win_no_race() -> None:
    race = raced({"green": [100], "prefork": [50]})
    runs = race.all_runs
    runs[0] = RaceRun("green", 1, FakeRun("green", 100, failed=80), usage())  # type: ignore[arg-type]
    assert "prefork" == race.winner
    assert "80 OSError" in repr(race)


def test_a_leg_that_was_cut_short_counts_for_nothing_and_stays_readable() -> None:
    race = raced({"green": [100, 100]})
    race.pools = ("green", "prefork", "threads")
    cut: Any = FakeRun("prefork", 5, tasks=40)
    race.all_runs.append(RaceRun("prefork", 1, cut, None, "interrupted"))
    assert cut is race.runs["prefork"]
    assert "prefork  interrupted after 40 of 100 tasks" in repr(race)
    assert "threads  did not run" in repr(race)
    race.repeat = 3
    assert race._interrupt_message() == (
        "the race was interrupted: prefork, threads did not finish; green ran 2 of 3 times; what has ended is in _race"
    )


# -- what was the limit --------------------------------------------------------------------------------------


def test_a_busy_machine_is_named_as_the_limit_and_whose_work_it_was() -> None:
    own = raced({"prefork": [100]}, usage(0.1, busy=0.98, workers=1.8)).warnings
    assert ["the machine was the limit of prefork: its 2 cores were busy, more would help"] == own
    (others,) = raced({"green": [100], "prefork": [50]}, usage(0.1, busy=0.98)).warnings
    assert others.startswith(
        "the machine was the limit, or near it, while green and prefork ran: its 2 cores were busy"
    )
    assert "and the tasks took at most 5% of that time; something else takes the rest" in others
    assert [] == raced({"green": [100]}, usage(busy=0.5)).warnings
    assert [] == raced({"green": [100]}, usage(busy=1.0, elapsed_s=0.05)).warnings


def served(green: FakeRun, other: FakeRun, cpu_s: float = 0.1) -> list[str]:
    race = raced({green.pool: [], other.pool: []})
    runs: list[Any] = [green, other]
    race.all_runs = [RaceRun(run.pool, 1, run, usage(cpu_s)) for run in runs]
    return race.warnings


def test_a_server_is_named_when_pools_plateau_and_tasks_queue() -> None:
    # A hundred in flight or ten: the server gives a hundred a second.
    found = served(FakeRun("green", 100, 100, p50_s=1.0), FakeRun("prefork", 98, 10, p50_s=0.1))
    assert 1 == len(found)
    assert "what the tasks wait for (a server, a lock) may be the limit" in found[0]
    assert "green and prefork reach the same throughput" in found[0]


@pytest.mark.parametrize(
    ("green", "other", "cpu_s"),
    [
        # One is faster: that is no plateau.
        (FakeRun("green", 500, 100, p50_s=0.2), FakeRun("prefork", 98, 10, p50_s=0.1), 0.1),
        # Equal because equally many are in flight, and none of them queues.
        (FakeRun("green", 100, 10, p50_s=0.1), FakeRun("threads", 98, 10, p50_s=0.1), 0.1),
        # Equal because both have used one processor up.
        (FakeRun("green", 100, 100, p50_s=1.0), FakeRun("threads", 98, 10, p50_s=0.1), 0.97),
    ],
)
def test_a_server_is_not_blamed_for_what_the_pools_do(green: FakeRun, other: FakeRun, cpu_s: float) -> None:
    assert [] == served(green, other, cpu_s)


# -- how it shows --------------------------------------------------------------------------------------------


def test_the_report_names_the_race_first_then_who_won_then_a_row_a_pool() -> None:
    race = raced({"green": [1000, 1100, 1200], "prefork": [100, 110, 120]})
    first, second, header, *rows = repr(race).splitlines()
    assert "race: x in y in green, prefork" == first
    assert second.startswith("  green was the fastest")
    assert "pool in flight throughput p50 p90 p99 CPU memory hub blocked errors start-up" == " ".join(header.split())
    assert ["green", "prefork"] == [row.split()[0] for row in rows]
    assert "1,100 tasks/s (1,000 to 1,200)" in rows[0]
    html = race._repr_mimebundle_()["text/html"]
    assert html.startswith('<div class="greenlab-race"><b>race: x in y in green, prefork</b>')
    assert 3 == html.count("<tr>")


def test_what_the_label_and_the_reasons_say_is_escaped() -> None:
    race = raced({"green": [1]})
    race.label, race.pools = "<x>", ("green", "prefork")
    race.failures["prefork"] = "<script>"
    html = race._repr_mimebundle_()["text/html"]
    assert "&lt;x&gt;" in html
    assert "<script>" not in html


def test_the_table_has_a_row_a_run() -> None:
    frame = raced({"green": [10, 20], "prefork": [1, 2]}).to_pandas()
    assert ["green", "green", "prefork", "prefork"] == list(frame["pool"])
    assert {"throughput", "p50_s", "cpu_s", "memory", "busy", "startup_s"} <= set(frame.columns)


def written(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.findobj(matplotlib.text.Text) if text.get_text()]


def parts(axes: Any) -> dict[str, Any]:
    return {client.get_gid(): client for client in axes.get_children() if client.get_gid()}


def test_the_picture_has_a_curve_in_its_pools_colour_and_a_bar_for_each_pool() -> None:
    race = raced({"green": [1000, 900, 950], "prefork": [100, 110, 120]})
    figure = race_figure.draw(snapshot_of(race)).figure  # type: ignore[arg-type]
    curves, bars = figure.axes
    found = parts(curves)
    for pool in ("green", "prefork"):
        assert matplotlib.colors.to_rgba(COLORS[pool]) == found[pool].get_edgecolor()
        assert f"{pool} spread" in found
        assert pool == found[f"{pool} name"].get_text()
    assert [950, 110] == pytest.approx(
        [parts(bars)[f"{pool} whisker"].get_xdata().mean() for pool in race.pools], rel=0.06
    )
    assert "throughput, tasks/s" in written(figure)
    assert "time since each run's start, s" in written(figure)
    assert race.verdict in written(figure)


def test_one_run_a_pool_has_no_band() -> None:
    figure = race_figure.draw(snapshot_of(raced({"green": [100], "prefork": [50]}))).figure  # type: ignore[arg-type]
    assert not any("spread" in gid for gid in parts(figure.axes[0]))


@pytest.mark.parametrize("weight", [1, 4])
def test_the_area_under_a_curve_is_the_number_of_tasks(weight: int) -> None:
    ends_s = list(np.linspace(0.01, 2.0, 300)) + [NAN] * 5
    curve = race_figure.curve_of((RunTimes(ends_s, weight, 2.0, 0.05),))
    assert curve is not None
    assert 300 * weight == pytest.approx(float(np.sum(curve.middle * np.diff(curve.edges_s))))


def test_the_band_lies_between_the_lowest_and_the_highest_run() -> None:
    slow, fast = (RunTimes(list(np.linspace(0.01, end_s, 200)), 1, end_s, 0.01) for end_s in (2.0, 1.0))
    curve = race_figure.curve_of((slow, fast, slow))
    assert curve is not None
    assert np.all(curve.low <= curve.middle)
    assert np.all(curve.middle <= curve.high)
    assert 200 == pytest.approx(curve.high[0], rel=0.1)
    assert 100 == pytest.approx(curve.middle[0], rel=0.1)
    assert 0 == curve.low[-1]


def test_a_curve_does_not_show_the_rhythm_of_tasks_that_start_together() -> None:
    ends_s = [0.1 * (1 + i // 50) for i in range(1000)]
    curve = race_figure.curve_of((RunTimes(ends_s, 1, 2.0, 0.1),))
    assert curve is not None
    assert np.all(curve.middle[1:-1] > 0)


@pytest.mark.parametrize(
    "lanes",
    [
        (SeriesRow("green", (), None, (), "", False),),
        (SeriesRow("green", (), RunTimes([0.1, 0.2], 1, 0.3, NAN), (), "runs now", False),),
        (
            SeriesRow("green", (), None, (), "failed: " + "x" * 400, True),
            SeriesRow("prefork", (), None, (), "not run", False),
        ),
        tuple(
            SeriesRow(p, (RunTimes([0.5, 1], 1, 1.0, 0.1),), None, (2.0,), "p50 1 ms, p99 2 ms", False) for p in COLORS
        ),
    ],
)  # fmt: skip
def test_whatever_a_race_has_so_far_is_drawn_and_nothing_written_leaves_the_card(lanes: tuple[SeriesRow, ...]) -> None:
    lines = ((("a long sentence about who won " * 8), False), ("▲ and a warning " * 12, True))
    figure = race_figure.draw(RaceSnapshot("url in " + "u" * 80, "so far", lines, lanes)).figure
    page = figure.bbox
    boxes = []
    for text in figure.findobj(matplotlib.text.Text):
        if text.get_text() and text.get_visible():
            box = text.get_window_extent()
            assert page.x0 <= box.x0, text.get_text()
            assert box.x1 <= page.x1, text.get_text()
            if (text.get_gid() or "").endswith(" name"):
                boxes.append(box)
    for at, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[at + 1 :])


def test_only_a_sample_of_very_many_times_is_taken() -> None:
    race = raced({"green": [100]}, tasks=50_000)
    source: Any = snapshot_of(race)
    (trace,) = source.rows[0].runs
    assert len(trace.ends_s) <= 20_000
    assert 50_000 == pytest.approx(len(trace.ends_s) * trace.weight, rel=0.01)


# -- the live board ------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a board displays, in order."""
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda bundle, **how: kept.append({"update": how["update"], **bundle})
    )
    monkeypatch.setattr("greenlab.live.series_view.FIRST_S", 0.05)
    monkeypatch.setattr("greenlab.live.series_view.EVERY_S", 0.05)
    return kept


def test_a_board_is_replaced_in_place_while_pools_run_and_leaves_the_report(
    started: Any, shown: list[dict[str, Any]]
) -> None:
    def task(x: int) -> None:
        time.sleep(0.05)
        end_s = time.monotonic() + 60
        while x == 19 and len(shown) < 2 and time.monotonic() < end_s:
            time.sleep(0.05)  # on a busy machine the process takes its time to start

    with DrawingClient() as client:
        race = compare.prepare_race(task, range(20), pools=("green",), concurrency=2, live=False)
        race._observers._observers.append(SeriesView(client))
        race.run()
    assert {"update": False, "text/plain": "race: task in green"} == shown[0]
    assert all(each["update"] and each["image/png"].startswith(b"\x89PNG") for each in shown[1:])
    assert len(shown) > 2
    assert repr(race) == shown[-1]["text/plain"]
    assert "race: task in green\ngreen" == shown[-2]["text/plain"]


def test_a_frame_that_comes_after_the_end_does_not_replace_the_last_picture(
    started: Any, shown: list[dict[str, Any]]
) -> None:
    ended, late = eventlet.event.Event(), Drawing(b"late", 1, 1)

    class SlowArtist:
        def start(self) -> None:
            pass

        def draw(self, _source: Any, _scale: float, timeout_s: float | None = None) -> Drawing:
            if timeout_s is not None:
                return Drawing(b"last", 1, 1)
            ended.wait()
            return late

    slow: Any = SlowArtist()
    board = SeriesView(slow)
    race = compare.prepare_race(lambda _: time.sleep(0.1), range(2), pools=("green",), warm_up=0, live=False)
    race._observers._observers.append(board)
    race.run()
    ended.send(None)
    eventlet.sleep(0.15)
    assert [None, b"last"] == [each.get("image/png") for each in shown]


def test_a_board_that_breaks_is_dropped_with_one_warning_and_the_race_goes_on(
    started: Any, shown: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("IPython.display.display", lambda *_args, **_how: 1 / 0)
    with DrawingClient() as client:
        race = compare.prepare_race(abs, range(5), pools=("green",), live=False)
        race._observers._observers.append(SeriesView(client))
        with pytest.warns(RuntimeWarning, match="dropped the observer SeriesView") as caught:
            race.run()
    assert 1 == len(caught)
    assert list(range(5)) == race.runs["green"].results


def test_a_drawing_process_that_dies_costs_the_live_picture_and_not_the_last(
    started: Any, shown: list[dict[str, Any]]
) -> None:
    with DrawingClient() as client:
        race = compare.prepare_race(lambda _: time.sleep(0.02), range(40), pools=("green",), concurrency=2, live=False)
        board = SeriesView(client)
        race._observers._observers.append(board)
        board._client.draw = lambda *_: None
        race.run()
    assert [False, True] == [each["update"] for each in shown]
    assert "image/png" in shown[-1]
