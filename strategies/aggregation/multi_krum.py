"""Multi-Krum: keep the updates that have the most company."""

import math
from collections.abc import Sequence

from strategies.aggregation.reproducible import Float64Array, Step, gram_matrix
from strategies.aggregation.robust import (
    FactorShapes,
    WeightedStatistic,
    normalized,
    squared_distances,
)


class MultiKrum(WeightedStatistic):
    """Average the ``n - f - 2`` updates closest to their neighbours.

    The score of an update is the sum of its squared distances to its ``n - f - 2`` nearest
    others: Blanchard et al., "Machine Learning with Adversaries: Byzantine Tolerant Gradient
    Descent" (NeurIPS 2017). That as many may be kept is from El-Mhamdi, Guerraoui and Rouault,
    "Fast and Robust Distributed Learning in High Dimension", arXiv 1905.04374. Equal scores go by
    the organization's name. The kept ones share the weight in proportion to theirs.
    Two identical updates vouch for each other: a copier of one organization is company too.
    """

    name = "multi-krum"

    @property
    def minimum_contributions(self) -> int:
        """Krum's condition: 2 f + 3."""
        return 2 * self.settings.byzantine + 3

    def coefficients(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> tuple[list[float], dict[str, float]]:
        """Give the kept ones' weights, scaled to 1, and 0 to the others."""
        neighbours = len(steps) - self.settings.byzantine - 2
        scores = krum_scores(squared_distances(gram_matrix(steps, shapes)), neighbours)
        ranking = sorted(range(len(steps)), key=lambda k: (scores[k], k))
        kept = set(ranking[:neighbours])
        coefficients = normalized([w if k in kept else 0.0 for k, w in enumerate(weights)])
        return coefficients, {"kept": float(len(kept))}


def krum_scores(distances: Float64Array, neighbours: int) -> list[float]:
    """Sum each point's ``neighbours`` smallest squared distances to the others.

    Parameters
    ----------
    distances : ndarray of float64, shape (points, points)
        Squared distances.
    neighbours : int
    """
    scores = []
    for k, row in enumerate(distances):
        others = sorted(float(distance) for j, distance in enumerate(row) if j != k)
        scores.append(math.fsum(others[:neighbours]))
    return scores
