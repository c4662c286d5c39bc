"""LoRA factors as plain arrays: what an adapter is between machines, under PEFT's own names."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: The two factors' suffixes in a PEFT state dict; what stands before them is the module's name,
#: for example ``base_model.model.model.layers.0.self_attn.q_proj``.
A_SUFFIX = ".lora_A.weight"
B_SUFFIX = ".lora_B.weight"

Float32Array = NDArray[np.float32]

#: An adapter or an update on its way: PEFT state-dict names to float32 arrays.
Arrays = dict[str, Float32Array]


@dataclass(frozen=True, order=True)
class LinearShape:
    """Size of one adapted linear layer, whose weight is ``(out_features, in_features)``."""

    out_features: int
    in_features: int


@dataclass(frozen=True)
class LoraFactors:
    """One layer's low-rank pair; the layer's update is ``scale * b @ a``.

    Parameters
    ----------
    a : ndarray of float32, shape (rank, in_features)
        Down-projection.
    b : ndarray of float32, shape (out_features, rank)
        Up-projection.
    """

    a: Float32Array
    b: Float32Array

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1]:
            raise ValueError(
                f"LoRA factors a {self.a.shape} and b {self.b.shape} do not fit: "
                "expected (rank, in_features) and (out_features, rank)"
            )

    @property
    def rank(self) -> int:
        """Number of rows of ``a`` and of columns of ``b``."""
        return int(self.a.shape[0])

    @property
    def shape(self) -> LinearShape:
        """Size of the adapted layer."""
        return LinearShape(int(self.b.shape[0]), int(self.a.shape[1]))


#: A whole adapter: module name (PEFT prefix included) to its factors.
Adapter = Mapping[str, LoraFactors]


def arrays_from_adapter(adapter: Adapter) -> Arrays:
    """Lay an adapter out under its PEFT state-dict names, sorted."""
    arrays: Arrays = {}
    for module in sorted(adapter):
        arrays[module + A_SUFFIX] = adapter[module].a
        arrays[module + B_SUFFIX] = adapter[module].b
    return arrays


def adapter_from_arrays(arrays: Mapping[str, Float32Array]) -> dict[str, LoraFactors]:
    """Pair the factors of a PEFT state dict.

    Raises
    ------
    ValueError
        If a name is not a LoRA factor's, a factor lacks its partner, or the two do not fit.
    """
    modules = set()
    for name in arrays:
        for suffix in (A_SUFFIX, B_SUFFIX):
            if name.endswith(suffix):
                modules.add(name.removesuffix(suffix))
                break
        else:
            raise ValueError(
                f"{name!r} is not a LoRA factor: expected a name ending in "
                f"{A_SUFFIX!r} or {B_SUFFIX!r}"
            )
    adapter = {}
    for module in sorted(modules):
        missing = [s for s in (A_SUFFIX, B_SUFFIX) if module + s not in arrays]
        if missing:
            raise ValueError(f"{module!r} lacks its factor {missing[0]!r}")
        adapter[module] = LoraFactors(arrays[module + A_SUFFIX], arrays[module + B_SUFFIX])
    return adapter
