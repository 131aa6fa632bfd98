"""The eventlet hub as a guest of another event loop.

The kernel's asyncio loop stays the host. The guest is in one of three states:

* *parked*: the main greenlet runs the host loop. The host watches the hub's poller descriptor and holds one
  timer for the hub's next deadline; nothing else, so an idle hub causes no wake-ups. When either fires, the host
  calls `_pump`, which switches into the hub for one turn; `wait` then parks again instead of blocking.
* *blocking*: the main greenlet waits for something green (a cell in `task.wait()`, `time.sleep`, a socket). The
  hub polls as eventlet always does, and the host stands still until the main greenlet is switched to.
* *turning*: green threads run.

Guarantees:

* one turn a host callback: neither the host's callbacks nor the green threads starve the other;
* of many that are due at once, a turn resumes as many as a slice of time allows, and then polls: sockets and the host
  are not kept waiting by timers;
* an exception in a task, a timer or a callback never ends the hub, whatever its class;
* an interrupt (SIGINT) of a waiting cell is raised in the main greenlet, where it waits, not in whichever green
  thread happened to run; if a green thread hogs the hub, it gets the interrupt instead (see `_interrupts`);
* a green thread starts with the context variables of its spawner, also with plain `eventlet.spawn`:
  output is routed to cells by a context variable (ipykernel 7), and greenlets start with an empty context.

A host needs `call_soon`, `call_later`, `add_reader` and `remove_reader` with asyncio's meanings; without a host
(plain scripts) the hub only turns while the main greenlet waits.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

import contextvars
import heapq
import weakref
from math import inf
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab import patched
from greenlab.hub import nested
from greenlab.hub._interrupts import Interrupts
from greenlab.hub._quiet import eventlet
from greenlab.hub._reprs import hub_bundle, hub_words
from greenlab.hub._wakeups import WakeupQueue
from greenlab.hub.host import HostLink
from greenlab.hub.slices import SLICE_S, SlicedHub

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub.host import Host

_get_ident = patched.original("_thread").get_ident
_getcurrent = greenlet.getcurrent
_copy_context = contextvars.copy_context
_LONGEST_POLL_S = 3600.0


class GuestHub(SlicedHub):
    """The hub of one OS thread. Make it with `greenlab.hub.start`, on the thread it shall serve.

    Attributes:
        thread_id: the ident of the hub's thread.
        root: the thread's main greenlet: cells run in it, and the host loop.
        switches: how often a green thread gave up the hub so far.
        turn_started_s: when the present turn began, `time.perf_counter()` seconds.
        ready_s: since when what is resumed now could have gone on, `time.perf_counter()` seconds; of a descriptor that
            was ready when the hub came to poll, half of the turn before is taken.
        busy: whether the hub is turning; false while it polls or is parked.
        parked: whether it rests until the host pumps it, or the main greenlet waits.
        tasks: every `Task` of this hub that is still referred to; the running ones are among them.
        holder: the green thread that was started or resumed last, until it gives up the hub. It may have ended since.
        waiter: what waits while the hub blocks: the main greenlet, or one that others made for its code.
        hubs: the greenlets that the hub has run in: the present one, and any that died.
    """

    # With no "system" exceptions eventlet's loop prints what a callback raised, and goes on.
    SYSTEM_EXCEPTIONS = ()

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        super().__init__(clock or monotonic)
        self.greenlet.parent = self.root

    def _set_up(self) -> None:
        """Set the attributes that a guest hub has beyond eventlet's."""
        super()._set_up()
        self.thread_id = _get_ident()
        root = _getcurrent()
        while root.parent is not None:
            root = root.parent
        self.root = self.waiter = self._host_greenlet = root
        self.hubs = {self.greenlet}
        self.switches = 0
        self.turns = 0
        self.holder: Any = None
        self.blocking = False
        self.closed_down = False
        self.parked = False
        self._pumping = False
        self._link = HostLink(self._poller_fd, self._pump, self.clock)
        self._interrupts = Interrupts(self)
        self.kept: dict[Any, Any] = {}
        self.tasks: weakref.WeakSet[Any] = weakref.WeakSet()
        self._closers: list[Callable[[], object]] = []
        self._wakeups = WakeupQueue()
        self.add(self.READ, self._wakeups.fd, self._drain_wakeups, _ignore, _ignore)

    # -- what the rest of greenlab calls -------------------------------------------------------------------

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        """Run `callback(*args)` in the hub, soon. May be called from any thread and any signal handler."""
        self._wakeups.call_soon(callback, *args)

    def close_with(self, closer: Callable[[], object]) -> None:
        """Have `closer()` called when the hub stops; the last that was added comes first."""
        self._closers.append(closer)

    def __repr__(self) -> str:
        return hub_words(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:  # noqa: ARG002
        return hub_bundle(self)

    def keep(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what is kept under `key`, made if need be; its `close()` is called when the hub stops."""
        if key not in self.kept:
            self.kept[key] = made = make()
            self.close_with(made.close)
        return self.kept[key]

    @property
    def host(self) -> Host | None:
        """The loop that pumps this hub, if there is one."""
        return self._link.host

    def attach(self, host: Host) -> None:
        """Become the guest of `host`: be pumped by it whenever the main greenlet does not wait. The former is left."""
        self._link.attach(host)

    def detach(self) -> None:
        """Leave the host: the hub turns while the main greenlet waits, until it is attached again."""
        self._link.detach()

    def make_current(self) -> None:
        """Become what eventlet takes for the hub of the calling thread, which is this hub's."""
        local = eventlet.hubs._threadlocal
        local.hub, local.Hub = self, type(self)

    def close(self) -> None:
        """Leave the host, close every descriptor and end the hub's greenlet. Only from the main greenlet."""
        if self.closed_down:
            return
        failures = self._call_closers()
        self.closed_down = True
        self._link.detach()
        del self.timers[:], self.next_timers[:]
        if self.greenlet:
            self.greenlet.throw(greenlet.GreenletExit)
        self.disown()
        if failures:
            raise failures[0]

    def _call_closers(self) -> list[Exception]:
        failures = []
        while self._closers:
            try:
                self._closers.pop()()
            except Exception as error:
                failures.append(error)  # one that fails must not keep the others from closing
        return failures

    def disown(self) -> None:
        """Close descriptors and forget everything, without a last turn: all that a forked child may do."""
        self.closed_down = True
        for bucket in (*self.listeners.values(), *self.secondaries.values()):
            bucket.clear()
        self._interrupts.disown()
        poller: Any = getattr(self, "poll", None) or getattr(self, "kqueue", None)
        if hasattr(poller, "close"):
            poller.close()
        self._wakeups.close()

    # -- eventlet's own interface --------------------------------------------------------------------------

    def switch(self) -> Any:
        """Give up the hub until something switches back: every wait of every green thread comes through here."""
        current = _getcurrent()
        self.switches += 1
        now_s = perf_counter()
        if now_s >= self.look_at_s:
            self.look(now_s)
        if current is self.root:
            return self.block(current)
        hub_greenlet = self.greenlet
        if current is hub_greenlet:
            raise RuntimeError("the hub itself cannot wait: do this in a green thread (greenlab.spawn)")
        if hub_greenlet.dead:
            self.ensure_greenlet()
            hub_greenlet = self.greenlet
        if current.parent is not hub_greenlet:
            return nested.wait(self, current)
        self.holder = None
        try:
            return hub_greenlet.switch()
        finally:
            now_s = perf_counter()
            if now_s >= self.look_at_s:
                now_s = self.look(now_s)  # at what was resumed before by a descriptor, and ended
            self.held_since_s = now_s
            self.holder = current

    def ensure_greenlet(self) -> None:
        """As eventlet's: have a greenlet that runs the hub, also after one that died."""
        if self.greenlet.dead:
            super().ensure_greenlet()
            self.hubs.add(self.greenlet)

    @property
    def turning(self) -> bool:
        """Whether it is the hub that runs what runs now, and not the thread's own code."""
        return self.blocking or self._pumping

    def owner(self) -> Any:
        """Return the green thread whose code the caller runs, or the thread's main greenlet. See `nested`."""
        return nested.owner_of(self, _getcurrent())

    def run(self, *args: Any, **kwargs: Any) -> None:
        """As eventlet's: the hub's greenlet. It begins in the middle of a turn."""
        self._turn()
        super().run(*args, **kwargs)

    def wait(self, seconds: float | None = None) -> None:
        """Poll once. Parked hubs come back from here when the host pumps them, or when the main greenlet waits."""
        self.moved_on()
        self.held_since_s = inf
        self.busy = False
        self.holder = None
        if self.closed_down:
            raise greenlet.GreenletExit  # thrown by `close` into a callback, which had to survive it
        if self._pumping:
            super().wait(0)
            self.moved_on()
            self.held_since_s = inf
            self.parked = True
            self.busy = False
            self.holder = None
            try:
                self._host_greenlet.switch()
            finally:
                self.parked = False
            self._turn()
        else:
            # epoll refuses more milliseconds than an int holds (24 days), and would end the hub by it.
            super().wait(seconds if seconds is None else min(seconds, _LONGEST_POLL_S))
        self.turns += 1

    def schedule_call_global(self, seconds: float, cb: Any, *args: Any, **kw: Any) -> Any:
        """As eventlet's; a greenlet that has not begun takes over the context variables of its spawner."""
        target = getattr(cb, "__self__", None)
        if isinstance(target, greenlet.greenlet) and not target and not target.dead:
            if target.gr_context is None:
                target.gr_context = _copy_context()
            if cb.__name__ == "switch":
                return super().schedule_call_global(seconds, self._begin, target, *args, **kw)
        elif isinstance(target, greenlet.greenlet) and cb.__name__ == "throw":
            return super().schedule_call_global(seconds, self._throw, target, *args, **kw)
        return super().schedule_call_global(seconds, cb, *args, **kw)

    def _begin(self, target: Any, *args: Any, **kw: Any) -> Any:
        """Start a green thread; `switch` notes only those that go on."""
        if target.parent is not self.greenlet:
            target.parent = self.greenlet  # what the hub starts is a green thread, and ends in the hub
        self.holder = target
        return target.switch(*args, **kw)

    def _throw(self, target: Any, *error: Any) -> None:
        nested.throw(self, target, *error)

    def add_timer(self, timer: Any) -> float:
        """As eventlet's; a parked hub tells its host of an earlier deadline."""
        when: float = super().add_timer(timer)
        if self.parked and not self._pumping:
            self._link.arm(when)
        return when

    def _turn(self) -> None:
        """Begin a turn, or go on with it after a poll; an interrupt comes before all others."""
        super()._turn()
        if self._interrupts.pending:
            self._interrupts.deliver()

    def squelch_generic_exception(self, exc_info: tuple[Any, Any, Any]) -> None:
        """As eventlet's: print what a callback raised. A closing hub prints nothing."""
        if not self.closed_down:
            super().squelch_generic_exception(exc_info)

    def squelch_timer_exception(self, timer: Any, exc_info: tuple[Any, Any, Any]) -> None:
        """As eventlet's: print what a timer, or the green thread that it started, raised."""
        if not self.closed_down:
            super().squelch_timer_exception(timer, exc_info)

    def squelch_exception(self, fileno: int, exc_info: tuple[Any, Any, Any]) -> None:
        """As eventlet's, but the wake-up queue is never unwatched."""
        if self.closed_down:
            return
        if fileno == self._wakeups.fd:
            self.squelch_generic_exception(exc_info)
        else:
            super().squelch_exception(fileno, exc_info)

    # -- the three states ----------------------------------------------------------------------------------

    def block(self, current: Any) -> Any:
        """Wait in the thread's own code: in the main greenlet, or in one that others made.

        The hub, wherever it stands, goes on from there.
        """
        if self._pumping:
            raise RuntimeError("the main greenlet cannot wait while it pumps the hub")
        self.ensure_greenlet()
        self.waiter = current
        self.holder = None
        self._interrupts.take_over(pumps=False)
        try:
            self.blocking = True
            value = self.greenlet.switch()
        finally:
            self.blocking = False
            self.moved_on()
            self.holder = self.root
            # The hub was left in the middle of a turn: the host must resume it once the cell is over.
            self._link.arm(self.clock())
            self._interrupts.hand_back()
            self._interrupts.call_pending()
        return value

    def _pump(self) -> None:
        """One turn, called by the host; in the main greenlet, or one of others that runs the host."""
        self._link.disarm()
        current = _getcurrent()
        if self.closed_down or (self.turning and (self._pumping or current is not self.root)):
            return  # a loop that runs inside a green thread: the hub is turning already
        if self._interrupts.rests():
            self._link.arm(self.clock() + SLICE_S)
            return
        self._host_greenlet = current
        self.holder = None
        self.ensure_greenlet()
        self._interrupts.take_over(pumps=True)
        try:
            self._pumping = True
            self.greenlet.switch()
            while not (self.parked or self.greenlet.dead or self._interrupts.pending):
                # A late wake-up meant for a wait of the main greenlet that is long over.
                self.greenlet.switch()
        finally:
            self._pumping = False
            self._arm_for_next()
            self._interrupts.hand_back()
            self._interrupts.call_pending()

    def _arm_for_next(self) -> None:
        """Ask the host for a pump when the next timer is due, or soon, if the turn has been cut short."""
        if not self.parked:
            self.holder = self.root
            self._link.arm(self.clock())
            return
        self.prepare_timers()
        while self.timers and self.timers[0][1].called:
            heapq.heappop(self.timers)
            self.timers_canceled -= 1
        if self.timers:
            self._link.arm(self.timers[0][0])

    def _poller_fd(self) -> int:
        poller = getattr(self, "kqueue", None) or self.poll
        fd: int = poller.fileno()
        return fd

    def _drain_wakeups(self, _fileno: int) -> None:
        self._wakeups.drain(self.squelch_generic_exception, self.moved_on)


def _ignore(*_args: Any) -> None:
    pass


nested.WAITS.update((GuestHub.switch.__code__, GuestHub.block.__code__))
