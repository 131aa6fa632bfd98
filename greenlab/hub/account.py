"""Accounts: for how long green threads held the hub, computing or waiting natively, each for itself and in all.

greenlet's trace hook is called at every switch; the clocks are read when a green thread that counts gets the hub, and
when it gives it up.

Guarantees: nothing is paid while no account is open; a former trace function goes on being called, and is put back.
Bounds: an account costs some microseconds a switch; what a task's own green threads do is not counted.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import perf_counter, process_time, thread_time
from typing import TYPE_CHECKING, Any

import greenlet

from greenlab.hub._clocks import ThreadClocks
from greenlab.hub.nested import owner_of
from greenlab.hub.waits import wait_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenlab.hub.guest import GuestHub


LOCK_WAITS = ("lock", "queue")
"""Kinds of waits for other green threads of the process, see `waits`."""


@dataclass
class Spent:
    """What one green thread spent since it was last asked; seconds.

    Attributes:
        held_s: how long it held the hub.
        cpu_s: how much of that it computed.
        delay_s: how much of that it waited for a processor; 0 where the system does not say.
        others_s: how much the other threads of this process computed meanwhile.
        late_s: about how long it could have gone on, but others held the hub.
        lock_wait_s: how long it waited for a lock or a queue of this process, which other tasks may have held.
    """

    held_s: float = 0.0
    cpu_s: float = 0.0
    delay_s: float = 0.0
    others_s: float = 0.0
    late_s: float = 0.0
    lock_wait_s: float = 0.0
    left_s: float = float("inf")
    left_for: str = ""


def accounts_of(hub: GuestHub) -> Accounts:
    """Return the accounts of a hub."""
    accounts: Accounts = hub.keep("accounts", lambda: Accounts(hub))
    return accounts


class Accounts:
    """The open accounts of one hub, and the trace function that serves them all."""

    def __init__(self, hub: GuestHub) -> None:
        self._hub = hub
        self._open: list[Account] = []
        self._hook: Any = None
        self._former: Any = None

    def open(self, counts: Callable[[Any], bool], on_stop: Callable[[], object] | None = None) -> Account:
        """Open an account of the green threads that `counts` is true of. On the hub's thread.

        Args:
            counts: returns whether a green thread counts.
            on_stop: called if the hub stops while the account is open.
        """
        account = Account(self._hub, counts, on_stop)
        self._open.append(account)
        if self._hook is None:
            self._former = greenlet.gettrace()
            self._hook = self._make_hook(self._former)
            greenlet.settrace(self._hook)
        return account

    def end(self, account: Account) -> None:
        """Close an account. Safe to call twice; its figures stay."""
        if account in self._open:
            self._open.remove(account)
            account.finish()
            if not self._open:
                self.close()

    def close(self) -> None:
        """Close all accounts, and remove the trace function."""
        while self._open:
            account = self._open.pop()
            account.finish()
            if account.on_stop is not None:
                account.on_stop()
        if self._hook is not None and greenlet.gettrace() is self._hook:
            greenlet.settrace(self._former)
        # Otherwise another trace function was set on top, and goes on calling a hook that only calls the former one.
        self._hook = self._former = None

    def _make_hook(self, former: Any) -> Any:
        opened = self._open

        def on_switch(event: str, args: Any) -> None:
            if self._hook is on_switch:
                origin, target = args
                for account in opened:
                    account.switched(origin, target)
            if former is not None:
                former(event, args)

        return on_switch


class Account:
    """What green threads spend. Made by `Accounts.open`.

    Attributes:
        held_s, cpu_s, delay_s: of all green threads that count, see `Spent`.
        longest_s: the longest time that one of them held the hub without a break.
    """

    def __init__(
        self, hub: GuestHub, counts: Callable[[Any], bool], on_stop: Callable[[], object] | None = None
    ) -> None:
        self.on_stop = on_stop
        self._hub = hub
        self._counts = counts
        self._clocks = ThreadClocks()
        self._each: dict[Any, Spent] = {}
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.held_s = self.cpu_s = self.delay_s = self.longest_s = 0.0
        self._each.clear()
        self._since_s: float | None = None
        self._began_s = self._cpu_then = self._delay_then = self._process_then = 0.0

    def finish(self) -> None:
        """Forget the green threads, and close the clocks."""
        self._since_s = None
        self._each.clear()
        self._clocks.close()

    def held_by_now(self) -> float:
        """How long the hub was held so far, seconds; may be asked from another thread."""
        since_s = self._since_s
        return self.held_s + (perf_counter() - since_s if since_s is not None else 0.0)

    def take(self) -> Spent:
        """Return what the calling green thread has spent since it was last asked, which is none the first time."""
        me = self._hub.owner()
        if self._since_s is not None:
            self._add(me)
        spent = self._each.get(me)
        self._each[me] = Spent()
        self._resume()
        return Spent() if spent is None else spent

    def switched(self, origin: Any, target: Any) -> None:
        """Note a switch. Called by the trace function."""
        left, origin, target = origin, owner_of(self._hub, origin), owner_of(self._hub, target)
        if origin is target:
            return
        if self._since_s is not None and self._counts(origin):
            spent = self._add(origin)
            if spent is not None:
                spent.left_s = self._since_s
                spent.left_for = wait_of(left.gr_frame).kind
            self.longest_s = max(self.longest_s, self._since_s - self._began_s)
            self._since_s = None
        if self._counts(target):
            spent = self._each.get(target)
            self._resume()
            self._began_s = now_s = self._since_s or 0.0
            if spent is not None:
                spent.late_s += max(0.0, now_s - max(self._hub.ready_s, spent.left_s))
                if spent.left_for in LOCK_WAITS:
                    spent.lock_wait_s += now_s - spent.left_s

    def _resume(self) -> None:
        self._delay_then = self._clocks.queued_s() or 0.0
        self._process_then = process_time()
        self._cpu_then = thread_time()
        self._since_s = perf_counter()

    def _add(self, holder: Any) -> Spent | None:
        """Add what was spent since the clocks were last read."""
        now_s = perf_counter()
        held_s = now_s - (self._since_s or now_s)
        cpu_s = thread_time() - self._cpu_then
        delay_s = max(0.0, (self._clocks.queued_s() or 0.0) - self._delay_then)
        self._since_s = now_s
        self.held_s += held_s
        self.cpu_s += cpu_s
        self.delay_s += delay_s
        spent = self._each.get(holder)
        if spent is not None:
            spent.held_s += held_s
            spent.cpu_s += cpu_s
            spent.delay_s += delay_s
            spent.others_s += max(0.0, process_time() - self._process_then - cpu_s)
        return spent
