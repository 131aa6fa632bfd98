"""Explaining: `greenlab.check`, `trace`, `stepper` and the state of the hub for `%greenhub`.

Must not import at the top: matplotlib, ipywidgets, IPython.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from greenlab import patched
from greenlab.api.session import start
from greenlab.api.views import timeline_figure
from greenlab.checks import positive_number, whole_number
from greenlab.errors import UsageError
from greenlab.runs.hub_state import HubState, state_of
from greenlab.text.format import with_article
from greenlab.tracing.stepper import Stepper
from greenlab.tracing.timeline import Tracing

if TYPE_CHECKING:
    from greenlab.probes import LibraryVerdicts, Verdict

__all__ = ["check", "hub_state", "stepper", "trace"]


def check(
    what: Any = None, *more: Any, times: int | None = None, limit: float | None = None, name: str | None = None
) -> Verdict | LibraryVerdicts:
    """Measure whether a call, or a library, cooperates under greenlab.

    A call is made **for real**, up to `times` times, in a fresh process: natively, in a green task, and in several at
    once. What it uses of this process is copied there; what it returns or prints is dropped. A library is looked up in
    a table of what was measured before.

    Args:
        what: a function, called with what follows; or a library, its name or the module; nothing: all that is loaded.
        more: the function's arguments, or more libraries.
        times: how often the function is called at the most, 5 or more; by default, 12. A short call needs many.
        limit: seconds that one call may take before it is stopped; by default, 10.
        name: the name of the call in the verdict; by default, the function's name.

    Returns:
        for a function a `Verdict`: `kind`, `cooperates`, `reasons`, `fix`, `figures`; for libraries a list of
        `LibraryVerdict`.

    Raises:
        UsageError: it is neither; there is no such library; an option makes no sense.
    """
    from greenlab import probes

    times = probes.TIMES if times is None else times
    limit = probes.LIMIT_S if limit is None else limit
    if what is None:
        return probes.look_around()
    if callable(what):
        patched.refuse_natively("greenlab.check of a call")
        times = whole_number("times", times, probes.LEAST_TIMES)
        limit = positive_number("limit", limit)
        call = functools.partial(what, *more) if more else what
        return probes.probe(call, name or str(getattr(what, "__name__", "call")), times=times, limit_s=limit)
    names = [each if isinstance(each, str) else getattr(each, "__name__", None) for each in (what, *more)]
    if not all(isinstance(each, str) for each in names):
        raise UsageError(
            f"check takes a function and its arguments, or libraries, not {with_article(what)}: check(fetch, url)"
        )
    return probes.look_up(names)  # type: ignore[arg-type] # they are strings


def stepper(*calls: Any) -> Stepper:
    """Step through green tasks one switch at a time, on a virtual clock: the same order and the same log every time.

    Args:
        calls: functions, or (func, args) with a tuple of arguments, or (func, arg, …); each becomes a task.

    Returns:
        the `Stepper`: `step()` and `run()` print which task ran and what it waits for now; iterating yields the steps.

    Raises:
        UsageError: there is nothing to step through, or something that cannot be called.
    """
    patched.refuse_natively("the stepper")
    return Stepper(start(), calls)


def trace() -> Tracing:
    """Record every switch of the hub while a block runs: `with greenlab.trace() as tracing: …`.

    Returns:
        a context manager, whose `timeline` is the `Timeline` once the block has been left.
    """
    return Tracing(start(), timeline_figure)


def hub_state() -> HubState:
    """Return the state of the hub: what turns it, what is greened for it, its pools, and how much runs on it."""
    return state_of(start())
