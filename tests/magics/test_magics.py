"""The magics in a real kernel, as a reader of notebooks meets them."""

from __future__ import annotations

import re
import time

import pytest
from kernel import Kernel

import greenlab

# -- the cell, in a real kernel ----------------------------------------------------------------------------


def test_a_cell_runs_once_an_item_and_gives_a_run(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun -c 5 --no-live -o r x in range(10)\ny = x * 2\ny + 1")
    assert cell.error is None
    assert "10 tasks succeeded" in cell.value
    assert "[1, 3, 5, 7, 9, 11, 13, 15, 17, 19]" == kernel.run("r.results").value


def test_a_tuple_target_is_unpacked(kernel: Kernel) -> None:
    kernel.run("%%greenrun --no-live -o r i, (a, b) in enumerate([(1, 2), (3, 4)])\n(i, a + b)")
    assert "[(0, 3), (1, 7)]" == kernel.run("r.results").value


def test_with_n_the_index_is_i(kernel: Kernel) -> None:
    kernel.run("%%greenrun --no-live -n 3 -o r\ni * i")
    assert "[0, 1, 4]" == kernel.run("r.results").value


def test_the_body_sees_the_notebooks_globals_and_what_it_assigns_stays_local(kernel: Kernel) -> None:
    kernel.run("base = 10\ndef add(x):\n    return base + x\nkept = 'mine'")
    kernel.run("%%greenrun --no-live -n 3 -o r\nkept = add(i)\nkept")
    assert "([10, 11, 12], 'mine')" == kernel.run("r.results, kept").value


def test_the_same_cell_runs_in_processes_with_the_notebooks_functions(kernel: Kernel) -> None:
    kernel.run("import os\nclass Pair:\n    def __init__(self, a): self.a = a\ndef make(x):\n    return Pair(x * 2)")
    cell = kernel.run("%%preforkrun -w 2 --no-live -o r x in range(6)\nos.getpid(), make(x)")
    assert cell.error is None
    pids = kernel.run(
        "print([p.a for _, p in r.results], {type(p) is Pair for _, p in r.results}, os.getpid() in dict(r.results))"
    )
    assert "[0, 2, 4, 6, 8, 10] {True} False\n" == pids.stdout


def test_blocking_code_overlaps(kernel: Kernel) -> None:
    cell = kernel.run("import time\n%time pass")
    assert cell.error is None
    kernel.run("%%greenrun -c 100 --no-live -n 100 -o r\nimport time\ntime.sleep(0.2)")
    assert "True" == kernel.run("r.elapsed_s < 100 * 0.2 / 10").value


@pytest.mark.parametrize("magic", ["greenrun", "preforkrun"])
def test_a_failure_shows_the_cells_own_line(kernel: Kernel, magic: str) -> None:
    cell = kernel.run(f"%%{magic} --no-live -n 3\n\nx = 1\nx / (i - 1)")
    assert cell.error is None
    assert re.search(r'File "Cell In\[\d+\]", line 4, in task\n\s+x / \(i - 1\)', cell.value)
    assert "1 ZeroDivisionError" in cell.value


def test_a_cell_in_which_everything_fails_is_an_error_and_the_run_is_within_reach(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun --no-live -n 3 -o r\n1 / 0")
    assert "RunError" == cell.ename
    assert "every task failed: 3 ZeroDivisionError" in (cell.error or "")
    assert "line 2, in task" in (cell.error or "")
    assert "3" == kernel.run("r.failed").value


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%%greenrun -z x in [1]\nx", "no option -z"),
        ("%%greenrun x in 5\nx", "an int is not"),
        ("%%greenrun x in []\nx", "empty"),
        ("%%greenrun x in nowhere\nx", "name 'nowhere' is not defined"),
        ("%%greenrun -n 3", "the cell is empty"),
        ("%%greenrun -n 3\n\n", "the cell is empty"),
        ("%%greenrun -n 3\nx = = 1", "line 2 of the cell: invalid syntax"),
        ("%%greenrun -n 3\n\n\nfor", "line 4 of the cell"),
        ("%%greenrun -n 3\nawait x", "without await"),
        ("%%greenrun -n 3\nyield 3", "one result"),
        ("%%preforkrun -n 2 --no-live\nlock.acquire()", "'lock'"),
        ("%%greenrun -p prefork -n 2 --no-live\n(i for i in range(3))", "generator"),
        ("%greenrun -n 3", "stands above a cell"),
        ("%greenspawn", "nothing to run"),
        ("%%greenspawn -c 3\n1", "takes no options"),
    ],
)
def test_a_users_mistake_is_one_clear_error_of_the_cell(kernel: Kernel, code: str, says: str) -> None:
    kernel.run("import _thread\nlock = _thread.allocate_lock()")
    cell = kernel.run(code)
    assert cell.error is not None
    assert says in cell.error
    assert "magics/" not in cell.error
    assert cell.ename == "NameError" or hasattr(greenlab, cell.ename or ""), "an error that users can name"


def test_items_that_raise_half_way_fail_the_cell_and_what_came_before_stays(kernel: Kernel) -> None:
    kernel.run("def items():\n    yield 1\n    yield 2\n    raise OSError('gone')")
    cell = kernel.run("%%greenrun --no-live -o r x in items()\nx")
    assert "SourceError" == cell.ename
    assert "[1, 2]" == kernel.run("r.results").value


def test_braces_and_quotes_in_the_iterable_reach_python_as_they_are(kernel: Kernel) -> None:
    kernel.run("%%greenrun --no-live -o r x in {'{a}': 1, \"b c\": 2}\nx")
    assert "['{a}', 'b c']" == kernel.run("r.results").value


def test_prints_of_tasks_appear_in_their_cell(kernel: Kernel) -> None:
    for magic in ("greenrun", "preforkrun"):
        cell = kernel.run(f"%%{magic} --no-live -n 3\nprint('hello', i)")
        assert ["hello 0", "hello 1", "hello 2"] == sorted(cell.stdout.split("\n")[:-1])


def test_an_interrupt_stops_the_cell_and_what_has_ended_can_be_resumed(kernel: Kernel) -> None:
    code = "%%greenrun --no-live -c 5 -n 40 -o r\nimport time\ntime.sleep(0.1)\ni"
    cell = kernel.run(code, interrupt_after=0.35)
    assert "RunInterrupted" == cell.ename
    assert "KeyboardInterrupt: the run was interrupted after" in (cell.error or "")
    assert "; what has ended is in _run, and again = _run.resume() does the rest, as a new run" in (cell.error or "")
    assert "True" == kernel.run("0 < r.done < 40").value
    assert "True" == kernel.run("r.resume().results == list(range(40))").value


def test_an_interrupt_stops_whatever_a_cell_waits_for_and_background_tasks_live_on(kernel: Kernel) -> None:
    kernel.run(
        "import time, threading, queue, socket, subprocess, eventlet\nn = [0]\n"
        "def tick():\n    while True:\n        n[0] += 1\n        eventlet.sleep(0.005)\n"
        "ticker = eventlet.spawn(tick)"
    )
    waits = (
        "time.sleep(60)",
        "threading.Event().wait()",
        "queue.Queue().get()",
        "a, b = socket.socketpair(); a.recv(1)",
        "subprocess.run(['sleep', '60'])",
        "import asyncio; await asyncio.sleep(60)",
        "while True: pass",
    )
    for wait in waits:
        cell = kernel.run(wait, interrupt_after=0.3)
        assert cell.ename in ("KeyboardInterrupt", "CancelledError"), wait
    assert "True" == kernel.run("m = n[0]; time.sleep(0.1); n[0] > m and not ticker.dead").value
    kernel.run("ticker.kill()")


def test_an_interrupt_kills_a_task_that_hogs_the_hub_and_the_kernel_lives(kernel: Kernel) -> None:
    kernel.run("import time, eventlet\ndef hog():\n    while True: pass")
    cell = kernel.run("h = eventlet.spawn(hog); time.sleep(60)", interrupt_after=0.3)
    assert "KeyboardInterrupt" == cell.ename
    assert "(True, 4)" == kernel.run("h.dead, 2 + 2").value


def test_an_interrupt_of_an_idle_kernel_kills_the_hog_and_nothing_else(kernel: Kernel) -> None:
    kernel.run("import eventlet\ndef hog():\n    while True: pass\nother = eventlet.spawn(eventlet.sleep, 60)")
    kernel.run("h = eventlet.spawn_after(0.1, hog)")
    time.sleep(0.5)  # the kernel idles; there is no event for a task that never ends
    kernel.interrupt()
    assert "(True, False)" == kernel.run("h.dead, other.dead").value
    kernel.run("other.kill()")


def test_a_cell_that_computes_is_named_in_the_report_of_a_detached_run(kernel: Kernel) -> None:
    kernel.run("%%greenrun --no-live --detach -n 60 -c 3 -o r\nimport time\ntime.sleep(0.03)")
    kernel.run("import time\ntime.sleep(0.1)")
    kernel.run("end = time.thread_time() + 0.4\nwhile time.thread_time() < end: pass")
    cell = kernel.run("import re\nprint(re.sub(r'In\\[\\d+\\]', 'In[]', '\\n'.join(map(str, r.wait().blocked))))")
    # On a busy machine it says for how long of that there was no processor.
    told = (
        r" at line 2 of Cell In\[\], in <module>: CPU(, [\d.]+ m?s of it without a processor)?, the cell, "
        "3 waited behind"
    )
    assert re.search(told, cell.stdout), cell.stdout


def test_a_report_says_what_its_picture_does_not_and_all_where_there_is_none(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun -n 30\nimport time\ntime.sleep(0.01)\nif i == 3: raise ValueError(i)\ni")
    below = cell.result["text/html"]
    assert re.search("<b>green run of 30 calls</b><br>latency p90 ", below)
    described = re.search('^<div class="greenlab-run" role="group" aria-label="([^"]*)">', below)
    assert described is not None, "JupyterLab shows a picture without its alt text"
    assert re.search("29 of 30 tasks succeeded; .*tasks/s.*p99.*1 ValueError", described[1])
    seen = re.sub('aria-label="[^"]*"|<style.*</style>', "", below)
    assert not re.search("tasks/s|succeeded|ValueError|p99", seen)
    assert "29 of 30 tasks succeeded" in cell.value
    elsewhere = kernel.run("_run").result["text/html"]
    assert re.search("29 of 30 tasks succeeded.*tasks/s.*p99.*1 ValueError.*first failure", elsewhere, re.DOTALL)
    assert "tasks/s" in kernel.run("%%greenrun --no-live -n 3\ni").result["text/html"]


@pytest.mark.parametrize(
    ("options", "end"), [("--no-live", "calls: 5 tasks succeeded</b>"), ("", "calls</b><br>latency p90")]
)
def test_the_report_in_a_detached_runs_cell_becomes_that_of_its_end(kernel: Kernel, options: str, end: str) -> None:
    kernel.run("import eventlet; go_on = eventlet.event.Event()")
    cell = kernel.run(f"%%greenrun {options} --detach -n 5 -o r\ngo_on.wait()")
    assert {} == cell.result
    going = cell.displays[-1]
    assert "green run of 5 calls: still running" in going["text/plain"]
    assert "still running" in going["text/html"]
    updates: list[str] = []
    kernel.client.execute("go_on.send(1); r.wait()", silent=False)
    while not any(f"green run of 5 {end}" in text for text in updates):
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "update_display_data" and message["parent_header"].get("msg_id") == cell.msg_id:
            data = message["content"]["data"]
            updates += [data["text/html"]] if "greenlab-run" in data.get("text/html", "") else []
    # A live view beside it says how far the run is, and goes on saying it.
    assert ("<br>so far: 0 of 5 tasks, 0 tasks/s in" in updates[0]) is (options == "--no-live")
    # Once it has ended it is a result like any other.
    assert "5 tasks succeeded" in kernel.run("r").value


def test_a_detached_run_returns_at_once_and_ends_while_the_kernel_idles(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun --no-live --detach -n 5 -o r\nimport time\ntime.sleep(0.2)\ni")
    assert "still running" in cell.displays[-1]["text/plain"]
    kernel.run("import asyncio; await asyncio.sleep(0.5)")
    assert "[0, 1, 2, 3, 4]" == kernel.run("r.results").value


# -- spawn -------------------------------------------------------------------------------------------------


def test_a_spawned_statement_runs_on_while_the_kernel_idles_and_prints_under_its_own_cell(
    kernel: Kernel,
) -> None:
    spawned = kernel.run("import time\nt = %greenspawn time.sleep(0.2) or print('late') or 7")
    assert spawned.error is None
    later = kernel.run("import asyncio\nawait asyncio.sleep(0.6)")
    assert [(spawned.msg_id, "late\n")] == later.late
    assert "7" == kernel.run("t.wait()").value
    assert "7" == kernel.run("await t").value


def test_plain_eventlet_code_runs_on_the_same_hub_and_prints_under_its_own_cell(kernel: Kernel) -> None:
    cell = kernel.run(
        "import eventlet\ndef late():\n    eventlet.sleep(0.2)\n    print('plain')\n"
        "a = eventlet.spawn(late)\nb = eventlet.spawn_n(late)"
    )
    later = kernel.run("import time\ntime.sleep(0.6)")
    assert cell.msg_id == later.late[0][0]
    assert "plain\nplain\n" == "".join(text for _, text in later.late)
    pool = kernel.run("list(eventlet.GreenPool(3).imap(lambda x: eventlet.sleep(0.01) or x, range(5)))")
    assert "[0, 1, 2, 3, 4]" == pool.value


def test_a_spawned_cell_assigns_in_the_notebook_and_its_last_expression_is_its_value(kernel: Kernel) -> None:
    kernel.run("import time")
    cell = kernel.run("%%greenspawn\ntime.sleep(0.05)\nfound = 5\nfound + 1")
    assert "waiting to start" in cell.value
    assert "(6, 5)" == kernel.run("_.wait(), found").value


def test_a_spawned_failure_is_told_under_its_cell_with_its_line(kernel: Kernel) -> None:
    spawned = kernel.run("%%greenspawn\nimport time\ntime.sleep(0.2)\n1 / 0")
    later = kernel.run("import asyncio\nawait asyncio.sleep(0.6)")
    text = "".join(text for parent, text in later.late if parent == spawned.msg_id)
    assert "ZeroDivisionError" in text
    assert "line 4" in text


# -- the live view, as messages ----------------------------------------------------------------------------


def test_a_run_leaves_a_picture_and_its_numbers_in_the_notebook(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun -c 5 x in range(20)\nimport time\ntime.sleep(0.1)")
    assert ["green run: x in range(20)"] == [d["text/plain"] for d in cell.displays]
    assert "application/vnd.jupyter.widget-view+json" in cell.displays[0]
    last = cell.updates[-1]
    assert last["image/png"].startswith("iVBOR")
    assert "20 tasks succeeded" in last["text/plain"]
    assert "application/vnd.jupyter.widget-view+json" not in last


# -- loading -----------------------------------------------------------------------------------------------


def test_unload_puts_the_kernel_back_and_load_works_again() -> None:
    with Kernel() as fresh:
        look = (
            "import time, socket, threading, os\n"
            "print(time.sleep, 'recv' in vars(socket.socket), threading.Lock, len(os.listdir('/dev/fd')))"
        )
        seen = []
        for _ in range(3):
            assert fresh.run("%load_ext greenlab").error is None
            assert "'function'" == fresh.run("import time; type(time.sleep).__name__").value
            assert fresh.run("%%greenrun --no-live -n 3\ni").error is None
            assert fresh.run("%%preforkrun --no-live -n 3\ni").error is None
            assert fresh.run("%unload_ext greenlab").error is None
            assert fresh.run("%%greenrun -n 3\ni").ename is not None or "not found" in fresh.run("%greenspawn 1").stderr
            seen.append(fresh.run(look).stdout)
        assert "built-in function sleep" in seen[0]
        assert "greenlab" not in seen[0]
        # The same names each time, and no descriptor more.
        assert [seen[0]] * 3 == seen


def test_an_idle_kernel_with_greenlab_loaded_turns_no_hub(kernel: Kernel) -> None:
    assert (
        "0"
        == kernel.run(
            "import asyncio\nfrom greenlab import hub\nawait asyncio.sleep(0.1)\n"
            "before = hub.current().turns\nawait asyncio.sleep(0.5)\nhub.current().turns - before"
        ).value
    )
