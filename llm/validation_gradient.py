"""The gradient of the mean completion loss in an adapter's own values."""

from collections.abc import Sequence
from typing import Final

import torch

from llm.adapted_model import adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.factors import Arrays
from llm.records import Record
from llm.tokenization import completion_batches
from llm.trained_factors import TrainedFactors, TrainedPart

#: Tokens at once, padding included: as in training, each holds its activations until its gradient.
_BATCH_TOKENS: Final = 1024


def validation_gradient(
    base: BaseModel, records: Sequence[Record], adapter: LoraAdapter, *, max_tokens: int = 512
) -> Arrays:
    """Return the gradient of the mean loss a completion token in both factors of every layer.

    Parameters
    ----------
    base : BaseModel
        The frozen base; unchanged afterwards.
    records : sequence of Record
        At least one.
    adapter : LoraAdapter
        Where the gradient is taken.
    max_tokens : int, optional
        Longest record; a longer one's prompt loses its beginning.

    Returns
    -------
    dict of str to ndarray of float32
        Under the adapter's names, of its shapes; nats a unit of the value.

    Raises
    ------
    TokenizationError, AdapterError
        If a record cannot be encoded, or the adapter does not fit the base.
    """
    batches = completion_batches(
        records,
        base.tokenizer,
        max_tokens=max_tokens,
        batch_tokens=_BATCH_TOKENS,
        device=base.device,
    )
    targets = sum(len(batch.targets) for batch in batches)
    whole = TrainedPart(train_a=True, train_b=True, rank=adapter.rank)
    factors = TrainedFactors(adapter, whole, base.compute_dtype, base.device)
    with adapted(base, adapter) as model, torch.enable_grad():
        for batch in batches:
            model.put(factors.assemble())
            (model.loss(batch) / targets).backward()  # type: ignore[no-untyped-call]
    return factors.gradients()
