"""What a model says of every completion token: the raw material of all metrics and attacks.

One pass over the records. Of the matrix of logits only a piece exists at a time, as in
:mod:`llm.completion_loss`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llm.adapted_model import adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.records import Record
from llm.tokenization import (
    FEW_TOKENS,
    Batch,
    EncodedRecord,
    Row,
    collate,
    completion_row,
    encode,
    padding_token,
    within_tokens,
)

FloatArray = NDArray[np.float64]

#: Tokens at once, padding included; without gradients nothing accumulates.
_BATCH_TOKENS: Final = 2048

#: Positions at a time; with a vocabulary of 49,152, 25 MB for each of four float32 matrices.
_CHUNK: Final = 128


class VerificationError(ValueError):
    """What was measured cannot be judged; the message names records, not their text."""


@dataclass(frozen=True, eq=False)
class TokenStatistics:
    """What a model makes of one record, token by token of its completion.

    Parameters
    ----------
    log_probabilities : ndarray of float64, shape (tokens,)
        Of each completion token after all that stands before it, nats.
    means, deviations : ndarray of float64, shape (tokens,)
        Mean and standard deviation of the log-probability of a token drawn from the model's own
        distribution at that position, nats.
    greedy : ndarray of bool, shape (tokens,)
        Whether the completion token is the one that greedy decoding takes there.
    choice_log_probabilities : tuple of float, optional
        Summed log-probability of every choice, nats, in the record's order; empty for free text.
    choice_tokens : tuple of int, optional
        Number of tokens of every choice.
    answer : int, optional
        Index of the completion among the choices, -1 for free text.
    ends : bool, optional
        Whether the last token is the end of sequence and no text.
    """

    log_probabilities: FloatArray
    means: FloatArray
    deviations: FloatArray
    greedy: NDArray[np.bool_]
    choice_log_probabilities: tuple[float, ...] = ()
    choice_tokens: tuple[int, ...] = ()
    answer: int = -1
    ends: bool = False

    @property
    def tokens(self) -> int:
        """Tokens of the completion."""
        return len(self.log_probabilities)

    @property
    def greedy_text(self) -> NDArray[np.bool_]:
        """Whether greedy decoding takes each token of the text, the end of sequence left out."""
        return self.greedy[:-1] if self.ends else self.greedy

    @property
    def loss(self) -> float:
        """Summed cross entropy of the completion, nats."""
        return -math.fsum(self.log_probabilities)

    @property
    def loss_per_token(self) -> float:
        """Mean cross entropy a completion token, nats."""
        return self.loss / self.tokens


def gather_statistics(
    base: BaseModel,
    records: Sequence[Record],
    adapter: LoraAdapter | None = None,
    *,
    max_tokens: int = 512,
) -> dict[str, TokenStatistics]:
    """Read records under the base model with an adapter on it, or without.

    Parameters
    ----------
    base : BaseModel
        The base; unchanged afterwards.
    records : sequence of Record
        What to read, with ids all different.
    adapter : LoraAdapter, optional
        What to put on the base.
    max_tokens : int, optional
        Longest record; a longer one's prompt loses its beginning.

    Returns
    -------
    dict of str to TokenStatistics
        By record id, in the order given.

    Raises
    ------
    VerificationError
        If there are no records, ids repeat, or a statistic is not finite.
    TokenizationError, AdapterError
        If a record cannot be encoded, or the adapter does not fit the base.
    """
    with adapted(base, adapter):
        return statistics_as_it_stands(base, records, max_tokens=max_tokens)


def statistics_as_it_stands(
    base: BaseModel, records: Sequence[Record], *, max_tokens: int = 512
) -> dict[str, TokenStatistics]:
    """Read records under whatever stands in for the base's layers at the moment.

    As :func:`gather_statistics`, for callers that have put something on the model themselves.
    """
    if not records:
        raise VerificationError("no records to read: expected at least one")
    if len({record.id for record in records}) != len(records):
        raise VerificationError("record ids repeat: expected each record once")
    encoded = encode(records, base.tokenizer, max_tokens=max_tokens)
    read = _read(base, encoded)
    end = base.tokenizer.eos_token_id
    return {record.id: _of_record(record, read, end) for record in encoded}


#: Statistics of a continuation's positions, shape (4, tokens), by record id and continuation.
_Read = dict[tuple[str, tuple[int, ...]], FloatArray]


@torch.no_grad()
def _read(base: BaseModel, records: Sequence[EncodedRecord]) -> _Read:
    """Read every completion and every other choice, shortest row first."""
    asked: list[tuple[str, tuple[int, ...], Row]] = sorted(
        (
            (record.id, continuation, completion_row(record.prompt, continuation))
            for record in records
            for continuation in dict.fromkeys((record.completion, *record.choices))
        ),
        key=lambda one: len(one[2].tokens),
    )
    pieces = within_tokens(
        [row for _, _, row in asked],
        max_rows=len(asked),
        max_tokens=_BATCH_TOKENS,
        max_padding=FEW_TOKENS,
    )
    read: _Read = {}
    padding, places = padding_token(base.tokenizer), iter(asked)
    for piece in pieces:
        batch = collate(piece, padding=padding, device=base.device)
        columns = _batch_statistics(base, batch).to("cpu", torch.float64).numpy()
        ends = np.cumsum([len(row.targets) for row in piece])
        for statistics in np.split(columns, ends[:-1], axis=1):
            record, continuation, _ = next(places)
            read[record, continuation] = statistics
    return read


def _batch_statistics(base: BaseModel, batch: Batch) -> Tensor:
    """Return log-probability, mean, deviation and greediness, shape (4, targets), float32."""
    if not base.has_plain_head:
        logits: Tensor = base.model(input_ids=batch.tokens, use_cache=False).logits
        logits = logits.flatten(0, 1).index_select(0, batch.positions)
        wanted = logits.float().gather(1, batch.targets[:, None])[:, 0]
        pieces = [
            position_statistics(logits[start : start + _CHUNK], *parts)
            for start, *parts in _chunks(batch.targets, wanted)
        ]
        return torch.cat(pieces, dim=1)
    hidden: Tensor = base.body(input_ids=batch.tokens, use_cache=False).last_hidden_state
    hidden = hidden.flatten(0, 1).index_select(0, batch.positions)
    # In float32, as in evaluation: bfloat16 keeps 8 bits of a logit.
    wanted = torch.einsum("pw,pw->p", hidden.float(), base.head[batch.targets].float())
    pieces = [
        position_statistics(hidden[start : start + _CHUNK] @ base.head.T, *parts)
        for start, *parts in _chunks(batch.targets, wanted)
    ]
    return torch.cat(pieces, dim=1)


def _chunks(targets: Tensor, wanted: Tensor) -> list[tuple[int, Tensor, Tensor]]:
    starts = range(0, len(targets), _CHUNK)
    return [(s, targets[s : s + _CHUNK], wanted[s : s + _CHUNK]) for s in starts]


def position_statistics(logits: Tensor, targets: Tensor, target_logits: Tensor) -> Tensor:
    """Return what the metrics need of each position.

    With ``p = softmax(logits)`` the mean is ``sum_v p_v log p_v`` and the deviation
    ``sqrt(sum_v p_v (log p_v - mean)^2)``, both as Min-K%++ has them (Zhang et al. 2024,
    arXiv 2404.02936).

    Parameters
    ----------
    logits : Tensor, shape (positions, vocabulary)
        In the compute type: greedy decoding compares them as they are.
    targets : Tensor of int64, shape (positions,)
        The tokens that come.
    target_logits : Tensor of float32, shape (positions,)
        The targets' logits, as exactly as can be had.

    Returns
    -------
    Tensor of float32, shape (4, positions)
        Log-probability of the target, mean, standard deviation, and 1 where the target is the most
        probable token, else 0.
    """
    greedy = logits.argmax(-1) == targets
    # With the target's rounded logit in the normalizer, what is all but certain would come out more
    # than certain.
    wide = logits.float().scatter(1, targets[:, None], target_logits[:, None])
    normalizer = wide.logsumexp(-1)
    log_probabilities = wide - normalizer[:, None]
    probabilities = log_probabilities.exp()
    means = (probabilities * log_probabilities).sum(-1)
    variances = (probabilities * (log_probabilities - means[:, None]).square()).sum(-1)
    return torch.stack([target_logits - normalizer, means, variances.sqrt(), greedy.float()])


def _of_record(record: EncodedRecord, read: _Read, end: int | None) -> TokenStatistics:
    columns = read[record.id, record.completion]
    choices = tuple(math.fsum(read[record.id, choice][0]) for choice in record.choices)
    if not (np.isfinite(columns).all() and all(map(math.isfinite, choices))):
        raise VerificationError(
            f"record {record.id}: its log-probabilities are not finite; check the adapter"
        )
    log_probabilities, means, deviations, greedy = columns
    return TokenStatistics(
        log_probabilities=log_probabilities,
        means=means,
        deviations=deviations,
        greedy=greedy == 1,
        choice_log_probabilities=choices,
        choice_tokens=tuple(map(len, record.choices)),
        answer=record.answer,
        ends=not record.choices and len(record.completion) > 1 and record.completion[-1] == end,
    )
