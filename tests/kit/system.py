"""What tests ask of the system: its programs, and forks."""

from __future__ import annotations

import os
import shutil
import warnings
from typing import Any

import pytest


def needs_system(*programs: str) -> str:
    """Give the path of a system program, by any of its names.

    Without it the test is skipped, but in CI it fails: there, what tests need is installed.
    """
    path = next(filter(None, map(shutil.which, programs)), None)
    if path is None:
        message = f"{' or '.join(programs)} is not installed"
        if os.environ.get("CI"):
            pytest.fail(f"{message}, and in CI nothing may be skipped for that")
        pytest.skip(message)
    return path


def forked(body: Any) -> Any:
    """Run `body` in a forked child and give its exit code: 0 if it returned True."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 warns of forks beside threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if body() else 2
        except BaseException as error:
            os.write(2, repr(error).encode())
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
