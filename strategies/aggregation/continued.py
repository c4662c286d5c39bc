"""A rule whose rounds are counted from where an earlier run is gone on from."""

from collections.abc import Mapping, Sequence

from llm.factors import LoraFactors
from strategies.aggregation.rule import (
    Aggregate,
    AggregationRule,
    Contribution,
    TrainingPlan,
)
from strategies.aggregation.state import AggregationState, ExactFactors, StateArray


class ContinuedRule(AggregationRule):
    """Another rule, for a run whose first round is a later one of the rule's.

    Parameters
    ----------
    rule : AggregationRule
        What it does in each round.
    after : int
        Rounds that the run does not make again: its round 1 is the rule's round ``after + 1``.
    """

    def __init__(self, rule: AggregationRule, after: int) -> None:
        # Both are of the class elsewhere.
        self.name = rule.name  # type: ignore[misc]
        self.tolerance = rule.tolerance  # type: ignore[misc]
        super().__init__(rule.settings, rule.shapes)
        self._rule = rule
        self._after = after

    @property
    def separable(self) -> bool:
        """As the rule's."""
        return self._rule.separable

    @property
    def minimum_contributions(self) -> int:
        """As the rule's."""
        return self._rule.minimum_contributions

    def plan(self, round: int, rank: int) -> TrainingPlan:
        """Say what an organization does in a round of the run."""
        return self._rule.plan(self._after + round, rank)

    def initial_state(self) -> AggregationState:
        """State before the rule's first round, which is not where the run starts."""
        return self._rule.initial_state()

    def layer(self, state: AggregationState, module: str) -> ExactFactors:
        """As the rule's."""
        return self._rule.layer(state, module)

    def aggregate(
        self, state: AggregationState, round: int, contributions: Sequence[Contribution]
    ) -> Aggregate:
        """Combine the contributions of a round of the run."""
        return self._rule.aggregate(state, self._after + round, contributions)

    def update_norm(self, state: AggregationState, round: int, contribution: Contribution) -> float:
        """As the rule's."""
        return self._rule.update_norm(state, self._after + round, contribution)

    def adapter(self, state: AggregationState) -> dict[str, LoraFactors]:
        """As the rule's."""
        return self._rule.adapter(state)

    def initial_pair(self, round: int, organization: str, rank: int) -> dict[str, LoraFactors]:
        """As the rule's."""
        return self._rule.initial_pair(self._after + round, organization, rank)

    def restore(self, arrays: Mapping[str, StateArray]) -> AggregationState:
        """As the rule's."""
        return self._rule.restore(arrays)

    def _check_state(self, state: AggregationState) -> None:
        self._rule._check_state(state)
