"""The site's server: `python -m greenlab.lab._site_server OPTIONS`. It lives and ends as `_server.py` says.

Must not import: anything of greenlab but this folder.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any

from greenlab.lab._http import Counters, Response
from greenlab.lab._pages import HOME, Pages
from greenlab.lab._server import main

_HTML = b"text/html; charset=utf-8"
_JSON = b"application/json"


class LinkedPages:
    """The responses, by path.

    Args:
        options: as `Site` sends them.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self.counters = Counters()
        self._pages = Pages(options["seed"], options["pages"])
        self._latency_s: float = options["latency_s"]
        self._slow_s: float = options["slow_s"]
        self._visits: Counter[str] = Counter()

    def respond(self, method: bytes, path: bytes) -> Response:
        """Return the response to a request. `path` has no query."""
        if path == b"/reset" and method == b"POST":
            self.counters.reset()
            self._visits.clear()
            return Response(b"", counted=False)
        if method == b"POST":
            return Response(b"the methods are GET and HEAD\n", 405)
        if path == b"/stats":
            return Response(json.dumps(asdict(self.counters)).encode(), kind=_JSON, counted=False)
        if path == b"/visits":
            return Response(json.dumps(self._visits).encode(), kind=_JSON, counted=False)
        text = path.decode("latin-1")
        self._visits[text] += 1
        return self._page(text)

    def _page(self, path: str) -> Response:
        location = self._pages.redirect(path)
        if location is not None:
            status = 301 if path.startswith("/old/") else 302
            return Response(b"elsewhere\n", status, delay_s=self._latency_s, location=location.encode())
        if self._pages.is_slow(path):
            return Response(b"at last\n", delay_s=self._slow_s)
        index = self._pages.index(path, "/pages/", ".html")
        if index is not None:
            return Response(self._pages.body(index), kind=_HTML, delay_s=self._latency_s)
        return Response(f"nothing here; begin at {HOME}\n".encode(), 404, delay_s=self._latency_s)


if __name__ == "__main__":
    main(LinkedPages)
