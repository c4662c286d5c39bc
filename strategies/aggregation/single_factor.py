"""Rules that train one factor a round, the other being the same for all.

Then the mean of the factor is the mean of the updates, exactly, and other statistics than the
mean can take its place.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from llm.factors import A_SUFFIX, B_SUFFIX, LinearShape
from strategies.aggregation.in_place import InPlaceRule
from strategies.aggregation.reproducible import Step
from strategies.aggregation.robust import RobustStatistic
from strategies.aggregation.rule import Aggregate, Contribution, TrainingPlan
from strategies.aggregation.settings import AggregationSettings
from strategies.aggregation.state import AggregationState
from strategies.aggregation.statistics import STATISTICS


class SingleFactorRule(InPlaceRule):
    """Adds ``sum p_k (s_k / s_g) pad(d_k)`` to the trained factor, or a robust stand-in for it."""

    def __init__(self, settings: AggregationSettings, shapes: Mapping[str, LinearShape]) -> None:
        super().__init__(settings, shapes)
        self.statistic: RobustStatistic = STATISTICS[settings.robust](settings)

    @abstractmethod
    def trains_b(self, round: int) -> bool:
        """Whether ``round`` trains ``B``; otherwise it trains ``A``."""

    def plan(self, round: int, rank: int) -> TrainingPlan:
        """Train one factor of the received adapter."""
        self._check_rank(rank, f"round {round}")
        b = self.trains_b(round)
        return TrainingPlan(train_a=not b, train_b=b, rank=rank, on_top=False)

    @property
    def minimum_contributions(self) -> int:
        """What the robust statistic needs."""
        return self.statistic.minimum_contributions

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        """Add the combined step; see :meth:`AggregationRule.aggregate`."""
        ordered = self._admit(round, contributions)
        weights = self._weights(ordered)
        suffix = B_SUFFIX if self.trains_b(round) else A_SUFFIX
        shapes = {n: shape for n, shape in self.state_shapes.items() if n.endswith(suffix)}
        steps = [self._at_run_scale(contribution) for contribution in ordered]
        combined = self.statistic.combine(steps, list(weights.values()), shapes)
        arrays = dict(state.arrays)
        for name, step in combined.arrays.items():
            arrays[name] = np.add(arrays[name], step, out=step)
        effective = combined.coefficients
        return Aggregate(
            state=AggregationState(arrays),
            weights=weights,
            effective_weights=None
            if effective is None
            else dict(zip(weights, effective, strict=True)),
            diagnostics=combined.diagnostics,
        )

    def _at_run_scale(self, contribution: Contribution) -> Step:
        ratio = self._scale_ratio(contribution)
        if ratio == 1.0:
            return contribution.arrays
        return {name: ratio * a.astype(np.float64) for name, a in contribution.arrays.items()}
