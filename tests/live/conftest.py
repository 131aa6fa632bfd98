"""A process that draws, started once for the tests of a module that leave it as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from greenlab.live import DrawingClient

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def warm() -> Iterator[DrawingClient]:
    """A process that draws, already started: to import matplotlib takes it a second or more."""
    with DrawingClient() as made:
        made.start()
        yield made
