"""``fedit``: A and B are averaged separately. Kept as the baseline that misses the mean update."""

from collections.abc import Sequence

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX, Float32Array
from strategies.aggregation.geometry import stacked_norm
from strategies.aggregation.in_place import InPlaceRule
from strategies.aggregation.reproducible import Float64Array, weighted_sum
from strategies.aggregation.rule import Aggregate, ApproximationError, Contribution, TrainingPlan
from strategies.aggregation.state import AggregationState


class FedIt(InPlaceRule):
    """FedIT: ``A <- A + sum p_k pad(dA_k)`` and ``B <- B + sum p_k pad(dB_k)``.

    Zhang et al., "Towards Building the Federated GPT: Federated Instruction Tuning", arXiv
    2305.05644. The product of two means is not the mean of the products: each round reports by
    how much the new adapter misses it.
    """

    name = "fedit"

    @property
    def separable(self) -> bool:
        """False: the product mixes every organization's A with every other's B."""
        return False

    def plan(self, round: int, rank: int) -> TrainingPlan:
        """Train both factors of the received adapter."""
        self._check_rank(rank, f"round {round}")
        return TrainingPlan(train_a=True, train_b=True, rank=rank, on_top=False)

    def check_contribution(self, round: int, contribution: Contribution) -> None:
        """Refuse, beside what every rule refuses, a scale other than the run's."""
        super().check_contribution(round, contribution)
        if self._scale_ratio(contribution) != 1.0:
            raise ValueError(
                f"{contribution.organization}, round {round}: scale {contribution.scale} differs "
                f"from the run's {self.settings.scale}, and fedit trains one adapter of one scale"
            )

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        """Average the factors and measure what that misses."""
        ordered = self._admit(round, contributions)
        weights = self._weights(ordered)
        coefficients = list(weights.values())
        steps = [contribution.arrays for contribution in ordered]
        arrays, norms = dict(state.arrays), {}
        shapes = self.state_shapes
        for module in self.shapes:
            name_a, name_b = module + A_SUFFIX, module + B_SUFFIX
            mean_a = weighted_sum(coefficients, steps, name_a, shapes[name_a])
            mean_b = weighted_sum(coefficients, steps, name_b, shapes[name_b])
            a, b = self._pair(state, module)
            arrays[name_a], arrays[name_b] = a + mean_a, b + mean_b
            # Both the mean update and the one reached hold the part ``b @ mean_a``.
            target = [
                (p * step[name_b].astype(np.float64), self._moved_a(a, step[name_a]))
                for p, step in zip(coefficients, steps, strict=True)
            ]
            norms[module] = (
                stacked_norm([*target, (-mean_b, a + mean_a)]),
                stacked_norm([*target, (b, mean_a)]),
            )
        return Aggregate(
            state=AggregationState(arrays),
            weights=weights,
            effective_weights=dict(weights),
            error=ApproximationError.from_norms(norms),
        )

    @staticmethod
    def _moved_a(a: Float64Array, step: Float32Array) -> Float64Array:
        """Rows of ``A`` an organization trained, as it left them."""
        return np.asarray(a[: step.shape[0]] + step)
