"""How wrong a model's answers are, bounded: a loss by which few records tell models apart.

A record with choices is judged as its accuracy is, by the choices alone: that a model has learned
what answers look like says nothing of whether it gives the right one. Free text is judged token by
token. Neither can lose more than a token's bound (:mod:`llm.generalized_cross_entropy`), so that no
single record on which a model is confidently wrong decides.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import torch
from torch import Tensor

from llm.adapted_model import AdaptedModel, adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.factors import Arrays
from llm.generalized_cross_entropy import USUAL_POWER, generalized
from llm.questions import Question, candidates, questions
from llm.records import Record
from llm.tokenization import (
    FEW_TOKENS,
    Batch,
    EncodedRecord,
    collate,
    encode,
    padding_token,
    within_tokens,
)
from llm.trained_factors import TrainedFactors, TrainedPart

#: Tokens at once, padding included; less where activations are kept for a gradient.
_BATCH_TOKENS: Final = 2048
_GRADIENT_TOKENS: Final = 1024

#: Mean loss under an adapter; not finite where the model's answers are no numbers.
AdapterLoss: TypeAlias = Callable[[LoraAdapter], float]


@contextmanager
def answer_loss(
    base: BaseModel, records: Sequence[Record], *, max_tokens: int = 512
) -> Iterator[AdapterLoss]:
    """Give the function from an adapter to its mean loss on records, until the context ends.

    With ``q`` the probability of the right choice among a record's choices, or of a token of free
    text, it is the mean of ``(1 - q^0.7) / 0.7`` over the records with choices and the tokens of
    those without. What does not depend on the adapter is done once: records are encoded and laid
    side by side, weights are dequantized.

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
    laid = _laid_out(base, records, max_tokens, _BATCH_TOKENS)
    judged = sum(piece.judged for piece in laid)
    with adapted(base) as model:

        @torch.no_grad()
        def loss(adapter: LoraAdapter) -> float:
            model.wear(adapter)
            return math.fsum(float(piece.loss(model)) for piece in laid) / judged

        yield loss


def answer_gradient(
    base: BaseModel, records: Sequence[Record], adapter: LoraAdapter, *, max_tokens: int = 512
) -> Arrays:
    """Return the gradient of :func:`answer_loss` in both factors of every layer.

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
    ValueError, TokenizationError, AdapterError
        As :func:`answer_loss`.
    """
    laid = _laid_out(base, records, max_tokens, _GRADIENT_TOKENS)
    judged = sum(piece.judged for piece in laid)
    whole = TrainedPart(train_a=True, train_b=True, rank=adapter.rank)
    factors = TrainedFactors(adapter, whole, base.compute_dtype, base.device)
    with adapted(base, adapter) as model, torch.enable_grad():
        for piece in laid:
            model.put(factors.assemble())
            (piece.loss(model) / judged).backward()  # type: ignore[no-untyped-call]
    return factors.gradients()


@dataclass(frozen=True)
class _Laid:
    """Questions side by side, all of a record's in one piece."""

    batch: Batch
    candidates: Tensor
    questions: Sequence[Question]
    records: Sequence[EncodedRecord]

    @property
    def judged(self) -> int:
        """How many choices and tokens of free text it holds."""
        return sum(1 if record.choices else len(record.completion) for record in self.records)

    def loss(self, model: AdaptedModel) -> Tensor:
        """Return the summed loss; differentiable."""
        values = model.log_probabilities(self.batch, self.candidates)
        answers = dict(self._answers(values))
        surprises = [
            self._chosen(record, answers) if record.choices else -answers[record.id, ()]
            for record in self.records
        ]
        return generalized(torch.cat(surprises), USUAL_POWER).sum()

    def _answers(self, values: Tensor) -> Iterator[tuple[tuple[str, tuple[int, ...]], Tensor]]:
        """Give each choice's log-probability, by record and tokens; of free text each token's."""
        kinds = {record.id: bool(record.choices) for record in self.records}
        rows = values.split_with_sizes(self.batch.target_counts)
        for question, row in zip(self.questions, rows, strict=True):
            if not kinds[question.record]:
                yield (question.record, ()), row[:, 0]
                continue
            stem = row[:-1, 0].sum()
            for position, ending in enumerate(question.endings):
                yield (question.record, (*question.stem, ending)), stem + row[-1, position]

    @staticmethod
    def _chosen(
        record: EncodedRecord, answers: dict[tuple[str, tuple[int, ...]], Tensor]
    ) -> Tensor:
        """Return ``-ln`` of the right choice's probability among the choices, shape (1,)."""
        choices = torch.stack([answers[record.id, choice] for choice in record.choices])
        return -choices.log_softmax(0)[record.answer : record.answer + 1]


def _laid_out(
    base: BaseModel, records: Sequence[Record], max_tokens: int, batch_tokens: int
) -> list[_Laid]:
    if not records:
        raise ValueError("no records to take a loss on: expected at least one")
    asked = [
        (one, questions(one)) for one in encode(records, base.tokenizer, max_tokens=max_tokens)
    ]
    # Choices that end in one token each are read in one row; others stand by themselves.
    plain = sorted(
        (pair for pair in asked if len(pair[1]) == 1), key=lambda pair: len(pair[1][0].row.tokens)
    )
    pieces, done = [], 0
    for piece in within_tokens(
        [one.row for _, (one,) in plain],
        max_rows=len(records),
        max_tokens=batch_tokens,
        max_padding=FEW_TOKENS,
    ):
        pieces.append(plain[done : done + len(piece)])
        done += len(piece)
    pieces += [[pair] for pair in asked if len(pair[1]) > 1]
    return [_piece(base, pairs) for pairs in pieces]


def _piece(base: BaseModel, pairs: Sequence[tuple[EncodedRecord, list[Question]]]) -> _Laid:
    every = [question for _, several in pairs for question in several]
    padding = padding_token(base.tokenizer)
    batch = collate([one.row for one in every], padding=padding, device=base.device)
    return _Laid(batch, candidates(every).to(base.device), every, [record for record, _ in pairs])
