"""Sums that come out the same, bit for bit, on every IEEE 754 machine.

BLAS and ``numpy.sum`` choose the order of their additions by processor, and floating-point
addition is not associative. What has to be recomputed by others is therefore built here from
elementwise operations alone (multiply, add, divide, square root: each correctly rounded), in an
order that depends on the arrays' shapes and on nothing else.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]
#: One organization's step: PEFT names to float32 (or float64) arrays.
Step = Mapping[str, NDArray[np.float32] | NDArray[np.float64]]

# Keeps a block of ten organizations' values and their products in a core's second-level cache.
_BLOCK_VALUES = 1 << 14


def fold_sum(values: Float64Array) -> Float64Array:
    """Sum over the last axis by adding its second half to its first until one value is left.

    The rounding error grows with the logarithm of the length, as in pairwise summation (Higham,
    "The accuracy of floating point summation", 1993).

    Parameters
    ----------
    values : ndarray of float64, shape (..., n)
        Left unchanged. ``n`` may be 0.

    Returns
    -------
    ndarray of float64, shape (...)
    """
    length = values.shape[-1]
    if length == 0:
        return np.zeros(values.shape[:-1])
    half = (length + 1) // 2
    folded = values[..., :half].copy(order="K")
    folded[..., : length - half] += values[..., half:]
    length = half
    while length > 1:
        half = (length + 1) // 2
        folded[..., : length - half] += folded[..., half:length]
        length = half
    return folded[..., 0].copy()


def weighted_sum(
    coefficients: Sequence[float], steps: Sequence[Step], name: str, shape: tuple[int, int]
) -> Float64Array:
    """Sum ``coefficient * pad(step[name])`` over the organizations, in the order given.

    A step of fewer rows or columns is one of smaller rank: it fills the leading ones and counts
    as zero elsewhere.

    Parameters
    ----------
    coefficients : sequence of float, length organizations
    steps : sequence of mapping, length organizations
    name : str
        The factor to sum.
    shape : tuple of int
        Shape ``(rows, columns)`` of the result.

    Returns
    -------
    ndarray of float64, shape ``shape``
    """
    total = np.zeros(shape)
    for coefficient, step in zip(coefficients, steps, strict=True):
        term = step[name].astype(np.float64)
        term *= coefficient
        total[: term.shape[0], : term.shape[1]] += term
    return total


def gram_matrix(steps: Sequence[Step], shapes: Mapping[str, tuple[int, int]]) -> Float64Array:
    """Inner products of every two organizations' steps, zero-padded to ``shapes``.

    Parameters
    ----------
    steps : sequence of mapping, length organizations
    shapes : mapping of str to (rows, columns)
        The factors that count and their shapes at full rank.

    Returns
    -------
    ndarray of float64, shape (organizations, organizations)
        Symmetric; its diagonal holds the squared Frobenius norms.
    """
    count = len(steps)
    gram = np.zeros((count, count))
    for name in sorted(shapes):
        rows, columns = shapes[name]
        block_rows = max(1, _BLOCK_VALUES // max(1, columns))
        for start in range(0, rows, block_rows):
            stop = min(rows, start + block_rows)
            block = np.zeros((count, stop - start, columns))
            for padded, step in zip(block, steps, strict=True):
                part = step[name][start:stop]
                padded[: part.shape[0], : part.shape[1]] = part
            flat = block.reshape(count, -1)
            for k in range(count):
                gram[k, k:] += fold_sum(flat[k:] * flat[k])
    upper = np.triu(gram)
    return upper + np.triu(gram, 1).T


def frobenius_norm(step: Step) -> float:
    """Norm of all of a step's values taken as one vector; no overflow for float32 input."""
    shapes = {name: (array.shape[0], array.shape[1]) for name, array in step.items()}
    return math.sqrt(float(gram_matrix([step], shapes)[0, 0]))
