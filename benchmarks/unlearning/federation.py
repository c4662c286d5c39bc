"""A federation in one process: every organization, and the coordinator."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks.unlearning.cost import Cost
from benchmarks.unlearning.holdings import Holding, holdings
from benchmarks.unlearning.requests import Gone
from benchmarks.unlearning.setting import Setting
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel, load_base_model
from llm.factors import B_SUFFIX, Arrays, Float32Array, arrays_from_adapter
from llm.records import Record
from llm.training import TrainedPart, TrainingResult, train, training_seed
from strategies.aggregation import AggregationRule, AggregationState, Contribution
from strategies.run_parts import (
    adapter_at_scale,
    agreed_rule,
    base_model_settings,
    training_settings,
)
from unlearning.projection import without_opposition

#: Nothing is forgotten.
NOTHING_GONE = Gone()


@dataclass(frozen=True)
class Round:
    """What came of a round.

    Parameters
    ----------
    state : AggregationState
        The rule's, after it.
    contributions : sequence of Contribution
        What was aggregated.
    cost : Cost
        Of all organizations.
    """

    state: AggregationState
    contributions: Sequence[Contribution]
    cost: Cost


@dataclass(frozen=True)
class Federation:
    """All of a seed's federation but its rounds.

    Parameters
    ----------
    setting : Setting
        What all cells have in common.
    seed : int
        The run's.
    """

    setting: Setting
    seed: int

    @cached_property
    def holdings(self) -> Mapping[str, Holding]:
        """What every organization holds."""
        return holdings(self.setting, self.seed)

    @cached_property
    def rule(self) -> AggregationRule:
        """The aggregation rule, whose A is the seed's."""
        return agreed_rule(self.setting.at(self.seed))

    @cached_property
    def base(self) -> BaseModel:
        """The base model, loaded when it is first needed."""
        return load_base_model(base_model_settings(self.setting.run), self.setting.cache)

    @property
    def rounds(self) -> int:
        """Rounds of training, before anything is forgotten."""
        return self.setting.run.rounds

    def part(self, number: int) -> TrainedPart:
        """Return what of the adapter is trained in a round."""
        plan = self.rule.plan(number, self.setting.run.rank)
        return TrainedPart(plan.train_a, plan.train_b, plan.rank)

    def adapter(self, state: AggregationState) -> LoraAdapter:
        """Return the adapter as it is served."""
        return adapter_at_scale(arrays_from_adapter(self.rule.adapter(state)), self.setting.run)

    def trained(
        self, number: int, state: AggregationState, name: str, records: Sequence[Record]
    ) -> TrainingResult:
        """Train as an organization does in a round."""
        return train(
            self.base,
            records,
            self.adapter(state),
            self.part(number),
            training_settings(self.setting.run, number),
            seed=training_seed(str(self.seed), number, name),
        )

    def round(
        self,
        number: int,
        state: AggregationState,
        gone: Gone = NOTHING_GONE,
        *,
        unlearning: Mapping[str, Float32Array] | None = None,
    ) -> Round:
        """Have everybody who is there train, and aggregate.

        Parameters
        ----------
        number : int
            The round's, which decides on draws and order.
        state : AggregationState
            Before it.
        gone : Gone, optional
            What is not there any more.
        unlearning : mapping of str to ndarray of float32, optional
            The unlearning update; what opposes it is taken out of every organization's update.
        """
        started = time.perf_counter()
        contributions, tokens = [], 0
        for name, holding in self.holdings.items():
            if name in gone.organizations:
                continue
            result = self.trained(number, state, name, holding.round(number, gone.ids))
            arrays = result.arrays
            if unlearning is not None:
                arrays = without_opposition(arrays, unlearning)
            contributions.append(Contribution(name, result.records, arrays))
            tokens += result.tokens
        after = self.rule.aggregate(state, number, contributions).state
        cost = Cost(
            trained_tokens=tokens,
            seconds=time.perf_counter() - started,
            travelled_bytes=2 * sum(size_of(one.arrays) for one in contributions),
        )
        return Round(after, contributions, cost)

    def moved(self, after: AggregationState, before: AggregationState) -> Arrays:
        """Return how far B is from what it was, as everybody sees it: float32, adapter by adapter.

        Parameters
        ----------
        after, before : AggregationState
            Of two rounds.
        """
        later, earlier = self.adapter(after).arrays, self.adapter(before).arrays
        return {
            name: array - earlier[name] for name, array in later.items() if name.endswith(B_SUFFIX)
        }


def size_of(arrays: Mapping[str, np.ndarray]) -> int:
    """Return the bytes of arrays."""
    return sum(array.nbytes for array in arrays.values())
