"""Verifies a run from chain and disk alone: every hash, every round, the aggregate recomputed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from blockchain import merkle
from blockchain.canonical import hash_arrays, hash_json
from blockchain.chain_records import Phase, RoundRecord, TaskRecord
from blockchain.errors import ChainError
from blockchain.public_chain import PublicChain
from llm.factors import Arrays, LinearShape, adapter_from_arrays, arrays_from_adapter
from strategies.aggregation import (
    AggregationRule,
    Contribution,
    adapter_distance,
)
from strategies.audit_anchors import check_anchors
from strategies.audit_attestation import check_attestation
from strategies.audit_blocks import check_blocks, check_witnessed
from strategies.audit_check import Check, equal
from strategies.audit_ledgers import check_ledgers
from strategies.audit_purged import check_purged
from strategies.audit_receipts import check_receipts
from strategies.audit_signatures import check_signatures
from strategies.origin import OriginRounds, opened_update
from strategies.public_validation import VALIDATION_TERM
from strategies.purging import Purge, purges_of
from strategies.recomputation import reward_problem
from strategies.replies import Verdict
from strategies.rewards import RewardTable, RewardTerms
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import ArchiveError, RunArchive, file_digests
from strategies.run_parts import aggregation_rule
from strategies.settings import RunSettings, SettingsError
from strategies.signed_update import TaskContext
from strategies.terms import differing_terms, terms_hash, terms_of


def audit(
    archive: RunArchive, chain: PublicChain, *, only_round: int | None = None
) -> Iterator[Check]:
    """Check a run, yielding each result as it is known.

    Parameters
    ----------
    archive : RunArchive
        The run on disk.
    chain : PublicChain
        A connection that can read.
    only_round : int, optional
        Check this round alone, beside the run's terms.
    """
    run = archive.read_run()
    if "task" not in run:
        yield Check(0, "task", False, f"run {archive.name} never opened a task on the chain")
        return
    try:
        task = bytes.fromhex(run["task"])
        on_chain = chain.task(task)
        opened = chain.rounds(task)
        sealed = [record for record in opened if record.phase.has_result]
        void = {record.round for record in opened if record.phase is Phase.VOID}
        settings = RunSettings.from_run_config(archive.read_settings())
        yield equal(0, "terms", terms_hash(run["terms"]), on_chain.terms)
        yield _check_settings(archive, settings, run["terms"])
    except (ChainError, ArchiveError, SettingsError, KeyError, TypeError, ValueError) as error:
        yield Check(0, "task", False, f"{archive.folder / 'run.json'}: {error}")
        return
    context = TaskContext(task, on_chain.terms, chain.domain)
    last = archive.last_prepared_round() or 0
    yield Check(
        0,
        "rounds",
        {record.round for record in sealed} == set(range(1, last + 1)) - void,
        f"sealed on chain: {[record.round for record in sealed]}, on disk: 1 to {last}",
    )
    rounds = [record for record in sealed if only_round in (None, record.round)]
    if only_round is not None and not rounds:
        yield Check(only_round, "sealed", False, f"round {only_round} is not sealed on chain")
    try:
        purges = purges_of(archive)
    except ArchiveError as error:
        # Nothing then excuses what is missing.
        purges = ()
        yield Check(0, "purges", False, str(error))
    if only_round is None:
        yield from _guarded(0, partial(_check_genesis, archive, settings, on_chain, chain, purges))
        yield from check_witnessed(archive, chain)
        yield from check_anchors(settings.organization_names, chain, on_chain.opened_block)
        yield from check_ledgers(settings.organization_names, archive.home, chain)
    for record in rounds:
        yield from _guarded(
            record.round, partial(_check_round, archive, settings, record, context, chain, purges)
        )


def _check_settings(archive: RunArchive, settings: RunSettings, terms: Mapping[str, Any]) -> Check:
    """Hold the settings by which the audit recomputes against the terms hashed on chain."""
    # What the base model and the validation set hash to is not among the settings.
    hashed = {key: terms[key] for key in (VALIDATION_TERM,) if key in terms}
    stated = {
        **terms_of(settings, run=archive.name, model_fingerprint=terms["model-fingerprint"]),
        **hashed,
    }
    differences = differing_terms(terms, stated)
    return Check(0, "settings", not differences, "; ".join(differences[:3]))


def _check_genesis(
    archive: RunArchive,
    settings: RunSettings,
    on_chain: TaskRecord,
    chain: PublicChain,
    purges: Sequence[Purge],
) -> Iterator[Check]:
    # Without the adapter, or the terms, of one that leaves the run starts from another one.
    if settings.kept_rounds.after and not settings.leavers:
        kept = chain.round(*settings.kept_rounds.place_of(settings.kept_rounds.after))
        yield equal(
            0,
            "adapter of the round gone on from, on chain",
            kept.adapter_hash,
            on_chain.genesis_adapter,
        )
    purged = [purge for purge in purges if purge.covers(0)]
    if purged:
        outcome = RoundOutcome.from_manifest(archive.manifest(0))
        yield equal(0, "adapter on chain", outcome.adapter, on_chain.genesis_adapter)
        yield check_purged(archive, settings, outcome, purged, on_chain.task, chain)
        return
    adapter = archive.adapter_arrays(0)
    rule = _rule(settings, adapter)
    origin = OriginRounds.of(settings, archive.home)
    # Where that was deleted since, what the run kept of it is held against the chain alone.
    state = rule.restore(archive.state(0)) if origin.is_purged() else origin.state(rule)
    recomputed = arrays_from_adapter(rule.adapter(state))
    genesis = on_chain.genesis_adapter
    yield equal(0, "adapter on chain", hash_arrays(adapter), genesis)
    yield equal(0, f"adapter recomputed from {_start(settings)}", hash_arrays(recomputed), genesis)
    manifest = archive.manifest(0)
    outcome = RoundOutcome.from_manifest(manifest)
    # No seal commits to round 0: but for the files' digests, its start says what it must be.
    expected = RoundOutcome.unchanged(
        round_number=0,
        parent_round=0,
        rule=rule.name,
        state=state,
        adapter=recomputed,
        rewards=RewardTable.empty(on_chain.task),
    )
    expected_hash = replace(expected, files=outcome.files).manifest_hash(on_chain.task)
    yield equal(0, "manifest", hash_json(manifest), expected_hash)
    yield _check_files(archive, outcome)


def _start(settings: RunSettings) -> str:
    after = settings.kept_rounds.after
    return f"round {after}, which is kept" if after else "the seed"


def _check_round(
    archive: RunArchive,
    settings: RunSettings,
    on_chain: RoundRecord,
    context: TaskContext,
    chain: PublicChain,
    purges: Sequence[Purge],
) -> Iterator[Check]:
    number = on_chain.round
    purged = [purge for purge in purges if purge.covers(number)]
    manifest = archive.manifest(number)
    outcome = RoundOutcome.from_manifest(manifest)
    # The hash of what lies there, not of how it was read: that would forgive another spelling.
    seal = replace(outcome.seal(context.task), manifest_hash=hash_json(manifest))
    yield equal(number, "manifest", seal.record, on_chain.record)
    if purged:
        yield check_purged(archive, settings, outcome, purged, context.task, chain)
    else:
        yield from _check_stored(archive, outcome)
    yield equal(number, "adapter on chain", outcome.adapter, on_chain.adapter_hash)
    yield equal(number, "parent on chain", outcome.parent, on_chain.parent_adapter)
    yield Check(
        number,
        "parent round",
        outcome.parent_round == on_chain.parent_round,
        f"the manifest builds on round {outcome.parent_round}, the chain on "
        f"{on_chain.parent_round}",
    )
    if not any(purge.covers(on_chain.parent_round) for purge in purges):
        before = archive.adapter_arrays(on_chain.parent_round)
        yield equal(number, "parent", hash_arrays(before), outcome.parent)
    leaves = outcome.leaves()
    yield equal(number, "updates' root", merkle.root(leaves), on_chain.updates_root)
    yield from check_blocks(archive, number, chain)
    yield from check_signatures(outcome, on_chain, context, chain)
    yield from check_receipts(archive, outcome, context, chain)
    yield from check_attestation(archive, outcome, on_chain, context, chain)
    yield _check_rewards(archive, settings, outcome, context, chain)
    # What a round was made from may be deleted where it itself stands.
    if not purged and not any(purge.covers(outcome.parent_round) for purge in purges):
        yield from _check_recomputed(archive, settings, outcome)


def _check_stored(archive: RunArchive, outcome: RoundOutcome) -> Iterator[Check]:
    number = outcome.round
    yield _check_files(archive, outcome)
    yield equal(number, "adapter", hash_arrays(archive.adapter_arrays(number)), outcome.adapter)
    yield equal(number, "state", hash_arrays(archive.state(number)), outcome.state)


def _check_rewards(
    archive: RunArchive,
    settings: RunSettings,
    outcome: RoundOutcome,
    context: TaskContext,
    chain: PublicChain,
) -> Check:
    parent = RoundOutcome.from_manifest(archive.manifest(outcome.parent_round))
    attested = archive.attestation(outcome.parent_round)
    scores = None if attested is None else attested.scores
    terms = RewardTerms.of(settings)
    problem = reward_problem(outcome, parent, scores, chain, context, terms)
    return Check(outcome.round, "rewards", not problem, problem)


def _check_recomputed(
    archive: RunArchive, settings: RunSettings, outcome: RoundOutcome
) -> Iterator[Check]:
    """Open every update that was accepted, and make the aggregate again from them."""
    number = outcome.round
    openings = archive.openings(number)
    contributions = []
    for entry in outcome.entries:
        if entry.verdict != Verdict.ACCEPTED:
            continue
        try:
            update = opened_update(archive, entry, openings.get(entry.organization))
        except ArchiveError as error:
            yield Check(number, f"update of {entry.organization}", False, str(error))
            continue
        yield Check(number, f"update of {entry.organization}", True)
        contributions.append(Contribution(entry.organization, entry.num_examples, update))
    yield from _check_aggregate(archive, settings, outcome, contributions)


def _check_aggregate(
    archive: RunArchive,
    settings: RunSettings,
    outcome: RoundOutcome,
    contributions: list[Contribution],
) -> Iterator[Check]:
    number = outcome.round
    accepted = sum(entry.verdict == Verdict.ACCEPTED for entry in outcome.entries)
    if len(contributions) < accepted:
        yield Check(number, "aggregate", False, "cannot be recomputed: an update is missing")
        return
    rule = _rule(settings, archive.adapter_arrays(number))
    before = rule.restore(archive.state(outcome.parent_round))
    if not contributions:
        unchanged = hash_arrays(before.to_arrays())
        yield equal(number, "aggregate", unchanged, outcome.state)
        return
    aggregate = rule.aggregate(before, number, contributions)
    stated = {e.organization: e.weight for e in outcome.entries if e.verdict == Verdict.ACCEPTED}
    yield Check(
        number,
        "weights",
        stated == aggregate.weights,
        f"the manifest says {stated}, recomputed {aggregate.weights}",
    )
    after = aggregate.state
    if rule.tolerance == 0.0:
        yield equal(number, "aggregate", hash_arrays(after.to_arrays()), outcome.state)
        return
    distance = adapter_distance(
        rule.adapter(after), adapter_from_arrays(archive.adapter_arrays(number))
    )
    yield Check(
        number,
        "aggregate",
        distance <= rule.tolerance,
        f"recomputed within {distance:.3g}, the rule allows {rule.tolerance:.3g}",
    )


def _check_files(archive: RunArchive, outcome: RoundOutcome) -> Check:
    folder = archive.round_folder(outcome.round)
    found = file_digests(folder)
    altered = [name for name, digest in outcome.files.items() if found.get(name) != digest]
    # Whoever loads the adapter loads its whole folder: what was put there later counts as well.
    added = [name for name in found if name.startswith("adapter/") and name not in outcome.files]
    return Check(
        outcome.round,
        "stored files",
        not altered and not added,
        "altered, missing or added: " + ", ".join(str(folder / name) for name in altered + added),
    )


def _rule(settings: RunSettings, adapter: Arrays) -> AggregationRule:
    """Build the run's rule; the layers' shapes are read off an adapter of it."""
    shapes: Mapping[str, LinearShape] = {
        module: factors.shape for module, factors in adapter_from_arrays(adapter).items()
    }
    return aggregation_rule(settings, shapes)


def _guarded(round_number: int, checks: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Turn what is unreadable on disk into a check that fails, naming the file."""
    try:
        yield from checks()
    except (ArchiveError, ValueError, TypeError, OverflowError) as error:
        yield Check(round_number, "readable", False, str(error))
