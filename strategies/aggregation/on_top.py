"""Rules under which a fresh pair is trained beside the frozen received adapter."""

import math

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX, LoraFactors
from strategies.aggregation.geometry import product_norm
from strategies.aggregation.orthonormal import orthonormal_rows
from strategies.aggregation.reproducible import Float64Array, fold_sum
from strategies.aggregation.rule import AggregationRule, Contribution, TrainingPlan
from strategies.aggregation.state import AggregationState


class OnTopRule(AggregationRule):
    """A rule whose contributions are whole pairs, of which the target sums ``p_k s_k B_k A_k``."""

    @property
    def separable(self) -> bool:
        """True: every organization's pairs stand by themselves."""
        return True

    def plan(self, round: int, rank: int) -> TrainingPlan:
        """Train both factors of a fresh pair."""
        self._check_rank(rank, f"round {round}")
        return TrainingPlan(train_a=True, train_b=True, rank=rank, on_top=True)

    def initial_pair(self, round: int, organization: str, rank: int) -> dict[str, LoraFactors]:
        """``B`` is zero; ``A`` has orthonormal rows of the seed, round, organization and module."""
        self._check_rank(rank, f"{organization}, round {round}")
        pair = {}
        for module, shape in self.shapes.items():
            labels = (module, str(round), organization)
            a = orthonormal_rows(self.settings.seed, labels, rank, shape.in_features)
            pair[module] = LoraFactors(a, np.zeros((shape.out_features, rank), np.float32))
        return pair

    def update_norm(self, state: AggregationState, round: int, contribution: Contribution) -> float:
        """Larger of ``|s * B A|`` and ``s`` times that of its rank-one parts, cancelling nothing.

        Huge parts that cancel each other are no small update: they drown the model's own values
        in their rounding errors.
        """
        products = parts = 0.0
        for module in self.shapes:
            b, a = exact_pair(contribution, module)
            products += product_norm(b, a) ** 2
            parts += float(fold_sum(fold_sum(b.T * b.T) * fold_sum(a * a)))
        scale = self.settings.scale if contribution.scale is None else contribution.scale
        return scale * math.sqrt(max(products, parts))


def exact_pair(contribution: Contribution, module: str) -> tuple[Float64Array, Float64Array]:
    """Factors ``(b, a)`` of a contributed pair, in float64."""
    return (
        contribution.arrays[module + B_SUFFIX].astype(np.float64),
        contribution.arrays[module + A_SUFFIX].astype(np.float64),
    )
