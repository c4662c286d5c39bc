"""What a run carries from round to round, in full precision: hashed, stored and resumed."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from llm.factors import LoraFactors
from strategies.aggregation.reproducible import Float64Array

StateArray = NDArray[np.float64] | NDArray[np.float32]


@dataclass(frozen=True)
class ExactFactors:
    """One layer's pair before the cast; the layer's update is ``scale * b @ a``.

    Parameters
    ----------
    a : ndarray of float64, shape (rank, in_features)
    b : ndarray of float64, shape (out_features, rank)
    """

    a: Float64Array
    b: Float64Array

    def rounded(self, module: str) -> LoraFactors:
        """Cast to float32, once.

        Raises
        ------
        ValueError
            If a value is not finite in float32.
        """
        with np.errstate(over="ignore"):
            a, b = self.a.astype(np.float32), self.b.astype(np.float32)
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            raise ValueError(
                f"{module}: the aggregated factors leave float32's range; "
                "lower the bound on the updates' norm"
            )
        return LoraFactors(a, b)


@dataclass(frozen=True)
class AggregationState:
    """A rule's state as named arrays; an exact round trip through safetensors.

    Parameters
    ----------
    arrays : mapping of str to ndarray
        Two-dimensional, float64 or float32, finite. Which names and shapes belong there is the
        rule's to say (:meth:`AggregationRule.restore` checks).
    """

    arrays: Mapping[str, StateArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, array in self.arrays.items():
            if array.dtype not in (np.dtype(np.float64), np.dtype(np.float32)) or array.ndim != 2:
                raise ValueError(
                    f"state {name!r} is {array.dtype} of shape {array.shape}: "
                    "expected a float64 or float32 matrix"
                )
            if not np.isfinite(array).all():
                raise ValueError(f"state {name!r} holds values that are not finite")

    def to_arrays(self) -> dict[str, StateArray]:
        """Lay the state out by sorted name."""
        return {name: self.arrays[name] for name in sorted(self.arrays)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, StateArray]) -> "AggregationState":
        """Take a state as read from a file; see :class:`AggregationState` for what is refused."""
        return cls(dict(arrays))
