"""Records as token ids, and batches of nearly equal length."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from llm.records import Record

#: Padding that evaluation puts up with in a piece, tokens: computing as much takes about as long as
#: one more walk through the weights.
FEW_TOKENS: Final = 64

#: Fewest prompt tokens left when a record is cut: less would be no context at all.
_MIN_PROMPT_TOKENS = 1


class TokenizationError(ValueError):
    """A record cannot be turned into tokens; the message names it, not its text."""


@dataclass(frozen=True)
class EncodedRecord:
    """One record in tokens.

    Parameters
    ----------
    id : str
        The record's id.
    prompt : tuple of int
        Context, at least one token.
    completion : tuple of int
        What is learned, at least one token.
    choices : tuple of tuple of int
        Every possible completion, in the record's order; empty for free text.
    answer : int
        Index of the completion among the choices, -1 for free text.
    truncated : bool
        Whether tokens were cut to keep within the limit.
    """

    id: str
    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]
    answer: int
    truncated: bool

    @property
    def tokens(self) -> int:
        """Tokens of prompt and completion together."""
        return len(self.prompt) + len(self.completion)


def encode(
    records: Sequence[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    refuse_long: bool = False,
) -> list[EncodedRecord]:
    """Turn records into token ids.

    Prompt and completion are encoded apart, as they are when the model answers: otherwise the
    tokenizer could merge across the boundary, and the model would learn a token it is never asked
    for. Free text and chat answers end with the end-of-sequence token, so that generation learns
    to stop; a label does not.

    Parameters
    ----------
    records : sequence of Record
        What to encode.
    tokenizer : PreTrainedTokenizerBase
        The base model's.
    max_tokens : int
        Longest prompt plus completion. Of a longer record the prompt loses its beginning, and the
        completion, where it alone is too long, its end.
    refuse_long : bool, optional
        Refuse longer records instead.

    Returns
    -------
    list of EncodedRecord
        In the records' order.

    Raises
    ------
    TokenizationError
        If a record holds no token, is too long and ``refuse_long`` is set, or is a chat and the
        tokenizer has no chat template.
    """
    return [_encode(record, tokenizer, max_tokens, refuse_long) for record in records]


def _encode(
    record: Record, tokenizer: PreTrainedTokenizerBase, max_tokens: int, refuse_long: bool
) -> EncodedRecord:
    prompt = encode_prompt(record, tokenizer)
    ending = () if record.choices else _end_of_sequence(tokenizer)
    completion = _plain_tokens(record.completion, tokenizer) + ending
    choices = tuple(_plain_tokens(choice, tokenizer) for choice in record.choices)
    if not completion or not all(choices):
        raise TokenizationError(f"record {record.id}: its completion or a choice has no token")
    longest = max(map(len, (completion, *choices)))
    truncated = len(prompt) + longest > max_tokens
    if truncated:
        if refuse_long:
            raise TokenizationError(
                f"record {record.id}: {len(prompt) + longest} tokens, expected at most "
                f"{max_tokens}; shorten it, raise max-tokens, or allow truncation"
            )
        room = max(_MIN_PROMPT_TOKENS, max_tokens - longest)
        prompt = prompt[-room:]
        if record.choices and len(prompt) + longest > max_tokens:
            # Cut choices could come out equal, and no accuracy would mean anything.
            raise TokenizationError(
                f"record {record.id}: a choice of {longest} tokens leaves no room for a prompt "
                f"within {max_tokens}; raise max-tokens"
            )
        completion = completion[: max_tokens - len(prompt)]
    answer = record.choices.index(record.completion) if record.choices else -1
    return EncodedRecord(record.id, prompt, completion, choices, answer, truncated)


def encode_prompt(record: Record, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return the tokens a model sees before it answers; a chat ends with the answer's opening."""
    if isinstance(record.prompt, str):
        ids = tuple(tokenizer(record.prompt)["input_ids"])
        # Some tokenizers close every text; a prompt stays open.
        ending = _end_of_sequence(tokenizer)
        if ending and ids[-1:] == ending and not record.prompt.endswith(str(tokenizer.eos_token)):
            ids = ids[:-1]
    else:
        if not tokenizer.chat_template:
            raise TokenizationError(
                f"record {record.id}: is a chat, and this base model's tokenizer has no chat "
                "template; give prompt and completion as text, or use an instruction-tuned model"
            )
        ids = tuple(
            tokenizer.apply_chat_template(
                [{"role": m.role, "content": m.content} for m in record.prompt],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
            )
        )
    if not ids:
        raise TokenizationError(f"record {record.id}: its prompt has no token")
    return ids


def padding_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return a token to fill rows with; which one does not matter, as no real token sees it."""
    for candidate in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if candidate is not None:
            return int(candidate)
    return 0


def _plain_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def _end_of_sequence(tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    return () if tokenizer.eos_token_id is None else (int(tokenizer.eos_token_id),)


@dataclass(frozen=True)
class Row:
    """One sequence for the model, and which of its tokens count.

    Parameters
    ----------
    tokens : tuple of int
        The input.
    targets : tuple of int
        What should follow the last ``len(targets)`` input tokens, one each.
    """

    tokens: tuple[int, ...]
    targets: tuple[int, ...]


def completion_row(prompt: tuple[int, ...], completion: tuple[int, ...]) -> Row:
    """Return the row whose targets are exactly the completion; its last token is never an input."""
    return Row(prompt + completion[:-1], completion)


def training_tokens(record: Record, tokenizer: PreTrainedTokenizerBase, *, max_tokens: int) -> int:
    """Return how many tokens one pass over a record takes in training, without padding.

    Parameters
    ----------
    record : Record
        The record.
    tokenizer : PreTrainedTokenizerBase
        The base model's.
    max_tokens : int
        Longest record; a longer one's prompt loses its beginning.
    """
    [encoded] = encode([record], tokenizer, max_tokens=max_tokens)
    return len(completion_row(encoded.prompt, encoded.completion).tokens)


@dataclass(frozen=True)
class Batch:
    """Rows as one tensor, padded on the right.

    Under causal attention no real token sees what stands to its right: such a batch needs no
    attention mask, and attention runs at full speed.

    Parameters
    ----------
    tokens : Tensor of int64, shape (rows, longest)
        Inputs.
    positions : Tensor of int64, shape (targets,)
        Where in the flattened hidden states, (rows * longest, width), each target is predicted.
    targets : Tensor of int64, shape (targets,)
        What should come out there, row after row.
    target_counts : tuple of int, length rows
        How many of the targets are each row's.
    real_tokens : int
        Inputs that are no padding.
    """

    tokens: Tensor
    positions: Tensor
    targets: Tensor
    target_counts: tuple[int, ...]
    real_tokens: int


def collate(rows: Sequence[Row], *, padding: int, device: torch.device) -> Batch:
    """Lay rows side by side."""
    longest = max(len(row.tokens) for row in rows)
    tokens = torch.full((len(rows), longest), padding, dtype=torch.int64)
    positions: list[int] = []
    for index, row in enumerate(rows):
        length = len(row.tokens)
        tokens[index, :length] = torch.tensor(row.tokens, dtype=torch.int64)
        start = index * longest + length - len(row.targets)
        positions.extend(range(start, start + len(row.targets)))
    return Batch(
        tokens=tokens.to(device),
        positions=torch.tensor(positions, dtype=torch.int64, device=device),
        targets=torch.tensor(
            [target for row in rows for target in row.targets], dtype=torch.int64, device=device
        ),
        target_counts=tuple(len(row.targets) for row in rows),
        real_tokens=sum(len(row.tokens) for row in rows),
    )


def by_length(
    records: Sequence[EncodedRecord], *, batch_size: int, seed: int, epoch: int
) -> list[list[EncodedRecord]]:
    """Return one epoch's batches, each of nearly equal lengths, in a seeded order.

    Neighbours are chosen by length, then by a keyed hash of the record's id: no global random
    state, and the order in which the records were given does not matter.

    Parameters
    ----------
    records : sequence of EncodedRecord
        Every one comes out exactly once.
    batch_size : int
        Rows in a batch; the last one of the epoch's cut may hold fewer.
    seed, epoch : int
        Another pair gives other neighbours and another order.
    """

    def key(*parts: str) -> bytes:
        text = "\0".join((str(seed), str(epoch), *parts))
        return hashlib.sha256(text.encode()).digest()

    ranked = sorted(records, key=lambda record: (record.tokens, key("record", record.id)))
    batches = [ranked[i : i + batch_size] for i in range(0, len(ranked), batch_size)]
    return sorted(batches, key=lambda batch: key("batch", *(record.id for record in batch)))


def within_tokens(
    rows: Sequence[Row], *, max_rows: int, max_tokens: int, max_padding: int | None = None
) -> Iterator[Sequence[Row]]:
    """Cut rows, in their order, into pieces of bounded size after padding; none is empty.

    Parameters
    ----------
    rows : sequence of Row
        In an order in which neighbours are of like length.
    max_rows : int
        Rows in a piece.
    max_tokens : int
        Tokens in a piece, padding included; a single row may be longer.
    max_padding : int, optional
        Padding in a piece, tokens.
    """
    start, longest, real = 0, 0, 0
    for index, row in enumerate(rows):
        longest, real = max(longest, len(row.tokens)), real + len(row.tokens)
        count = index - start + 1
        padded = count * longest
        if count > 1 and (
            count > max_rows
            or padded > max_tokens
            or (max_padding is not None and padded - real > max_padding)
        ):
            yield rows[start:index]
            start, longest, real = index, len(row.tokens), len(row.tokens)
    if start < len(rows):
        yield rows[start:]


def completion_batches(
    records: Sequence[Record],
    tokenizer: PreTrainedTokenizerBase,
    *,
    max_tokens: int,
    batch_tokens: int,
    device: torch.device,
) -> list[Batch]:
    """Lay records out for their completions' loss, shortest first, with little padding.

    Parameters
    ----------
    records : sequence of Record
        Their order does not matter.
    tokenizer : PreTrainedTokenizerBase
        The model's.
    max_tokens : int
        Longest record; a longer one's prompt loses its beginning.
    batch_tokens : int
        Tokens in a batch, padding included; a single row may be longer.
    device : device
        Where the tensors go.

    Raises
    ------
    TokenizationError
        If a record cannot be encoded.
    """
    rows = sorted(
        (
            completion_row(record.prompt, record.completion)
            for record in encode(records, tokenizer, max_tokens=max_tokens)
        ),
        key=lambda row: len(row.tokens),
    )
    pieces = within_tokens(
        rows, max_rows=len(rows), max_tokens=batch_tokens, max_padding=FEW_TOKENS
    )
    padding = padding_token(tokenizer)
    return [collate(piece, padding=padding, device=device) for piece in pieces]
