"""What the kernel waits for on its own account stays native, also when a green task asks for it.

`sys.stdout.flush()` in a kernel waits until the kernel's output thread has seen the stream (ipykernel 7,
`OutStream.flush`), and ipykernel calls it before everything that is displayed. Were that wait green, others would run
in the middle of a display: `plt.show()`, which displays every figure and then closes them, would draw them again for
each task that shows one; and the kernel would wait on the hub as a cell ends. The output thread needs some 0.1 ms.

Must not import: pools, runs, live, magics; ipykernel where it is not loaded.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from greenlab.greening.scope import green_hub, native

if TYPE_CHECKING:
    from greenlab.greening.patches import Patches


def patch(patches: Patches) -> None:
    """Make the flush of a kernel's streams native."""
    iostream = sys.modules.get("ipykernel.iostream")
    stream: Any = getattr(iostream, "OutStream", None)
    if stream is None:
        return
    flush = stream.flush

    @functools.wraps(flush)
    def natively(self: Any) -> None:
        if green_hub() is None:
            flush(self)
            return
        with native():
            flush(self)

    patches.replace(stream, "flush", natively)
