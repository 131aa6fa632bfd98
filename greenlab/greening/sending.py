"""What is greened, sent to another process: by its name in the standard library, like what it stands for.

A greened function bears the module and the name of what it stands for, so any pickler sends it by these; the other
process needs no greenlab. multiprocessing's pickler also refuses a native function that somebody has kept since before
the greening, such as the locks that `multiprocessing.managers` sends its server: where another stands under its name.
What finds it in the other process is the standard library's.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

import sys
from multiprocessing.reduction import ForkingPickler
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches


def patch(patches: Patches) -> None:
    """Have what is replaced sent by name, and by multiprocessing also what stood there before."""
    for module, name, _, green in patches.in_modules():
        ours = isinstance(green, FunctionType) and green.__module__.startswith("greenlab.")
        if ours and module.__name__.partition(".")[0] in sys.stdlib_module_names:
            green.__module__, green.__qualname__, green.__name__ = module.__name__, name, name

    def reducer_override(_: ForkingPickler, obj: Any) -> Any:
        """As `pickle.Pickler.reducer_override`."""
        return patches.by_name(obj) or NotImplemented

    patches.replace(ForkingPickler, "reducer_override", reducer_override)
