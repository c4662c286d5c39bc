"""What comes of a round's accepted updates: the next state, or the old one where they do not do."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from llm.factors import Arrays, arrays_from_adapter
from strategies.aggregation import Aggregate, AggregationRule, AggregationState, Contribution
from strategies.replies import CheckedReply, Verdict


@dataclass(frozen=True)
class RoundAggregate:
    """State and adapter after a round.

    Parameters
    ----------
    state : AggregationState
        The rule's state; the one before, where the round changes nothing.
    adapter : dict of str to ndarray
        The global adapter under its PEFT names.
    aggregate : Aggregate or None
        What the rule made of the updates; ``None`` where the round changes nothing.
    verdict : Verdict
        ``ACCEPTED``, or what becomes of the updates that were accepted until then.
    reason : str
        One line, empty where they count.
    """

    state: AggregationState
    adapter: Arrays
    aggregate: Aggregate | None
    verdict: Verdict = Verdict.ACCEPTED
    reason: str = ""

    def judged(self, reply: CheckedReply) -> CheckedReply:
        """Return a checked reply with the verdict that the whole round gives it."""
        if reply.verdict is not Verdict.ACCEPTED or self.verdict is Verdict.ACCEPTED:
            return reply
        return replace(reply, verdict=self.verdict, reason=self.reason, arrays=None)


def aggregate_round(
    rule: AggregationRule,
    state: AggregationState,
    round_number: int,
    checked: Sequence[CheckedReply],
    *,
    needed: int,
) -> RoundAggregate:
    """Aggregate what was accepted, or leave the state as it is.

    Parameters
    ----------
    rule : AggregationRule
        The arithmetic.
    state : AggregationState
        The state before the round.
    round_number : int
        The round.
    checked : sequence of CheckedReply
        All signed replies; those that were accepted have their arrays, and they alone count.
    needed : int
        Fewer change nothing.

    Returns
    -------
    RoundAggregate
        Unchanged, too, where no usable adapter comes of the updates: each may be finite and their
        sum beyond float32. One hostile update must not end the run.
    """
    accepted = [reply for reply in checked if reply.verdict is Verdict.ACCEPTED]
    if len(accepted) < needed:
        return _unchanged(rule, state, Verdict.TOO_FEW, _too_few(checked, len(accepted), needed))
    contributions = [
        Contribution(reply.organization, reply.num_examples, reply.arrays or {})
        for reply in accepted
    ]
    try:
        aggregate = rule.aggregate(state, round_number, contributions)
        adapter = arrays_from_adapter(rule.adapter(aggregate.state))
    except ValueError as error:
        return _unchanged(rule, state, Verdict.NO_AGGREGATE, f"no adapter comes of it: {error}")
    return RoundAggregate(aggregate.state, adapter, aggregate)


def _too_few(checked: Sequence[CheckedReply], accepted: int, needed: int) -> str:
    """Say why a round changes nothing: nobody replied, all declined, or too little held."""
    declined = sum(reply.verdict is Verdict.DECLINED for reply in checked)
    if not checked:
        return "no organization replied"
    if declined == len(checked):
        return (
            "the one organization that replied declined"
            if declined == 1
            else f"all {declined} organizations that replied declined"
        )
    counted = f"{accepted} updates were accepted"
    if declined:
        counted += f" and {declined} of {len(checked)} organizations that replied declined"
    return f"{counted}, the round needs {needed} to count"


def _unchanged(
    rule: AggregationRule, state: AggregationState, verdict: Verdict, reason: str
) -> RoundAggregate:
    return RoundAggregate(state, arrays_from_adapter(rule.adapter(state)), None, verdict, reason)
