"""The mean completion loss of one adapter after another on the same records."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

import torch

from llm.adapted_model import adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.records import Record
from llm.tokenization import completion_batches

#: Tokens at once, padding included; without gradients nothing accumulates.
_BATCH_TOKENS: Final = 2048

#: Mean cross entropy a completion token, nats, under an adapter; not finite where the model's
#: answers are no numbers.
AdapterLoss: TypeAlias = Callable[[LoraAdapter], float]


@contextmanager
def repeated_loss(
    base: BaseModel, records: Sequence[Record], *, max_tokens: int = 512
) -> Iterator[AdapterLoss]:
    """Give the function from an adapter to its mean loss on records, until the context ends.

    What does not depend on the adapter is done once: records are encoded and laid side by side,
    weights are dequantized. It is the ``loss`` of :func:`llm.evaluation.evaluate`, up to rounding.

    Parameters
    ----------
    base : BaseModel
        The base; locked meanwhile, and as it was afterwards.
    records : sequence of Record
        At least one.
    max_tokens : int, optional
        Longest record; a longer one's prompt loses its beginning.

    Raises
    ------
    ValueError
        If there are no records.
    TokenizationError
        If a record cannot be encoded.
    AdapterError
        Out of the function: if an adapter does not fit the base.
    """
    if not records:
        raise ValueError("no records to take a loss on: expected at least one")
    batches = completion_batches(
        records,
        base.tokenizer,
        max_tokens=max_tokens,
        batch_tokens=_BATCH_TOKENS,
        device=base.device,
    )
    targets = sum(len(batch.targets) for batch in batches)
    with adapted(base) as model:

        @torch.no_grad()
        def loss(adapter: LoraAdapter) -> float:
            model.wear(adapter)
            return math.fsum(float(model.loss(batch)) for batch in batches) / targets

        yield loss
