"""Advice from real samples: how it is made, what it costs, what it says when something is in the way."""

# mypy: disable-error-code="arg-type, attr-defined, func-returns-value"

from __future__ import annotations

import ctypes
import fcntl
import itertools
import os
import re
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from waiting import wait_until

import greenlab
from greenlab.advising.advice import Plan, TaskCost, Trial, advise
from greenlab.advising.trials import Advisor, _why_busy
from greenlab.hub import eventlet
from greenlab.magics import advise as magic
from greenlab.magics import options

if TYPE_CHECKING:
    from pathlib import Path

    from kernel import Kernel


def usleep(_: Any) -> None:
    ctypes.CDLL(None).usleep(50_000)


def compute(_: Any) -> None:
    end = time.thread_time() + 0.01
    while time.thread_time() < end:
        pass


def test_what_waits_is_advised_green_and_it_is_said_why(started: Any) -> None:
    advice = greenlab.advise(lambda _: time.sleep(0.05), range(1000))
    assert "green" == advice.pool
    assert advice.concurrency >= 100
    assert advice.workers is None
    assert str(advice).startswith("advice: -p green -c ")
    waits = re.search(r"a task waits ([\d.]+) ms", str(advice))
    assert waits is not None
    assert 45 < float(waits[1]) < 100
    assert ["green"] == [one.plan.pool for one in advice.evidence]
    assert {"pool": "green", "concurrency": advice.concurrency} == advice.options
    assert [1] == greenlab.run(abs, [-1], live=False, **advice.options).results


def test_what_blocks_without_the_gil_is_advised_threads(started: Any) -> None:
    advice = greenlab.advise(usleep, range(1000))
    assert "threads" == advice.pool, str(advice)
    assert re.search(r"a task (computes [^,]*, )?blocks 5", str(advice))


def test_what_computes_is_tried_in_processes_and_the_start_up_is_charged_apart(started: Any) -> None:
    advice = greenlab.advise(compute, range(2000), sample=20)
    assert "a task computes " in str(advice)
    tried = {one.plan.pool: one for one in advice.evidence}
    if (os.cpu_count() or 1) > 1:
        assert tried["prefork"].startup_s is not None
        assert tried["prefork"].throughput > 0
    assert "start-up" in repr(advice)
    assert '<div class="greenlab-advice">' in advice._repr_mimebundle_()["text/html"]


def test_the_sample_is_run_once_in_green_and_once_a_plausible_pool_and_nothing_else_is(started: Any) -> None:
    ran: Counter[int] = Counter()

    def note(x: int) -> None:
        ran[x] += 1
        time.sleep(0.03)

    advice = greenlab.advise(note, range(1000), sample=12)
    assert set(range(12)) == set(ran)
    assert {1 + len(advice.evidence)} == set(ran.values())


def test_of_short_tasks_more_are_taken_and_of_an_iterator_only_the_first(started: Any) -> None:
    taken = []

    def endless() -> Any:
        for x in itertools.count():
            taken.append(x)
            yield x

    advice = greenlab.advise(lambda _: time.sleep(0.001), endless(), sample=15)
    assert list(range(15)) == taken
    assert "1,000 tasks in about" in str(advice)
    ran = set()
    greenlab.advise(lambda x: ran.add(x) or time.sleep(0.001), range(1000))
    assert 20 < len(ran) <= 500


def test_where_the_plausible_pools_fall_short_others_are_tried(started: Any, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()

    def one_at_a_time(_: Any) -> None:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            ctypes.CDLL(None).usleep(20_000)

    alone = greenlab.advise(usleep, range(1000), sample=20)
    assert "threads" == alone.evidence[0].plan.pool == alone.pool  # on a busy machine others are tried too
    shared = greenlab.advise(one_at_a_time, range(1000), sample=40)
    assert {"threads", "prefork", "hybrid", "green"} == {one.plan.pool for one in shared.evidence}
    assert shared.pool in ("green", "threads")  # nothing is faster, and nothing is simpler


_turn = threading.Lock()


def take_turns(_: Any) -> None:
    with _turn:
        time.sleep(0.02)


def test_tasks_that_wait_for_each_other_are_advised_no_processes_where_each_has_its_own_lock(started: Any) -> None:
    advice = greenlab.advise(take_turns, range(1000), sample=20)
    assert "green" == advice.pool
    assert {"green", "threads"} == {one.plan.pool for one in advice.evidence}
    assert "processes are out of the question, for tasks wait for each other" in str(advice)
    assert "tasks/s: something that the tasks share is the limit" in advice.reasons[0]


def test_a_lock_of_its_own_does_not_keep_a_task_from_processes(started: Any) -> None:
    def wait_for_timer(_: Any) -> None:
        event = threading.Event()
        timer = threading.Timer(0.1, event.set)
        timer.start()
        event.wait()
        timer.join()

    advice = greenlab.advise(wait_for_timer, range(1000), sample=40)
    assert "green" == advice.pool
    assert "wait for each other" not in str(advice)


def test_an_advice_of_more_in_flight_than_were_tried_says_so(started: Any) -> None:
    advice = greenlab.advise(lambda _: time.sleep(0.1), range(1000), sample=20)
    assert advice.concurrency > 20
    assert "no more than 20 tasks in flight when it was tried: %%greensweep" in str(advice)
    assert "in flight when" not in str(greenlab.advise(lambda _: time.sleep(0.1), range(10), sample=10))


class Scripted(Advisor):
    """Pools do what the test says, on a machine that does nothing else."""

    rates: ClassVar[dict[str, float]] = {}
    foreign_cores = 0.0

    def _try(self, plan: Plan, items: Any) -> Trial:
        rate = self.rates[plan.pool] * min(plan.concurrency, 40)
        return Trial(plan, rate, len(items) / rate, foreign_cores=self.foreign_cores)


def scripted(**rates: float) -> Scripted:
    """Make one whose pools do so many tasks a second for each in flight, of up to 40."""
    made = Scripted(
        items=range(100), least=20, tasks=1000, cores=2, seconds=9, make_sample=None, make_run=None, meter=None
    )
    object.__setattr__(made, "rates", rates)
    return made


WRITE = TaskCost(0.004, 0.0015, 0.0025, 0.0)  # a file, whose disk is busy with all the others


def test_more_in_flight_are_tried_while_that_helps() -> None:
    advising = scripted(threads=10.0, prefork=5.0, hybrid=5.0, green=5.0)
    tried, cost = advising._try_plausible(WRITE, range(100))
    assert {"threads", "prefork", "hybrid", "green"} == {one.plan.pool for one in tried}
    advice = advising._weigh(advise(WRITE, tasks=1000, cores=2), tried, {})
    assert ("threads", 5) == (advice.pool, advice.concurrency)
    advice = advising._try_more_in_flight(advice, tried, range(100), cost)
    assert [5, 20, 80] == [one.plan.concurrency for one in tried if one.plan.pool == "threads"]
    assert 80 == advice.concurrency
    assert "more in flight help: -p threads -c 80 did 400 tasks/s" == advice.reasons[0]
    advice = advising._annotated(advice, tried, range(100), cost)
    assert "it did 400 tasks/s, not 533 tasks/s: something that the tasks share is the limit" == advice.reasons[0]


def test_others_are_tried_too_where_a_pool_is_late_while_something_else_takes_the_cores() -> None:
    advising = scripted(threads=100.0, prefork=80.0, hybrid=5.0, green=5.0)
    object.__setattr__(advising, "foreign_cores", 0.5)  # the system's own threads that write to the disk, maybe
    tried, _ = advising._try_plausible(WRITE, range(100))
    assert ["prefork", "threads"] == [one.plan.pool for one in tried][:2]
    assert "threads" == advising._weigh(advise(WRITE, tasks=1000, cores=2), tried, {}).pool


@pytest.mark.parametrize(
    ("cost", "foreign", "says"),
    [
        (TaskCost(0.02, 0.02, 0.0, 0.0), 0.5, "something else took up to 0.5 cores"),
        (TaskCost(0.02, 0.02, 0.0, 0.0, delay_s=0.01), 0.0, "tasks had to wait for a processor"),
        (TaskCost(0.02, 0.02, 0.0, 0.0), 0.0, ""),
        (TaskCost(0.1, 0.001, 0.0, 0.099), 1.0, ""),  # a server, on this machine
    ],
)
def test_a_machine_is_too_busy_to_tell_if_what_computes_had_to_share_it(
    cost: TaskCost, foreign: float, says: str
) -> None:
    tried = [Trial(advise(cost, cores=2).plan, 10.0, 1.0, foreign_cores=foreign)]
    why = _why_busy(cost, tried)
    assert bool(says) == bool(why)
    assert says in why


def test_a_pool_that_does_what_it_should_is_tried_once() -> None:
    advising = scripted(threads=200.0, prefork=300.0, hybrid=5.0, green=5.0)
    tried, cost = advising._try_plausible(WRITE, range(100))
    assert ["prefork"] == [one.plan.pool for one in tried]
    advice = advise(WRITE, tasks=1000, cores=2)
    assert advice is advising._try_more_in_flight(advice, tried, range(100), cost)


def test_fewer_items_than_needed_make_a_guess(started: Any) -> None:
    advice = greenlab.advise(lambda _: time.sleep(0.02), range(3))
    assert "a guess" == advice.sure
    assert "the sample has 3 tasks only" in str(advice)


def test_a_sample_that_fails_is_told_with_its_first_traceback(started: Any) -> None:
    def broken(x: int) -> float:
        return 1 / (x - x)

    with pytest.raises(
        greenlab.RunError, match="no advice: every task of the sample failed: 20 ZeroDivisionError"
    ) as e:
        greenlab.advise(broken, range(100), sample=20)
    assert "return 1 / (x - x)" in str(e.value)


def test_some_that_fail_are_a_doubt(started: Any) -> None:
    advice = greenlab.advise(lambda x: 1 / x + (time.sleep(0.01) or 0), range(1000), sample=20)
    assert "1 of 20 tasks of the sample failed" in "; ".join(advice.doubts)
    assert "sure" != advice.sure


def test_what_cannot_be_sent_is_advised_here_and_the_reason_is_given(started: Any) -> None:
    lock = threading.Lock()

    def locked(_: Any) -> None:
        with lock:
            compute(0)

    advice = greenlab.advise(locked, range(2000), sample=20)
    assert advice.pool in ("green", "threads")
    assert {"green", "threads"} >= {one.plan.pool for one in advice.evidence}
    assert "cannot be sent: 'lock'" in str(advice)


def test_a_sample_is_bounded_by_seconds_too(started: Any) -> None:
    ran = []
    greenlab.advise(lambda x: ran.append(x) or time.sleep(0.1), range(1000), sample=500, seconds=0.15)
    assert len(set(ran)) <= 15


def test_an_interrupted_advice_says_so(started: Any) -> None:
    def advise() -> Any:
        try:
            greenlab.advise(lambda _: time.sleep(30), range(5))
        except KeyboardInterrupt as error:
            return error
        return None

    task = greenlab.spawn(advise)
    wait_until(greenlab.ps)
    eventlet.sleep(0.02)
    eventlet.kill(task, KeyboardInterrupt())
    error = task.wait()
    assert "the advice was interrupted before it was made; the run that was going on is in the exception's" in str(
        error
    )
    assert (True, 5) == (error.run.cancelled, error.run.counts["total"])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"sample": 0}, "sample must be a whole number of 1 or more"),
        ({"seconds": 0}, "seconds must be a number greater than 0"),
        ({"timeout": -1}, "timeout must be a number greater than 0"),
        ({"count": 3}, "say what to run over, once"),
    ],
)
def test_a_mistake_is_one_line(started: Any, arguments: Any, says: str) -> None:
    with pytest.raises(greenlab.UsageError, match=says):
        greenlab.advise(abs, [1], **arguments)
    with pytest.raises(greenlab.UsageError, match="the items are empty"):
        greenlab.advise(abs, iter(()))


def test_an_iterator_that_raises_is_told(started: Any) -> None:
    def broken() -> Any:
        yield 1
        raise OSError("gone")

    with pytest.raises(greenlab.SourceError, match="OSError: gone"):
        greenlab.advise(abs, broken())


# -- in a notebook -------------------------------------------------------------------------------------------


def test_the_line_takes_what_makes_sense() -> None:
    parser = magic.make_parser()
    asked = options.parse(parser, "--sample 7 --seconds 3 --timeout 2 -o a x in y").options
    assert (7, 3.0, 2.0, "a") == (asked.sample, asked.seconds, asked.timeout, asked.out)
    with pytest.raises(greenlab.UsageError, match="no option -c"):
        options.parse(parser, "-c 5 x in y")


def test_a_cell_is_advised_and_the_advice_is_kept(kernel: Kernel) -> None:
    cell = kernel.run("%%greenadvise -o a --sample 12 x in range(500)\nimport time\ntime.sleep(0.03)")
    assert cell.error is None
    assert cell.value.startswith("advice: -p green -c ")
    assert '<div class="greenlab-advice">' in cell.result["text/html"]
    assert "(True, 'green')" == kernel.run("a is _advice, a.pool").value


def test_an_interrupted_advice_leaves_the_run_that_was_going_on_in_the_notebook(kernel: Kernel) -> None:
    cell = kernel.run(
        "%%greenadvise x in range(30)\nimport os, signal, time\n"
        "if x == 9:\n    os.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.02)\nx"
    )
    what = "the advice was interrupted before it was made; the run that was going on is in _run"
    assert f"KeyboardInterrupt: {what}" == cell.error
    assert "('x in range(30)', True)" == kernel.run("_run.label, _run.cancelled").value
    assert "True" == kernel.run("_run.outcomes[:3] == [0, 1, 2]").value


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%%greenadvise -n 30\n1 / 0", "no advice: every task of the sample failed"),
        ("%greenadvise -n 30", "stands above a cell"),
        ("%%greenadvise --sample 0 -n 3\ni", "takes a whole number of 1 or more"),
        ("%%greenadvise\n1", "say what to run over: %%greenadvise x in items"),
    ],
)
def test_a_mistake_is_one_clear_error_of_the_cell(kernel: Kernel, code: str, says: str) -> None:
    cell = kernel.run(code)
    assert says in (cell.error or "")
    assert "magics/" not in (cell.error or "")


def test_tab_and_help_know_it_and_auto(kernel: Kernel) -> None:
    assert ["--sample", "--seconds"] == kernel.complete("%%greenadvise --s")
    assert ["auto"] == kernel.complete("%%greenrun -p a")
    told = kernel.run("print(get_ipython().find_cell_magic('greenadvise').__doc__)").stdout
    assert "The first items are run for real" in told
    assert "%%greenadvise [options] [TARGET in ITERABLE]" in told


def test_an_auto_run_in_a_cell_says_where_it_went(kernel: Kernel) -> None:
    cell = kernel.run("%%greenrun -p auto x in range(100)\nimport ctypes\nctypes.CDLL(None).usleep(20_000)")
    assert cell.error is None
    assert "  moved to threads after " in cell.value
