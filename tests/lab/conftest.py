"""A feed hub that a module's tests share, and a check that no server outlives its test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import pytest

from greenlab.lab import FeedHub

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def no_server_left() -> Iterator[None]:
    """Fail the test that leaves a process behind."""
    before = psutil.Process().children(recursive=True)
    yield
    assert before == psutil.Process().children(recursive=True)


@pytest.fixture(scope="module")
def shared() -> Iterator[FeedHub]:
    """A hub that answers at once, for tests that count nothing."""
    with FeedHub(seed=7, latency_s=0) as hub:
        yield hub


@pytest.fixture
def fast(shared: FeedHub) -> FeedHub:
    shared.reset()
    return shared
