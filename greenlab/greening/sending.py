"""What is greened, sent to a process of multiprocessing: by its name in the standard library, like what it stands for.

multiprocessing's pickler looks a function up under its name and refuses it where another stands there: a greened one,
of another module, and a native one that somebody has kept since before the greening, such as the locks that
`multiprocessing.managers` sends its server. What finds it in the other process is the standard library's.

Must not import: pools, runs, live, magics.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches


def patch(patches: Patches) -> None:
    """Have multiprocessing send what is replaced, and what was, by name."""

    def reducer_override(_: ForkingPickler, obj: Any) -> Any:
        """As `pickle.Pickler.reducer_override`."""
        return patches.by_name(obj) or NotImplemented

    patches.replace(ForkingPickler, "reducer_override", reducer_override)
