"""The stepper: green tasks on a virtual clock, one switch at a time, for teaching.

Guarantees: the same tasks give the same log every time, on every machine; sleeping takes no time; nothing else runs
during a step, and the real hub with its background tasks goes on afterwards as before.

Bounds: what a task does by itself (a random number, the order of a set of strings) may differ each time. A
stepper whose tasks have not all ended stays until `close`, or until greenlab stops: waiting greenlets are never
collected.

Must not import: live, magics.
"""

from __future__ import annotations

import sys
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import greenlet

from greenlab.errors import UsageError
from greenlab.greening.stepping import stepping
from greenlab.hub import Task, spawn
from greenlab.hub.stepping import StepHub
from greenlab.text.format import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenlab.hub import GuestHub
    from greenlab.hub.waits import Wait

MOST_STEPS = 10_000
"""Steps that `run` makes at the most by default: a task may never end."""
_LAST_STEPS = 1000


class Step(NamedTuple):
    """One step: a task went on until it waited, or ended.

    Attributes:
        number: 1, 2, 3 …
        time_s: the virtual time, seconds.
        name: of the task.
        then: what it waits for now, or how it ended.
    """

    number: int
    time_s: float
    name: str
    then: str

    def __str__(self) -> str:
        return f"{self.number:>3}  at {format_time(self.time_s)}  {self.name} runs, then {self.then}"


class Stepper:
    """Green tasks that go on step by step. Made by `greenlab.stepper`.

    Attributes:
        tasks: the `Task`s, in the order in which they were given, and those that they spawned.
        log: the steps made so far.
    """

    def __init__(self, real: GuestHub, calls: tuple[Any, ...]) -> None:
        if not calls:
            raise UsageError("say what to step through: stepper(f, g), or stepper((f, args), (g, args))")
        parsed = [_call(call) for call in calls]
        self.log: list[Step] = []
        self.tasks: list[Task] = []
        self._waits: dict[Task, str] = {}
        self._others: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()
        self._hub = StepHub(real)
        with stepping(self._hub):
            tasks = [spawn(self._hub, func, *args) for func, args in parsed]
        for task, name in zip(tasks, _names([func for func, _ in parsed]), strict=True):
            self._add(task, name)
        self._hub.on_spawn = self._add
        real.keep("steppers", _Steppers).add(self)

    def _add(self, task: Task, name: str | None = None) -> None:
        if task in self._waits:
            return
        if name is None:
            alike = [other.name for other in self.tasks if other.name.split(" ")[0] == task.name]
            name = f"{task.name} {len(alike) + 1}" if alike else task.name
        task.name = name
        task.link(_ignore)  # the log has its failure, which must not be printed as well
        self.tasks.append(task)
        self._waits[task] = "has not begun"

    # -- steps ---------------------------------------------------------------------------------------------

    @property
    def now_s(self) -> float:
        """The virtual time, seconds."""
        return self._hub.now_s

    @property
    def ended(self) -> bool:
        """Whether every task has ended."""
        return all(task.dead for task in self.tasks)

    def step(self, count: int = 1) -> None:
        """Make one step, or some more, and print what happened.

        Raises:
            UsageError: the number of steps makes no sense, or this is called in a step.
        """
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise UsageError(f"the number of steps must be a whole number of 1 or more, not {count!r}")
        for _ in range(count):
            if not self._print_step():
                return

    def run(self, *, until_s: float | None = None, steps: int = MOST_STEPS) -> None:
        """Make every step that there is, and print what happened.

        Args:
            until_s: the virtual time at which to stop; a step that is due later is not made.
            steps: how many to make at the most.
        """
        for _ in range(steps):
            due_s = self._hub.next_s()
            if until_s is not None and due_s is not None and due_s > until_s:
                _print(f"     the next step is at {format_time(due_s)}")
                return
            if not self._print_step():
                return
        _print(f"     stopped after {counted(steps, 'step')}, and there are more")

    def __iter__(self) -> Iterator[Step]:
        """Make a step for each iteration, print nothing, and stop when no task can go on."""
        while (step := self._next()) is not None:
            yield step

    def _print_step(self) -> bool:
        """Make a step, print it, and return whether there was one."""
        step = self._next()
        _print(self._end() if step is None else str(step))
        return step is not None

    def _next(self) -> Step | None:
        hub = self._hub
        if hub.closed_down:
            return None
        if hub.busy:
            raise UsageError("a step is being made: a stepper cannot be stepped by its own tasks")
        hub.busy = True
        try:
            with stepping(hub):
                green = hub.turn()
        finally:
            hub.busy = False
        if green is None:
            if self.ended:
                self.close()
            return None
        then = _ending(green) if green.dead else _waiting(hub.wait_for, hub.wake_s, hub.now_s)
        if isinstance(green, Task):
            self._waits[green] = then
        step = Step(len(self.log) + 1, hub.now_s, self._name(green), then)
        self.log.append(step)
        if then.startswith("fails: KeyboardInterrupt"):
            raise KeyboardInterrupt  # it was meant for the caller
        return step

    def _name(self, green: Any) -> str:
        if isinstance(green, Task):
            return green.name
        if green not in self._others:
            self._others[green] = f"green thread {len(self._others) + 1}"
        return self._others[green]

    def _end(self) -> str:
        waiting = [f"{task.name} {self._waits[task]}" for task in self.tasks if not task.dead]
        if not waiting:
            return "     all tasks have ended"
        return f"     nothing can go on: {', '.join(waiting)}"

    # -- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Kill the tasks that have not ended; their `finally` clauses run. Safe to call twice."""
        hub = self._hub
        if hub.closed_down:
            return
        with stepping(hub):
            for task in self.tasks:
                if not task.dead:
                    hub.schedule_call_global(0, task.throw, greenlet.GreenletExit)
            for _ in range(_LAST_STEPS):
                if hub.turn() is None:
                    break
        self._waits |= {task: "is killed" for task in self.tasks if task.state == "killed"}
        hub.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        count = len(self.log)
        lines = [f"stepper at {format_time(self.now_s)}, after {count:,} step{'s' * (count != 1)}"]
        lines += [f"  {task.name} {self._waits[task]}" for task in self.tasks]
        return "\n".join(lines)


class _Steppers:
    """The open steppers of one hub, which are closed with it."""

    def __init__(self) -> None:
        self._all: weakref.WeakSet[Stepper] = weakref.WeakSet()

        self.latest: weakref.ref[Stepper] | None = None

    def add(self, stepper: Stepper) -> None:
        self._all.add(stepper)
        self.latest = weakref.ref(stepper)

    def close(self) -> None:
        for stepper in list(self._all):
            stepper.close()


def latest(hub: GuestHub) -> Stepper | None:
    """Return the stepper that was made last, if it is still there."""
    made: _Steppers = hub.keep("steppers", _Steppers)
    return made.latest() if made.latest is not None else None


def format_time(time_s: float) -> str:
    """Format a virtual time, without the rounding errors of added tenths."""
    return f"{round(time_s, 9):g} s"


def _call(call: Any) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return the function and the arguments of a call: a function, (func, args) or (func, arg, …)."""
    if callable(call):
        return call, ()
    if isinstance(call, tuple) and call and callable(call[0]):
        rest = call[1:]
        return call[0], rest[0] if len(rest) == 1 and isinstance(rest[0], tuple) else rest
    raise UsageError(f"a stepper takes functions, or (func, args), not {call!r}: write stepper(f), not stepper(f())")


def _names(funcs: list[Callable[..., Any]]) -> list[str]:
    """Name tasks by their functions, with a number where one runs several times."""
    plain = [str(getattr(func, "__name__", type(func).__name__)) for func in funcs]
    seen: dict[str, int] = {}
    names = []
    for name in plain:
        seen[name] = seen.get(name, 0) + 1
        names.append(f"{name} {seen[name]}" if plain.count(name) > 1 else name)
    return names


def _waiting(wait: Wait, wake_s: float | None, now_s: float) -> str:
    if wait.kind != "sleep" or wake_s is None:
        return f"waits for {wait.words}"
    return f"sleeps until {format_time(wake_s)}" if wake_s > now_s else "lets the others run"


def _ending(green: Any) -> str:
    if not isinstance(green, Task) or green.state == "killed":
        return "ends" if not isinstance(green, Task) else "is killed"
    if green.state == "failed":
        try:
            green.wait()
        except BaseException as error:
            return f"fails: {type(error).__name__}" + (f": {error}" if str(error) else "")
    value = green.wait()
    return "ends" if value is None else f"returns {value!r}"


def _ignore(_task: Task) -> None:
    pass


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
