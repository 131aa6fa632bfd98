"""What the hybrid pool and its processes send each other, beside the frames of `framing`.

A head's `number` is the index of a task, unless the kind of the frame says otherwise.

Must not import: eventlet, asyncio, or anything of greenlab but framing.
"""

from __future__ import annotations

import mmap
from typing import Final

from greenlab.pools.processes.framing import Page

# To a process, beside JOB, BATCH (indexes and items) and TASK …
SHARE: Final = 32  # how many tasks of a job may run there (number)
KILL: Final = 33  # end this task
HELD: Final = 34  # which tasks of the job run, and where they stand? (number: of the question)
END: Final = 35  # the job has ended: stop what runs of it, and forget it
# … and from one, beside RESULT, ERROR, STDOUT and STDERR.
READY: Final = 36  # the hub turns
RESULTS: Final = 37  # many results: indexes, starts, ends and values
KILLED: Final = 38  # the task was ended as asked
HOLDS: Final = 39  # answers HELD: a list of (index, start, place)
ENDED: Final = 40  # answers END: nothing of the job runs any more
RETURNED: Final = 42  # tasks that were recalled, and so not begun: a list of (index, how-manieth)
BLOCKED: Final = 41  # a task held the hub: a `Block`

BROKEN: Final = 43  # why this process ends: it cannot serve

OF_NO_TASK: Final = (1 << 64) - 1  # the index of a print that is of no task


class Marks:
    """Memory that the pool shares with one process: three words of each job there.

    A process takes the tasks of a job in the order in which they were sent; each is known by its number in that order.

    Attributes:
        begun: the task that the process turned to last, written before it looks at `recall` and begins it. It survives
            the process, and so tells which tasks were lost with it, and which never began.
        recall: written by the pool: no task up to this one shall be begun any more. The pool writes it, reads
            `begun` a moment later, and knows that none above that has been begun, nor ever will be.
        running: how many tasks have begun and not ended.
    """

    COUNT: Final = Page.SIZE // 24

    def __init__(self, fd: int) -> None:
        self._map = mmap.mmap(fd, Page.SIZE)
        words = memoryview(self._map).cast("Q")
        self.begun, self.recall, self.running = (words[i * self.COUNT : (i + 1) * self.COUNT] for i in range(3))

    def close(self) -> None:
        """Release the memory."""
        self.begun.release()
        self.recall.release()
        self.running.release()
        self._map.close()
