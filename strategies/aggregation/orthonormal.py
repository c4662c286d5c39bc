"""The shared down-projection: orthonormal rows from a seed, the same bits on every machine.

Gaussian draws go through the platform's ``log`` and ``cos``, and a library QR through its BLAS:
neither gives the same bits everywhere. Signs from SHAKE-256, orthonormalized by Gram-Schmidt in
the fixed order of :mod:`strategies.aggregation.reproducible`, do.
"""

import hashlib

import numpy as np

from llm.factors import Float32Array
from strategies.aggregation.reproducible import Float64Array, fold_sum

_DOMAIN = b"foedus lora down-projection 1"
# A row of signs that lies in the span of the earlier ones leaves only rounding error (below 1e-10
# for any layer's width); one that does not leaves about (width - rows so far).
_LEAST_SQUARED_RESIDUAL = 1 / 16


def orthonormal_rows(seed: int, labels: tuple[str, ...], rank: int, width: int) -> Float32Array:
    """Draw ``rank`` orthonormal rows.

    Rows of random signs are orthonormalized by classical Gram-Schmidt, carried out twice for each
    row ("twice is enough": Giraud, Langou and Rozložník, 2005), in float64, and cast to float32
    once. A row that depends on those before it is drawn again. Frozen orthonormal rows are what
    lets the norm of an update be read from ``B`` alone; that ``A`` may stay at its random start
    is from Sun et al., "Improving LoRA in Privacy-preserving Federated Learning" (FFA-LoRA),
    arXiv 2403.12313.

    Parameters
    ----------
    seed : int
        The run's seed, 0 <= seed < 2**64.
    labels : tuple of str
        What the rows are for: the module's name and, for a fresh pair, round and organization.
    rank : int
        Number of rows.
    width : int
        Length of a row: the layer's ``in_features``.

    Returns
    -------
    ndarray of float32, shape (rank, width)

    Raises
    ------
    ValueError
        If ``rank`` is not within 1 and ``width``.
    """
    if not 1 <= rank <= width:
        raise ValueError(
            f"{'/'.join(labels)}: {width} input features have no {rank} orthonormal rows; "
            f"choose a rank from 1 to {width}"
        )
    prefix = _prefix(seed, labels)
    rows = np.zeros((rank, width))
    found = draw = 0
    while found < rank:
        row = _signs(prefix, draw, width)
        draw += 1
        for _ in range(2):
            row -= _projection(rows[:found], row)
        squared = float(fold_sum(row * row))
        if squared >= _LEAST_SQUARED_RESIDUAL:
            rows[found] = row / np.sqrt(squared)
            found += 1
    return rows.astype(np.float32)


def _prefix(seed: int, labels: tuple[str, ...]) -> bytes:
    # Every label is preceded by its length, so that no two lists of labels share a prefix.
    parts = [_DOMAIN, seed.to_bytes(8, "little")]
    for label in labels:
        encoded = label.encode()
        parts += [len(encoded).to_bytes(4, "little"), encoded]
    return b"".join(parts)


def _signs(prefix: bytes, draw: int, width: int) -> Float64Array:
    stream = hashlib.shake_256(prefix + draw.to_bytes(8, "little")).digest((width + 7) // 8)
    bits = np.unpackbits(np.frombuffer(stream, np.uint8), count=width, bitorder="little")
    return 1.0 - 2.0 * bits.astype(np.float64)


def _projection(rows: Float64Array, row: Float64Array) -> Float64Array:
    coefficients = fold_sum(rows * row)
    return fold_sum((coefficients[:, None] * rows).T)
