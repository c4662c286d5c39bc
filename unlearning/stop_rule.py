"""When to stop unlearning: once the records are no likelier than unseen ones of their kind.

A model that never saw the records gains on them what it gains on any other row of the kind, and
how much that is depends on how hard the row is. So the untouched base, which saw none of them,
tells how hard each row is, and the hold-out rows tell what a model makes of a row so hard. What is
remembered of a record is by how much its loss lies below that.

Where they are taken together, copies count once, and a record that went beyond counts for no more
than unseen rows commonly scatter. Otherwise a few that are pushed away easily, as a random string
is, would make up for many that are known as before.

A record with choices is judged by a bounded loss (:mod:`llm.generalized_cross_entropy`): of a
label's cross entropy the few rows that a model is confidently wrong about make most of the mean.
All other rows, right and confident, would lie far below it and count as remembered, seen or not.
Even so unseen answers scatter by more than a model remembers of most labels. So of answers counts
what is remembered for certain: the lower bound of the mean's one-sided 95 % confidence interval.
Pushed further, a model forgets how to answer (docs/unlearning.md).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import torch

from llm.adapted_model import AdaptedModel
from llm.base_model import BaseModel
from llm.generalized_cross_entropy import USUAL_POWER, generalized
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
CLOSE: Final = 0.03

#: Standard deviations of hold-out rows at which what went beyond is clipped: Huber's constant, with
#: which a mean is 95 % as efficient where nothing stands out ("Robust Estimation of a Location
#: Parameter", 1964).
_CLIPPED_AT: Final = 1.345

#: Standard errors to the bound of a one-sided 95 % confidence interval of the normal distribution.
_CONFIDENT: Final = 1.645

#: Standard deviation of a bounded loss, at most: half its range (Popoviciu's inequality).
_MOST_SCATTER: Final = 0.5 / USUAL_POWER

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
        Mean loss of the records to forget, copies once, nats a completion token; bounded where
        they are answers among choices.
    hold_out_loss : float or None
        The same of the hold-out set under the same adapter; None where it was not read: on the way
        back, where its rows' losses are taken to change evenly from the check before to that step.
    excess : float or None
        By how much the records' loss lies below that of unseen rows as hard, nats a completion
        token, as :meth:`Unseen.mean_excess` takes their mean (of answers, for certain); None
        without a hold-out set.
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


@dataclass(frozen=True)
class Readings:
    """Some rows' losses under one model.

    Parameters
    ----------
    losses : mapping of str to float
        Each row's summed completion loss by its id, nats.
    targets : mapping of str to int
        Tokens of each of those completions.
    answers : set of str, optional
        Those of the rows that are answers among choices.
    """

    losses: Mapping[str, float]
    targets: Mapping[str, int]
    answers: frozenset[str] = frozenset()

    @property
    def mean(self) -> float:
        """Mean loss by which the rows are judged, nats a completion token."""
        return self.mean_of({name: self.judged(name) for name in self.losses})

    def judged(self, name: str) -> float:
        """Return the loss by which a row is judged, nats.

        The mean of a completion's tokens; of an answer among choices, one token or several, the
        bounded loss of the whole.
        """
        if name in self.answers:
            return float(generalized(torch.tensor(self.losses[name]).double(), USUAL_POWER))
        return self.losses[name] / self.targets[name]

    @property
    def weights(self) -> dict[str, int]:
        """For how much each row counts in a mean: its tokens; an answer among choices once."""
        return {n: 1 if n in self.answers else t for n, t in self.targets.items()}

    def mean_of(self, values: Mapping[str, float]) -> float:
        """Return the mean of a value of each row, weighted."""
        weighted = (weight * values[name] for name, weight in self.weights.items())
        return math.fsum(weighted) / sum(self.weights.values())

    def __or__(self, other: "Readings") -> "Readings":
        return Readings(
            {**self.losses, **other.losses},
            {**self.targets, **other.targets},
            self.answers | other.answers,
        )

    def towards(self, other: "Readings", share: float) -> "Readings":
        """Return what lies at a share of the way from these losses to others of the same rows."""
        losses = {
            name: (1 - share) * loss + share * other.losses[name]
            for name, loss in self.losses.items()
        }
        return replace(self, losses=losses)


@dataclass(frozen=True)
class Unseen:
    """What a model's loss on a row that it never saw would be, judged by the base's on that row.

    The line ``loss = mean + slope (base - base_mean)`` through hold-out rows, by least squares,
    each row weighted by its tokens; the slope from 0 to 1. At 1 losses are compared by how far they
    have fallen from the base's, at 0 as they are. Calibrating a membership test by another model's
    loss is Watson et al., "On the Importance of Difficulty Calibration in Membership Inference
    Attacks", arXiv 2111.08440.

    Parameters
    ----------
    mean, base_mean : float
        Mean losses of the hold-out rows under the model and under the base, nats a token.
    slope : float
        See above.
    scatter : float
        Standard deviation of the hold-out rows about the line, each weighted by its tokens, with
        two degrees of freedom for the line, nats a token; infinite of fewer than three rows.
    usual : float
        What clipping (:attr:`most_beyond`) makes of the hold-out rows' own mean, nats a token,
        which is 0 without.
    rows : int
        Hold-out rows.
    """

    mean: float
    base_mean: float
    slope: float
    scatter: float = math.inf
    usual: float = 0.0
    rows: int = 1

    @property
    def most_beyond(self) -> float:
        """For how much a row above the line counts in a mean at most, nats a token."""
        return _CLIPPED_AT * self.scatter

    @classmethod
    def fitted(cls, hold_out: Readings, base: Readings) -> "Unseen":
        """Fit the line to hold-out rows as the model and as the base read them."""
        mean, base_mean = hold_out.mean, base.mean
        products = squares = 0.0
        for name, weight in sorted(hold_out.weights.items()):
            harder = base.judged(name) - base_mean
            products += weight * harder * (hold_out.judged(name) - mean)
            squares += weight * harder * harder
        # Of one row, or rows all as hard, nothing is learned: then what counts is the fall.
        slope = min(1.0, max(0.0, products / squares)) if squares > 0 else 1.0
        rows = len(hold_out.losses)
        line = cls(mean, base_mean, slope, rows=rows)
        if rows < 3:
            return line
        excesses = line.excesses(hold_out, base)
        variance = hold_out.mean_of({n: x * x for n, x in excesses.items()}) * rows / (rows - 2)
        clipped = replace(line, scatter=math.sqrt(variance))
        return replace(clipped, usual=clipped._mean(hold_out, base))

    def mean_excess(self, records: Readings, base: Readings) -> float:
        """Return how much is remembered of records together, nats a completion token.

        The mean of their excesses weighted by tokens, in which none goes beyond
        :attr:`most_beyond`, less what that makes of the hold-out rows: so of unseen rows it is 0.
        Of answers among choices it is the lower bound of the interval about that mean, in which
        records scatter as hold-out rows do: what is remembered for certain.
        """
        mean = self._mean(records, base) - self.usual
        if records.answers != records.losses.keys():
            return mean
        scatter = min(self.scatter, _MOST_SCATTER)
        error = scatter * math.sqrt(1 / self.rows + 1 / len(records.losses))
        return mean - _CONFIDENT * error

    def _mean(self, records: Readings, base: Readings) -> float:
        excesses = self.excesses(records, base)
        within = {name: max(excess, -self.most_beyond) for name, excess in excesses.items()}
        return records.mean_of(within)

    def excesses(self, records: Readings, base: Readings) -> dict[str, float]:
        """Return by how much each record's loss lies below, nats a completion token."""
        return {
            name: self.mean
            + self.slope * (base.judged(name) - self.base_mean)
            - records.judged(name)
            for name in records.losses
        }


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
        self._batches = [collate(piece, padding=padding, device=base.device) for piece in pieces]
        self._targets = {
            record.id: len(row.targets) for record, row in zip(ranked, rows, strict=True)
        }
        self._answers = frozenset(record.id for record in ranked if record.choices)
        #: Tokens read each time, without padding.
        self.tokens = sum(len(row.tokens) for row in rows)

    @torch.no_grad()
    def read(self, model: AdaptedModel) -> Readings:
        """Return each record's loss under a model."""
        values = [loss for batch in self._batches for loss in model.row_losses(batch).tolist()]
        losses = dict(zip(self._targets, values, strict=True))
        return Readings(losses, self._targets, self._answers)


class StopRule:
    """What is remembered of records, read as the unlearning goes on, and the checks done so far.

    Parameters
    ----------
    looked_at : MeasuredRows
        Records to be forgotten that every check reads, of copies one.
    others : MeasuredRows or None
        The other ones, which are read before a step alone.
    hold_out_set : MeasuredRows or None
        What nobody trained on; without it nothing but the last step ends the unlearning, and
        every step pushes all records.
    """

    def __init__(
        self,
        looked_at: MeasuredRows,
        others: MeasuredRows | None,
        hold_out_set: MeasuredRows | None,
    ) -> None:
        self._looked_at = looked_at
        self._others = others
        self._hold_out_set = hold_out_set
        self._base: tuple[Readings, Readings] | None = None
        self._base_of_others: Readings | None = None
        self._seen: Readings | None = None
        self._unseen: Unseen | None = None
        #: The hold-out rows at the check before the last one, and at the last.
        self._way: tuple[Readings, Readings] | None = None
        self.checks: list[Check] = []
        #: Tokens read.
        self.tokens = 0

    @property
    def reached(self) -> bool:
        """Whether the last check met the rule."""
        return bool(self.checks) and self.checks[-1].reached

    @property
    def has_hold_out(self) -> bool:
        """Whether there is anything to compare with: then the base has to be read first."""
        return self._hold_out_set is not None

    def read_base(self, model: AdaptedModel) -> None:
        """Look at what checks read under the untouched base, which the model has to be for now."""
        if self._hold_out_set is not None:
            self._base = self._read(self._looked_at, model), self._read(self._hold_out_set, model)

    def read_base_of_others(self, model: AdaptedModel) -> None:
        """Look at the records that checks do not read, under the base: before the first step."""
        if self._others is not None:
            self._base_of_others = self._read(self._others, model)

    def check(self, model: AdaptedModel, step: int) -> None:
        """Look at the model after a step.

        Raises
        ------
        TrainingError
            If the records' mean loss is no number.
        """
        seen = self._see(model, step)
        if self._hold_out_set is None:
            self.checks.append(Check(step, seen.mean, None, None))
            return
        hold_out = self._read(self._hold_out_set, model)
        self._way = (self._way[1] if self._way else hold_out), hold_out
        self.checks.append(Check(step, seen.mean, hold_out.mean, self._excess(seen, hold_out)))

    def look(self, model: AdaptedModel, share: float) -> float:
        """Look at the model between the last two checks; return the excess there.

        The records alone are read: for the hold-out rows, which such a step moves little, both
        checks tell what lies between.
        """
        if self._way is None:
            raise RuntimeError("a look between checks that read no hold-out rows")
        before, after = self._way
        step = self.checks[-1].step
        seen = self._see(model, step)
        excess = self._excess(seen, before.towards(after, share))
        self.checks.append(Check(step, seen.mean, None, excess, share))
        return excess

    def _see(self, model: AdaptedModel, step: int) -> Readings:
        self._seen = seen = self._read(self._looked_at, model)
        if not math.isfinite(seen.mean):
            raise TrainingError(
                f"after {step} steps the records' loss is {seen.mean}; expected "
                "a finite number (lower the learning rate, or check the received adapter)"
            )
        return seen

    def _excess(self, seen: Readings, hold_out: Readings) -> float:
        if self._base is None:
            raise RuntimeError("a check before the untouched base was read: call read_base")
        of_records, of_hold_out = self._base
        self._unseen = Unseen.fitted(hold_out, of_hold_out)
        return self._unseen.mean_excess(seen, of_records)

    def losses(self, model: AdaptedModel) -> Readings:
        """Return all records' losses under the model, which the last check looked at."""
        if self._seen is None:
            raise RuntimeError("before the first check nothing is known of the records")
        if self._others is None:
            return self._seen
        return self._seen | self._read(self._others, model)

    def remembered(self, losses: Readings) -> frozenset[str]:
        """Return the records whose loss lies below that of unseen rows as hard.

        Parameters
        ----------
        losses : Readings
            As :meth:`losses` gave them.
        """
        if self._base is None or self._unseen is None:
            raise RuntimeError("without hold-out rows that were read nothing tells what is known")
        base = self._base[0]
        if self._base_of_others is not None:
            base = base | self._base_of_others
        excesses = self._unseen.excesses(losses, base)
        return frozenset(name for name, excess in excesses.items() if excess > 0)

    def _read(self, rows: MeasuredRows, model: AdaptedModel) -> Readings:
        self.tokens += rows.tokens
        return rows.read(model)
