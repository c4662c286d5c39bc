"""What an organization would send in a round, trained in the benchmark's own process."""

import hashlib
from collections.abc import Sequence

from llm.base_model import BaseModel
from llm.factors import Arrays, arrays_from_adapter
from llm.keyed_hash import encoded
from llm.private_gradients import Noise
from llm.records import Record
from llm.training import TrainedPart, TrainingResult, train, training_seed
from strategies.aggregation import AggregationRule
from strategies.run_parts import adapter_at_scale, training_settings
from strategies.settings import RunSettings


def local_update(
    base: BaseModel,
    rule: AggregationRule,
    received: Arrays,
    number: int,
    organization: str,
    records: Sequence[Record],
    settings: RunSettings,
) -> TrainingResult:
    """Train as the organization would: by the run's rule, rank and settings.

    Parameters
    ----------
    base : BaseModel
        The base model.
    rule : AggregationRule
        The run's.
    received : dict of str to ndarray
        The global adapter before the round, under PEFT's names.
    number : int
        The round.
    organization : str
        Whose training it is: the order of the records depends on it.
    records : sequence of Record
        What it drew.
    settings : RunSettings
        The run's.
    """
    rank = settings.rank_of(organization)
    plan, pair = rule.plan(number, rank), None
    if plan.on_top:
        drawn = arrays_from_adapter(rule.initial_pair(number, organization, rank))
        pair = adapter_at_scale(drawn, settings)
    noise = None
    if settings.privacy_epsilon:
        # Not a secret here: an experiment is to come to the same bits wherever it is repeated.
        named = encoded("foedus/benchmark/noise/v1", settings.seed, number, organization)
        noise = Noise(hashlib.sha256(named).digest())
    return train(
        base,
        records,
        adapter_at_scale(received, settings),
        TrainedPart(plan.train_a, plan.train_b, plan.rank),
        training_settings(settings, number),
        seed=training_seed(str(settings.seed), number, organization),
        on_top=pair,
        noise=noise,
    )
