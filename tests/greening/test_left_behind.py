"""Nothing is left behind: what others' modules, types and functions refer to, after load and after unload."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from kernel import Kernel

pytestmark = pytest.mark.whole_heap

KIT = Path(__file__).parents[1] / "kit"


def script(code: str) -> str:
    """Run a script in a fresh interpreter, beside the tests' own modules, and give what it prints."""
    run = [sys.executable, "-c", textwrap.dedent(code)]
    return subprocess.run(run, capture_output=True, text=True, check=True, cwd=KIT, timeout=60).stdout


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


# What people import most, of what [test] installs: thirty libraries, and what of the standard library waits.
LIBRARIES = (
    "numpy", "pandas", "scipy.optimize", "matplotlib.pyplot", "PIL.Image", "requests", "urllib3", "httpx", "anyio",
    "certifi", "charset_normalizer", "idna", "yaml", "jinja2", "markupsafe", "attrs", "jsonschema", "packaging.version",
    "dateutil.tz", "six", "pygments", "bs4", "psutil", "cryptography.hazmat.primitives.serialization", "cffi", "grpc",
    "redis", "pymemcache", "psycopg", "psycopg2", "pika", "kombu", "websocket", "typing_extensions", "platformdirs",
    "loky", "ipywidgets", "concurrent.futures.process", "ftplib", "http.server", "logging.handlers",
    "multiprocessing.managers", "sched", "shutil", "smtplib", "socketserver", "sqlite3", "subprocess", "tempfile",
)  # fmt: skip


def test_the_whole_process_is_as_before_after_unloading() -> None:
    with Kernel() as kernel:
        import_all = f"""
            import importlib, os, sys, time
            sys.path.insert(0, {str(KIT)!r})
            for name in {LIBRARIES!r}:
                importlib.import_module(name)
            import picture
            before = picture.Picture()
        """
        assert kernel.run(textwrap.dedent(import_all), timeout=120).error is None
        assert kernel.run("%load_ext greenlab").error is None
        work = """
            import greenlab
            for pool in ("green", "threads", "prefork", "hybrid"):
                greenlab.run(time.sleep, [0.001] * 4, pool=pool, live=False).results
            task = greenlab.spawn(time.sleep, 60)
            print(before.held[id(time), "sleep"] is not time.sleep)
            del task
        """
        worked = kernel.run(textwrap.dedent(work), timeout=120)
        assert worked.error is None
        assert "True\n" == worked.stdout
        assert kernel.run("%unload_ext greenlab").error is None
        assert "" == kernel.run("print(*before.changes(picture.Picture()), sep='\\n', end='')", timeout=120).stdout
        # Protocols are held by functions of typing's, which made them.
        others = "[line for line in picture.references() if 'typing.Protocol' not in line]"
        assert "[]" == kernel.run(others, timeout=120).value
