"""Processes that are patched already: eventlet's hub is served, gevent is refused; and a start that fails."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import greenlab
from greenlab import greening, hub
from greenlab.greening.switches import Switches

pytestmark = pytest.mark.whole_heap

_EVENTLET = "import eventlet; eventlet.monkey_patch()\n"
_GEVENT = "from gevent import monkey; monkey.patch_all()\n"
_TASKS = """
import time, greenlab
together = [0, 0]
def task(i):
    together[0] += 1
    together[1] = max(together)
    time.sleep(.05)
    together[0] -= 1
    if i == 3: raise ValueError("three")
    print("task", i)
    return 2 * i
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def said(code: str) -> list[str]:
    """Return the lines that a process printed which eventlet had patched before."""
    done = run(_EVENTLET + _TASKS + code)
    assert "" == done.stderr
    assert 0 == done.returncode
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    "code",
    [_GEVENT + "import greenlab; greenlab.start()", "import greenlab; greenlab.start()\n" + _GEVENT + "greenlab.ps()"],
)
def test_a_process_that_gevent_has_patched_is_refused_by_name(code: str) -> None:
    *_, last = run(code).stderr.strip().splitlines()
    assert last.startswith("greenlab.errors.UsageError: gevent.monkey"), last


@pytest.mark.parametrize("patch", [_EVENTLET, _GEVENT])
def test_a_patched_process_may_start_greenlab_and_stays_as_it_is(patch: str) -> None:
    code = (
        "import os, select, socket, subprocess, threading, time\n"
        "def picture(): return [dict(vars(each)) for each in (os, select, socket, subprocess, threading, time)]\n"
        "before = picture()\n"
        "from greenlab import *\n"
        "import greenlab\n"
        "try: greenlab.start()\n"
        "except greenlab.UsageError: pass\n"
        "print(before == picture())\n"
    )
    if patch == _GEVENT:
        code = code.replace("from greenlab import *\n", "")
    assert "True" == run(f"{patch}\n{code}").stdout.strip()


# As in a Celery worker: the main greenlet waits for messages, and tasks are green threads of a pool.
_WORKER = """
import eventlet.greenpool
def work(function, *args):
    pool = eventlet.greenpool.GreenPool(10)
    done = pool.spawn(function, *args)
    while not done.dead: eventlet.sleep(.01)
    return done.wait()
"""


def test_tasks_run_at_once_on_eventlets_own_hub() -> None:
    code = """
def outer():
    run = greenlab.run(task, range(5), concurrency=50)
    print([value for value in run.outcomes if isinstance(value, int)], run.errors, run.counts["failed"])
    print("at once", together[1])
work(outer)
together[:] = [0, 0]
outer()
"""
    prints = ["task 0", "task 1", "task 2", "task 4"]
    found = [*prints, "[0, 2, 4, 8] {3: ValueError('three')} 1", "at once 5"]
    assert [*found, *found] == said(_WORKER + code)


@pytest.mark.parametrize(("call", "waits"), [("look()", False), ("work(look)", True)])
def test_an_adopted_hub_knows_whether_the_main_greenlet_waits_for_it(call: str, *, waits: bool) -> None:
    code = """
from eventlet import hubs
def look():
    greenlab.start()
    print(hubs.get_hub().blocking)
"""
    assert [str(waits)] == said(_WORKER + code + call)


def test_retries_limits_spawned_tasks_and_ps_work_in_a_patched_process() -> None:
    code = """
tries = []
def shaky(i):
    tries.append(i)
    if len(tries) < 3: raise ValueError
    return i
print(greenlab.run(shaky, [7], retries=3).results)
try: greenlab.run(lambda _: time.sleep(60), [0], timeout=.05)
except greenlab.RunError as error: print(type(error.run.errors[0]).__name__)
background = greenlab.spawn(task, 4)
eventlet.sleep(0)
print(len(greenlab.ps()), background.state)
print(background.wait())
"""
    assert ["[7]", "TaskTimeoutError", "1 waiting", "task 4", "8"] == said(code)


def test_what_blocks_eventlets_hub_is_reported_and_another_os_thread_wakes_it() -> None:
    code = """
def hog(_):
    end_s = time.perf_counter() + .4
    while time.perf_counter() < end_s: pass
def outer(): print([block.function for block in greenlab.run(hog, [0]).blocked])
work(outer)
native = eventlet.patcher.original("_thread")
came = eventlet.event.Event()
native.start_new_thread(greenlab.start().call_soon_threadsafe, (came.send, "woken"))
print(came.wait())
"""
    assert ["['hog']", "woken"] == said(_WORKER + code)


def test_what_needs_native_primitives_is_refused_by_name() -> None:
    code = """
pools = [lambda pool=pool: greenlab.run(abs, [1], pool=pool) for pool in ("threads", "prefork", "hybrid", "auto")]
others = lambda: greenlab.offload(abs, 1), greenlab.native().__enter__, lambda: greenlab.check(task, 1)
for call in (*pools, *others, lambda: greenlab.stepper(task)):
    try: call()
    except greenlab.UsageError as error: print(str(error).partition(" needs a process that eventlet has not")[0])
"""
    pools = [f"the {name} pool" for name in ("threads", "prefork", "hybrid", "auto", "prefork")]
    assert [*pools, "greenlab.native()", "greenlab.check of a call", "the stepper"] == said(code)


def test_eventlets_hub_is_given_back_with_what_others_run_on_it() -> None:
    code = """
import signal
hub = eventlet.hubs.get_hub()
kind, listeners, handler = type(hub), len(hub.listeners["read"]), signal.getsignal(signal.SIGINT)
def other():
    time.sleep(.1)
    return "went on"
theirs = eventlet.spawn(other)
greenlab.start()
mine = greenlab.spawn(time.sleep, 60)
later = eventlet.spawn(other)
eventlet.sleep(0)
eventlet.spawn(greenlab.stop).wait()
print(theirs.wait(), later.wait(), mine.state)
print(hub is eventlet.hubs.get_hub(), type(hub) is kind, len(hub.listeners["read"]) == listeners)
print(signal.getsignal(signal.SIGINT) is handler)
print(greenlab.run(abs, [-1]).results)
"""
    assert ["went on went on killed", "True True True", "True", "[1]"] == said(code)


def test_what_ends_a_worker_ends_it_still_and_an_interrupt_ends_the_run() -> None:
    # Celery's remote shutdown raises SystemExit in a green thread of its own.
    code = """
import os, signal
def shut_down(): raise SystemExit("remote")
greenlab.start()
eventlet.spawn_n(shut_down)
try: eventlet.sleep(60)
except SystemExit as error: print(error)
print(greenlab.run(abs, [-1]).results)
def interrupt(_):
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(60)
try: greenlab.run(interrupt, range(1))
except KeyboardInterrupt as error: print(type(error).__name__)
print(greenlab.run(abs, [-1]).results)
"""
    assert ["remote", "[1]", "RunInterrupted", "[1]"] == said(code)


def test_a_forked_child_has_eventlets_hub_and_the_parent_keeps_its_own() -> None:
    code = """
import os, sys
hub = greenlab.start()
child = os.fork()
if not child:
    print(type(eventlet.hubs.get_hub()).__module__, flush=True)
    os._exit(0)
os.waitpid(child, 0)
came = eventlet.event.Event()
eventlet.patcher.original("_thread").start_new_thread(hub.call_soon_threadsafe, (came.send, "woken"))
print(came.wait(), greenlab.run(abs, [-1]).results)
"""
    child, parent = said(code)
    assert child.startswith("eventlet.hubs.")
    assert "woken [1]" == parent


@pytest.mark.parametrize(
    ("imports", "warned"),
    [("import greenlab", False), ("import eventlet, greenlab", True)],
    ids=["greenlab imported eventlet", "the program did"],
)
def test_a_fork_warns_of_eventlet_only_where_the_program_imported_that(imports: str, warned: bool) -> None:
    code = f"""
import os, time, warnings
{imports}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    child = os.fork()
    if not child:
        time.sleep(0.01)
        os._exit(0)
    os.waitpid(child, 0)
print(any("eventlet" in str(each.message) for each in caught))
"""
    done = run(code)
    assert ("", f"{warned}\n") == (done.stderr, done.stdout)


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import eventlet.tpool; eventlet.tpool.execute(greenlab.start)", "this is another thread"),
        ("eventlet.hubs.use_hub('selects'); greenlab.start()", "this process uses eventlet.hubs.selects"),
    ],
)
def test_a_hub_that_cannot_be_adopted_is_refused(code: str, what: str) -> None:
    *_, last = run(_EVENTLET + _TASKS + code).stderr.strip().splitlines()
    assert last.startswith("greenlab.errors.UsageError: ")
    assert what in last


def test_a_start_that_fails_leaves_nothing_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Switches) -> None:
        raise LookupError("mine")

    native = time.sleep
    with monkeypatch.context() as patched:
        patched.setattr(Switches, "switch", fail)
        with pytest.raises(LookupError, match="mine"):
            greenlab.start()
    assert time.sleep is native
    assert [] == greening.replaced()
    assert None is hub.current()
    greenlab.start()
    assert time.sleep is not native
    greenlab.stop()
