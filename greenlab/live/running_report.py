"""The report of a run that goes on, in the cell that shows it: one output, replaced when the run has begun and ended.

Guarantees: it is no result of the cell, which could not be replaced, but a display of its own.

Must not import: runs, matplotlib, ipywidgets; IPython before it shows something.
"""

from __future__ import annotations

import uuid
from typing import Any

from greenlab.live import displays


class RunningReport:
    """Shows the report of a run now and when it ends: an observer of one run."""

    def __init__(self) -> None:
        self._id = uuid.uuid4().hex
        self._cell = displays.cell_number()

    def show(self, run: Any) -> None:
        """Show how far the run is."""
        displays.send_output(run.bundle(), display_id=self._id)

    def run_started(self, run: Any) -> None:
        """Leave the figures to the live view that stands in the cell by now, if there is one."""
        displays.send_output(run.bundle(self._cell), display_id=self._id, update=True)

    def run_ended(self, run: Any) -> None:
        """Replace that by how the run went."""
        displays.send_output(run.bundle(self._cell), display_id=self._id, update=True)
