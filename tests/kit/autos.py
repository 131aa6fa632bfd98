"""Pools for the contract suite: each by its name, and auto pools that surely move, after two tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import celery_workers

from greenlab import pools
from greenlab.advising import auto_pool
from greenlab.advising.advice import Plan

if TYPE_CHECKING:
    import pytest

    from greenlab.hub import GuestHub

MOVING = ("auto to threads", "auto to prefork", "auto to hybrid")
CELERY = ("celery on eventlet", "celery on prefork")
POOLS = (*pools.LOCAL, *CELERY, *MOVING)


def make_pool(hub: GuestHub, name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the pool of a name of `POOLS`. The hub's stop ends it."""
    if name in pools.LOCAL:
        return auto_pool.get_pool(hub, name)
    if name in CELERY:
        celery_workers.use(name.removeprefix("celery on "), monkeypatch)
        return auto_pool.get_pool(hub, "celery")
    monkeypatch.setattr(auto_pool, "LEAST_TASKS", 2)
    monkeypatch.setattr(auto_pool, "LEAST_S", 0.0)
    target = name.removeprefix("auto to ")
    return auto_pool.AutoPool(hub, choose=lambda *_: Plan(target, 1, None, 1.0, "", 1.0))
