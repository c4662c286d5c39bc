"""``flora``: the organizations' pairs are stacked, which loses nothing and grows every round."""

from collections.abc import Sequence

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX
from strategies.aggregation.on_top import OnTopRule, exact_pair
from strategies.aggregation.reproducible import Float64Array
from strategies.aggregation.rule import Aggregate, Contribution
from strategies.aggregation.state import AggregationState, ExactFactors, StateArray


class Flora(OnTopRule):
    """FLoRA: ``B <- [B, p_k (s_k / s_g) B_k, ...]`` and ``A <- [A; A_k; ...]``.

    Wang et al., "FLoRA: Federated Fine-Tuning Large Language Models with Heterogeneous Low-Rank
    Adaptations", arXiv 2409.05976. There the stack is merged into the base after each round;
    here the base is quantized and stays as it is, so that the adapter's rank grows by the sum of
    the organizations' ranks every round, and with it what travels back to them.
    """

    name = "flora"

    def initial_state(self) -> AggregationState:
        """Give a stack of rank 0."""
        arrays: dict[str, StateArray] = {}
        for module, shape in self.shapes.items():
            arrays[module + A_SUFFIX] = np.zeros((0, shape.in_features), np.float32)
            arrays[module + B_SUFFIX] = np.zeros((shape.out_features, 0))
        return AggregationState(arrays)

    def layer(self, state: AggregationState, module: str) -> ExactFactors:
        """One layer in float64; of rank 1 and zero before the first round: PEFT knows no rank 0."""
        a = state.arrays[module + A_SUFFIX].astype(np.float64)
        b = state.arrays[module + B_SUFFIX].astype(np.float64, copy=False)
        if a.shape[0] == 0:
            shape = self.shapes[module]
            a, b = np.zeros((1, shape.in_features)), np.zeros((shape.out_features, 1))
        return ExactFactors(a, b)

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        """Append the pairs; see :meth:`AggregationRule.aggregate`."""
        ordered = self._admit(round, contributions)
        weights = self._weights(ordered)
        arrays: dict[str, StateArray] = {}
        for module in self.shapes:
            stack_a = [state.arrays[module + A_SUFFIX].astype(np.float32, copy=False)]
            stack_b = [state.arrays[module + B_SUFFIX].astype(np.float64, copy=False)]
            for contribution in ordered:
                b, a = _balanced(*exact_pair(contribution, module))
                weight = weights[contribution.organization] * self._scale_ratio(contribution)
                stack_b.append(weight * b)
                stack_a.append(a.astype(np.float32))
            arrays[module + A_SUFFIX] = np.vstack(stack_a)
            arrays[module + B_SUFFIX] = np.hstack(stack_b)
        return Aggregate(AggregationState(arrays), weights, dict(weights))

    def _check_state(self, state: AggregationState) -> None:
        expected = set(self.initial_state().arrays)
        if state.arrays.keys() != expected:
            odd = min(state.arrays.keys() ^ expected)
            raise ValueError(
                f"flora state: {odd[:200]!r} is {'missing' if odd in expected else 'not expected'}"
            )
        rank = state.arrays[next(iter(self.shapes)) + A_SUFFIX].shape[0]
        for module, shape in self.shapes.items():
            a, b = state.arrays[module + A_SUFFIX], state.arrays[module + B_SUFFIX]
            given = (str(a.dtype), a.shape, str(b.dtype), b.shape)
            wanted = (
                "float32",
                (rank, shape.in_features),
                "float64",
                (shape.out_features, rank),
            )
            if given != wanted:
                raise ValueError(f"flora state: {module!r} is {given}: expected {wanted}")


def _balanced(b: Float64Array, a: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Bring every row of ``a`` to a largest value in [0.5, 1), and ``b`` to the same product.

    By powers of two, hence exactly. A row of 1e38 beside a column of zeros would otherwise pass
    as no update at all and turn everybody's activations into infinity times zero.
    """
    exponents = np.frexp(np.abs(a).max(axis=1))[1]
    return np.ldexp(b, exponents), np.ldexp(a, -exponents[:, None])
