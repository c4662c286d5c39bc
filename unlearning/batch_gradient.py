"""The exact gradient of an unlearning method's loss over a batch, a few rows at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llm.adapted_model import AdaptedModel
from llm.base_model import BaseModel
from llm.tokenization import EncodedRecord, Row, collate, padding_token, within_tokens
from llm.trained_factors import TrainedFactors
from unlearning.distinct_rows import DistinctRows
from unlearning.forgetting_settings import ForgettingSettings
from unlearning.methods import UnlearningMethod


@dataclass(frozen=True)
class ForgettingBatch:
    """What one optimizer step looks at.

    Parameters
    ----------
    forget, retain : sequence of EncodedRecord
        What to forget and what to keep, each ordered so that neighbours are of like length.
    reference : sequence of float, length forget
        Loss of each record to forget before unlearning, nats.
    """

    forget: Sequence[EncodedRecord]
    retain: Sequence[EncodedRecord]
    reference: Sequence[float]

    @property
    def tokens(self) -> int:
        """Tokens that are read, without padding, and of equal records once."""
        return sum(DistinctRows.of(records).tokens for records in (self.forget, self.retain))


def add_gradients(
    model: AdaptedModel,
    base: BaseModel,
    factors: TrainedFactors,
    method: UnlearningMethod,
    batch: ForgettingBatch,
    settings: ForgettingSettings,
) -> float:
    """Add the gradient of a batch's loss to the factors', and return that loss.

    A method's loss is separable: at some rows its gradient is the same whatever value stands for
    the others. So the loss of the whole batch is differentiated at each piece in turn, with zeros
    for the rows still to come, and the gradients add up to the batch's.

    Parameters
    ----------
    model : AdaptedModel
        The base with the adapter on it.
    base : BaseModel
        That base.
    factors : TrainedFactors
        What is trained of the adapter.
    method : UnlearningMethod
        The loss.
    batch : ForgettingBatch
        The rows.
    settings : ForgettingSettings
        How many rows and tokens at once.

    Returns
    -------
    float
        In nats.
    """
    forget, retain = (_Side.of(records, base.device) for records in (batch.forget, batch.retain))
    reference = torch.tensor(batch.reference, dtype=torch.float32, device=base.device)

    def loss() -> Tensor:
        return method.loss(forget.losses, forget.tokens, reference, retain.losses, retain.tokens)

    padding = padding_token(base.tokenizer)
    for side in (forget, retain):
        start = 0
        for piece in within_tokens(
            side.rows,
            max_rows=settings.micro_batch_size,
            max_tokens=settings.micro_batch_tokens,
        ):
            model.put(factors.assemble())
            micro_batch = collate(piece, padding=padding, device=base.device)
            side.fill_in(start, model.row_losses(micro_batch))
            loss().backward()  # type: ignore[no-untyped-call]
            side.losses = side.losses.detach()
            start += len(piece)
    return float(loss())


@dataclass
class _Side:
    """One of a batch's two sets of records: distinct rows, and the losses as far as known."""

    rows: list[Row]
    places: Tensor
    tokens: Tensor
    losses: Tensor

    @classmethod
    def of(cls, records: Sequence[EncodedRecord], device: torch.device) -> "_Side":
        distinct = DistinctRows.of(records)
        counts = [len(distinct.rows[place].targets) for place in distinct.places]
        tokens = torch.tensor(counts, dtype=torch.float32, device=device)
        places = torch.tensor(distinct.places, dtype=torch.int64, device=device)
        return cls(distinct.rows, places, tokens, torch.zeros_like(tokens))

    def fill_in(self, start: int, losses: Tensor) -> None:
        """Take the losses of the rows from one on; a row's is that of all its records."""
        within = (self.places >= start) & (self.places < start + len(losses))
        of_records = losses[(self.places - start).clamp(0, len(losses) - 1)]
        self.losses = torch.where(within, of_records, self.losses)
