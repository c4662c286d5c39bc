"""A round made again from its evidence, each piece first held against the public chain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from blockchain.canonical import hash_arrays
from blockchain.chain_records import RoundRecord
from blockchain.public_chain import PublicChain
from llm.factors import arrays_from_adapter
from strategies.aggregation import (
    AggregationRule,
    AggregationState,
    Contribution,
    adapter_distance,
    without_organization,
)
from strategies.audit_signatures import check_signatures
from strategies.kept_evidence import KeptRound
from strategies.lineage import Lineage
from strategies.replies import Verdict
from strategies.rewards import RewardTable, RewardTerms
from strategies.round_evidence import RoundEvidence
from strategies.round_outcome import RoundOutcome
from strategies.scores import ScoreTable
from strategies.signed_update import TaskContext


class EvidenceError(ValueError):
    """What a coordinator says a round was made of is not what the chain says, or makes another."""


@dataclass(frozen=True)
class RecomputedRound:
    """What an attestor needs to score a round that it has made again.

    Parameters
    ----------
    state : AggregationState
        The rule's state before the round.
    contributions : tuple of Contribution
        The updates that made its aggregate.
    """

    state: AggregationState
    contributions: tuple[Contribution, ...]


def recompute(
    evidence: RoundEvidence,
    rule: AggregationRule,
    chain: PublicChain,
    context: TaskContext,
    terms: RewardTerms,
    kept: Lineage | None = None,
    without: Sequence[str] = (),
) -> RecomputedRound:
    """Make a round again from what the coordinator says it was made of.

    Parameters
    ----------
    evidence : RoundEvidence
        Not believed: manifests, scores, state and updates are held against the chain.
    rule : AggregationRule
        The run's.
    chain : PublicChain
        A connection that can read.
    context : TaskContext
        The task, and what signatures must be bound to.
    terms : RewardTerms
        What the parties agreed to pay.
    kept : Lineage, optional
        Rounds of earlier tasks that the run goes on from.
    without : sequence of str, optional
        Organizations whose own terms are taken out of these.

    Raises
    ------
    EvidenceError
        One line that says what is not as it should be.
    ChainError
        If the chain does not answer.
    """
    outcome = evidence.outcome
    on_chain = chain.round(context.task, outcome.round)
    _require(on_chain.phase.has_result, f"round {outcome.round} is {on_chain.phase.name.lower()}")
    _check_sealed(outcome, on_chain, context.task)
    _require(outcome.parent_round == on_chain.parent_round, "the parent is another round's")
    _require(outcome.parent == on_chain.parent_adapter, "the parent is another adapter")
    lineage = kept or Lineage()
    if outcome.parent_round == 0 and without:
        state = state_without(evidence, rule, chain, lineage, without)
    else:
        state = _state_before(evidence, rule, chain, context, lineage)
    for check in check_signatures(outcome, on_chain, context, chain):
        _require(check.holds, f"{check.name}: {check.detail}")
    contributions = tuple(_contributions(evidence))
    _check_aggregate(evidence, rule, state, contributions)
    problem = reward_problem(
        outcome, evidence.parent, evidence.parent_scores, chain, context, terms
    )
    _require(not problem, f"rewards: {problem}")
    return RecomputedRound(state, contributions)


def reward_problem(
    outcome: RoundOutcome,
    parent: RoundOutcome,
    parent_scores: ScoreTable | None,
    chain: PublicChain,
    context: TaskContext,
    terms: RewardTerms,
) -> str:
    """Say what is wrong with the rewards that a round sealed; empty where nothing is.

    They must be those of the round it builds on and, where that was attested before this one was
    sealed, what its scores have earned: no more, no less, and nothing that nobody attested.

    Parameters
    ----------
    outcome, parent : RoundOutcome
        The round, and the one it builds on.
    parent_scores : ScoreTable or None
        The scores of the latter.
    chain : PublicChain
        A connection that can read.
    context : TaskContext
        The task.
    terms : RewardTerms
        What the parties agreed to pay.
    """
    expected = parent.rewards
    if outcome.parent_round:
        attested = chain.attested_block(context.task, outcome.parent_round)
        closed = chain.round(context.task, outcome.round).closed_block
        if attested is not None and attested < closed:
            stands = chain.round(context.task, outcome.parent_round).scores
            if parent_scores is None or parent_scores.hash() != stands:
                return f"the scores attested for round {outcome.parent_round} are missing"
            expected = expected.after(parent_scores, terms)
    if outcome.rewards == expected:
        return ""
    return f"sealed {_shown(outcome.rewards)}, expected {_shown(expected)} by the attested scores"


def _check_sealed(outcome: RoundOutcome, on_chain: RoundRecord, task: bytes) -> None:
    """Hold a manifest against the seal of its round."""
    seal, number = outcome.seal(task), outcome.round
    _require(
        seal.record == on_chain.record, f"the manifest of round {number} is not the sealed one"
    )
    _require(seal.adapter_hash == on_chain.adapter_hash, f"round {number} sealed another adapter")
    _require(
        (seal.updates_root, seal.leaf_count) == (on_chain.updates_root, on_chain.leaf_count),
        f"the leaves of round {number} are not under the sealed root",
    )


def _state_before(
    evidence: RoundEvidence,
    rule: AggregationRule,
    chain: PublicChain,
    context: TaskContext,
    kept: Lineage,
) -> AggregationState:
    outcome, parent = evidence.outcome, evidence.parent
    if outcome.parent_round == 0:
        _require(not parent.rewards.amounts, "there are rewards before the first round")
        if kept.after:
            return _state_kept(evidence, rule, chain, kept)
        # The seed says what round 0 was, whoever sent what of it.
        return rule.initial_state()
    _require(parent.round == outcome.parent_round, "the parent's manifest is another round's")
    _check_sealed(parent, chain.round(context.task, parent.round), context.task)
    _require(parent.adapter == outcome.parent, "the parent's manifest ends with another adapter")
    return _restored(evidence, rule, parent)


def _state_kept(
    evidence: RoundEvidence, rule: AggregationRule, chain: PublicChain, kept: Lineage
) -> AggregationState:
    """Return the state that an earlier task's round ended with, as its seal says."""
    task, number = kept.place_of(kept.after)
    _require(evidence.origin is not None, "the round that the run goes on from is missing")
    given, origin = evidence.origin or (b"", evidence.parent)
    _require(
        (given, origin.round) == (task, number),
        f"the run goes on from round {origin.round} of 0x{given.hex()[:16]}…, its terms say "
        f"{number} of 0x{task.hex()[:16]}…",
    )
    _check_sealed(origin, chain.round(task, number), task)
    state = _restored(evidence, rule, origin)
    if origin.adapter != evidence.outcome.parent:
        # Some of its adapters were left away: what is left makes the one that was started from.
        made = hash_arrays(arrays_from_adapter(rule.adapter(state)))
        _require(
            made == evidence.outcome.parent and hash_arrays(state.to_arrays()) != origin.state,
            "the round gone on from has another adapter",
        )
    return state


def state_without(
    evidence: RoundEvidence,
    rule: AggregationRule,
    chain: PublicChain,
    kept: Lineage,
    without: Sequence[str],
) -> AggregationState:
    """Return the state that the kept rounds make without some organizations' own terms."""
    _require(not evidence.parent.rewards.amounts, "there are rewards before the first round")
    _require(len(evidence.kept) == kept.after, f"{len(evidence.kept)} rounds of {kept.after} kept")
    rounds = []
    for number, one in enumerate(evidence.kept, start=1):
        place = (one.task, one.outcome.round)
        _require(place == kept.place_of(number), f"another round in the place of round {number}")
        _check_sealed(one.outcome, chain.round(*place), one.task)
        rounds.append((number, list(_contributions(one))))
    try:
        state = without_organization(rule, rounds, *without)
    except ValueError as error:
        raise EvidenceError(f"the kept rounds make no state: {error}") from error
    made = hash_arrays(arrays_from_adapter(rule.adapter(state)))
    _require(made == evidence.outcome.parent, "the kept rounds make another adapter")
    return state


def _restored(
    evidence: RoundEvidence, rule: AggregationRule, before: RoundOutcome
) -> AggregationState:
    _require(hash_arrays(evidence.state) == before.state, "the state before is another")
    try:
        return rule.restore(evidence.state)
    except ValueError as error:
        raise EvidenceError(f"the state before is none of the rule's: {error}") from error


def _contributions(evidence: RoundEvidence | KeptRound) -> Iterator[Contribution]:
    for entry in evidence.outcome.entries:
        if entry.verdict != Verdict.ACCEPTED:
            continue
        name = entry.organization
        _require(name in evidence.updates, f"the update of {name} is missing")
        opening, update = evidence.openings[name], evidence.updates[name]
        _require(
            opening.commitment(entry.num_examples) == entry.commitment,
            f"the opening of {name} is not that of the signed commitment",
        )
        _require(
            hash_arrays(update) == opening.update_hash,
            f"the update of {name} is not the signed one",
        )
        yield Contribution(name, entry.num_examples, update)


def _check_aggregate(
    evidence: RoundEvidence,
    rule: AggregationRule,
    state: AggregationState,
    contributions: tuple[Contribution, ...],
) -> None:
    outcome, after, weights = evidence.outcome, state, {}
    if contributions:
        try:
            aggregate = rule.aggregate(state, outcome.round, list(contributions))
        except ValueError as error:
            raise EvidenceError(f"no aggregate comes of the updates: {error}") from error
        after, weights = aggregate.state, dict(aggregate.weights)
    stated = {e.organization: e.weight for e in outcome.entries if e.verdict == Verdict.ACCEPTED}
    _require(stated == weights, f"the weights are {weights}, the manifest says {stated}")
    if evidence.after and rule.tolerance > 0.0:
        after = _within_tolerance(evidence, rule, after)
    _require(hash_arrays(after.to_arrays()) == outcome.state, "the state recomputed is another")
    adapter = hash_arrays(arrays_from_adapter(rule.adapter(after)))
    _require(adapter == outcome.adapter, "the adapter recomputed is another")


def _within_tolerance(
    evidence: RoundEvidence, rule: AggregationRule, recomputed: AggregationState
) -> AggregationState:
    """Return the state that the coordinator ended with, if ours is as near as the rule says."""
    try:
        theirs = rule.restore(evidence.after)
    except ValueError as error:
        raise EvidenceError(f"the state after is none of the rule's: {error}") from error
    distance = adapter_distance(rule.adapter(recomputed), rule.adapter(theirs))
    _require(
        distance <= rule.tolerance,
        f"recomputed within {distance:.3g}, the rule allows {rule.tolerance:.3g}",
    )
    return theirs


def _shown(rewards: RewardTable) -> str:
    return f"{rewards.total} wei up to round {rewards.round}"


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise EvidenceError(otherwise)
