"""The LoRA aggregation arithmetic: how organizations' updates become the next adapter.

Pure functions on NumPy arrays: no Flower, no torch, no disk. Start at
:class:`~strategies.aggregation.rule.AggregationRule` for what every rule answers, then read
:class:`~strategies.aggregation.ffa.Ffa`, the default; ``docs/aggregation.md`` compares them.
"""

from strategies.aggregation.accumulators import Accumulators
from strategies.aggregation.alternating import Alternating
from strategies.aggregation.continued import ContinuedRule
from strategies.aggregation.fedit import FedIt
from strategies.aggregation.ffa import Ffa
from strategies.aggregation.flora import Flora
from strategies.aggregation.geometry import adapter_distance
from strategies.aggregation.isolated import IsolatedFfa
from strategies.aggregation.rule import (
    Aggregate,
    AggregationRule,
    ApproximationError,
    Contribution,
    TrainingPlan,
)
from strategies.aggregation.settings import (
    RULE_NAMES,
    STATISTIC_NAMES,
    AggregationSettings,
    check_combination,
)
from strategies.aggregation.state import AggregationState
from strategies.aggregation.statistics import STATISTICS
from strategies.aggregation.weights import capped_weights
from strategies.aggregation.withdrawal import without_organization

#: The aggregation rules by their names in the settings.
RULES: dict[str, type[AggregationRule]] = {
    rule.name: rule for rule in (Ffa, Alternating, FedIt, Flora, Accumulators)
}

__all__ = [
    "RULES",
    "RULE_NAMES",
    "STATISTICS",
    "STATISTIC_NAMES",
    "Aggregate",
    "AggregationRule",
    "AggregationSettings",
    "AggregationState",
    "ApproximationError",
    "ContinuedRule",
    "Contribution",
    "IsolatedFfa",
    "TrainingPlan",
    "adapter_distance",
    "capped_weights",
    "check_combination",
    "without_organization",
]
