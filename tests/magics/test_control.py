"""Control of runs in a real kernel: interrupts at any moment, %greenps and %greenkill, every pool."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from greenlab import pools

if TYPE_CHECKING:
    from kernel import Kernel

SHOOT = """
import os, signal, threading, time, greenlab

def shoot(after_s):
    "Interrupt the next run, as a front end does it, so long after it has begun; if it has ended, nobody is hit."
    former = globals().get("_run")

    def wait_and_shoot():
        while _run is former or not (_run.running or _run.counts["total"] == _run.done):
            time.sleep(0.0001)
        time.sleep(after_s)
        if _run.running:
            os.killpg(os.getpgid(0), signal.SIGINT)

    threading.Thread(target=wait_and_shoot).start()
    return range(300)
"""
CHECK = """
assert not _run.running, "it goes on"
found = _run.counts
assert found["pending"] == found["failed"] == 0, found
assert found["succeeded"] + found["cancelled"] == _run.ledger.pulled, (found, _run.ledger.pulled)
whole = _run if found["succeeded"] == 300 else _run.resume()
assert whole.results == list(range(300)), whole
[row for row in greenlab.ps()]
"""


# The kernel signals itself: one that is between two cells, or between a cell and its last message, loses messages when
# it is interrupted (ipykernel 7.4: "KeyboardInterrupt caught in kernel"), with greenlab or without.
@pytest.mark.parametrize(
    ("pool", "times"), [(name, 20 if name in ("prefork", "hybrid") else 40) for name in pools.LOCAL]
)
def test_an_interrupt_at_a_random_moment_loses_nothing_and_the_kernel_is_well(
    kernel: Kernel, pool: str, times: int
) -> None:
    chance = random.Random(20)
    cell = f"%%greenrun --no-live -p {pool} -c 30 x in {{}}\nimport time\ntime.sleep(0.002)\nx"
    assert kernel.run(SHOOT + f"_run = greenlab.run(abs, range(300), pool={pool!r})").error is None
    kernel.run(cell.format("range(300)"))
    longest_s = float(kernel.run("print(_run.elapsed_s)").stdout)
    interrupted = 0
    for _ in range(times):
        stopped = kernel.run(cell.format(f"shoot({chance.uniform(0, longest_s)})"))
        assert stopped.ename in {None, "KeyboardInterrupt", "RunInterrupted"}, stopped.error
        interrupted += stopped.error is not None
        after = kernel.run(CHECK)
        assert after.error is None, after.error
        assert "[]" == after.value
    assert interrupted > times // 4


@pytest.mark.parametrize("pool", pools.LOCAL)
def test_a_cell_runs_in_every_pool_and_gives_the_same(kernel: Kernel, pool: str) -> None:
    cell = kernel.run(f"%%greenrun -p {pool} -c 4 x in range(10)\nprint(f'in {{x}}\\n', end='')\nx * 2")
    assert cell.error is None
    assert {f"in {x}" for x in range(10)} == set(cell.stdout.split("\n")[:-1])
    assert kernel.run("print(_run.results, _run.pool)").stdout == f"{[2 * x for x in range(10)]} {pool}\n"


def test_greenps_lists_what_runs_and_greenkill_ends_it(kernel: Kernel) -> None:
    kernel.run("import time\ndef wait():\n    time.sleep(600)")
    kernel.run("task = %greenspawn wait()")
    kernel.run("%%greenrun --detach --no-live -o r x in range(3)\nimport time\ntime.sleep(600)")
    listed = kernel.run("%greenps")
    assert listed.error is None
    assert "wait()" in listed.value
    assert "run of x in range(3)" in listed.value
    assert "0 of 3 done" in listed.value
    assert "line 3 of Cell In[" in listed.value
    assert "text/html" in listed.result

    one = kernel.run("print(r.id)\nget_ipython().run_line_magic('greenkill', f'{r.id}.1')")
    assert f"killed task 1 of run {one.stdout.strip()}" == one.value
    both = kernel.run("print(r.id, task.id)\nget_ipython().run_line_magic('greenkill', f'{r.id}, {task.id}')")
    run, task = both.stdout.split()
    assert f"killed run {run} (x in range(3)) and task {task} (wait())" == both.value
    again = kernel.run("get_ipython().run_line_magic('greenkill', f'{task.id}')")
    assert f"nothing was killed: {task} does not run" == again.value
    told = kernel.run("print(r.counts, task.state)").stdout
    assert "'failed': 1, 'cancelled': 2" in told
    assert "killed" in told
    assert "nothing runs" == kernel.run("%greenps").value


def test_greenhub_shows_what_is_greened_and_the_pools_with_their_workers(kernel: Kernel) -> None:
    kernel.run("%%greenrun --no-live -p prefork -w 2 x in range(4)\nx")
    kernel.run("import time\ntask = %greenspawn time.sleep(600)")
    shown = kernel.run("%greenhub")
    assert shown.error is None
    assert "hub      turned by the running event loop" in shown.value
    assert "names of" in shown.value
    assert "prefork (workers " in shown.value
    assert "0 runs, 1 background task:" in shown.value
    assert "<table>" in shown.result["text/html"]
    kernel.run("task.kill()")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("%greenkill", "say what to kill"),
        ("%greenkill all", "'all' is no id"),
        ("%greenps -v", "takes nothing"),
        ("%greenhub -v", "takes nothing"),
    ],
)
def test_a_mistake_is_one_line_and_an_error_of_the_cell(kernel: Kernel, line: str, says: str) -> None:
    cell = kernel.run(line)
    assert "UsageError" == cell.ename
    assert says in str(cell.error)
    assert "\n" not in str(cell.error).strip()


def test_options_of_the_line_reach_the_run(kernel: Kernel) -> None:
    kernel.run("%%greenrun --discard --no-live x in range(50)\nx")
    assert "True {}\n" == kernel.run("print(_run.discards, _run.errors)").stdout
    refused = kernel.run("%%greenrun --max-tasks 3 x in range(5)\nx")
    says = "the green pool does not replace workers: max_tasks (--max-tasks) goes with the prefork pool"
    assert says in str(refused.error)
    kernel.run("%%greenrun -p prefork -w 1 --max-tasks 2 --no-live x in range(6)\nimport os\nos.getpid()")
    assert "True\n" == kernel.run("print(max(map(_run.results.count, _run.results)) <= 2)").stdout


def test_a_cell_runs_in_processes_with_hubs(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%greenrun -p hybrid -w 2 -c 100 -n 300 -o run --no-live\n"
        "import os, time\ntime.sleep(0.05)\nif i == 7: print('seven')\nos.getpid()"
    )
    assert cell.error is None
    assert "seven\n" in cell.stdout
    told = kernel.run("import os\nprint(run.counts['succeeded'], len(set(run.results)), os.getpid() in run.results)")
    assert "300 2 False\n" == told.stdout


def test_an_interrupted_cell_stops_the_processes_tasks_and_the_next_one_runs(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun -p hybrid -w 2 -c 10 -n 10 --no-live\nimport time\ntime.sleep(60)", interrupt_after=2)
    assert "KeyboardInterrupt" in str(cell.error)
    after = kernel.run("import greenlab\nprint(sum(greenlab.run(abs, range(50), pool='hybrid', workers=2).results))")
    assert "1225\n" == after.stdout
