"""What a model is asked about a record: its completion, and what else it could have said."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from llm.tokenization import EncodedRecord, Row, completion_row


@dataclass(frozen=True)
class Question:
    """Continuations of one record that differ in their last token alone: one row answers all.

    Parameters
    ----------
    record : str
        The record's id.
    prompt : tuple of int
        Context.
    stem : tuple of int
        What the continuations begin with.
    endings : tuple of int
        Their last tokens, at least one.
    """

    record: str
    prompt: tuple[int, ...]
    stem: tuple[int, ...]
    endings: tuple[int, ...]

    @property
    def row(self) -> Row:
        """The row to read; the target of its last position stands for every ending."""
        return completion_row(self.prompt, (*self.stem, self.endings[0]))


def questions(record: EncodedRecord) -> list[Question]:
    """Return the questions whose answers are the log-probabilities of completion and choices."""
    endings: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for continuation in dict.fromkeys((*record.choices, record.completion)):
        endings[continuation[:-1]].append(continuation[-1])
    return [Question(record.id, record.prompt, stem, tuple(last)) for stem, last in endings.items()]


def candidates(asked: Sequence[Question]) -> Tensor:
    """Lay out each target position's candidate tokens, rows filled up by repeating the first.

    Returns
    -------
    Tensor of int64, shape (targets, most endings)
        Row after row, as their targets stand in a batch.
    """
    width = max(len(question.endings) for question in asked)
    rows: list[list[int]] = []
    for question in asked:
        rows.extend([token] * width for token in question.stem)
        rows.append([*question.endings, *[question.endings[0]] * (width - len(question.endings))])
    return torch.tensor(rows, dtype=torch.int64)
