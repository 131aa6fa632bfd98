"""Report what became of each test, as lines of JSON, in the process that runs them: a pytest plugin, and a program.

    pytest -p report_outcomes ...                  a pytest suite
    python report_outcomes.py MODULE               a module of unittest's

The lines go to the file that GREENLAB_OUTCOMES names: {"test": id, "outcome": word, "text": traceback}. A test's first
line says that it "began", so that one which hangs, or ends the process, has a name. With GREENLAB_STARTED=1 greenlab
is started before any test is loaded, in the main thread, and stopped after the last one.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import logging
import os
import sys
import unittest
from typing import Any

_OUTCOMES = os.environ.get("GREENLAB_OUTCOMES", os.devnull)
_STARTED = os.environ.get("GREENLAB_STARTED") == "1"
_ORDER = ("began", "passed", "skipped", "failed")
_former: dict[str, str] = {}


def report(test: str, outcome: str, text: str = "") -> None:
    """Write a line. Of several outcomes of one test (its setup, its subtests) the worst counts."""
    if outcome != "began" and _ORDER.index(outcome) <= _ORDER.index(_former.get(test, "began")):
        return
    _former[test] = outcome
    with open(_OUTCOMES, "a", encoding="utf-8") as file:  # noqa: PTH123 (the tests may replace what pathlib needs)
        file.write(json.dumps({"test": test, "outcome": outcome, "text": text[-4000:]}) + "\n")


# -- pytest's hooks ----------------------------------------------------------------------------------------


def pytest_load_initial_conftests() -> None:
    if _STARTED:
        start()


def pytest_unconfigure() -> None:
    if _STARTED:
        stop()


def pytest_runtest_logstart(nodeid: str) -> None:
    report(nodeid, "began")


def pytest_runtest_logreport(report: Any) -> None:
    if report.when == "call" or not report.passed:
        _report_pytest(report)


def pytest_collectreport(report: Any) -> None:
    if not report.passed:
        _report_pytest(report)


def _report_pytest(result: Any) -> None:
    report(result.nodeid or "collection", result.outcome, "" if result.passed else str(result.longrepr))


# -- unittest ----------------------------------------------------------------------------------------------


class Result(unittest.TextTestResult):
    """Reports as it goes."""

    def startTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().startTest(test)
        report(test.id(), "began")

    def stopTest(self, test: unittest.TestCase) -> None:  # noqa: N802
        super().stopTest(test)
        if _former.get(test.id()) == "began":
            report(test.id(), "passed")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:  # noqa: N802
        super().addSkip(test, reason)
        report(test.id(), "skipped", reason)

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addError(test, err)
        report(test.id(), "failed", self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addFailure(test, err)
        report(test.id(), "failed", self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        super().addSubTest(test, subtest, err)
        if err is not None:
            report(test.id(), "failed", (self.errors + self.failures)[-1][1])


def main(module: str) -> None:
    """Run the tests of a module."""
    faulthandler.enable()
    if _STARTED:
        start()
    if module.startswith("test."):
        from test import support

        support.use_resources = []  # no network, nothing large
    # As tornado's own runner: its tests fail where lines are logged that they do not expect.
    logging.getLogger("tornado.access").setLevel(logging.CRITICAL)
    try:
        suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
    except unittest.SkipTest as skipped:
        report(module, "skipped", str(skipped))
        return
    result: Any = Result
    unittest.TextTestRunner(stream=sys.stderr, verbosity=2, descriptions=False, resultclass=result).run(suite)
    if _STARTED:
        stop()


# -- greenlab ----------------------------------------------------------------------------------------------


def start() -> None:
    import greenlab

    greenlab.start()


def stop() -> None:
    import greenlab

    greenlab.stop()
    report("greenlab.stop", "passed")


if __name__ == "__main__":
    main(sys.argv[1])
