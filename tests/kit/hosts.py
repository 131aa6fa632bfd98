"""Hosts for tests: network namespaces of this machine, each with a name and a link to a middle one.

The middle one, where a broker belongs, has a link to each host and to the test's own process. No bridge is needed, and
nothing but the links can be reached.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from system import needs_system

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMED = "import os, socket, sys; socket.sethostname(sys.argv[1]); os.execvp(sys.argv[2], sys.argv[2:])"


class Hosts:
    """Some hosts around a middle one.

    Attributes:
        middle: the address of the middle one, as this process reaches it.
    """

    def __init__(self, names: list[str]) -> None:
        self._ip = needs_system("ip")
        self._tag = f"gl{os.getpid() % 100_000}"
        self._net = f"10.{200 + os.getpid() % 50}"
        self._names = ["", *names]  # this process's own has no name
        self.middle = f"{self._net}.0.1"
        self._spaces = [f"{self._tag}{name}" for name in ("middle", *names)]

    def address_for(self, name: str) -> str:
        """Return the address of the middle one, as a host reaches it."""
        return f"{self._net}.{self._names.index(name)}.1"

    def open(self) -> None:
        """Make them."""
        for space in self._spaces:
            self._do("netns", "add", space)
            self._do("-n", space, "link", "set", "lo", "up")
        middle = self._spaces[0]
        for number, name in enumerate(self._names):
            inner, outer = f"{self._tag}i{number}", f"{self._tag}o{number}"
            self._do("link", "add", inner, "type", "veth", "peer", "name", outer)
            self._do("link", "set", inner, "netns", middle)
            if name:
                self._do("link", "set", outer, "netns", self._space(name))
            for place, link, last in ((middle, inner, 1), (self._space(name) if name else None, outer, 2)):
                where = ("-n", place) if place else ()
                self._do(*where, "addr", "add", f"{self._net}.{number}.{last}/24", "dev", link)
                self._do(*where, "link", "set", link, "up")

    def within(self, name: str = "middle") -> list[str]:
        """Return a command that runs another one on a host."""
        named = [needs_system("unshare"), "--uts", sys.executable, "-c", _NAMED, name]
        return [self._ip, "netns", "exec", self._space(name), *named]

    def cut(self, name: str) -> None:
        """Cut a host off."""
        self._set(name, "down")

    def heal(self, name: str) -> None:
        """Put its link back."""
        self._set(name, "up")

    def close(self) -> None:
        """Remove them, and with them the links."""
        for space in self._spaces:
            subprocess.run([self._ip, "netns", "del", space], capture_output=True, check=False)

    def _set(self, name: str, state: str) -> None:
        self._do("-n", self._spaces[0], "link", "set", f"{self._tag}i{self._names.index(name)}", state)

    def _space(self, name: str) -> str:
        return f"{self._tag}{name}"

    def _do(self, *arguments: str) -> None:
        subprocess.run([self._ip, *arguments], capture_output=True, check=True)


@contextlib.contextmanager
def hosts(*names: str) -> Iterator[Hosts]:
    """Make hosts; skip the test where that is not allowed."""
    made = Hosts(list(names))
    try:
        try:
            made.open()
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.decode().strip()}")
        yield made
    finally:
        made.close()
