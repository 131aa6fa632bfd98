"""Run tests of CPython's own suite on a greened standard library, and print the outcome as JSON.

    python run_stdlib.py WHERE '{"names": [...], "without": {...}}'

WHERE is `main` (the hub's main greenlet), `task` (a green task), `crowd` (as task, and what the tests start with
`start_new_thread` are green tasks too) or `native` (no greenlab at all: what fails there is not ours).
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import random
import socket
import sys
import unittest
from fnmatch import fnmatchcase
from types import SimpleNamespace
from typing import Any

# A test that hangs says where.
faulthandler.enable()


def leaves(suite: Any) -> list[Any]:
    """Give the single tests of a suite."""
    if isinstance(suite, unittest.TestSuite):
        return [leaf for each in suite for leaf in leaves(each)]
    return [suite]


def load(names: list[str], without: dict[str, str]) -> tuple[unittest.TestSuite, list[str]]:
    """Load `names`, each a pattern of test ids below a module, and drop what matches `without`."""
    kept = unittest.TestSuite()
    used = set()
    for name in names:
        module, _, pattern = name.partition(":")
        for test in leaves(unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))):
            known = test.id()
            if pattern and not fnmatchcase(known.removeprefix(module + "."), pattern):
                continue
            excluded = [each for each in without if fnmatchcase(known, each)]
            used.update(excluded)
            if not excluded:
                kept.addTest(test)
    return kept, sorted(set(without) - used)


def run(suite: unittest.TestSuite) -> dict[str, Any]:
    """Run the suite."""
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=2, descriptions=False).run(suite)
    failed = (*result.errors, *result.failures)
    broken = [(getattr(test, "test_case", test).id(), text) for test, text in failed]
    return {"ran": result.testsRun, "skipped": len(result.skipped), "broken": broken}


def main() -> None:
    where, asked = sys.argv[1], json.loads(sys.argv[2])
    faulthandler.dump_traceback_later(asked.get("timeout_s", 60) - 5, exit=True)
    if where != "native":
        import greenlab

        greenlab.start()
    from test import support

    support.use_resources = []  # no network, nothing large
    look_for_ports_elsewhere()
    suite, unused = load(asked["names"], asked["without"])
    if where == "crowd":
        crowd()
    patient()
    # The tests of sockets collect after each thread: not over the modules, which stay.
    gc.freeze()
    outcome = greenlab.spawn(run, suite).wait() if where in ("task", "crowd") else run(suite)
    if where != "native":
        greenlab.stop()
    print(json.dumps({**outcome, "unused": unused}), flush=True)
    # What a failed test left running must not keep the answer from being read.
    sys.stderr.flush()
    os._exit(0)


def crowd() -> None:
    """Have the tests of locks start green tasks where they start threads."""
    from test import lock_tests

    import greenlab

    def start_new_thread(func: Any, args: Any, kwargs: Any = None) -> int:
        return id(greenlab.spawn(func, *args, **(kwargs or {})))

    lock_tests.start_new_thread = start_new_thread


def look_for_ports_elsewhere() -> None:
    """Find unused ports below those that the system gives to connections.

    A test that finds one, and connects from it later, waits for ever if another process has been given it meanwhile.
    """
    from test.support import socket_helper

    def find_unused_port(family: int = socket.AF_INET, socktype: int = socket.SOCK_STREAM) -> int:
        while True:
            with socket.socket(family, socktype) as probe, contextlib.suppress(OSError):
                probe.bind((socket_helper.HOST, random.randrange(20_000, 32_000)))
                return int(probe.getsockname()[1])

    socket_helper.find_unused_port = find_unused_port


def patient() -> None:
    """Let the tests of epoll, which allow 10 ms for what is ready, take their time on a busy machine."""
    module = sys.modules.get("test.test_epoll")
    if module is not None:
        vars(module)["time"] = SimpleNamespace(monotonic=lambda: 0.0)


if __name__ == "__main__":
    main()
