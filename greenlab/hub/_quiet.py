"""Import eventlet without its deprecation notice, its word on forks, and its resolver.

eventlet 0.41 warns on import that it is in bug-fix mode. README says the same in two sentences, so the notice is
silenced here. From then on it also warns at every fork, of any code, that the child may not work: nothing here relies
on that, since a forked child of greenlab's works on. Where others imported eventlet, what it says to them stays. No
other warning is silenced. Every module of greenlab that needs eventlet imports it from this one.

It also imports dnspython anew, for a resolver of its own, while its green modules stand in `sys.modules` under the
names of os, time, socket and others. Whatever is imported for the first time in this moment keeps them for good:
pathlib, shutil, tempfile, zipfile, random, cryptography. `shutil.rmtree`, for one, then no longer sees that the system
protects it against symbolic links. A variable of the environment turns the resolver off; greenlab has its own.
"""

from __future__ import annotations

import os
import sys
import warnings

from greenlab.hub._ending import import_aside

_SWITCH = "EVENTLET_NO_GREENDNS"


def _say_nothing() -> None:
    """Stand in for eventlet 0.41's `_warn_on_fork`, which `os` calls before each fork and never drops."""


_set_by_user = os.environ.get(_SWITCH)
_is_ours = "eventlet" not in sys.modules
try:
    # An eventlet that is loaded already is what it is, and submodules that are imported later read the switch.
    if _is_ours:
        os.environ[_SWITCH] = "yes"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
        import_aside("eventlet")
        import eventlet
finally:
    if _set_by_user is None:
        os.environ.pop(_SWITCH, None)
    else:
        os.environ[_SWITCH] = _set_by_user
if _is_ours and hasattr(eventlet, "_warn_on_fork"):
    eventlet._warn_on_fork.__code__ = _say_nothing.__code__

__all__ = ["eventlet"]
