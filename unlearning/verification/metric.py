"""Metrics: named functions of evidence, registered by a decorator, each with its error."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from unlearning.verification.evidence import SETS, Evidence, EvidenceById, SetName
from unlearning.verification.token_statistics import VerificationError


class MissingEvidenceError(VerificationError):
    """The metric needs something that the evidence does not hold."""


@dataclass(frozen=True)
class MetricResult:
    """A metric of one model.

    Parameters
    ----------
    value : float
        The aggregate.
    n : int
        Records it rests on.
    standard_error : float or None
        Of the aggregate, over records; None where it cannot be told.
    by_record : mapping of str to float
        The value of every record, by id. What it is, the metric says.
    """

    value: float
    n: int
    standard_error: float | None
    by_record: Mapping[str, float]


Metric = Callable[[Evidence], MetricResult]
SetMetric = Callable[[EvidenceById], MetricResult]

#: All metrics by name, such as ``forget/loss`` or ``membership/min_k``.
METRICS: Final[dict[str, Metric]] = {}


def metric(name: str) -> Callable[[Metric], Metric]:
    """Register a metric under a name.

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def register(function: Metric) -> Metric:
        if name in METRICS:
            raise ValueError(f"metric {name} is there already: expected another name")
        METRICS[name] = function
        return function

    return register


def set_metric(name: str) -> Callable[[SetMetric], SetMetric]:
    """Register a metric of one set three times: ``forget/name``, ``retain/name``, ...

    Raises
    ------
    ValueError
        If the name is taken.
    """

    def register(function: SetMetric) -> SetMetric:
        for which in SETS:
            metric(f"{which}/{name}")(_of_set(function, which))
        return function

    return register


def _of_set(function: SetMetric, which: SetName) -> Metric:
    def of_set(evidence: Evidence) -> MetricResult:
        rows = evidence.of(which)
        if not rows:
            raise MissingEvidenceError(f"the {which} set is empty: expected at least one record")
        return function(rows)

    return of_set


def measure(evidence: Evidence, names: Iterable[str] | None = None) -> dict[str, MetricResult]:
    """Compute metrics of one model.

    Parameters
    ----------
    evidence : Evidence
        What the model says.
    names : iterable of str, optional
        Which metrics; by default all for which the evidence suffices.

    Returns
    -------
    dict of str to MetricResult
        By name.

    Raises
    ------
    ValueError
        If a name is unknown.
    MissingEvidenceError
        If a named metric needs what is not there.
    """
    if names is not None:
        return {name: _registered(name)(evidence) for name in names}
    results = {}
    for name, function in METRICS.items():
        try:
            results[name] = function(evidence)
        except MissingEvidenceError:
            continue
    return results


def _registered(name: str) -> Metric:
    if name not in METRICS:
        raise ValueError(f"metric {name!r}: expected one of {', '.join(sorted(METRICS))}")
    return METRICS[name]


def mean_result(by_record: Mapping[str, float]) -> MetricResult:
    """Return the mean over records, and its standard error (none for a single record)."""
    values = np.fromiter(by_record.values(), dtype=np.float64)
    n = len(values)
    error = float(values.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    return MetricResult(math.fsum(values) / n, n, error, by_record)


def ratio_result(numerators: Mapping[str, float], denominators: Mapping[str, int]) -> MetricResult:
    """Return the ratio of two sums over the same records, and its standard error.

    The error is that of the ratio estimator (Cochran 1977, *Sampling Techniques*, chapter 6):
    ``sqrt(n / (n - 1) * sum_i (y_i - R x_i)^2) / sum_i x_i``, with ``R = sum y / sum x``.

    Parameters
    ----------
    numerators : mapping of str to float
        ``y`` by record id.
    denominators : mapping of str to int
        ``x`` by record id, positive.

    Returns
    -------
    MetricResult
        By record, ``y_i / x_i``.
    """
    y = np.array([numerators[name] for name in numerators])
    x = np.array([denominators[name] for name in numerators], dtype=np.float64)
    n, total = len(y), math.fsum(x)
    ratio = math.fsum(y) / total
    residuals = math.fsum(np.square(y - ratio * x))
    error = math.sqrt(n / (n - 1) * residuals) / total if n > 1 else None
    by_record = {name: numerators[name] / denominators[name] for name in numerators}
    return MetricResult(ratio, n, error, by_record)
