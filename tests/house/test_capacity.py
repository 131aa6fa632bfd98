"""The page on capacity says what its script computes from the costs that were recorded."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"


@pytest.fixture
def capacity(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    return runpy.run_path(str(BENCHMARKS / "capacity.py"))


@pytest.fixture
def costs() -> Any:
    return json.loads((ROOT / "docs" / "capacity.json").read_text("utf-8"))


def test_the_page_has_the_tables_of_the_recorded_costs(capacity: dict[str, Any], costs: Any) -> None:
    page = (ROOT / "docs" / "capacity.md").read_text("utf-8")
    assert capacity["with_tables"](page, costs) == page
    costs["each"]["fetch"]["worker_s"]["median"] *= 2
    assert capacity["with_tables"](page, costs) != page


def test_needs_are_costs_times_fetches_over_how_busy_a_core_may_be(capacity: dict[str, Any], costs: Any) -> None:
    each = {"worker_s": 7e-4, "client_s": 7e-5, "broker_s": 7e-6, "messages": 0.1, "in_bytes": 300, "out_bytes": 200}
    costs["each"]["fetch"] = {name: {"median": value} for name, value in each.items()}
    found = capacity["needs"](costs, 10**5)
    assert pytest.approx(100, abs=1) == found["workers"]
    assert pytest.approx(10, abs=1) == found["clients"]
    assert pytest.approx(100, abs=1) == found["in_flight_each"]
    assert (10_000, 10_000, 3e7) == (found["in_flight"], found["messages"], found["in_bytes"])
    assert found["by_processor"] == pytest.approx(1)
    assert found["cores"] == found["workers"] + found["clients"] + found["shards"]
    network = capacity["needs"](
        costs | {"each": {"fetch": costs["each"]["fetch"] | {"out_bytes": {"median": 1e5}}}}, 1e5
    )
    assert pytest.approx(12, abs=1) == network["shards"]
