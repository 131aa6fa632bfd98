"""The streams that the shell writes to, restored when a run ends.

`redirect_stdout` and `capture_output` replace `sys.stdout`, the display hook and the like for everybody. If two
tasks that do so overlap, the one that leaves last restores what the other had set: the shell's next cell would print
nothing, or never be answered.

Guarantees: after a run that a cell waited for, the shell has the streams and hooks that it had before; if a task had
replaced some, one warning names the task.

Bound: a background run does not touch what a cell that runs while it ends may have set for itself.

Must not import: live, magics; IPython at the top.
"""

from __future__ import annotations

import sys
import warnings
from types import MethodType
from typing import Any

from greenlab import places

_OF_SYS = ("stdin", "stdout", "stderr", "displayhook", "excepthook")
_OF_SHELL = ("display_pub", "displayhook", "display_formatter")


class ShellStreams:
    """The streams and hooks of this process and its shell, as they were when this was made."""

    def __init__(self) -> None:
        self._kept: list[tuple[Any, str, Any]] = [(sys, name, getattr(sys, name, None)) for name in _OF_SYS]
        shell = places.shell()
        if shell is not None:
            self._kept += [(shell, name, getattr(shell, name, None)) for name in _OF_SHELL]

    @property
    def native(self) -> bool:
        """Whether they were the process's or the kernel's own, and not temporary ones."""
        out = self._kept[1][2]
        return out is sys.__stdout__ or type(out).__module__.partition(".")[0] == "ipykernel"

    @property
    def replaced(self) -> list[str]:
        """The names of those that have been replaced since; what a terminal's prompt replaces for its time is none."""
        if type(sys.stdout).__module__.partition(".")[0] == "prompt_toolkit":
            return []
        return [
            f"{'sys' if owner is sys else 'the shell'}.{name}"
            for owner, name, kept in self._kept
            if not _same(getattr(owner, name, None), kept)
        ]

    def put_back(self, task: int | None) -> None:
        """Restore what was replaced, and warn of it.

        Args:
            task: the task that left another `sys.stdout` or `sys.stderr` behind, if one was seen to.
        """
        names = self.replaced
        if not names:
            return
        for owner, name, kept in self._kept:
            if not _same(getattr(owner, name, None), kept):
                setattr(owner, name, kept)
        who = f"task {task}" if task is not None else "a task"
        warnings.warn(
            f"{who} left {', '.join(names)} replaced, and greenlab has put back what was there: redirect_stdout and "
            "capture_output replace it for all tasks at once, so let each task return what it would print",
            RuntimeWarning,
            stacklevel=2,
        )


def _same(one: Any, other: Any) -> bool:
    # IPython sets `sys.excepthook` to a bound method in every cell, and that is another object each time.
    return one is other or (isinstance(one, MethodType) and one == other)
