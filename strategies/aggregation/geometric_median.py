"""Geometric median: the point whose distances to the updates add up to the least."""

import math
from collections.abc import Sequence

from strategies.aggregation.reproducible import Float64Array, Step, gram_matrix
from strategies.aggregation.robust import FactorShapes, WeightedStatistic, normalized

#: Distances below this part of the lower median update norm count as this long (the smoothing).
SMOOTHING = 1e-6
#: The search ends when an iteration moves the point by no more than this part of that norm.
SOLVER_TOLERANCE = 1e-9
MAX_ITERATIONS = 1000


class GeometricMedian(WeightedStatistic):
    """Weighted geometric median by the smoothed Weiszfeld algorithm.

    Pillutla, Kakade and Harchaoui, "Robust Aggregation for Federated Learning" (RFA), arXiv
    1912.13445. Each iterate is a weighted sum of the updates, so that the search needs their
    inner products only, once, whatever the number of iterations. Hostile organizations with less
    than half of the weight move it by a bounded amount.
    """

    name = "geometric-median"

    def coefficients(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> tuple[list[float], dict[str, float]]:
        """Give the median's coefficients, which sum to 1."""
        coefficients, iterations, converged = weiszfeld(gram_matrix(steps, shapes), weights)
        return coefficients, {"iterations": float(iterations), "converged": float(converged)}


def weiszfeld(gram: Float64Array, weights: Sequence[float]) -> tuple[list[float], int, bool]:
    """Find the weighted geometric median among weighted sums of the points.

    Iterates ``c_k <- p_k / max(nu, |x_k - z|)``, normalized, with ``z = sum c_k x_k`` and
    ``|x_k - z|^2 = G_kk - 2 (G c)_k + c' G c``.

    Parameters
    ----------
    gram : ndarray of float64, shape (points, points)
        Inner products of the points.
    weights : sequence of float, length points
        The p_k.

    Returns
    -------
    coefficients : list of float
    iterations : int
        At most ``MAX_ITERATIONS``.
    converged : bool
        Whether the last iteration moved the point by no more than ``SOLVER_TOLERANCE`` allows.
    """
    products: list[list[float]] = gram.tolist()
    count = len(products)
    squared = [products[k][k] for k in range(count)]
    # The lower median and not the mean: what a hostile minority sends must not set the unit.
    unit = math.sqrt(sorted(squared)[(count - 1) // 2])
    coefficients = normalized(weights)
    for iteration in range(1, MAX_ITERATIONS + 1):
        against = _times(products, coefficients)
        own = _dot(coefficients, against)
        distances = [
            max(SMOOTHING * unit, math.sqrt(max(0.0, squared[k] - 2.0 * against[k] + own)))
            for k in range(count)
        ]
        # A distance of zero is left only where half of the points are the origin, and the search
        # has come down to them.
        reached = [k for k in range(count) if distances[k] == 0.0]
        if reached:
            found = [1.0 / len(reached) if k in reached else 0.0 for k in range(count)]
            return found, iteration, True
        updated = normalized([p / d for p, d in zip(weights, distances, strict=True)])
        change = [new - old for new, old in zip(updated, coefficients, strict=True)]
        moved = math.sqrt(max(0.0, _dot(change, _times(products, change))))
        coefficients = updated
        if moved <= SOLVER_TOLERANCE * unit:
            return coefficients, iteration, True
    return coefficients, MAX_ITERATIONS, False


def _dot(x: Sequence[float], y: Sequence[float]) -> float:
    return math.fsum(a * b for a, b in zip(x, y, strict=True))


def _times(matrix: Sequence[Sequence[float]], vector: Sequence[float]) -> list[float]:
    return [_dot(row, vector) for row in matrix]
