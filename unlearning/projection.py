"""Recovery without relapse: an update without its component against the unlearning."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from llm.factors import B_SUFFIX, Arrays, Float32Array


def without_opposition(
    update: Mapping[str, Float32Array], unlearning: Mapping[str, Float32Array]
) -> Arrays:
    """Remove from each layer's update what points against the unlearning update.

    With u a layer's update and d its unlearning update, ``u - (<u, d> / <d, d>) d`` where
    ``<u, d> < 0``, and u itself elsewhere: the projection that Yu et al., "Gradient Surgery for
    Multi-Task Learning", arXiv 2001.06782, make of two gradients. What helps the unlearning, and
    what has nothing to do with it, is kept.

    The inner product is Frobenius', of the factors B alone. Where A is shared and has orthonormal
    rows, as under ``ffa``, it is that of the layers' dense updates: ``<dB A, dB' A> = trace(A^T
    dB^T dB' A) = <dB, dB'>``. LoRA scales are positive and change no sign, nor what is removed.

    Parameters
    ----------
    update : mapping of str to ndarray of float32, each of shape (out_features, rank)
        What an organization trained: the change of B, by PEFT's names. Left unchanged.
    unlearning : mapping of str to ndarray of float32, each of shape (out_features, rank)
        The change of B that unlearned, of the same layers. The ranks may differ: the leading
        columns that both have are compared, and no others changed.

    Returns
    -------
    dict of str to ndarray of float32
        Of the shapes of ``update``. Worked out in float64 and rounded once.

    Raises
    ------
    ValueError
        If the layers differ, an array is no B or does not fit, or a value is not finite.
    """
    _check_layers(update, unlearning)
    return {name: _projected(name, update[name], unlearning[name]) for name in update}


def _projected(name: str, update: Float32Array, unlearning: Float32Array) -> Float32Array:
    if update.ndim != 2 or unlearning.ndim != 2 or len(update) != len(unlearning):
        raise ValueError(
            f"{name}: an update of shape {update.shape} and an unlearning update of "
            f"{unlearning.shape}; expected (out_features, rank) of equal out_features"
        )
    rank = min(update.shape[1], unlearning.shape[1])
    direction = unlearning[:, :rank].astype(np.float64)
    projected = update.astype(np.float64)
    along = _inner_product(projected[:, :rank], direction)
    length = _inner_product(direction, direction)
    if not (np.isfinite(along) and np.isfinite(length)):
        raise ValueError(f"{name}: the update or the unlearning update holds values not finite")
    if along < 0:
        projected[:, :rank] -= along / length * direction
    return projected.astype(np.float32)


def _inner_product(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    # Not a BLAS product: its order of additions varies with the number of threads.
    return float(np.add.reduce((one * other).ravel()))


def _check_layers(
    update: Mapping[str, Float32Array], unlearning: Mapping[str, Float32Array]
) -> None:
    odd = sorted(update.keys() ^ unlearning.keys())
    if odd:
        lacking = "unlearning update" if odd[0] in update else "update"
        raise ValueError(
            f"{len(odd)} layers are in one of the two only, first {odd[0]}: the {lacking} lacks it"
        )
    others = sorted(name for name in update if not name.endswith(B_SUFFIX))
    if others:
        raise ValueError(f"{others[0]}: expected factors B alone ({B_SUFFIX})")
