"""Frobenius norms of low-rank products, read from their factors without the dense product."""

from collections.abc import Iterable
from typing import cast

import numpy as np

from llm.factors import Adapter
from strategies.aggregation.reproducible import Float64Array


def product_norm(b: Float64Array, a: Float64Array) -> float:
    """Frobenius norm of ``b @ a``.

    With QR factorizations ``b = Q R`` and ``a.T = P S`` the norm is that of the small ``R S.T``.
    A Gram matrix would do with less work, and lose half the digits.

    Parameters
    ----------
    b : ndarray of float64, shape (out_features, rank)
    a : ndarray of float64, shape (rank, in_features)
    """
    if b.shape[1] == 0:
        return 0.0
    return float(np.linalg.norm(_triangle(b) @ _triangle(a.T).T))


def _triangle(matrix: Float64Array) -> Float64Array:
    # NumPy's own annotations miss that this mode answers R alone.
    return cast(Float64Array, np.linalg.qr(matrix, mode="r"))


def stacked_norm(pairs: Iterable[tuple[Float64Array, Float64Array]]) -> float:
    """Frobenius norm of the sum of ``b @ a`` over the pairs."""
    left, right = zip(*pairs, strict=True)
    return product_norm(np.hstack(left), np.vstack(right))


def adapter_distance(adapter: Adapter, reference: Adapter) -> float:
    """Relative Frobenius distance between the dense updates of two adapters of one scale.

    Factors that differ can be the same update; this is what a rule's ``tolerance`` bounds
    between two machines.

    Parameters
    ----------
    adapter, reference : mapping of module name to LoraFactors
        Of the same modules; their ranks may differ.

    Returns
    -------
    float
        ``|adapter - reference| / |reference|``; infinite where only the reference is zero.

    Raises
    ------
    ValueError
        If the two do not have the same modules.
    """
    if set(adapter) != set(reference):
        odd = sorted(set(adapter) ^ set(reference))[0]
        raise ValueError(f"adapters differ in their modules: only one of them has {odd!r}")
    squared_distance = squared_norm = 0.0
    for module in sorted(reference):
        ours, theirs = adapter[module], reference[module]
        pairs = [
            (ours.b.astype(np.float64), ours.a.astype(np.float64)),
            (-theirs.b.astype(np.float64), theirs.a.astype(np.float64)),
        ]
        squared_distance += stacked_norm(pairs) ** 2
        squared_norm += product_norm(*pairs[1]) ** 2
    if squared_distance == 0.0:
        return 0.0
    return float(np.sqrt(squared_distance / squared_norm)) if squared_norm else float("inf")
