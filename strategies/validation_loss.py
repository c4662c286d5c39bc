"""The loss of a global adapter on the public validation set, as scoring asks for it.

It is computed in float32, whatever type organizations train in: in bfloat16 noise was seen to gain
more than the tolerance (``docs/rewards.md``), and attestors need not train in one type. It is
bounded (:mod:`llm.answer_loss`), since the rows are few.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from llm.answer_loss import answer_gradient, answer_loss
from llm.base_model import BaseModel, load_base_model
from llm.factors import Arrays
from llm.records import Record
from strategies.contributions import Gradient, Loss
from strategies.run_parts import adapter_at_scale, base_model_settings
from strategies.settings import RunSettings


def scoring_base(settings: RunSettings, cache: Path) -> BaseModel:
    """Load the base model that contributions are scored on: the run's, computing in float32.

    Parameters
    ----------
    settings : RunSettings
        The run's.
    cache : Path
        Foedus' cache folder.

    Raises
    ------
    BaseModelError, RegistryError, CacheError
        As :func:`llm.base_model.load_base_model`.
    """
    exact = base_model_settings(settings).model_copy(update={"compute_dtype": "float32"})
    return load_base_model(exact, cache)


@contextmanager
def validation_loss(
    base: BaseModel, records: Sequence[Record], settings: RunSettings
) -> Iterator[Loss]:
    """Give the function from an adapter to its mean :func:`llm.answer_loss.answer_loss`.

    Parameters
    ----------
    base : BaseModel
        The base model; locked until the context ends.
    records : sequence of Record
        The public validation set's.
    settings : RunSettings
        The run's: its scale and ``max-tokens`` count.

    Yields
    ------
    callable
        Not finite for an adapter under which a record's log-probability is not.
    """
    with answer_loss(base, records, max_tokens=settings.max_tokens) as loss:
        yield lambda adapter: loss(adapter_at_scale(adapter, settings))


def loss_gradient(base: BaseModel, records: Sequence[Record], settings: RunSettings) -> Gradient:
    """Return the function from an adapter to the gradient of :func:`validation_loss` in it."""

    def gradient(adapter: Arrays) -> Arrays:
        return answer_gradient(
            base, records, adapter_at_scale(adapter, settings), max_tokens=settings.max_tokens
        )

    return gradient
