"""Runs: many tasks in one pool, their records, and the reports made of them.

Must not import: live, magics.
"""

from __future__ import annotations

from greenlab.runs.aggregate import AggregateLedger
from greenlab.runs.latency import Latency
from greenlab.runs.ledger import Ledger
from greenlab.runs.listing import Listing, kill, list_tasks
from greenlab.runs.run import Run

__all__ = ["AggregateLedger", "Latency", "Ledger", "Listing", "Run", "kill", "list_tasks"]
