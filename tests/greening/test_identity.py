"""What is a task's own: thread-locals, context variables, decimal contexts; and what a thread is."""

from __future__ import annotations

import _thread
import contextvars
import decimal
import gc
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from eventlet import spawn as eventlet_spawn

import greenlab

pytestmark = pytest.mark.usefixtures("started")


def in_turn(func: Any, count: Any = 3) -> Any:
    """Run `func(i)` in that many tasks at once, and give the results."""
    return [task.wait() for task in [greenlab.spawn(func, i) for i in range(count)]]


def test_a_local_is_a_tasks_own() -> None:
    local = threading.local()
    local.x = "main"

    def task(i: Any) -> Any:
        before = hasattr(local, "x")
        local.x = i
        time.sleep(0.001)
        return before, local.x, vars(local)

    assert [(False, i, {"x": i}) for i in range(3)] == in_turn(task)
    assert "main" == local.x


def test_a_locals_init_runs_in_each_task_with_the_first_arguments() -> None:
    class Local(threading.local):
        kind = "class"

        def __init__(self, start: Any, *, step: Any = 1) -> None:
            self.values = [start]
            self.step = step

        @property
        def total(self) -> Any:
            return sum(self.values)

    local = Local(10, step=5)

    def task(i: Any) -> Any:
        local.values.append(i)
        time.sleep(0.001)
        return local.total, local.step, local.kind

    assert [(10, 5, "class"), (11, 5, "class"), (12, 5, "class")] == in_turn(task)
    assert [10] == local.values
    local_class: Any = threading.local
    with pytest.raises(TypeError):
        local_class(1)


def test_a_local_takes_and_deletes_attributes_as_objects_do() -> None:
    class Local(threading.local):
        __slots__ = ("shared",)

        @property
        def fixed(self) -> Any:
            return 1

    local = Local()

    def task() -> Any:
        with pytest.raises(AttributeError, match="nothing"):
            _ = local.nothing
        with pytest.raises(AttributeError, match="nothing"):
            del local.nothing
        with pytest.raises(AttributeError):
            local.fixed = 2  # type: ignore[misc]
        with pytest.raises(AttributeError, match="read-only"):
            local.__dict__ = {}
        local.here = 1
        del local.here
        local.shared = "by all"
        return hasattr(local, "here"), vars(local), local.fixed

    assert (False, {}, 1) == greenlab.spawn(task).wait()
    assert "by all" == local.shared  # slots are shared, as the documentation of threading.local says


def test_values_of_a_local_go_with_the_task_and_with_the_local() -> None:
    class Value:
        pass

    local = threading.local()
    alive = []

    def task() -> Any:
        local.value = Value()
        alive.append(weakref.ref(local.value))

    greenlab.spawn(task).wait()
    time.sleep(0)
    gc.collect()
    assert alive[0]() is None

    def keeper() -> Any:
        mine = threading.local()
        mine.value = Value()
        ref = weakref.ref(mine.value)
        del mine
        return ref

    assert greenlab.spawn(keeper).wait()() is None


def test_other_threads_have_their_own_values_of_a_local() -> None:
    local = threading.local()
    local.x = 1
    seen = []
    thread = threading.Thread(target=lambda: seen.append(hasattr(local, "x")))
    thread.start()
    thread.join()
    assert [False] == seen


@pytest.mark.parametrize("spawn", [greenlab.spawn, eventlet_spawn], ids=["greenlab", "eventlet"])
def test_context_variables_are_inherited_and_then_a_tasks_own(spawn: Any) -> None:
    variable = contextvars.ContextVar("variable", default="nobody's")
    variable.set("spawner's")

    def task(i: Any) -> Any:
        before = variable.get()
        variable.set(i)
        time.sleep(0.001)
        return before, variable.get()

    tasks = [spawn(task, i) for i in range(3)]
    assert [("spawner's", i) for i in range(3)] == [each.wait() for each in tasks]
    assert "spawner's" == variable.get()


@pytest.mark.parametrize("spawn", [greenlab.spawn, eventlet_spawn], ids=["greenlab", "eventlet"])
def test_a_decimal_context_is_a_tasks_own(spawn: Any) -> None:
    decimal.getcontext()

    def task(digits: Any) -> Any:
        with decimal.localcontext() as context:
            context.prec = digits
            time.sleep(0.001)
            return str(decimal.Decimal(1) / 3)

    tasks = [spawn(task, digits) for digits in (3, 5)]
    assert ["0.333", "0.33333"] == [each.wait() for each in tasks]


def test_tasks_say_that_they_run_in_the_hubs_thread() -> None:
    def task() -> Any:
        me = threading.current_thread()
        return (
            me is threading.main_thread(),
            threading.get_ident() == me.ident == _thread.get_ident(),
            me in threading.enumerate(),
            threading.get_ident() in sys._current_frames(),
        )

    before = threading.active_count()
    assert (True, True, True, True) == greenlab.spawn(task).wait()
    assert before == threading.active_count()


def test_a_thread_started_in_a_task_is_native() -> None:
    def task() -> Any:
        seen = []

        def body() -> Any:
            time.sleep(0.01)  # natively: were it on the hub, the ticker below would count another thread's sleep
            seen.append((threading.get_ident(), threading.current_thread()))

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        return thread, seen

    thread, [(ident, current)] = greenlab.spawn(task).wait()
    assert thread is current
    assert ident == thread.ident
    assert ident != threading.get_ident()


def test_joining_a_thread_lets_other_tasks_run() -> None:
    order = []
    go = _thread.allocate_lock()
    go.acquire()
    thread = threading.Thread(target=go.acquire)
    thread.start()

    def joins() -> Any:
        thread.join()
        order.append("joined")

    def releases() -> Any:
        order.append("other task")
        go.release()

    tasks = [greenlab.spawn(joins), greenlab.spawn(releases)]
    for task in tasks:
        task.wait()
    assert ["other task", "joined"] == order


def test_an_rlock_belongs_to_a_task() -> None:
    lock = threading.RLock()
    order = []

    def task(i: Any) -> Any:
        with lock, lock:
            order.append(i)
            time.sleep(0.001)
            order.append(i)

    in_turn(task)
    assert [0, 0, 1, 1, 2, 2] == order
