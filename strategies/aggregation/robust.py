"""Robust statistics: what may stand in the mean's place when some organizations are hostile.

They compose with the rules that train one factor, and see each organization's step in that
factor. Under ``ffa`` the other factor has orthonormal rows, so that lengths and angles of the
steps are those of the updates themselves; under ``alternating`` they are the trained factor's
own. Everything is computed in the fixed order of :mod:`strategies.aggregation.reproducible`:
each statistic gives the same bits on every machine.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from strategies.aggregation.reproducible import (
    Float64Array,
    Step,
    frobenius_norm,
    weighted_sum,
)
from strategies.aggregation.settings import AggregationSettings

#: Shapes ``(rows, columns)`` of the factors at full rank, by PEFT name.
FactorShapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class CombinedStep:
    """The one step made of all organizations' steps.

    Parameters
    ----------
    arrays : dict of str to ndarray of float64
        By PEFT name, of full rank.
    coefficients : list of float or None
        Each organization's coefficient in it; None where it is no weighted sum.
    diagnostics : dict of str to float
    """

    arrays: dict[str, Float64Array]
    coefficients: list[float] | None
    diagnostics: dict[str, float] = field(default_factory=dict)


class RobustStatistic(ABC):
    """Makes one step of several.

    Attributes
    ----------
    name : str
        The statistic's name in the settings.
    coordinate_wise : bool
        Whether each value of the factor is decided by itself. The result is then no statistic of
        the updates: it depends on the basis the other factor happens to be.
    """

    name: ClassVar[str]
    coordinate_wise: ClassVar[bool] = False

    def __init__(self, settings: AggregationSettings) -> None:
        self.settings = settings

    @property
    def separable(self) -> bool:
        """Whether one organization's part does not depend on what the others sent."""
        return False

    @property
    def minimum_contributions(self) -> int:
        """Fewest organizations the statistic is defined for."""
        return 1

    @abstractmethod
    def combine(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> CombinedStep:
        """Combine the steps, of organizations in canonical order, with weights summing to 1."""


class WeightedStatistic(RobustStatistic):
    """A statistic that is a weighted sum: it decides on the coefficients alone."""

    def combine(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> CombinedStep:
        """Sum the steps by :meth:`coefficients`."""
        coefficients, diagnostics = self.coefficients(steps, weights, shapes)
        arrays = {
            name: weighted_sum(coefficients, steps, name, shapes[name]) for name in sorted(shapes)
        }
        return CombinedStep(arrays, coefficients, diagnostics)

    @abstractmethod
    def coefficients(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> tuple[list[float], dict[str, float]]:
        """Give each organization's coefficient, and diagnostics for the log."""


class Mean(WeightedStatistic):
    """The weighted mean itself; no protection but the weight cap."""

    name = "none"

    @property
    def separable(self) -> bool:
        """True: a sum of terms."""
        return True

    def coefficients(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> tuple[list[float], dict[str, float]]:
        """Give the weights."""
        return list(weights), {}


class NormClip(WeightedStatistic):
    """Shrink every update longer than a bound to the bound, then take the weighted mean.

    Sun et al., "Can You Really Backdoor Federated Learning?", arXiv 1911.07963. The bound is
    ``clip_norm``, or else the round's lower median norm: of the two middle ones the smaller, so
    that a hostile half cannot raise it.
    """

    name = "norm-clip"

    @property
    def separable(self) -> bool:
        """Whether the bound is fixed, rather than drawn from everybody's norms."""
        return self.settings.clip_norm is not None

    def coefficients(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> tuple[list[float], dict[str, float]]:
        """Give ``p_k * min(1, bound / norm_k)``."""
        norms = [self.settings.scale * frobenius_norm(step) for step in steps]
        bound = self.settings.clip_norm
        if bound is None:
            bound = sorted(norms)[(len(norms) - 1) // 2]
        coefficients = [
            weight if norm <= bound else weight * (bound / norm)
            for weight, norm in zip(weights, norms, strict=True)
        ]
        clipped = sum(norm > bound for norm in norms)
        return coefficients, {"clip_norm": bound, "clipped": float(clipped)}


class TrimmedMean(RobustStatistic):
    """Leave out the ``byzantine`` largest and smallest of each value, and average the rest.

    Yin et al., "Byzantine-Robust Distributed Learning", arXiv 1803.01498. It acts on each value
    of the factor by itself, knows no weights, and counts what an organization of smaller rank
    does not train as zero.
    """

    name = "trimmed-mean"
    coordinate_wise = True
    # Sorting all organizations' values of a whole layer at once would double the peak memory.
    _BLOCK_ROWS: ClassVar[int] = 1024

    @property
    def minimum_contributions(self) -> int:
        """At least one value is left: 2 f + 1."""
        return 2 * self.settings.byzantine + 1

    def combine(
        self, steps: Sequence[Step], weights: Sequence[float], shapes: FactorShapes
    ) -> CombinedStep:
        """Average, value by value, what is left after trimming."""
        arrays = {name: self._trimmed(steps, name, shapes[name]) for name in sorted(shapes)}
        return CombinedStep(arrays, None, {"trimmed": float(2 * self.settings.byzantine)})

    def _trimmed(self, steps: Sequence[Step], name: str, shape: tuple[int, int]) -> Float64Array:
        trim, count = self.settings.byzantine, len(steps)
        mean = np.zeros(shape)
        for start in range(0, shape[0], self._BLOCK_ROWS):
            stop = min(shape[0], start + self._BLOCK_ROWS)
            values = np.zeros((count, stop - start, shape[1]))
            for padded, step in zip(values, steps, strict=True):
                part = step[name][start:stop]
                padded[: part.shape[0], : part.shape[1]] = part
            # A full sort: which order a partition leaves the middle in depends on the processor.
            values.sort(axis=0)
            for kept in values[trim : count - trim]:
                mean[start:stop] += kept
        mean /= count - 2 * trim
        return mean


def squared_distances(gram: Float64Array) -> Float64Array:
    """Squared distances of every two points from their inner products.

    Parameters
    ----------
    gram : ndarray of float64, shape (points, points)

    Returns
    -------
    ndarray of float64, shape (points, points)
        Rounding below zero is cut off.
    """
    squared = np.diagonal(gram)
    return np.maximum(squared[:, None] + squared[None, :] - 2.0 * gram, 0.0)


def normalized(weights: Sequence[float]) -> list[float]:
    """Divide by the (correctly rounded) sum."""
    total = math.fsum(weights)
    return [weight / total for weight in weights]
