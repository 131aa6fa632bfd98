"""Names that were imported before: `from time import sleep` in the notebook or in a loaded library.

Guarantees: only module globals that *are* a replaced object, by identity, are changed, and they are changed back by
the same rule. The kernel's own machinery, the standard library's and greenlab's are left alone.
"""

from __future__ import annotations

import sys
from typing import Any

from greenlab.greening.scope import left_alone


def exchange(pairs: list[tuple[Any, Any]]) -> int:
    """Replace, in every loaded module that is not left alone, each first of a pair by its second.

    Returns:
        how many names were changed.
    """
    by_id = {id(old): new for old, new in pairs if callable(old)}
    changed = 0
    for name, module in list(sys.modules.items()):
        if left_alone(name) or (name.partition(".")[0] in sys.stdlib_module_names and name != "__main__"):
            continue
        namespace = getattr(module, "__dict__", None)
        if not isinstance(namespace, dict):
            continue
        for key, value in list(namespace.items()):
            new = by_id.get(id(value))
            if new is not None and not key.startswith("__"):
                namespace[key] = new
                changed += 1
    return changed
