"""How the hub and its tasks show in a notebook.

Guarantee: nothing that varies from run to run is shown, so that test tools (strict nbval) can compare it.

Must not import: greening, pools, runs, live, magics.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from greenlab.hub.protocols import HubLike, TaskLike

_COLORS = {"done": "#009e73", "failed": "#c4321f", "killed": "#6b7280"}


def hub_words(hub: HubLike) -> str:
    """Return a line that says what kind of hub this is."""
    if hub.closed_down:
        return "<GuestHub: stopped>"
    return f"<GuestHub: {'guest of the running event loop' if hub.host else 'turns while this thread waits'}>"


def hub_bundle(hub: HubLike) -> dict[str, str]:
    """Return a hub, and what it keeps between runs, as a notebook shows it."""
    words = hub_words(hub)
    kept = ", ".join(escape(str(key)) for key in sorted(map(str, hub.kept)))
    line = f"<br>keeps: {kept}" if kept else ""
    return {
        "text/plain": words,
        "text/html": f'<div class="greenlab-hub"><b>{escape(words.strip("<>"))}</b>{line}</div>',
    }


def task_bundle(task: TaskLike) -> dict[str, str]:
    """Return a task, and how far it is, as a notebook shows it."""
    color = _COLORS.get(task.state, "#0072b2")
    html = (
        f'<div class="greenlab-task"><span style="border-left:4px solid {color};padding-left:6px">'
        f"<b>Task {task.id}</b> {escape(task.name)}: {task.state}</span></div>"
    )
    return {"text/plain": repr(task), "text/html": html}
