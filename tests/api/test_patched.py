"""Processes that are patched already, and a start that fails: all or nothing, and one clear line."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

import greenlab
from greenlab import greening, hub
from greenlab.greening.databases import Databases

_EVENTLET = "import eventlet; eventlet.monkey_patch(); "
_GEVENT = "from gevent import monkey; monkey.patch_all(); "


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(
    ("code", "who"),
    [
        (_EVENTLET + "import greenlab; greenlab.run(abs, [1])", "eventlet.monkey_patch()"),
        (_GEVENT + "import greenlab; greenlab.start()", "gevent.monkey"),
        ("import greenlab; greenlab.start(); " + _GEVENT + "greenlab.run(abs, [1])", "gevent.monkey"),
    ],
)
def test_a_process_that_is_patched_is_refused_by_name(code: str, who: str) -> None:
    *_, last = run(code).stderr.strip().splitlines()
    assert last.startswith(f"greenlab.errors.UsageError: {who}"), last


@pytest.mark.parametrize("patch", [_EVENTLET, _GEVENT])
def test_a_patched_process_may_import_greenlab_and_stays_as_it_is(patch: str) -> None:
    code = (
        "import os, socket, threading, time\n"
        "def picture(): return [dict(vars(each)) for each in (os, socket, threading, time)]\n"
        "before = picture()\n"
        "import greenlab\n"
        "try: greenlab.start()\n"
        "except greenlab.UsageError: print(before == picture())\n"
    )
    assert "True" == run(f"{patch}\n{code}").stdout.strip()


def test_a_start_that_fails_leaves_nothing_and_may_be_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_self: Databases) -> None:
        raise LookupError("mine")

    native = time.sleep
    with monkeypatch.context() as patched:
        patched.setattr(Databases, "switch", fail)
        with pytest.raises(LookupError, match="mine"):
            greenlab.start()
    assert time.sleep is native
    assert [] == greening.replaced()
    assert None is hub.current()
    greenlab.start()
    assert time.sleep is not native
    greenlab.stop()
