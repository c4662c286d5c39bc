"""The loss of a global adapter on the public validation set, as scoring asks for it."""

import math
from collections.abc import Sequence

from llm.base_model import BaseModel
from llm.evaluation import EvaluationError, evaluate
from llm.factors import Arrays
from llm.records import Record
from llm.validation_gradient import validation_gradient
from strategies.contributions import Gradient, Loss
from strategies.run_parts import adapter_at_scale
from strategies.settings import RunSettings


def validation_loss(base: BaseModel, records: Sequence[Record], settings: RunSettings) -> Loss:
    """Return the function from an adapter to its mean loss on records, nats a completion token.

    Parameters
    ----------
    base : BaseModel
        The run's base model.
    records : sequence of Record
        The public validation set's.
    settings : RunSettings
        The run's: its scale and ``max-tokens`` count.

    Returns
    -------
    callable
        Infinite for an adapter under which a record's log-probability is not finite.
    """

    def loss(adapter: Arrays) -> float:
        try:
            return evaluate(
                base, records, adapter_at_scale(adapter, settings), max_tokens=settings.max_tokens
            ).loss
        except EvaluationError:
            # There are records and their ids differ: what is left is a loss that is no number.
            return math.inf

    return loss


def loss_gradient(base: BaseModel, records: Sequence[Record], settings: RunSettings) -> Gradient:
    """Return the function from an adapter to the gradient of :func:`validation_loss` in it."""

    def gradient(adapter: Arrays) -> Arrays:
        return validation_gradient(
            base, records, adapter_at_scale(adapter, settings), max_tokens=settings.max_tokens
        )

    return gradient
