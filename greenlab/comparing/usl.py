"""The Universal Scalability Law, fitted: throughput over concurrency in three figures.

    X(N) = λN / (1 + σ(N − 1) + κN(N − 1))

λ is the throughput of one task at a time, σ the share of the work for which tasks queue (contention), κ what they cost
each other in pairs (coherency). Source: N. J. Gunther, Guerrilla Capacity Planning, Springer 2007, chapters 4 and 5.

Must not import: live, magics; numpy and scipy before something is fitted.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING, Any

from greenlab.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

PARAMETERS = 3
_GRID = 400


@dataclass(frozen=True)
class Usl:
    """A fitted law.

    Attributes:
        rate: λ, tasks/s of one task at a time.
        contention: σ, from 0 to 1.
        coherency: κ, 0 or more.
        misfit: by what share the measured throughputs are off the curve (root mean square).
        reduced_chi: the same in units of their own errors, √(χ² / degrees of freedom): about 1 where the law holds.
    """

    rate: float
    contention: float
    coherency: float
    misfit: float = 0.0
    reduced_chi: float = 0.0

    def throughput(self, concurrency: Any) -> Any:
        """Return the throughput in tasks/s at a concurrency, or at an array of them."""
        more = concurrency - 1
        return self.rate * concurrency / (1 + self.contention * more + self.coherency * concurrency * more)

    def elasticity(self, concurrency: float) -> float:
        """Return by how many percent throughput rises when concurrency rises by one percent: 1 is in proportion."""
        n, sigma, kappa = concurrency, self.contention, self.coherency
        return 1 - n * (sigma + kappa * (2 * n - 1)) / (1 + sigma * (n - 1) + kappa * n * (n - 1))

    @property
    def peak(self) -> float:
        """The concurrency of the highest throughput, √((1 − σ) / κ); infinite if throughput only rises."""
        return max(sqrt(max(1 - self.contention, 0.0) / self.coherency), 1.0) if self.coherency > 0 else inf

    def max_throughput(self, upto: float) -> float:
        """Return the highest throughput at a concurrency of at most `upto`."""
        return float(self.throughput(min(self.peak, upto)))

    def least_concurrency(self, throughput: float, upto: float) -> float:
        """Return the least concurrency, up to `upto`, with this throughput, or with the highest if that is less."""
        import numpy as np

        grid = np.geomspace(1, max(upto, 1), _GRID)
        curve = self.throughput(grid)
        return float(grid[int(np.argmax(curve >= min(throughput, curve.max())))])


def have_scipy() -> bool:
    """Return whether scipy is installed, which the fit needs."""
    try:
        import scipy.optimize  # noqa: F401
    except ImportError:
        return False
    return True


def fit(concurrency: Sequence[float], throughput: Sequence[float], errors: Sequence[float]) -> Usl:
    """Fit the law by least squares of the relative deviations.

    Args:
        concurrency: N, of at least three different values.
        throughput: X at each N, tasks/s, above 0.
        errors: the relative error of each X: a smaller one weighs more.

    Raises:
        UsageError: scipy is not installed, or there are too few points.
    """
    if not have_scipy():
        raise UsageError("the fit needs scipy: pip install scipy")
    if len(set(concurrency)) < PARAMETERS:
        raise UsageError(f"the law has three figures: {PARAMETERS} concurrencies or more, not {len(set(concurrency))}")
    import numpy as np
    from scipy.optimize import least_squares

    n, x = np.asarray(concurrency, dtype=float), np.asarray(throughput, dtype=float)
    weights = 1 / np.asarray(errors, dtype=float)

    def deviations(theta: Any) -> Any:
        return (Usl(*theta).throughput(n) / x - 1) * weights

    start = _linear(n, x, weights)
    first = np.clip([start.rate, start.contention, start.coherency], [1e-12, 0, 0], [inf, 1, inf])
    # x_scale: κ is a million times smaller than λ.
    done = least_squares(deviations, first, bounds=([0, 0, 0], [inf, 1, inf]), x_scale=[x.max(), 1.0, 1 / n.max() ** 2])
    rate, contention, coherency = (float(value) for value in done.x)
    found = Usl(rate, contention, coherency)
    off = found.throughput(n) / x - 1
    freedom = max(len(n) - PARAMETERS, 1)
    misfit, reduced_chi = float(np.sqrt(np.mean(off**2))), float(np.sqrt(np.sum((off * weights) ** 2) / freedom))
    return Usl(rate, contention, coherency, misfit, reduced_chi)


def _linear(n: Any, x: Any, weights: Any) -> Usl:
    """Solve the law in its linear form, N/X = (1 + σ(N−1) + κN(N−1)) / λ, with all three figures at least 0."""
    import numpy as np
    from scipy.optimize import nnls

    weigh = weights * x / n
    columns = np.stack([np.ones_like(n), n - 1, n * (n - 1)], axis=1) * weigh[:, None]
    size = np.linalg.norm(columns, axis=0)
    size[size == 0] = 1.0
    solved, _ = nnls(columns / size, weights)
    one, two, three = (float(value) for value in solved / size)
    one = one or 1e-12
    return Usl(1 / one, two / one, three / one)
