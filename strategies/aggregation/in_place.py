"""Rules under which the received adapter itself is trained: the state is that adapter."""

from collections.abc import Mapping
from functools import cached_property
from typing import ClassVar

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX, Float32Array, LinearShape
from strategies.aggregation.geometry import stacked_norm
from strategies.aggregation.orthonormal import orthonormal_rows
from strategies.aggregation.reproducible import Float64Array, frobenius_norm
from strategies.aggregation.rule import AggregationRule, Contribution, check_arrays
from strategies.aggregation.settings import AggregationSettings
from strategies.aggregation.state import AggregationState, ExactFactors


class InPlaceRule(AggregationRule):
    """A rule whose state is the float64 adapter, or the part of it that ever moves.

    Attributes
    ----------
    moves_a : bool
        Whether ``A`` is part of the state. Otherwise it is the seed's for good, and nowhere
        stored.
    """

    moves_a: ClassVar[bool] = True

    def __init__(self, settings: AggregationSettings, shapes: Mapping[str, LinearShape]) -> None:
        super().__init__(settings, shapes)
        for module, shape in self.shapes.items():
            if settings.rank > shape.in_features:
                raise ValueError(
                    f"{module}: rank {settings.rank} exceeds its {shape.in_features} input "
                    "features; choose a smaller rank"
                )

    @cached_property
    def initial_a(self) -> dict[str, Float32Array]:
        """Orthonormal rows of every module, drawn from the seed at first use."""
        rank = self.settings.rank
        return {
            module: orthonormal_rows(self.settings.seed, (module,), rank, shape.in_features)
            for module, shape in self.shapes.items()
        }

    @property
    def state_shapes(self) -> dict[str, tuple[int, int]]:
        """Names and shapes of the state's arrays, all float64."""
        rank = self.settings.rank
        shapes: dict[str, tuple[int, int]] = {}
        for module, shape in self.shapes.items():
            if self.moves_a:
                shapes[module + A_SUFFIX] = (rank, shape.in_features)
            shapes[module + B_SUFFIX] = (shape.out_features, rank)
        return shapes

    def initial_state(self) -> AggregationState:
        """``B`` is zero; ``A`` has the seed's orthonormal rows."""
        arrays = {
            name: self.initial_a[name.removesuffix(A_SUFFIX)].astype(np.float64)
            if name.endswith(A_SUFFIX)
            else np.zeros(shape)
            for name, shape in self.state_shapes.items()
        }
        return AggregationState(arrays)

    def layer(self, state: AggregationState, module: str) -> ExactFactors:
        """One layer in float64, of the run's rank."""
        a, b = self._pair(state, module)
        return ExactFactors(a=a, b=b)

    def _pair(self, state: AggregationState, module: str) -> tuple[Float64Array, Float64Array]:
        a = state.arrays[module + A_SUFFIX] if self.moves_a else self.initial_a[module]
        b = state.arrays[module + B_SUFFIX]
        return a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)

    def update_norm(self, state: AggregationState, round: int, contribution: Contribution) -> float:
        """Larger of ``|s * dW|`` and ``s`` times the norm of the step in the factors."""
        squared = 0.0
        for module in self.shapes:
            pairs = self._change(state, module, contribution)
            squared += stacked_norm(pairs) ** 2
        return self._scale(contribution) * max(
            float(np.sqrt(squared)), frobenius_norm(contribution.arrays)
        )

    def _change(
        self, state: AggregationState, module: str, contribution: Contribution
    ) -> list[tuple[Float64Array, Float64Array]]:
        """Write the change of a layer, ``(B + dB)(A + dA) - B A``, as pairs ``(b, a)``."""
        a, b = self._pair(state, module)
        step_a = contribution.arrays.get(module + A_SUFFIX)
        step_b = contribution.arrays.get(module + B_SUFFIX)
        pairs = []
        moved_a = a
        if step_a is not None:
            rank = step_a.shape[0]
            exact_a = step_a.astype(np.float64)
            pairs.append((b[:, :rank], exact_a))
            moved_a = a.copy()
            moved_a[:rank] += exact_a
        if step_b is not None:
            rank = step_b.shape[1]
            pairs.append((step_b.astype(np.float64), moved_a[:rank]))
        return pairs

    def _scale(self, contribution: Contribution) -> float:
        return self.settings.scale if contribution.scale is None else contribution.scale

    def _check_state(self, state: AggregationState) -> None:
        check_arrays(f"{self.name} state", state.arrays, self.state_shapes, np.dtype(np.float64))
