"""Which updates of a round are no update at all, and which are nearly the same one.

Updates are compared by what they do, not by how they are written: a pair ``(B, A)`` says the same
as ``(c B, A / c)``, and is compared by its product. Decisions rest on inner products in the fixed
order of :mod:`strategies.aggregation.reproducible`, so that two machines never differ in them.
"""

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX
from strategies.aggregation.reproducible import Float64Array, Step, fold_sum, gram_matrix
from strategies.aggregation.rule import AggregationRule, Contribution

#: Two updates of a larger cosine are nearly the same. Organizations with data of their own are far
#: from it; adding noise of 15 % of its norm takes a copy below it.
NEAR_DUPLICATE_COSINE: Final = 0.99

#: An update of at most this share of the round's lower median norm counts as no update.
NEGLIGIBLE_NORM: Final = 1e-3


def update_gram(
    rule: AggregationRule, round: int, contributions: Sequence[Contribution]
) -> Float64Array:
    """Inner products of every two updates, at the scale each was trained at.

    Under rules that train the received adapter, of the steps in the trained factors, laid out as
    one vector each. Under rules that train a fresh pair, of the pairs' products:
    ``<B_1 A_1, B_2 A_2> = sum((B_1^T B_2) * (A_1 A_2^T))``, without forming them.

    Parameters
    ----------
    rule : AggregationRule
        The run's.
    round : int
        The round.
    contributions : sequence of Contribution, length n
        As :meth:`AggregationRule.check_contribution` admits them.

    Returns
    -------
    ndarray of float64, shape (n, n)
        Symmetric; the diagonal holds the squared norms.
    """
    steps = [contribution.arrays for contribution in contributions]
    if rule.plan(round, rule.settings.rank).on_top:
        gram = _product_gram(steps, list(rule.shapes))
    else:
        gram = gram_matrix(steps, rule.expected_shapes(round, rule.settings.rank))
    own = rule.settings.scale
    scales = np.array([own if c.scale is None else c.scale for c in contributions], np.float64)
    scaled: Float64Array = gram * scales[:, None] * scales[None, :]
    return scaled


def negligible(gram: Float64Array) -> list[bool]:
    """Tell the updates that are zero, or too small beside the others to be one.

    Parameters
    ----------
    gram : ndarray of float64, shape (n, n)
        See :func:`update_gram`.

    Returns
    -------
    list of bool, length n
        Whether the norm is at most ``NEGLIGIBLE_NORM`` of the lower median: of the two middle ones
        the smaller, so that a hostile half cannot raise it.
    """
    norms = _norms(gram)
    if not norms:
        return []
    bound = NEGLIGIBLE_NORM * sorted(norms)[(len(norms) - 1) // 2]
    return [norm <= bound for norm in norms]


def near_duplicates(gram: Float64Array) -> list[list[int]]:
    """Group updates whose cosine is above ``NEAR_DUPLICATE_COSINE``, directly or through others.

    Parameters
    ----------
    gram : ndarray of float64, shape (n, n)
        See :func:`update_gram`.

    Returns
    -------
    list of list of int
        Positions, each in exactly one group; ascending within a group, groups by their first. An
        update of norm 0 stands alone.
    """
    norms = _norms(gram)
    first = list(range(len(norms)))
    for i in range(len(norms)):
        for j in range(i):
            length = norms[i] * norms[j]
            if length > 0 and float(gram[i, j]) > NEAR_DUPLICATE_COSINE * length:
                kept, joined = sorted((first[i], first[j]))
                first = [kept if group == joined else group for group in first]
    groups: dict[int, list[int]] = {}
    for position, group in enumerate(first):
        groups.setdefault(group, []).append(position)
    return list(groups.values())


def _norms(gram: Float64Array) -> list[float]:
    # Cancellation may leave a product's square a hair below zero.
    return [math.sqrt(max(0.0, float(square))) for square in np.diagonal(gram)]


def _product_gram(steps: Sequence[Step], modules: Sequence[str]) -> Float64Array:
    count = len(steps)
    gram = np.zeros((count, count))
    for module in modules:
        # Rows to sum over: (rank, features) each.
        left = [step[module + B_SUFFIX].astype(np.float64).T.copy() for step in steps]
        right = [step[module + A_SUFFIX].astype(np.float64) for step in steps]
        for i in range(count):
            for j in range(i + 1):
                overlap = _row_products(left[i], left[j]) * _row_products(right[i], right[j])
                gram[i, j] += float(fold_sum(overlap.reshape(-1)))
    lower = np.tril(gram)
    return lower + np.tril(gram, -1).T


def _row_products(one: Float64Array, other: Float64Array) -> Float64Array:
    """Inner products of every row of one matrix with every row of another, in a fixed order."""
    return np.stack([fold_sum(other * row) for row in one])
