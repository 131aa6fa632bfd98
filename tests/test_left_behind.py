"""Nothing is left behind: what others' modules, types and functions refer to, after load and after unload."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

TESTS = Path(__file__).parent


def script(code: str) -> str:
    """Run a script in a fresh interpreter, beside the tests' own modules, and give what it prints."""
    run = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(run, capture_output=True, text=True, check=True, cwd=TESTS, timeout=60).stdout


def test_no_other_module_refers_to_eventlet() -> None:
    told = script("""
        import os
        import greenlab
        from picture import references

        environment = dict(os.environ)
        greenlab.start()
        print(references(("eventlet",)))
        greenlab.stop()
        print(references(("eventlet",)))

        import shutil, tempfile
        print(shutil.rmtree.avoids_symlink_attacks, shutil.os is tempfile._os is os, environment == dict(os.environ))
    """)
    assert ["[]", "[]", "True True True"] == told.splitlines()


def test_a_wish_about_eventlets_resolver_stays_as_it_was() -> None:
    told = script("""
        import os
        os.environ["EVENTLET_NO_GREENDNS"] = "no"
        import greenlab
        greenlab.start()
        greenlab.stop()
        print(os.environ["EVENTLET_NO_GREENDNS"])
    """)
    assert "no\n" == told


def test_eventlets_own_look_ups_cooperate_and_its_copies_stay_native() -> None:
    told = script("""
        import socket
        import greenlab

        greenlab.start()
        from eventlet import patcher
        from eventlet.green import socket as green
        print(green.getaddrinfo is socket.getaddrinfo, green.gethostbyname is socket.gethostbyname)
        print(type(patcher.original("socket").gethostbyname).__name__)
        greenlab.stop()
        print(type(green.gethostbyname).__name__)
    """)
    assert ["True True", "builtin_function_or_method", "builtin_function_or_method"] == told.splitlines()
