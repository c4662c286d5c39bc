"""The exact gradient of an unlearning method's loss over a batch, a few rows at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llm.adapted_model import AdaptedModel
from llm.base_model import BaseModel
from llm.tokenization import (
    EncodedRecord,
    Row,
    collate,
    completion_row,
    padding_token,
    within_tokens,
)
from llm.trained_factors import TrainedFactors
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
        """Tokens that are read, without padding; the last one of a record never is."""
        return sum(record.tokens - 1 for record in (*self.forget, *self.retain))


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
    """One of a batch's two sets of rows, and their losses as far as they are known."""

    rows: list[Row]
    tokens: Tensor
    losses: Tensor

    @classmethod
    def of(cls, records: Sequence[EncodedRecord], device: torch.device) -> "_Side":
        rows = [completion_row(record.prompt, record.completion) for record in records]
        counts = [len(row.targets) for row in rows]
        tokens = torch.tensor(counts, dtype=torch.float32, device=device)
        return cls(rows, tokens, torch.zeros_like(tokens))

    def fill_in(self, start: int, losses: Tensor) -> None:
        end = start + len(losses)
        self.losses = torch.cat([self.losses[:start], losses, self.losses[end:]])
