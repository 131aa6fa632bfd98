"""How a race shows: its report, its table, its live view."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
from race_doubles import FakeRun, raced, usage

from greenlab.api import compare
from greenlab.comparing import race_report
from greenlab.comparing.race_analysis import RaceRun
from greenlab.hub import eventlet
from greenlab.live import DrawingClient
from greenlab.live.drawing.client import Drawing
from greenlab.live.series_view import SeriesView
from greenlab.runs.resource_usage import Usage


@dataclass(frozen=True)
class FakeBlock:
    """A block of the hub."""

    duration_s: float


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


def test_a_row_has_every_figure_of_the_median_run_and_the_spread_beside_it() -> None:
    race = raced({"green": [90, 100, 120], "prefork": [5]})
    median: Any = race.all_runs[1].run
    median.failed, median.blocked, median.startup_s = 3, [FakeBlock(0.1), FakeBlock(0.25)], 0.5
    race.all_runs[1] = RaceRun("green", 2, median, Usage(0.2, 0.05, 7 * 2**20, 0.2, 2, 1.0))
    # The start-up and the memory are the highest of all runs of the pool, warm-ups too.
    warm: Any = FakeRun("green", 100, startup_s=0.75)
    race.all_runs.insert(0, RaceRun("green", 0, warm, Usage(0.0, 0.0, 9 * 2**20, 0.2, 2, 1.0)))
    race.all_runs[-1] = RaceRun("prefork", 1, race.all_runs[-1].run, None)
    assert [
        ["green", "10", "97 tasks/s (90 to 120)", "100 ms", "100 ms", "200 ms", "250 ms", "9 MiB", "2: 350 ms",
         "3 OSError", "750 ms"],
        ["prefork", "10", "5 tasks/s (5 to 5)", "100 ms", "100 ms", "200 ms", "", "0 MiB", "0", "0", "0"],
    ] == race_report.rows(race)  # fmt: skip
    race.repeat = 2
    assert "97 tasks/s (90 to 120)" == race_report.rows(race)[0][2]
    race.repeat = 1
    assert "97 tasks/s" == race_report.rows(race)[0][2]
    # What is less than a millisecond is no start-up.
    warm.startup_s, median.startup_s = 0.001, 0.0
    assert "1 ms" == race_report.rows(race)[0][-1]
    warm.startup_s = 0.0009
    assert "0" == race_report.rows(race)[0][-1]
    assert 0.0 == race_report.startup_s(race, "hybrid")


def test_the_report_ends_with_the_warnings_and_below_a_picture_has_only_the_table() -> None:
    race = raced({"prefork": [100]}, usage(0.1, busy=0.98, workers=1.8))
    (warning,) = race.warnings
    assert repr(race).endswith(f"\n  warning: {warning}")
    whole, table = race._html(below_picture=False), race._html(below_picture=True)
    assert f"<br>{race.verdict}<br>⚠ {warning}<table" in whole
    assert "<b>race: x in y in prefork</b><table" in table


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
    assert {
        "pool": "green", "repeat": 1, "counts": True, "concurrency": 10, "tasks": 100, "failed": 0, "elapsed_s": 10.0,
        "throughput": 10.0, "p50_s": 0.1, "p90_s": 0.1, "p99_s": 0.2, "cpu_s": 0.1, "memory": 2**20, "busy": 0.2,
        "blocked_s": 0, "startup_s": 0.0,
    } == frame.iloc[0].to_dict()  # fmt: skip


def test_a_run_that_never_started_used_what_nobody_knows() -> None:
    race = raced({"green": [10]})
    race.all_runs = [RaceRun("green", 0, race.all_runs[0].run, None)]
    row = race.to_pandas().iloc[0]
    assert (False, 0) == (row["counts"], row["memory"])
    assert row["cpu_s"] != row["cpu_s"]
    assert row["busy"] != row["busy"]


# -- the live view ------------------------------------------------------------------------------------------


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a live view displays, in order."""
    kept: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "IPython.display.display", lambda bundle, **how: kept.append({"update": how["update"], **bundle})
    )
    monkeypatch.setattr("greenlab.live.series_view.FIRST_S", 0.05)
    monkeypatch.setattr("greenlab.live.series_view.EVERY_S", 0.05)
    return kept


def test_a_live_view_is_replaced_in_place_while_pools_run_and_leaves_the_report(
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
    view = SeriesView(slow)
    race = compare.prepare_race(lambda _: time.sleep(0.1), range(2), pools=("green",), warm_up=0, live=False)
    race._observers._observers.append(view)
    race.run()
    ended.send(None)
    eventlet.sleep(0.15)
    assert [None, b"last"] == [each.get("image/png") for each in shown]


def test_a_live_view_that_breaks_is_dropped_with_one_warning_and_the_race_goes_on(
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
        view = SeriesView(client)
        race._observers._observers.append(view)
        view._client.draw = lambda *_: None
        race.run()
    assert [False, True] == [each["update"] for each in shown]
    assert "image/png" in shown[-1]
