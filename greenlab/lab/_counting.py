"""What the lab's servers count, and how it is asked for.

Must not import: asyncio, anything of greenlab but errors and this folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from greenlab.errors import GreenlabError
from greenlab.lab._process import ServerProcess

_CONTROL_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a server has counted since it started, or since `reset()`; asking for it is not counted.

    Attributes:
        requests: requests that arrived.
        in_flight: requests that have arrived and are not yet answered; those whose client hung up are gone.
        peak_in_flight: the most that were in flight at once.
        bytes_sent: bytes of all answers, with their headers.
        errors: answers with a status of 400 or more.
    """

    requests: int
    in_flight: int
    peak_in_flight: int
    bytes_sent: int
    errors: int


class CountingServer(ServerProcess):
    """A server that counts requests, and says what it has counted."""

    def stats(self) -> Stats:
        """Return what the server has counted.

        Raises:
            UsageError: the server is not started.
            GreenlabError: the server does not answer.
        """
        return Stats(**json.loads(self._ask("GET", "/stats")))

    def reset(self) -> None:
        """Set the counts to zero, and the peak to what is in flight now.

        Raises:
            UsageError: the server is not started.
            GreenlabError: the server does not answer.
        """
        self._ask("POST", "/reset")

    def _ask(self, method: str, path: str) -> bytes:
        # Late, so that the server, which loads this folder too, starts sooner. And not urllib, which would
        # ask a proxy that the environment names.
        from http.client import HTTPConnection, HTTPException

        name = self._name
        connection = HTTPConnection("127.0.0.1", self._running_port(), timeout=_CONTROL_TIMEOUT_S)
        try:
            connection.request(method, path, headers={"Connection": "close"})
            return connection.getresponse().read()
        except (OSError, HTTPException) as error:
            raise GreenlabError(
                f"the {name}'s server does not answer ({error}): {name}.stop(), {name}.start()"
            ) from error
        finally:
            connection.close()
