"""What a run's settings stand for on the ground floor; both sides build the same from them."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from llm.adapters import LoraAdapter
from llm.factors import Arrays, LinearShape, adapter_from_arrays
from llm.known_shapes import known_linear_shapes
from llm.model_source import (
    EMBEDDED,
    BaseModelSettings,
    base_model_path,
    model_fingerprint,
)
from llm.schedules import share_of_peak
from llm.training_settings import TrainingSettings
from strategies.aggregation import (
    RULES,
    AggregationRule,
    AggregationSettings,
    ContinuedRule,
    IsolatedFfa,
)
from strategies.home import cache_folder
from strategies.privacy import privacy_of
from strategies.public_validation import public_validation_set, validation_terms
from strategies.settings import RunSettings
from strategies.terms import terms_of

#: Name of the embedded model on the Hugging Face hub.
EMBEDDED_NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"


def base_model_settings(settings: RunSettings) -> BaseModelSettings:
    """Return which base model a run uses."""
    return BaseModelSettings(
        model=settings.model,
        quantization=settings.quantization,
        compute_dtype=settings.compute_dtype,
    )


def base_model_name(settings: RunSettings) -> str:
    """Return the name a saved adapter gives as its base."""
    return EMBEDDED_NAME if settings.model == EMBEDDED else settings.model


def adapter_at_scale(arrays: Arrays, settings: RunSettings) -> LoraAdapter:
    """Return an adapter with the alpha that gives the run's scale at the adapter's own rank."""
    rank = next(iter(adapter_from_arrays(arrays).values())).rank
    return LoraAdapter(arrays, alpha=settings.alpha / settings.rank * rank)


def target_of(settings: RunSettings) -> str | tuple[str, ...]:
    """Return which layers a run adapts."""
    if settings.target_modules == "all-linear":
        return "all-linear"
    return tuple(part.strip() for part in settings.target_modules.split(",") if part.strip())


def training_settings(settings: RunSettings, round_number: int) -> TrainingSettings:
    """Return how organizations train in a round of the run."""
    left = 1.0
    if not settings.first_rounds.recovers_in(round_number):
        # An adapter that is nearly there swings to and fro in steps of full size: each round's
        # optimizer begins anew, and its first steps are as long as the step size lets them be.
        left = share_of_peak(
            settings.round_schedule, settings.logical_round(round_number), settings.rounds
        )
    return TrainingSettings(
        learning_rate=settings.learning_rate * left,
        batch_size=settings.batch_size,
        micro_batch_size=settings.micro_batch_size,
        epochs=settings.epochs,
        warmup_steps=settings.warmup_steps,
        schedule=settings.schedule,
        max_gradient_norm=settings.max_gradient_norm,
        max_tokens=settings.max_tokens,
        privacy=privacy_of(settings),
        threads=settings.threads or None,
    )


def aggregation_rule(settings: RunSettings, shapes: Mapping[str, LinearShape]) -> AggregationRule:
    """Return the aggregation rule of a run over a model's adapted layers."""
    agreed = AggregationSettings(
        rank=settings.rank,
        alpha=settings.alpha,
        seed=settings.seed,
        weight_cap=settings.weight_cap,
        robust=settings.robust,
        clip_norm=settings.clip_norm or None,
        byzantine=settings.byzantine,
        accumulator_rank=settings.accumulator_rank or None,
    )
    rule = (
        IsolatedFfa(agreed, shapes, settings.organization_names)
        if settings.isolation
        else RULES[settings.aggregation](agreed, shapes)
    )
    after = settings.kept_rounds.after
    return ContinuedRule(rule, after) if after else rule


@lru_cache(maxsize=4)
def agreed_terms(settings: RunSettings, run: str) -> Mapping[str, Any]:
    """Return the terms of a run, as its coordinator hashed them on chain.

    Parameters
    ----------
    settings : RunSettings
        The run's settings, without what a node replaces by its own.
    run : str
        The run's name.
    """
    cache = cache_folder(settings.home_path)
    path = base_model_path(base_model_settings(settings), cache)
    return {
        **terms_of(settings, run=run, model_fingerprint=model_fingerprint(path)),
        **validation_terms(public_validation_set(settings, cache)),
    }


@lru_cache(maxsize=1)
def agreed_rule(settings: RunSettings) -> AggregationRule:
    """Return the aggregation rule of a run over the layers of the base model that it names.

    Raises
    ------
    BaseModelError, CacheError, RegistryError
        If the model cannot be had, or has no such layers.
    """
    cache = cache_folder(settings.home_path)
    path = base_model_path(base_model_settings(settings), cache)
    shapes = known_linear_shapes(path, target_of(settings), cache)
    return aggregation_rule(settings, shapes)
