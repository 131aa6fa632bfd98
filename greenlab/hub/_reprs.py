"""How the hub and its tasks show in a notebook.

Guarantee: nothing that varies from run to run is said, so that test tools (strict nbval) can compare it.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenlab.hub.turning import ShownTask, TurningHub

_COLORS = {"done": "#009e73", "failed": "#c4321f", "killed": "#6b7280"}


def hub_words(hub: TurningHub) -> str:
    """Say in a line what kind of hub this is."""
    if hub.closed_down:
        return "<GuestHub: stopped>"
    return f"<GuestHub: {'guest of the running event loop' if hub.host else 'turns while this thread waits'}>"


def hub_bundle(hub: TurningHub) -> dict[str, str]:
    """Show a hub, and what it keeps between runs."""
    words = hub_words(hub)
    kept = ", ".join(escape(str(key)) for key in sorted(map(str, hub.kept)))
    line = f"<br>keeps: {kept}" if kept else ""
    return {
        "text/plain": words,
        "text/html": f'<div class="greenlab-hub"><b>{escape(words.strip("<>"))}</b>{line}</div>',
    }


def task_bundle(task: ShownTask) -> dict[str, str]:
    """Show a task: which one, and how far it is."""
    color = _COLORS.get(task.state, "#0072b2")
    html = (
        f'<div class="greenlab-task"><span style="border-left:4px solid {color};padding-left:6px">'
        f"<b>Task {task.id}</b> {escape(task.name)}: {task.state}</span></div>"
    )
    return {"text/plain": repr(task), "text/html": html}
