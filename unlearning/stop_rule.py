"""When to stop unlearning: once the model finds the records no likelier than any it never saw."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch

from llm.adapted_model import AdaptedModel
from llm.base_model import BaseModel
from llm.tokenization import (
    FEW_TOKENS,
    EncodedRecord,
    collate,
    completion_row,
    padding_token,
    within_tokens,
)
from llm.training_steps import TrainingError

#: Tokens at once, padding included; without gradients nothing accumulates.
_BATCH_TOKENS: Final = 2048


@dataclass(frozen=True)
class Check:
    """A look at the stop rule.

    Parameters
    ----------
    step : int
        Optimizer steps done before it.
    forget_loss : float
        Mean loss of the records to forget, nats a completion token.
    hold_out_loss : float or None
        The same of the hold-out set under the same adapter; None without one.
    """

    step: int
    forget_loss: float
    hold_out_loss: float | None

    @property
    def reached(self) -> bool:
        """Whether the records to forget are no likelier than those never trained on."""
        return self.hold_out_loss is not None and self.forget_loss >= self.hold_out_loss


class MeasuredRows:
    """Records laid side by side once, whose losses are taken again and again.

    Parameters
    ----------
    records : sequence of EncodedRecord
        At least one, with ids all different; their order does not matter.
    base : BaseModel
        The model they are for.
    """

    def __init__(self, records: Sequence[EncodedRecord], base: BaseModel) -> None:
        ranked = sorted(records, key=lambda record: (record.tokens, record.id))
        rows = [completion_row(record.prompt, record.completion) for record in ranked]
        pieces = within_tokens(
            rows, max_rows=len(rows), max_tokens=_BATCH_TOKENS, max_padding=FEW_TOKENS
        )
        padding = padding_token(base.tokenizer)
        self._ids = [record.id for record in ranked]
        self._batches = [collate(piece, padding=padding, device=base.device) for piece in pieces]
        self._targets = sum(len(row.targets) for row in rows)
        #: Tokens read each time, without padding.
        self.tokens = sum(len(row.tokens) for row in rows)

    @torch.no_grad()
    def losses(self, model: AdaptedModel) -> dict[str, float]:
        """Return each record's summed completion loss by its id, nats."""
        values = [loss for batch in self._batches for loss in model.row_losses(batch).tolist()]
        return dict(zip(self._ids, values, strict=True))

    def mean(self, losses: Mapping[str, float]) -> float:
        """Return what :meth:`losses` gave as the mean a completion token, nats."""
        return math.fsum(losses.values()) / self._targets


class StopRule:
    """The checks done so far, and when the next one is due.

    Parameters
    ----------
    forget_set : MeasuredRows
        What is to be forgotten.
    hold_out_set : MeasuredRows or None
        What nobody trained on; without it nothing but the last step ends the unlearning.
    every : int
        Steps between two checks.
    """

    def __init__(
        self, forget_set: MeasuredRows, hold_out_set: MeasuredRows | None, *, every: int
    ) -> None:
        self._forget_set = forget_set
        self._hold_out_set = hold_out_set
        self._every = every
        self.checks: list[Check] = []
        #: Tokens read by all checks.
        self.tokens = 0

    @property
    def reached(self) -> bool:
        """Whether the last check met the rule."""
        return bool(self.checks) and self.checks[-1].reached

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to check after a step of so many; without a hold-out set only after the last."""
        return step == steps or (self._hold_out_set is not None and step % self._every == 0)

    def check(self, model: AdaptedModel, step: int) -> dict[str, float]:
        """Look at the model as it is, and return each forgotten record's loss by its id, nats.

        Raises
        ------
        TrainingError
            If the records' mean loss is no number.
        """
        losses = self._forget_set.losses(model)
        self.tokens += self._forget_set.tokens
        hold_out_loss = None
        if self._hold_out_set is not None:
            hold_out_loss = self._hold_out_set.mean(self._hold_out_set.losses(model))
            self.tokens += self._hold_out_set.tokens
        check = Check(step, self._forget_set.mean(losses), hold_out_loss)
        if not math.isfinite(check.forget_loss):
            raise TrainingError(
                f"after {step} steps the records' loss is {check.forget_loss}; expected "
                "a finite number (lower the learning rate, or check the received adapter)"
            )
        self.checks.append(check)
        return losses
