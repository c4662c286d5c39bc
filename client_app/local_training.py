"""A round's training at home: from the adapter that was received, on what was drawn."""

from client_app.isolated_adapter import isolated_adapter
from client_app.own_record import OwnRecord
from client_app.participation import Share
from client_app.request import Request
from client_app.round_noise import round_noise
from llm.base_model import BaseModel
from llm.factors import arrays_from_adapter
from llm.training import TrainedPart, TrainingResult, train, training_seed
from strategies.run_parts import adapter_at_scale, agreed_rule, training_settings
from strategies.settings import RunSettings


def train_share(
    base: BaseModel,
    request: Request,
    record: OwnRecord,
    share: Share,
    settings: RunSettings,
    organization: str,
    doing: str,
) -> TrainingResult:
    """Train on a round's share of the records.

    Parameters
    ----------
    base : BaseModel
        The base model.
    request : Request
        The coordinator's message: round and adapter.
    record : OwnRecord
        Is told how far it is.
    share : Share
        What to train on, and at which rank.
    settings : RunSettings
        The run's.
    organization : str
        Whose training it is; order and dropout depend on it.
    doing : str
        What to call it there.
    """
    rule, number = agreed_rule(settings), request.round
    start = adapter_at_scale(request.adapter, settings)
    if settings.isolation:
        own = isolated_adapter(rule, settings, organization, request.task, number)
        start = adapter_at_scale(own, settings)
    plan, pair = rule.plan(number, share.rank), None
    if plan.on_top:
        drawn = arrays_from_adapter(rule.initial_pair(number, organization, share.rank))
        pair = adapter_at_scale(drawn, settings)
    noise = None
    if settings.privacy_epsilon:
        noise = round_noise(
            settings.home_path, organization, request, start.arrays, share.rank, share.records
        )
    return train(
        base,
        share.records,
        start,
        TrainedPart(plan.train_a, plan.train_b, plan.rank),
        training_settings(settings, number),
        seed=training_seed(str(settings.seed), settings.logical_round(number), organization),
        on_top=pair,
        noise=noise,
        progress=lambda step, steps, loss: record.doing(doing, number, step, steps, loss),
    )
