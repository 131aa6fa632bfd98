"""The registry of pools: what each pool is called, how it is sized, what it promises, and how it is made.

All that the rest of greenlab knows about a pool by its name stands in its `PoolSpec`; nothing outside this room asks
`if pool == "prefork"`. A new pool is a new row of `SPECS`.

Guarantees: the registry loads no pool before one is asked for: worker processes and the process that draws import it.

Must not import: runs, live, magics; a concrete pool at the top.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from greenlab import patched
from greenlab.checks import did_you_mean
from greenlab.errors import UsageError
from greenlab.pools.this_process import inside_worker
from greenlab.text.format import how_to_add

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from greenlab.hub import GuestHub
    from greenlab.pools.protocol import Pool

__all__ = [
    "AUTO",
    "ELSEWHERE",
    "LOCAL",
    "NAMES",
    "PROMISES",
    "SPECS",
    "PoolSpec",
    "check_name",
    "check_promises",
    "get",
    "spec_of",
    "width",
]

PROMISES: Final = {
    "max_tasks": ("--max-tasks", "does not replace workers"),
    "max_memory": ("--max-memory", "does not replace workers"),
}
"""Options that change what a run promises, each with its flag and what a pool that cannot keep it is told.

A pool that cannot keep one refuses it before anything starts. A time limit is none of them: every pool keeps it. The
options that only size a pool, `concurrency` and `workers`, are ignored by pools that have no such size, so that a loop
over pools may pass both.
"""


@dataclass(frozen=True)
class PoolSpec:
    """What is known of a pool before it is made.

    Attributes:
        name: the word that `-p` takes.
        about: what a task is there, in a few words.
        color: its colour in every picture, as #rrggbb.
        promises: which of `PROMISES` it keeps.
        has_workers: whether `workers` (`-w`) sizes it: it has worker processes.
        task_a_worker: whether each worker holds one task, so that `workers` is how many are in flight and
            `concurrency` (`-c`) says nothing.
        leaves_process: whether tasks leave this process: functions, items and values are then pickled.
        on_hub: whether tasks are green threads of this process's hub, so that one that computes holds the others up.
        leaves_machine: whether tasks may leave this machine: its cores are then not what limits them.
        own_hubs: whether tasks are green threads of hubs in other processes.
        slow_beyond: with more tasks in flight they slow each other down, so that advice and the auto pool stop there;
            None where nothing is known against more.
        most: how many tasks in flight a live view offers to try, or None for as many as make a difference.
        startup_s: what the pool costs before its first task, in seconds, where that was not measured in this process.
        sending_s: what the parent spends on a task that leaves the process, in seconds: the serial part, which by
            Amdahl's law (AFIPS 1967) no number of workers makes smaller.
        make: makes the pool of a hub; None for `auto`, which is made of the others.
    """

    name: str
    about: str
    color: str
    promises: frozenset[str] = frozenset()
    has_workers: bool = False
    task_a_worker: bool = False
    leaves_process: bool = False
    leaves_machine: bool = False
    on_hub: bool = False
    own_hubs: bool = False
    slow_beyond: int | None = None
    most: int | None = None
    startup_s: float = 0.0
    sending_s: float = 0.0
    make: Callable[[GuestHub], Pool] | None = field(default=None, repr=False, compare=False)

    @property
    def size_flag(self) -> str:
        """The flag that sets how many tasks are in flight."""
        return "-w" if self.task_a_worker else "-c"

    @property
    def size_name(self) -> str:
        """What that number is called: "workers" or "concurrency"."""
        return "workers" if self.task_a_worker else "concurrency"

    def width(self, concurrency: int, workers: int) -> int:
        """Return how many tasks a run with these options has in flight."""
        return workers if self.task_a_worker else concurrency

    def sizes(self, concurrency: int, workers: int | None) -> dict[str, int]:
        """Return those of the two sizes that this pool has, as options."""
        found: dict[str, int] = {} if self.task_a_worker else {"concurrency": concurrency}
        return found if workers is None or not self.has_workers else {**found, "workers": workers}


def _make_green(_hub: GuestHub) -> Any:
    from greenlab.pools.green import GreenPool

    return GreenPool()


def _make_threads(_hub: GuestHub) -> Any:
    from greenlab.pools.threads import ThreadsPool

    return ThreadsPool()


def _make_prefork(_hub: GuestHub) -> Any:
    from greenlab.pools.prefork import PreforkPool

    return PreforkPool()


def _make_hybrid(hub: GuestHub) -> Any:
    from greenlab.hub.watchdog import watchdog_of
    from greenlab.pools.hybrid import HybridPool

    return HybridPool(lambda: watchdog_of(hub).after_s)


def _make_celery(hub: GuestHub) -> Any:
    from greenlab.hub.watchdog import watchdog_of
    from greenlab.pools.celery import CeleryPool

    if find_spec("celery") is None:
        raise UsageError(f"Celery is not installed: {how_to_add('celery')}")

    def place_of(func: Any) -> str | None:
        place: str | None = func.routed_to(hub) if hasattr(func, "routed_to") else None  # a `routes.Routed`
        return place

    return CeleryPool(lambda: watchdog_of(hub).after_s, place_of)


AUTO: Final = "auto"

# The colours are Okabe and Ito's palette, which people with any common colour blindness can tell apart
# (https://jfly.uni-koeln.de/color/).
SPECS: Final[Mapping[str, PoolSpec]] = {
    spec.name: spec
    for spec in (
        PoolSpec(
            name="green",
            about="a green thread of this kernel",
            color="#009e73",
            on_hub=True,
            make=_make_green,
        ),
        PoolSpec(
            name="threads",
            about="an OS thread, with native primitives",
            color="#0072b2",
            # Each thread costs a stack and a place in the queue for the GIL.
            slow_beyond=200,
            most=1000,
            make=_make_threads,
        ),
        PoolSpec(
            name="prefork",
            about="the one task that a worker process holds",
            color="#e69f00",
            promises=frozenset(PROMISES),
            has_workers=True,
            task_a_worker=True,
            leaves_process=True,
            startup_s=0.1,  # of two processes: 65 to 85 ms were measured, on a server's idle processor
            sending_s=26e-6,  # 38,700 no-op tasks a second with one in flight a worker
            make=_make_prefork,
        ),
        PoolSpec(
            name="hybrid",
            about="a green thread of one of several processes",
            color="#cc79a7",
            has_workers=True,
            leaves_process=True,
            own_hubs=True,
            startup_s=0.3,  # of two processes: 220 to 260 ms were measured
            sending_s=15e-6,  # more tasks a second than prefork's, with a window of them in flight a worker
            make=_make_hybrid,
        ),
        PoolSpec(
            name="celery",
            about="a task of a Celery worker, here or elsewhere",
            color="#56b4e9",
            leaves_process=True,
            leaves_machine=True,
            startup_s=0.2,  # of workers that are up: two ways by the broker, and the function's import
            sending_s=65e-6,  # 15,400 tasks a second by a broker
            make=_make_celery,
        ),
        PoolSpec(
            name=AUTO,
            about="one of green's, and then of the pool that the rest is moved to",
            color="#6b7280",  # it stands for whichever of the others is chosen
            has_workers=True,
        ),
    )
}
"""Every pool by its name, in the order in which they are listed. The last one is no pool of its own: it begins in
green, and moves the rest of a run to where its tasks belong."""
NAMES: Final = tuple(SPECS)
"""What `-p` takes."""
LOCAL: Final = tuple(name for name, spec in SPECS.items() if not spec.leaves_machine)
"""Those that need nothing but this machine."""
ELSEWHERE: Final = next(name for name, spec in SPECS.items() if spec.leaves_machine)
"""The one whose tasks may run on other machines."""


def spec_of(name: str) -> PoolSpec:
    """Return the `PoolSpec` of a pool.

    Raises:
        UsageError: no such pool; the message lists those there are.
    """
    check_name(name)
    return SPECS[name]


def check_name(name: str) -> None:
    """Refuse a pool that does not exist.

    Raises:
        UsageError: the message lists those there are.
    """
    have = f"{', '.join(NAMES[:-1])} or {NAMES[-1]}"
    if name not in NAMES:
        raise UsageError(f"there is no pool {name!r}: use {have}{did_you_mean(str(name), NAMES)}")


def check_promises(name: str, asked: Iterable[str]) -> None:
    """Refuse an option that the pool cannot keep.

    Args:
        name: the pool.
        asked: the options of `PROMISES` that are asked for.

    Raises:
        UsageError: the message names the pools that can.
    """
    for option in asked:
        if option not in spec_of(name).promises:
            flag, why = PROMISES[option]
            able = " or ".join(spec.name for spec in SPECS.values() if option in spec.promises)
            raise UsageError(f"the {name} pool {why}: {option} ({flag}) goes with the {able} pool")


def width(name: str, concurrency: int, workers: int) -> int:
    """Return how many tasks a run has in flight, see `PoolSpec.width`."""
    return spec_of(name).width(concurrency, workers)


def get(hub: GuestHub, name: str) -> Pool:
    """Return the pool called `name`, made if need be. It lives as long as the hub, and sizes itself by its jobs.

    Raises:
        UsageError: no such pool, or one of processes within a worker process, or any but green where eventlet has
            patched the process. `auto` is made of the others, by what
            tasks cost: see `greenlab.advising.auto_pool.get_pool`.
    """
    spec = spec_of(name)
    if spec.make is None:
        raise UsageError(f"{name} is made of the other pools: use greenlab.run(..., pool={name!r})")
    if not spec.on_hub:
        patched.refuse_natively(f"the {name} pool")
    if spec.leaves_process and inside_worker():
        raise UsageError(
            "a task in a worker process cannot start worker processes: "
            "run the outer tasks in green, or the inner ones with pool='green'"
        )
    return keep(hub, name)


def keep(hub: GuestHub, name: str) -> Pool:
    """Return the pool called `name` as `get` does, without asking whether a run may have it in this process."""
    make: Any = SPECS[name].make
    pool: Pool = hub.keep(f"pool {name}", lambda: make(hub))
    return pool
