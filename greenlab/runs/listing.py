"""What runs now: background tasks, runs, and the tasks of runs, each with an id by which it can be killed.

A background task and a run have a number; task 418 of run 7 is `7.418`.

Must not import: live, magics.
"""

from __future__ import annotations

import html
import time
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenlab.errors import UsageError
from greenlab.places import format_place
from greenlab.runs.run import Run
from greenlab.text.format import counted, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from greenlab.hub import GuestHub
    from greenlab.places import Place
    from greenlab.pools.protocol import InFlight

_HEAD = ("id", "what", "pool", "state", "age", "where")
_SHOWN = 20


@dataclass(frozen=True)
class Row:
    """One thing that runs.

    Attributes:
        id: what `%greenkill` takes.
        what: the name of the task, or of the run.
        pool: the pool; "hub" for a background task.
        state: "running", "waiting", "waiting to start"; of a run, how far it is.
        age_s: seconds since it began.
        place: where it stands: file name, line, function; None for a run, and where that is not known.
        worker: the process id of its worker, or the native id of its thread, if it has one.
    """

    id: str
    what: str
    pool: str
    state: str
    age_s: float
    place: Place | None = None
    worker: int | None = None

    @property
    def where(self) -> str:
        """Where it stands, as text."""
        worker = f"worker {self.worker}" if self.worker is not None else ""
        return ", ".join(filter(None, (format_place(self.place) if self.place else "", worker)))


class Listing(list[Row]):
    """What runs at one moment: a list of rows, shown as a table."""

    def _cells(self) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = [
            (row.id, row.what, row.pool, row.state, seconds(row.age_s), row.where) for row in self._shown()
        ]
        left = len(self) - len(rows)
        return [*rows, ("", f"and {counted(left, 'more task')}", "", "", "", "")] if left else rows

    def _shown(self) -> list[Row]:
        """The first tasks of each run, and everything else."""
        seen: dict[str, int] = {}
        shown = []
        for row in self:
            run, dot, _ = row.id.partition(".")
            seen[run] = seen.get(run, 0) + bool(dot)
            if seen[run] <= _SHOWN:
                shown.append(row)
        return shown

    def __repr__(self) -> str:
        if not self:
            return "nothing runs"
        cells = [_HEAD, *self._cells()]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
        )

    def _repr_html_(self) -> str:
        if not self:
            return "<div>nothing runs</div>"
        head = "".join(f'<th style="text-align:left">{name}</th>' for name in _HEAD)
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self._cells()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Killed(list[str]):
    """The ids of what was killed, a list that is shown as a sentence.

    Attributes:
        names: what they were, such as "task 3 (fetch)", in the same order.
        ended: the ids of what did not run.
        unstoppable: the ids of what runs where nothing can stop it.
    """

    def __init__(
        self, killed: Iterable[tuple[str, str]] = (), ended: Iterable[str] = (), unstoppable: Iterable[str] = ()
    ) -> None:
        pairs = list(killed)
        super().__init__(number for number, _ in pairs)
        self.names = [name for _, name in pairs]
        self.ended = list(ended)
        self.unstoppable = list(unstoppable)

    def __repr__(self) -> str:
        done = f"killed {_joined(self.names)}" if self.names else "nothing was killed"
        why = []
        if self.ended:
            why.append(f"{_joined(self.ended)} {'does' if len(self.ended) == 1 else 'do'} not run")
        if self.unstoppable:
            where = "where it runs" if len(self.unstoppable) == 1 else "where they run"
            why.append(f"{_joined(self.unstoppable)} cannot be stopped {where}")
        return ": ".join(filter(None, (done, ", ".join(why))))


def _joined(words: list[str]) -> str:
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def list_tasks(hub: GuestHub) -> Listing:
    """List what runs on a hub: background tasks, runs, and below each run its tasks, oldest first."""
    listing = Listing()
    for task in sorted((task for task in hub.tasks if not task.dead), key=lambda task: int(task.id)):
        run = task.about
        if not isinstance(run, Run):
            age_s = time.monotonic() - task.spawned_s
            listing.append(Row(str(task.id), task.name, "hub", task.state, age_s, task.place))
        elif run.running:
            listing.append(Row(str(task.id), f"run of {run.label}", run.pool, _progress(run), run.elapsed_s))
            in_flight = sorted(run.tasks_in_flight(), key=lambda one: one.started_s)
            listing += [_row_of(task.id, run, one) for one in in_flight]
    return listing


def _progress(run: Run) -> str:
    of = "" if run.total is None else f" of {run.total:,}"
    return f"{run.done:,}{of} done"


def _row_of(run_id: int, run: Run, task: InFlight) -> Row:
    age_s = max(0.0, perf_counter() - task.started_s)
    state = "waiting" if task.worker is None else "running"
    return Row(f"{run_id}.{task.index}", "task", run.pool, state, age_s, task.where, task.worker)


def kill(hub: GuestHub, ids: Iterable[str | int]) -> Killed:
    """Kill background tasks and tasks of runs, and cancel runs, by their ids in `list_tasks`.

    Returns:
        the ids that were killed; one that had ended meanwhile is not among them.

    Raises:
        UsageError: something is no id; nothing was killed.
    """
    wanted = [_parse(one) for one in ids]
    if not wanted:
        raise UsageError(
            "say what to kill, by the ids of %greenps: %greenkill 3, or %greenkill 3.17 for one task of a run"
        )
    tasks = {int(task.id): task for task in hub.tasks if not task.dead}
    killed, ended, unstoppable = [], [], []
    for number, index in wanted:
        id_ = f"{number}" if index is None else f"{number}.{index}"
        if number in tasks and _kill(tasks[number], index):
            killed.append((id_, _name(tasks[number], index)))
        elif number in tasks and _runs(tasks[number].about, index):
            unstoppable.append(id_)
        else:
            ended.append(id_)
    return Killed(killed, ended, unstoppable)


def _runs(run: Any, index: int | None) -> bool:
    return isinstance(run, Run) and any(held.index == index for held in run.tasks_in_flight())


def _name(task: Any, index: int | None) -> str:
    if index is not None:
        return f"task {index} of run {task.id}"
    return f"run {task.id} ({task.about.label})" if isinstance(task.about, Run) else f"task {task.id} ({task.name})"


def _parse(one: str | int) -> tuple[int, int | None]:
    number, dot, index = str(one).partition(".")
    if not number.isdecimal() or (dot and not index.isdecimal()):
        raise UsageError(f"{one!r} is no id: %greenps lists them, such as 3, or 3.17 for task 17 of run 3")
    return int(number), int(index) if dot else None


def _kill(task: Any, index: int | None) -> bool:
    run = task.about
    if isinstance(run, Run):
        if not run.running:
            return False
        if index is not None:
            return run.kill(index)
        run.cancel()
        return True
    if index is not None:
        return False
    task.kill()
    return True
