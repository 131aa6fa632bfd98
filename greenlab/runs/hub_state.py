"""The state of a hub, as `%greenhub` shows it: the hub itself, what is greened, the pools, what runs.

Must not import: live, magics.
"""

from __future__ import annotations

import contextlib
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from greenlab import greening, patched
from greenlab.errors import UsageError
from greenlab.pools import registry
from greenlab.runs.run import Run
from greenlab.text.format import counted

if TYPE_CHECKING:
    from greenlab.hub import GuestHub

_POOL = "pool "


@runtime_checkable
class HasRemoteWorkers(Protocol):
    """A pool whose workers are on whatever machine."""

    def describe_workers(self) -> list[str]:
        """Return a line for each worker."""


@dataclass(frozen=True)
class HubState:
    """A hub at one moment.

    Attributes:
        host: what turns the hub: "the running event loop", or "this thread while it waits".
        turns: how often it has turned since it was started.
        switches: how often a green thread has given up the hub.
        replaced: how many names of the standard library and of drivers are replaced, by owner.
        pools: the pools that were used, with the process ids of their workers.
        remote: what is known of workers that are not this kernel's own processes, a line each.
        tasks: how many background tasks have not ended.
        runs: how many runs go on.
    """

    host: str
    turns: int
    switches: int
    replaced: dict[str, int]
    pools: dict[str, tuple[int, ...]]
    remote: tuple[str, ...]
    tasks: int
    runs: int

    def _rows(self) -> list[tuple[str, str]]:
        owners = ", ".join(sorted(self.replaced))
        workers = [f"{name} ({_pids(pids)})" if pids else name for name, pids in self.pools.items()]
        return [
            ("hub", f"turned by {self.host}"),
            ("turns", f"{self.turns:,}, with {counted(self.switches, 'switch')}"),
            ("greened", f"{counted(sum(self.replaced.values()), 'name')} of {owners}" if self.replaced else "nothing"),
            ("pools", ", ".join(workers) or "none used yet"),
            *[("worker", line) for line in self.remote],
            ("running", f"{counted(self.runs, 'run')}, {counted(self.tasks, 'background task')}: %greenps lists them"),
        ]

    def __repr__(self) -> str:
        return "\n".join(f"{name:8} {what}" for name, what in self._rows())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{html.escape(what)}</td></tr>'
            for name, what in self._rows()
        )
        return f"<table>{rows}</table>"


def _pids(pids: tuple[int, ...]) -> str:
    return f"{'worker' if len(pids) == 1 else 'workers'} {', '.join(map(str, pids))}"


def _describe_workers(hub: GuestHub) -> list[str]:
    """Return a line for each worker elsewhere: also before the first run there, to see whether they are up."""
    used = [pool for pool in hub.kept.values() if isinstance(pool, HasRemoteWorkers)]
    if used:
        return [line for pool in used for line in pool.describe_workers()]
    make = registry.spec_of(registry.ELSEWHERE).make
    with contextlib.suppress(UsageError):
        patched.refuse_natively(f"the {registry.ELSEWHERE} pool")
        pool = make(hub) if make is not None else None
        if isinstance(pool, HasRemoteWorkers):
            try:
                return pool.describe_workers()
            finally:
                pool.close()
    return []


def state_of(hub: GuestHub) -> HubState:
    """Return the state of a hub at this moment."""
    replaced: dict[str, int] = {}
    for owner, _ in greening.replaced():
        replaced[owner] = replaced.get(owner, 0) + 1
    used = {
        key.removeprefix(_POOL): pool.pids
        for key, pool in hub.kept.items()
        if isinstance(key, str) and key.startswith(_POOL)
    }
    alive = [task for task in hub.tasks if not task.dead]
    runs = sum(isinstance(task.about, Run) for task in alive)
    return HubState(
        host="the running event loop" if hub.host else "this thread while it waits",
        turns=hub.turns,
        switches=hub.switches,
        replaced=replaced,
        pools=used,
        remote=tuple(_describe_workers(hub)),
        tasks=len(alive) - runs,
        runs=runs,
    )
