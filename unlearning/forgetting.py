"""Unlearning by training: records to forget in, an update of LoRA factors out, to the same bits.

Fast, and without an exact guarantee: how well it forgets is judged against models that never saw
the records.
"""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeVar

import torch

from llm.adapted_model import AdaptedModel, adapted
from llm.adapters import LoraAdapter
from llm.base_model import BaseModel
from llm.factors import Arrays
from llm.keyed_hash import keyed_hash
from llm.records import Record
from llm.tokenization import EncodedRecord, encode
from llm.trained_factors import TrainedFactors, TrainedPart
from llm.training import StepProgress
from llm.training_steps import (
    TrainingError,
    check_step,
    check_update,
    clip_gradients,
    on_threads,
    optimizer_of,
)
from unlearning.batch_gradient import ForgettingBatch, add_gradients
from unlearning.distinct_rows import first_copies
from unlearning.forgetting_settings import ForgettingSettings
from unlearning.methods import UnlearningMethod, method_named
from unlearning.stop_rule import CLOSE, Check, MeasuredRows, StopRule

__all__ = ["Check", "ForgettingResult", "ForgettingSettings", "forget"]

_PURPOSE: Final = "foedus/retain/v1"

_Identified = TypeVar("_Identified", Record, EncodedRecord)

#: Looks on the way back, at most.
_LOOKS: Final = 3


@dataclass(frozen=True)
class ForgettingResult:
    """What unlearning gave.

    Parameters
    ----------
    arrays : dict of str to ndarray of float32
        The update, under PEFT's names: unlearned minus received, of the trained factors' leading
        rows and columns only. All zeros where the stop rule held before the first step.
    stopped : {"reached", "epochs"}
        Why it ended: the stop rule held, or the last epoch was over and it did not.
    steps : int
        Optimizer steps, one a pass over what is remembered.
    records : int
        Records forgotten.
    truncated : int
        How many of them were cut to ``max_tokens``.
    tokens : int
        Tokens read forwards and backwards, of records to forget and to keep, without padding.
    read_tokens : int
        Tokens read forwards alone: for the checks, of what they leave out before each step, and
        once of the untouched base.
    losses : tuple of float
        The method's loss at each step, nats.
    gradient_norms : tuple of float
        Norm of each step's gradient before clipping.
    checks : tuple of Check
        Before the first step, then after every one where there is a hold-out set, and after the
        last step; where the rule was met in between, those on the way back, the last of which is
        where it ended.
    seconds : float
        Wall time.
    threads : int
        Processor threads used.
    """

    arrays: Arrays
    stopped: Literal["reached", "epochs"]
    steps: int
    records: int
    truncated: int
    tokens: int
    read_tokens: int
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    checks: tuple[Check, ...]
    seconds: float
    threads: int


def forget(
    base: BaseModel,
    adapter: LoraAdapter,
    part: TrainedPart,
    forget_set: Sequence[Record],
    retain_set: Sequence[Record],
    settings: ForgettingSettings,
    *,
    seed: int,
    hold_out_set: Sequence[Record] | None = None,
    progress: StepProgress | None = None,
) -> ForgettingResult:
    """Unlearn records in a part of an adapter.

    Each step takes all records that are still remembered: whose loss lies below that of unseen
    rows as hard (:mod:`unlearning.stop_rule`). So none is pushed on once it is forgotten, and all
    are pushed alike: over a part of them at a time the first would be marked as forgotten and the
    last be known as before, at the same mean. It stops at the first check at which that holds of
    their mean, and goes back on the straight way from the check before to where it just does. Which
    records are kept beside them comes from keyed hashes of the seed. On one machine and number of
    threads equal inputs give equal bits.

    Parameters
    ----------
    base : BaseModel
        The frozen base; unchanged afterwards.
    adapter : LoraAdapter
        The received adapter, which learned the records; not modified. It is also the reference.
    part : TrainedPart
        What of it is trained.
    forget_set : sequence of Record
        What to forget; the order does not matter.
    retain_set : sequence of Record
        What to keep; the order does not matter. As many as a step pushes are drawn for it. May be
        empty where the method needs none.
    settings : ForgettingSettings
        How.
    seed : int
        Another one gives another draw of what is kept.
    hold_out_set : sequence of Record, optional
        The organization's records of the same kind that nobody trained on, for the stop rule;
        without them all epochs are done.
    progress : callable, optional
        Called after every step with (steps done, steps at most, the method's loss in nats).

    Returns
    -------
    ForgettingResult
        The update and how it came about.

    Raises
    ------
    TrainingError
        If there is nothing to forget, or nothing to keep where the method needs it; an id repeats
        or lies in two of the sets; a loss or gradient is not finite; or a factor did not move.
    TokenizationError, AdapterError
        If a record cannot be encoded, or the adapter does not fit the base.
    """
    started = time.perf_counter()
    method = _method(settings)
    hold_out = hold_out_set or ()
    _check_sets(method, forget=forget_set, retain=retain_set, hold_out=hold_out)
    encoded = _by_length(encode(forget_set, base.tokenizer, max_tokens=settings.max_tokens))
    factors = TrainedFactors(adapter, part, base.compute_dtype, base.device)
    optimizer = optimizer_of(factors, settings.learning_rate)
    copy_of = first_copies(encoded)
    distinct = [record for record in encoded if copy_of[record.id] == record.id]
    rule = _rule(base, distinct, hold_out, settings, seed)
    losses: list[float] = []
    norms: list[float] = []
    tokens = 0
    with on_threads(settings.threads) as threads, adapted(base, adapter) as model:
        remembered = _Remembered(model, factors, encoded, copy_of, rule)
        rule.check(model, step=0)
        checked = factors.values()
        for step in range(1, settings.epochs + 1):
            if rule.reached:
                break
            pushed = remembered.records(references=method.needs_reference)
            kept = _smallest(retain_set, len(pushed), seed, step) if method.needs_retain else []
            batch = ForgettingBatch(
                forget=pushed,
                retain=_by_length(encode(kept, base.tokenizer, max_tokens=settings.max_tokens)),
                reference=[remembered.reference.get(copy_of[record.id], 0.0) for record in pushed],
            )
            optimizer.zero_grad()
            loss = add_gradients(model, base, factors, method, batch, settings)
            norm = factors.gradient_norm()
            check_step(step, settings.epochs, loss, norm)
            clip_gradients(factors, norm, settings.max_gradient_norm)
            optimizer.step()
            losses.append(loss)
            norms.append(norm)
            tokens += batch.tokens
            if rule.has_hold_out or step == settings.epochs:
                with torch.no_grad():
                    model.put(factors.assemble())
                    rule.check(model, step)
                    if rule.checks[-1].reached:
                        _meet(model, factors, rule, checked)
                checked = factors.values()
            if progress is not None:
                progress(step, settings.epochs, loss)
    update = factors.update()
    if losses:
        check_update(update)
    return ForgettingResult(
        arrays=update,
        stopped="reached" if rule.reached else "epochs",
        steps=len(losses),
        records=len(encoded),
        truncated=sum(record.truncated for record in encoded),
        tokens=tokens,
        read_tokens=rule.tokens,
        losses=tuple(losses),
        gradient_norms=tuple(norms),
        checks=tuple(rule.checks),
        seconds=time.perf_counter() - started,
        threads=threads,
    )


class _Remembered:
    """Which records a step pushes, and all records' losses under the adapter as received."""

    def __init__(
        self,
        model: AdaptedModel,
        factors: TrainedFactors,
        records: Sequence[EncodedRecord],
        copy_of: Mapping[str, str],
        rule: StopRule,
    ) -> None:
        with torch.no_grad():
            # Copies: in the type it is trained in, what is assembled of A is A itself.
            received = {n: (a.clone(), b.clone()) for n, (a, b) in factors.assemble().items()}
        self._received = received
        self._base = {name: (a, torch.zeros_like(b)) for name, (a, b) in received.items()}
        self._model, self._records, self._copy_of, self._rule = model, records, copy_of, rule
        #: Nats, by the first copy's id; empty before the first step, or where nobody asks for it.
        self.reference: Mapping[str, float] = {}
        self._under_base(rule.read_base)

    def records(self, *, references: bool) -> list[EncodedRecord]:
        """Return what the next step pushes: everything, where there is no hold-out set."""
        first = not self.reference
        if first:
            self._under_base(self._rule.read_base_of_others)
        if not self._rule.has_hold_out:
            if first and references:
                self.reference = self._rule.losses(self._model).losses
            return list(self._records)
        known = self._rule.losses(self._model)
        if first:
            self.reference = known.losses
        remembered = self._rule.remembered(known)
        return [record for record in self._records if self._copy_of[record.id] in remembered]

    def _under_base(self, read: Callable[[AdaptedModel], None]) -> None:
        if self._rule.has_hold_out:
            self._model.put(self._base)
            read(self._model)
            self._model.put(self._received)


def _rule(
    base: BaseModel,
    records: Sequence[EncodedRecord],
    hold_out: Sequence[Record],
    settings: ForgettingSettings,
    seed: int,
) -> StopRule:
    looked_at = _smallest(records, settings.checked_records, seed, "check")
    names = {record.id for record in looked_at}
    others = [record for record in records if record.id not in names]
    never_seen = encode(hold_out, base.tokenizer, max_tokens=settings.max_tokens)
    return StopRule(
        MeasuredRows(looked_at, base),
        MeasuredRows(others, base) if others else None,
        MeasuredRows(never_seen, base) if never_seen else None,
    )


def _meet(
    model: AdaptedModel,
    factors: TrainedFactors,
    rule: StopRule,
    before: Sequence[torch.Tensor],
) -> None:
    """Go back on the way from the check before to where the rule is just met.

    By the Illinois variant of false position on the excess, which falls along the way (Dowell and
    Jarratt, "A modified regula falsi method for computing the root of an equation", 1971); a few
    looks at most, since each reads the records.
    """
    after, best = factors.values(), rule.checks[-1]
    over, under = rule.checks[-2].excess, best.excess
    if over is None or under is None:
        return
    # Where on the way, and the excess there.
    low, high, excess = (0.0, over), (1.0, under), under
    was_reached: bool | None = None
    for _ in range(_LOOKS):
        if excess >= -CLOSE:
            break
        share = low[0] + (high[0] - low[0]) * low[1] / (low[1] - high[1])
        factors.go_to(before, after, share)
        model.put(factors.assemble())
        here, look = rule.look(model, share), rule.checks[-1]
        # An end that stays a second time counts half, or on a curved way it would stay for good.
        halved = 0.5 if look.reached == was_reached else 1.0
        if look.reached:
            best, excess = look, here
            low, high = (low[0], low[1] * halved), (share, here)
        else:
            low, high = (share, here), (high[0], high[1] * halved)
        was_reached = look.reached
    if rule.checks[-1] is not best:
        factors.go_to(before, after, best.share)
        rule.checks.append(best)


def _method(settings: ForgettingSettings) -> UnlearningMethod:
    method = method_named(settings.method)(
        gamma=settings.gamma, retain_weight=settings.retain_weight
    )
    return method if settings.beta is None else replace(method, beta=settings.beta)


def _check_sets(method: UnlearningMethod, **sets: Sequence[Record]) -> None:
    if not sets["forget"]:
        raise TrainingError("no records to forget: expected at least one")
    if method.needs_retain and not sets["retain"]:
        raise TrainingError(
            f"no records to keep: {method.name} needs some (or a retain weight of 0)"
        )
    set_of: dict[str, str] = {}
    for name, records in sets.items():
        for record in records:
            if record.id in set_of:
                raise TrainingError(
                    f"record {record.id} is in the {set_of[record.id]} set and in the "
                    f"{name.replace('_', '-')} set: expected each record once"
                )
            set_of[record.id] = name


def _by_length(records: Sequence[EncodedRecord]) -> list[EncodedRecord]:
    """Return records in an order in which neighbours are of like length."""
    return sorted(records, key=lambda record: (record.tokens, record.id))


def _smallest(
    records: Sequence[_Identified], count: int, seed: int, what: int | str
) -> list[_Identified]:
    """Return the records whose keyed hash is smallest."""
    # A seed has 64 bits without a sign, more than an integer of a keyed hash.
    ranked = ((keyed_hash(b"", _PURPOSE, str(seed), what, r.id), r.id, r) for r in records)
    return [record for _, _, record in heapq.nsmallest(count, ranked)]
