"""`%%greenrace` and `%%greensweep` in a real kernel, as a reader of notebooks meets them."""

from __future__ import annotations

import base64
import inspect
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

import greenlab
from greenlab import UsageError, pools
from greenlab.magics import advise, compare, options

if TYPE_CHECKING:
    import argparse

    from kernel import Kernel

    from greenlab.hub import GuestHub

PARSERS = compare.make_parsers()


# -- the line ------------------------------------------------------------------------------------------------


def test_a_race_takes_the_options_of_a_run_and_several_pools() -> None:
    line = "-p green,prefork -c 7 -w 3 --repeat 5 --warm-up 0 --timeout 2 --retries 1 -x --no-live -o r x in y"
    asked = options.parse(PARSERS["greenrace"], line).options
    assert (("green", "prefork"), 7, 3, 5, 0, 2.0, 1, True, True, "r") == (
        asked.pools, asked.concurrency, asked.workers, asked.repeat, asked.warm_up, asked.timeout, asked.retries,
        asked.fail_fast, asked.no_live, asked.out,
    )  # fmt: skip


def test_a_sweep_takes_several_concurrencies() -> None:
    asked = options.parse(PARSERS["greensweep"], "-c 1,10,100 -p prefork --seconds 1.5 x in y").options
    assert ([1, 10, 100], "prefork", 1.5) == (asked.concurrency, asked.pool, asked.seconds)


@pytest.mark.parametrize(
    ("function", "parser", "of_cells"),
    [
        (greenlab.run, options.make_parser("greenrun"), {"out", "detach"}),
        (greenlab.race, PARSERS["greenrace"], {"out"}),
        (greenlab.sweep, PARSERS["greensweep"], {"out"}),
        (greenlab.advise, advise.make_parser(), {"out"}),
    ],
)
def test_a_magic_has_a_flag_for_each_argument_of_its_function_and_no_other(
    function: Any, parser: argparse.ArgumentParser, of_cells: set[str]
) -> None:
    flags = {{"no_live": "live"}.get(action.dest, action.dest) for action in parser._actions} - of_cells
    # The cell is the function, `x in items` says the items, and both are the label.
    assert set(inspect.signature(function).parameters) - {"func", "items", "label"} == flags


def test_a_race_and_a_sweep_replace_workers_as_a_run_does(started: GuestHub) -> None:
    race = greenlab.race(_pid, range(4), pools=("prefork",), workers=1, warm_up=0, max_tasks=1, live=False)
    assert 4 == len(set(race.runs["prefork"].results))
    with pytest.raises(UsageError, match="the green pool does not replace workers"):
        greenlab.sweep(_pid, range(4), max_memory=100.0)


@pytest.mark.parametrize(
    ("magic", "line", "says"),
    [
        ("greenrace", "-p green,grn x in y", "no pool 'grn'"),
        ("greenrace", "-p , x in y", "takes names of pools, such as green"),
        ("greenrace", "--repeat 0 x in y", "1 or more"),
        ("greenrace", "--detach x in y", "no option --detach"),
        ("greenrace", "", "say what to run over: %%greenrace x in items"),
        ("greensweep", "-c 1,x x in y", "whole numbers with commas between them, such as 1,10,100"),
        ("greensweep", "-c 0 x in y", "whole numbers with commas"),
        ("greensweep", "--rate 5 x in y", "no option --rate"),
        ("greensweep", "--seconds 0 x in y", "greater than 0"),
        ("greensweep", "x in y -c 1,2", "options come first"),
    ],
)
def test_a_mistake_in_the_line_is_one_line_that_says_what_to_write(magic: str, line: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as caught:
        options.parse(PARSERS[magic], line)
    assert "\n" not in str(caught.value)


# -- the cell ------------------------------------------------------------------------------------------------

COUNTS_PICTURES = """
import os, time
kernel, updates, shows = os.getpid(), [], get_ipython().display_pub
def publish(*bundle, update=False, publish=shows.publish, updates=updates, **others):
    updates.append(update)
    publish(*bundle, update=update, **others)
shows.publish = publish
def wait_for_pictures():
    while os.getpid() == kernel and sum(updates) < 2:
        time.sleep(0.01)
"""
"""The tasks of the kernel last until two pictures were shown, however long drawing takes."""


def test_a_race_is_shown_live_in_one_place_and_leaves_its_picture_and_report(kernel: Kernel) -> None:
    kernel.run(COUNTS_PICTURES)
    cell = kernel.run("%%greenrace -p green,prefork -w 2 -c 10 -o r x in range(60)\nwait_for_pictures()\nx")
    kernel.run("shows.publish = publish.__kwdefaults__['publish']")
    assert cell.error is None
    assert [{"text/plain": "race: x in range(60) in green, prefork"}] == [
        d for d in cell.displays if "race" in d["text/plain"]
    ]
    assert len(cell.updates) > 1
    last = cell.updates[-1]
    assert base64.b64decode(last["image/png"]).startswith(b"\x89PNG")
    assert cell.value == last["text/plain"]
    assert "green was the fastest" in cell.value
    assert '<div class="greenlab-race">' in cell.result["text/html"]
    assert "[True, True]" == kernel.run("[list(range(60)) == r.runs[p].results for p in ('green', 'prefork')]").value
    assert "True" == kernel.run("r is _race").value


def test_a_sweep_leaves_its_picture_and_its_advice(kernel: Kernel) -> None:
    kernel.run("from greenlab.hub import eventlet\nserver = eventlet.semaphore.Semaphore(8)")
    cell = kernel.run(
        "%%greensweep -c 1,4,8,16,32 --seconds 0.8 -o s x in range(9)\nimport time\nwith server:\n    time.sleep(0.01)"
    )
    assert cell.error is None
    assert "sweep: x in range(9) in green" == cell.displays[0]["text/plain"]
    assert cell.updates[-1]["image/png"].startswith("iVBOR")
    assert "advised: -c" in cell.value
    assert "True" == kernel.run("s.interval[0] <= s.concurrency <= s.interval[1] and s is _sweep").value


def test_without_a_live_view_there_is_the_report_alone(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrace --no-live -p green -n 3\ni")
    assert [] == cell.displays == cell.updates
    assert "green alone finished" in cell.value


def test_an_interrupted_race_says_in_one_line_what_is_missing_and_keeps_the_rest(kernel: Kernel) -> None:
    kernel.run("import os\nmain = os.getpid()")
    # The sixth task in the worker process interrupts the cell, as a front end does.
    cell = kernel.run(
        "%%greenrace -p green,prefork -w 1 -c 40 --warm-up 1 -n 40\nimport os, signal, time\n"
        "if i == 5 and os.getpid() != main:\n    os.kill(main, signal.SIGINT)\ntime.sleep(0.1)\ni"
    )
    assert "SeriesInterrupted" == cell.ename
    assert (
        "KeyboardInterrupt: the race was interrupted: prefork did not finish; what has ended is in _race" == cell.error
    )
    assert "prefork  interrupted after" in cell.updates[-1]["text/plain"]
    assert "True" == kernel.run("_race.runs['green'].results == list(range(40))").value
    assert "True" == kernel.run("0 < _race.runs['prefork'].done < 40").value


def test_an_interrupted_sweep_keeps_the_points_that_it_has(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%greensweep --no-live -c 1,2,3,4 --warm-up 1 --seconds 0.2 -n 40\nimport os, signal, time\n"
        "if _sweep.points:\n    os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.01)"
    )
    assert "the sweep was interrupted: no figures for 2, 3, 4 in flight; what has ended is in _sweep" in (
        cell.error or ""
    )
    assert "[1]" == kernel.run("[p.concurrency for p in _sweep.points]").value


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (
            "%%greenrace -p green,prefork -n 3\n1 / 0",
            "every pool failed: green: every task failed: 3 ZeroDivisionError; prefork",
        ),
        ("%%greensweep -n 3\n1 / 0", "every task failed"),
        ("%%greenrace -n 3", "the cell is empty"),
        ("%%greensweep -n 3", "the cell is empty"),
        ("%greenrace -n 3", "stands above a cell"),
        ("%greensweep -n 3", "stands above a cell"),
        ("%%greenrace x in 5\nx", "an int is not"),
        ("%%greensweep x in nowhere\nx", "name 'nowhere' is not defined"),
    ],
)
def test_a_mistake_is_one_clear_error_of_the_cell(kernel: Kernel, code: str, says: str) -> None:
    cell = kernel.run(code)
    assert cell.error is not None
    assert says in cell.error
    assert "magics/" not in cell.error


# -- completion and help -------------------------------------------------------------------------------------


def test_tab_offers_the_options_and_the_pools_one_after_another(kernel: Kernel) -> None:
    assert ["--rate", "--repeat", "--retries"] == kernel.complete("%%greenrace --r")
    assert ["--seconds"] == kernel.complete("%%greensweep --s")
    assert sorted(pools.NAMES) == sorted(kernel.complete("%%greenrace -p "))
    assert ["green,prefork"] == kernel.complete("%%greenrace -p green,pre")
    assert "green,prefork,green" not in kernel.complete("%%greenrace -p green,prefork,")


@pytest.mark.parametrize(("magic", "option"), [("greenrace", "--repeat N"), ("greensweep", "--seconds S")])
def test_help_lists_the_options(kernel: Kernel, magic: str, option: str) -> None:
    kernel.client.execute(f"%%{magic}?", silent=False)
    while True:
        message = kernel.client.get_shell_msg(timeout=60)
        if message["msg_type"] == "execute_reply" and message["content"].get("payload"):
            break
    text = message["content"]["payload"][0]["data"]["text/plain"]
    assert option in text
    assert f"%%{magic} [options]" in text


def test_a_verdict_stands_on_the_picture_and_in_the_report_where_there_is_none(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrace -p green,threads -n 20\nimport time\ntime.sleep(0.005)")
    verdict = kernel.run("print(_race.verdict)").stdout.strip()
    assert verdict in cell.updates[-1]["text/plain"]
    assert verdict not in cell.result["text/html"]
    assert "<table" in cell.result["text/html"]
    assert verdict in kernel.run("_race").result["text/html"]


def _pid(_: int) -> int:
    return os.getpid()
