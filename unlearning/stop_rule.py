"""When to stop unlearning: once the model gains no more on the records than on any it never saw.

Texts are not equally hard, and a request may be about a handful. So losses are counted from the
untouched base's on the same rows: it saw none of them. By how much more than unseen rows' the
records' loss has fallen from there is what is remembered of them; each text's own difficulty
cancels.
"""

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

#: An excess that counts as none, nats a completion token.
CLOSE: Final = 0.02

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
    excess : float or None
        By how much further the records' loss has fallen from the untouched base's than the
        hold-out set's has, nats a completion token; None without one.
    share : float
        Where between the check before and that step it is, from 0 to 1.
    """

    step: int
    forget_loss: float
    hold_out_loss: float | None
    excess: float | None
    share: float = 1.0

    @property
    def reached(self) -> bool:
        """Whether no more is remembered of the records than of those never trained on."""
        return self.excess is not None and self.excess <= CLOSE


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
        #: Mean losses of both under the untouched base.
        self._base: tuple[float, float] | None = None
        self.checks: list[Check] = []
        #: Tokens read by all checks, and of the base.
        self.tokens = 0

    @property
    def reached(self) -> bool:
        """Whether the last check met the rule."""
        return bool(self.checks) and self.checks[-1].reached

    def is_due(self, step: int, steps: int) -> bool:
        """Whether to check after a step of so many; without a hold-out set only after the last."""
        return step == steps or (self._hold_out_set is not None and step % self._every == 0)

    @property
    def needs_base(self) -> bool:
        """Whether checks compare with the untouched base: :meth:`read_base` comes first."""
        return self._hold_out_set is not None

    def read_base(self, model: AdaptedModel) -> None:
        """Look at the untouched base, which the model has to be for now."""
        if self._hold_out_set is not None:
            sets = (self._forget_set, self._hold_out_set)
            forget_loss, hold_out_loss = (one.mean(one.losses(model)) for one in sets)
            self._base = forget_loss, hold_out_loss
            self.tokens += sum(one.tokens for one in sets)

    def check(self, model: AdaptedModel, step: int, share: float = 1.0) -> dict[str, float]:
        """Look at the model as it is, and return each forgotten record's loss by its id, nats.

        Parameters
        ----------
        model : AdaptedModel
            The model.
        step, share : int, float
            Where it is: see :class:`Check`.

        Raises
        ------
        TrainingError
            If the records' mean loss is no number.
        """
        losses = self._forget_set.losses(model)
        self.tokens += self._forget_set.tokens
        forget_loss, hold_out_loss, excess = self._forget_set.mean(losses), None, None
        if self._hold_out_set is not None:
            if self._base is None:
                raise RuntimeError("a check before the untouched base was read: call read_base")
            hold_out_loss = self._hold_out_set.mean(self._hold_out_set.losses(model))
            self.tokens += self._hold_out_set.tokens
            excess = (self._base[0] - forget_loss) - (self._base[1] - hold_out_loss)
        check = Check(step, forget_loss, hold_out_loss, excess, share)
        if not math.isfinite(check.forget_loss):
            raise TrainingError(
                f"after {step} steps the records' loss is {check.forget_loss}; expected "
                "a finite number (lower the learning rate, or check the received adapter)"
            )
        self.checks.append(check)
        return losses
