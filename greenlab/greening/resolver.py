"""Host names, looked up cooperatively: by the system's own resolver, in a native thread.

/etc/hosts, nsswitch.conf and resolv.conf keep their meaning, which a resolver in Python cannot promise. Numeric
addresses and the local host need no thread.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from greenlab.greening.scope import green_hub
from greenlab.greening.waiting import NoThread, in_thread
from greenlab.hub import eventlet

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches
    from greenlab.hub import GuestHub

_getaddrinfo = socket.getaddrinfo
_LOCAL = {None, "", "localhost", b"localhost", "127.0.0.1", "::1"}


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:  # noqa: A002
    """As socket.getaddrinfo, waiting cooperatively."""
    hub = green_hub()
    if hub is None or (isinstance(host, (str, bytes, type_of_none)) and host in _LOCAL):
        return _getaddrinfo(host, port, family, type, proto, flags)
    try:
        return _getaddrinfo(host, port, family, type, proto, flags | socket.AI_NUMERICHOST)
    except socket.gaierror as error:
        if error.errno != socket.EAI_NONAME or flags & socket.AI_NUMERICHOST:
            raise
    return _look_up(hub, _getaddrinfo, host, port, family, type, proto, flags)


type_of_none = type(None)


def _look_up(hub: GuestHub, native: Any, *args: Any) -> Any:
    try:
        return in_thread(hub, native, *args)
    except NoThread:
        pass
    return native(*args)  # blocks the hub: better than no answer


def _threaded(name: str) -> Any:
    native = getattr(socket, name)

    def lookup(*args: Any) -> Any:
        hub = green_hub()
        if hub is None or (args and isinstance(args[0], str) and args[0] in _LOCAL):
            return native(*args)
        return _look_up(hub, native, *args)

    lookup.__name__ = lookup.__qualname__ = name
    lookup.__doc__ = native.__doc__
    return lookup


def patch(patches: Patches) -> None:
    """Make the look-ups of the socket module cooperate."""
    green = {"getaddrinfo": getaddrinfo}
    for name in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"):
        green[name] = _threaded(name)
    native = {name: getattr(socket, name) for name in green}
    # eventlet's own socket modules took the native ones when they were imported, if its resolver was off then.
    for module in (socket, eventlet.green._socket_nodns, eventlet.green.socket):
        for name, lookup in green.items():
            if getattr(module, name) is native[name]:
                patches.replace(module, name, lookup)
