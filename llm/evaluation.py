"""Evaluation: accuracy by the labels' log-probabilities, completion loss, and cost in general text.

Every row counts once, whatever the batches; values are kept by record id, because what a model
remembers of single records is a question of its own.
"""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import torch

from llm.adapted_model import AdaptedModel, adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.questions import Question, candidates, questions
from llm.records import Record
from llm.tokenization import (
    FEW_TOKENS,
    EncodedRecord,
    Row,
    collate,
    encode,
    padding_token,
    within_tokens,
)

#: Tokens at once, padding included; without gradients nothing accumulates.
_BATCH_TOKENS: Final = 2048
_GENERAL_TEXT: Final = Path(__file__).with_name("general_text.json")

#: Called after every batch with (rows done, rows in all).
RowProgress = Callable[[int, int], None]


class EvaluationError(ValueError):
    """There is nothing to evaluate, or the model's answers are not numbers."""


@dataclass(frozen=True)
class RecordScore:
    """What the model makes of one record.

    Parameters
    ----------
    loss : float
        Summed cross entropy of the completion, nats.
    tokens : int
        Tokens of the completion.
    choice_log_probabilities : tuple of float
        Summed log-probability of every choice, nats, in the record's order; empty for free text.
    correct : bool or None
        Whether the completion is the most probable choice; None for free text.
    """

    loss: float
    tokens: int
    choice_log_probabilities: tuple[float, ...]
    correct: bool | None


@dataclass(frozen=True)
class Evaluation:
    """Scores of all records, and their aggregates.

    Parameters
    ----------
    scores : mapping of str to RecordScore
        By record id, in the order given.
    tokens : int
        Tokens the model read, without padding.
    seconds : float
        Wall time.
    """

    scores: Mapping[str, RecordScore]
    tokens: int
    seconds: float

    @property
    def records(self) -> int:
        """Number of records."""
        return len(self.scores)

    @property
    def accuracy(self) -> float | None:
        """Share of classified records whose completion is the most probable choice."""
        verdicts = [score.correct for score in self.scores.values() if score.correct is not None]
        return sum(verdicts) / len(verdicts) if verdicts else None

    @property
    def loss(self) -> float:
        """Mean cross entropy a completion token, nats."""
        return math.fsum(score.loss for score in self.scores.values()) / sum(
            score.tokens for score in self.scores.values()
        )

    @property
    def perplexity(self) -> float:
        """Exponential of the loss; infinite where that overflows."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf


def evaluate(
    base: BaseModel,
    records: Sequence[Record],
    adapter: LoraAdapter | None = None,
    *,
    max_tokens: int = 512,
    progress: RowProgress | None = None,
) -> Evaluation:
    """Score records under the base model with an adapter on it, or without.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    records : sequence of Record
        What to score, with ids all different.
    adapter : LoraAdapter, optional
        What to put on the base.
    max_tokens : int, optional
        Longest record; a longer one's prompt loses its beginning.
    progress : callable, optional
        Called after every batch with (rows done, rows in all).

    Returns
    -------
    Evaluation
        Independent of the order of the records up to rounding.

    Raises
    ------
    EvaluationError
        If there are no records, ids repeat, or a score is not finite.
    """
    started = time.perf_counter()
    if not records:
        raise EvaluationError("no records to evaluate: expected at least one")
    if len({record.id for record in records}) != len(records):
        raise EvaluationError("record ids repeat: expected each record once")
    encoded = encode(records, base.tokenizer, max_tokens=max_tokens)
    asked = [question for record in encoded for question in questions(record)]
    with adapted(base, adapter) as model:
        answers, tokens = _ask(model, base, asked, progress)
    scores = {record.id: _score(record, answers) for record in encoded}
    return Evaluation(scores, tokens, time.perf_counter() - started)


def general_text_loss(base: BaseModel, adapter: LoraAdapter | None = None) -> float:
    """Return the mean cross entropy a token of a small general text, nats.

    Compared with the base's own it says what fine-tuning cost elsewhere. The text
    (``general_text.json``) is a dozen short passages: openings of well-known works in the public
    domain, which any base model has seen, and paragraphs written for Foedus, which none has. What
    the base makes of it is read once in a process.
    """
    if adapter is not None:
        return _read_general_text(base, adapter)
    # A node may answer for several organizations, each of which asks.
    place = (base.fingerprint, base.quantization, base.compute_dtype, base.device)
    if place not in _general_losses:
        _general_losses[place] = _read_general_text(base, None)
    return _general_losses[place]


_general_losses: dict[tuple[str, str, torch.dtype, torch.device], float] = {}


def _read_general_text(base: BaseModel, adapter: LoraAdapter | None) -> float:
    rows = []
    for passage in _general_text():
        tokens = tuple(base.tokenizer(passage)["input_ids"])[:_BATCH_TOKENS]
        rows.append(Row(tokens[:-1], tokens[1:]))
    loss, count = 0.0, 0
    with adapted(base, adapter) as model, torch.no_grad():
        for piece in within_tokens(
            sorted(rows, key=lambda row: len(row.tokens)),
            max_rows=len(rows),
            max_tokens=_BATCH_TOKENS,
            max_padding=FEW_TOKENS,
        ):
            batch = collate(piece, padding=padding_token(base.tokenizer), device=base.device)
            loss += float(model.loss(batch))
            count += len(batch.targets)
    return loss / count


@lru_cache(maxsize=1)
def _general_text() -> tuple[str, ...]:
    passages = json.loads(_GENERAL_TEXT.read_text(encoding="utf-8"))["passages"]
    return tuple(passage["text"] for passage in passages)


#: Log-probability of each continuation, by record id and the continuation's tokens.
_Answers = dict[tuple[str, tuple[int, ...]], float]


@torch.no_grad()
def _ask(
    model: AdaptedModel,
    base: BaseModel,
    every: Sequence[Question],
    progress: RowProgress | None,
) -> tuple[_Answers, int]:
    """Answer all questions, shortest first; also return how many tokens were read."""
    answers: _Answers = {}
    tokens = done = 0
    ranked = sorted(every, key=lambda question: len(question.row.tokens))
    pieces = within_tokens(
        [question.row for question in ranked],
        max_rows=len(ranked),
        max_tokens=_BATCH_TOKENS,
        max_padding=FEW_TOKENS,
    )
    for piece in pieces:
        asked = ranked[done : done + len(piece)]
        batch = collate(piece, padding=padding_token(base.tokenizer), device=base.device)
        ends = candidates(asked).to(base.device)
        values = iter(model.log_probabilities(batch, ends).tolist())
        for question in asked:
            stem = math.fsum(next(values)[0] for _ in question.stem)
            last = next(values)
            for position, ending in enumerate(question.endings):
                answers[question.record, (*question.stem, ending)] = stem + last[position]
        tokens += batch.real_tokens
        done += len(piece)
        if progress is not None:
            progress(done, len(ranked))
    return answers, tokens


def _score(record: EncodedRecord, answers: _Answers) -> RecordScore:
    log_probability = answers[record.id, record.completion]
    choices = tuple(answers[record.id, choice] for choice in record.choices)
    if not all(map(math.isfinite, (log_probability, *choices))):
        raise EvaluationError(
            f"record {record.id}: its log-probability is not finite; check the adapter"
        )
    correct = None
    if choices:
        # A tie is no answer.
        others = [value for index, value in enumerate(choices) if index != record.answer]
        correct = choices[record.answer] > max(others)
    return RecordScore(-log_probability, len(record.completion), choices, correct)
