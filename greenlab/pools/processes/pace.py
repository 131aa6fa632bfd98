"""How many tasks end a second, of late.

Must not import: anything of greenlab.
"""

from __future__ import annotations

from time import perf_counter


class Pace:
    """An average that forgets.

    Args:
        memory_s: within how many seconds it forgets what was.
    """

    def __init__(self, memory_s: float) -> None:
        self._memory_s = memory_s
        self._pace = 0.0
        self._noted_s = perf_counter()

    def note(self, count: int) -> None:
        """Note that so many tasks have ended since the last time."""
        now_s = perf_counter()
        past_s, self._noted_s = now_s - self._noted_s, now_s
        self._pace = self._pace * self._left(past_s) + count / max(self._memory_s, past_s)

    @property
    def now(self) -> float:
        """Tasks a second."""
        return self._pace * self._left(perf_counter() - self._noted_s)

    def _left(self, past_s: float) -> float:
        return max(0.0, 1 - past_s / self._memory_s)
