"""How long a Celery worker may begin what it holds: as long as no kernel can have taken it as dead meanwhile."""

from __future__ import annotations

import pytest

from greenlab.pools.celery import lease

LEASE_S = lease.LEASE_S


@pytest.mark.parametrize(
    ("told_s", "received_s", "now_s", "holds"),
    [
        ([], 100.0, 100.0 + LEASE_S - 0.1, True),
        ([], 100.0, 100.0 + LEASE_S + 0.1, False),  # nothing was told since it came
        ([102.0, 104.0, 106.0], 100.0, 106.0 + LEASE_S - 0.1, True),
        ([102.0, 104.0, 106.0], 100.0, 106.0 + LEASE_S + 0.1, False),
        ([102.0, 120.0, 122.0], 100.0, 122.5, False),  # told again, and too late
        ([102.0, 120.0, 122.0], 119.0, 122.5, True),  # it came when the silence was nearly over
        ([102.0, 120.0, 122.0], 121.0, 122.5, True),
        ([50.0, 102.0], 100.0, 103.0, True),  # there was nothing to tell between
    ],
)
def test_a_message_may_be_begun_while_its_worker_speaks_of_it(
    told_s: list[float], received_s: float, now_s: float, holds: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "perf_counter", lambda: now_s)
    one = lease.Lease()
    for at_s in told_s:
        one.renew(at_s)
    assert one.holds(received_s) is holds
