"""Attestations: k attestors make each round again and score it; what it earned is sealed next."""

import json
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import ConfigRecord, Error, RecordDict

from blockchain.canonical import canonical_json
from blockchain.chain_records import Phase
from strategies import protocol
from strategies.audit import audit
from strategies.protocol import ProtocolError
from strategies.recomputation import EvidenceError
from strategies.rewards import RewardTable, RewardTerms, round_rewards
from strategies.round_evidence import RoundEvidence
from strategies.round_outcome import RoundOutcome
from strategies.scores import ScoreTable
from tests.signing_cases import NAMES
from tests.small_federation import (
    Federation,
    KilledError,
    LightChain,
    declining,
    honest_attestor,
    made_up_loss,
    scored,
    signed_scores,
    small_settings,
)

pytestmark = pytest.mark.usefixtures("flower_task")
pytest_plugins = ["tests.chain_fixtures"]

TWO = {"east": honest_attestor, "north": honest_attestor}
#: Not `flora`: its adapter grows with each update, and the made-up loss is a mean over its size.
RULES = ["ffa", "alternating", "fedit", "accumulators"]


def outcome_of(federation, number):
    return RoundOutcome.from_manifest(federation.archive.manifest(number))


@pytest.mark.parametrize("rule", RULES)
def test_each_round_is_attested_and_what_it_earned_sealed_with_the_next(tmp_path, rule):
    federation = Federation(
        tmp_path, LightChain(), small_settings(aggregation=rule), attestors=TWO
    ).run()
    terms, expected = RewardTerms.of(federation.settings), RewardTable.empty(federation.task)
    # The last round's rewards are sealed in a round of their own.
    assert federation.archive.last_prepared_round() == 3
    for number in (1, 2, 3):
        assert outcome_of(federation, number).rewards == expected
        seal = outcome_of(federation, number).seal(federation.task)
        assert seal.rewards_total == expected.total
        attestation = federation.archive.attestation(number)
        assert sorted(attestation.signatures) == ["east", "north"]
        record = federation.chain.round(federation.task, number)
        assert record.scores == attestation.scores.hash()
        assert record.record == seal.record
        expected = expected.after(attestation.scores, terms)
    scores = federation.archive.attestation(1).scores.scores
    assert sorted(scores) == sorted(NAMES)
    assert any(scores.values())
    earned = round_rewards(scores, pool=terms.pool, constant=terms.constant)
    assert dict(outcome_of(federation, 2).rewards.amounts) == earned
    assert [c for c in audit(federation.archive, federation.chain) if not c.holds] == []


def test_rounds_of_a_growing_adapter_are_made_again_too(tmp_path):
    settings = small_settings(aggregation="flora", ranks="east=1,west=3")
    federation = Federation(tmp_path, LightChain(), settings, attestors=TWO).run()
    assert all(any(federation.chain.round(federation.task, number).scores) for number in (1, 2))


def test_the_closing_round_changes_nothing_but_the_rewards(tmp_path):
    federation = Federation(tmp_path, LightChain(), attestors=TWO).run()
    last, closing = outcome_of(federation, 2), outcome_of(federation, 3)
    assert (closing.adapter, closing.state, closing.parent) == (
        last.adapter,
        last.state,
        last.adapter,
    )
    assert (closing.entries, closing.parent_round) == ((), 2)
    assert closing.rewards.total > last.rewards.total
    assert federation.chain.round(federation.task, 3).leaf_count == 0


def test_a_run_that_pays_nothing_has_no_closing_round(tmp_path):
    settings = small_settings(reward_per_round=0)
    federation = Federation(tmp_path, LightChain(), settings, attestors=TWO).run()
    assert federation.archive.last_prepared_round() == 2
    assert any(federation.chain.round(federation.task, 2).scores)


def test_a_closing_round_is_followed_by_no_other_where_the_last_one_earned_nothing(tmp_path):
    behaviours = dict.fromkeys(NAMES, declining)
    chain = LightChain()
    for _ in range(2):
        federation = Federation(tmp_path, chain, behaviours=behaviours, attestors=TWO).run()
        assert federation.archive.last_prepared_round() == 3


def test_another_attestor_leads_each_round(tmp_path):
    asked = []

    def noting(federation, name, content):
        asked.append(
            (content[protocol.HEADER]["round"], name, "proposed-scores" in content[protocol.HEADER])
        )
        return honest_attestor(federation, name, content)

    Federation(tmp_path, LightChain(), attestors={"east": noting, "north": noting}).run()
    assert asked[:4] == [
        (1, "north", False),
        (1, "east", True),
        (2, "east", False),
        (2, "north", True),
    ]


def failing(*_):
    return Error(0, "OrganizationError: EvidenceError: no")


def silent(*_):
    return None


def wordless(*_):
    return RecordDict()


def signed_by_another(federation, name, content):
    outcome, table = scored(federation, content)
    return signed_scores(federation, "west", outcome, table)


def unsigned(federation, name, content):
    answer = honest_attestor(federation, name, content)
    header = {**answer[protocol.HEADER], "signature": bytes(65)}
    return RecordDict({protocol.HEADER: protocol.header_record(header)})


def of_another_round(federation, name, content):
    outcome, table = scored(federation, content)
    return signed_scores(federation, name, outcome, replace(table, round=table.round + 1))


def of_other_scores(federation, name, content):
    outcome, table = scored(federation, content)
    doubled = replace(table, entries=tuple((n, 2 * s + 1) for n, s in table.entries))
    return signed_scores(federation, name, outcome, doubled)


BAD = [failing, silent, wordless, signed_by_another, unsigned, of_another_round]


@pytest.mark.parametrize("bad", BAD, ids=lambda f: f.__name__)
def test_with_one_attestor_too_few_a_round_is_unattested_and_pays_nothing(tmp_path, bad):
    federation = Federation(
        tmp_path, LightChain(), attestors={"east": honest_attestor, "north": bad}
    ).run()
    assert federation.archive.last_prepared_round() == 2
    for number in (1, 2):
        assert federation.chain.round(federation.task, number).scores == bytes(32)
        assert federation.archive.attestation(number) is None
        assert outcome_of(federation, number).rewards.total == 0
    events = federation.events_of("round-unattested")
    assert {(e["needed"], tuple(e["signed"])) for e in events} == {(2, ("east",))}
    assert {e["organization"] for e in federation.events_of("attestor-refused")} == {"north"}
    assert [c for c in audit(federation.archive, federation.chain) if not c.holds] == []


@pytest.mark.parametrize("bad", BAD, ids=lambda f: f.__name__)
def test_two_of_three_are_enough_whichever_of_them_fails(tmp_path, bad):
    for place in ("east", "north", "south"):
        attestors = dict.fromkeys(("east", "north", "south"), honest_attestor) | {place: bad}
        home = tmp_path / place
        federation = Federation(home, LightChain(), attestors=attestors).run()
        for number in (1, 2, 3):
            signed = federation.archive.attestation(number).signatures
            assert sorted(signed) == sorted(attestors.keys() - {place})


def test_a_round_that_was_missed_is_attested_before_the_run_ends_and_pays_nothing(tmp_path):
    asked = []

    def away_in_the_first_round(federation, name, content):
        asked.append(content[protocol.HEADER]["round"])
        if asked == [1]:
            return None
        return honest_attestor(federation, name, content)

    federation = Federation(
        tmp_path,
        LightChain(),
        attestors={"east": honest_attestor, "north": away_in_the_first_round},
    ).run()
    assert asked == [1, 2, 3, 1]
    assert all(any(federation.chain.round(federation.task, n).scores) for n in (1, 2, 3))
    # The second round was sealed before: what the first earned stays in the pool.
    assert outcome_of(federation, 2).rewards.total == 0
    terms, scores = RewardTerms.of(federation.settings), federation.archive.attestation(2).scores
    expected = RewardTable.empty(federation.task).after(scores, terms)
    assert dict(outcome_of(federation, 3).rewards.amounts) == dict(expected.amounts)
    assert [c for c in audit(federation.archive, federation.chain) if not c.holds] == []


def test_one_that_proposes_other_scores_than_the_rest_find_is_alone_with_them(tmp_path):
    # It leads rounds 1 and 2 of three attestors by turns: the others do not sign what it says.
    def wary(federation, name, content):
        outcome, table = scored(federation, content)
        header = content[protocol.HEADER]
        if "proposed-scores" in header:
            proposed = ScoreTable.from_json(json.loads(header["proposed-scores"]))
            if proposed != table:
                return Error(0, "OrganizationError: the scores proposed are not ours")
        return signed_scores(federation, name, outcome, table)

    attestors = {"east": wary, "north": of_other_scores, "south": wary}
    federation = Federation(tmp_path, LightChain(), attestors=attestors).run()
    assert federation.archive.attestation(1) is None
    assert federation.events_of("round-unattested")[0]["signed"] == ["north"]


def test_a_round_of_declines_is_attested_with_zeros_and_no_model_is_asked(tmp_path, monkeypatch):
    asked = []

    def loss(adapter):
        asked.append(adapter)
        return made_up_loss(adapter)

    monkeypatch.setattr("tests.small_federation.made_up_loss", loss)
    behaviours = dict.fromkeys(NAMES, declining)
    federation = Federation(tmp_path, LightChain(), behaviours=behaviours, attestors=TWO).run()
    for number in (1, 2):
        attestation = federation.archive.attestation(number)
        assert attestation.landed
        assert attestation.scores.scores == dict.fromkeys(NAMES, 0)
    assert asked == []
    # That the last round earned nothing is sealed too: whoever decided in it waits to know.
    told = outcome_of(federation, 3).rewards
    assert (told.round, told.total) == (2, 0)
    assert failed_checks(federation) == set()


def test_one_that_declines_earns_nothing_and_takes_nothing_from_the_others(tmp_path):
    some = {"south": lambda c, n, s: declining(c, n, s) if n == 1 else c}
    late = {"south": lambda c, n, s: None if n == 1 else c}
    declined, absent = (
        Federation(tmp_path / name, LightChain(), behaviours=behaviours, attestors=TWO).run()
        for name, behaviours in (("declined", some), ("late", late))
    )
    scores = declined.archive.attestation(1).scores.scores
    assert scores["south"] == 0
    assert scores == absent.archive.attestation(1).scores.scores
    assert outcome_of(declined, 3).rewards.amounts == outcome_of(absent, 3).rewards.amounts


def evidence_of(federation, number, **changes):
    exact = federation.rule.tolerance == 0.0
    evidence = RoundEvidence.of_archive(federation.archive, number, exact=exact)
    return replace(evidence, **changes)


def attested_by(federation, evidence):
    content = RecordDict(
        {
            protocol.HEADER: protocol.header_record({"round": evidence.outcome.round}),
            **evidence.to_records(federation.task),
        }
    )
    return honest_attestor(federation, "east", content)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(f"flwr.supercore.task_identity.TaskIdentity.{name}", 1)
        home = tmp_path_factory.mktemp("attested")
        return Federation(home, LightChain(), small_settings(rounds=3), attestors=TWO).run()


def flipped(arrays):
    changed = {name: array.copy() for name, array in arrays.items()}
    next(iter(changed.values())).view(np.uint8)[0, 0] ^= 1
    return changed


def corrupted_evidence(federation):
    """From a round's true evidence: what a coordinator might send instead, each with a name."""
    true = evidence_of(federation, 2)
    other = evidence_of(federation, 3)
    east, north = true.updates["east"], true.updates["north"]
    entry = true.outcome.entries[0]
    yield "another round's manifest", replace(true, outcome=other.outcome)
    yield "another round's parent", replace(true, parent=other.parent)
    yield "another round's state", replace(true, state=other.state)
    yield "a bit of the state", replace(true, state=flipped(true.state))
    yield "no state", replace(true, state={})
    yield "a bit of an update", replace(true, updates={**true.updates, "east": flipped(east)})
    exchanged = {**true.updates, "east": north, "north": east}
    yield "updates exchanged", replace(true, updates=exchanged)
    openings = {**true.openings, "east": true.openings["north"]}
    yield "another's opening", replace(true, openings=openings)
    salt = replace(true.openings["east"], salt=bytes(32))
    yield "another salt", replace(true, openings={**true.openings, "east": salt})
    without = {name: update for name, update in true.updates.items() if name != "east"}
    opened = {name: opening for name, opening in true.openings.items() if name != "east"}
    yield "an update left out", replace(true, updates=without, openings=opened)
    for name, changes in {
        "a rejection added": {"verdict": 8},
        "another weight": {"weight": 0.5},
        "another number of records": {"num_examples": 9},
        "another signature": {"signature": bytes(65)},
    }.items():
        entries = (replace(entry, **changes), *true.outcome.entries[1:])
        yield name, replace(true, outcome=replace(true.outcome, entries=entries))
    yield "another adapter", replace(true, outcome=replace(true.outcome, adapter=bytes(32)))
    rewards = RewardTable(federation.task, 1, {"south": 10**18})
    yield "other rewards", replace(true, outcome=replace(true.outcome, rewards=rewards))
    yield "no scores", replace(true, parent_scores=None)
    yield "another round's scores", replace(true, parent_scores=other.parent_scores)
    doubled = tuple((name, 2 * score) for name, score in true.parent_scores.entries)
    yield "other scores", replace(true, parent_scores=replace(true.parent_scores, entries=doubled))


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_rounds_evidence_survives_the_way_and_makes_the_round_again(federation, number):
    assert attested_by(federation, evidence_of(federation, number))


def test_no_corruption_of_a_rounds_evidence_is_signed(federation):
    cases = dict(corrupted_evidence(federation))
    assert len(cases) >= 18
    for name, evidence in cases.items():
        with pytest.raises((EvidenceError, ProtocolError)) as caught:
            attested_by(federation, evidence)
        assert len(str(caught.value).splitlines()) == 1, name


def malformed_messages(federation):
    true = evidence_of(federation, 2).to_records(federation.task)
    header = dict(true["evidence"])
    files = true["files"]
    yield {}
    yield {"evidence": true["evidence"]}
    yield {"files": files}
    for key, values in {
        "manifest": ["{}", b"{}", b"[]", b"\xff", b"[" * 10_000, header["manifest"] + b" "],
        "parent-manifest": [b"{}", None],
        "organizations": [["east"], "east", [1], header["organizations"][::-1] * 2],
        "update-hashes": [[], [bytes(31)] * 4, ["x"] * 4],
        "salts": [[], [bytes(33)] * 4],
        "parent-scores": [b"{}", b"1", "x"],
    }.items():
        for value in values:
            changed = {k: v for k, v in {**header, key: value}.items() if v is not None}
            yield {"evidence": ConfigRecord(changed), "files": files}
    contents = protocol.read_files(files)
    for name in contents:
        without = {k: v for k, v in contents.items() if k != name}
        if name != "state":
            yield {"evidence": true["evidence"], "files": protocol.file_record(without)}
        noise = {**contents, name: b"noise"}
        yield {"evidence": true["evidence"], "files": protocol.file_record(noise)}
    arrays = protocol.array_record({"state": np.zeros((2, 2), np.float32)})
    yield {"evidence": true["evidence"], "files": arrays}


def test_a_malformed_message_to_an_attestor_is_refused_in_one_line(federation):
    messages = list(malformed_messages(federation))
    assert len(messages) > 25
    for records in messages:
        with pytest.raises(ProtocolError) as caught:
            RoundEvidence.from_records(RecordDict(records))
        assert len(str(caught.value).splitlines()) == 1


STAGES = ("asked", "stored", "landed")


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_killed_around_an_attestation_resumes_to_the_same_bits(tmp_path, stage):
    settings = small_settings(rounds=3)
    whole = Federation(tmp_path / "whole", LightChain(), settings, attestors=TWO).run()
    chain = LightChain()
    killed = Federation(tmp_path / "killed", chain, settings, attestors=TWO)
    if stage == "asked":
        real_store = killed.archive.write_attestation

        def store(number, *arguments):
            if number == 2:
                raise KilledError
            real_store(number, *arguments)

        killed.archive.write_attestation = store
    else:
        real = killed.notary.attest

        def attest(outcome, *arguments):
            if outcome.round != 2:
                return real(outcome, *arguments)
            if stage == "landed":
                real(outcome, *arguments)
            raise KilledError

        killed.notary.attest = attest
    with pytest.raises(KilledError):
        killed.run()
    resumed = Federation(tmp_path / "killed", chain, settings, attestors=TWO).run()
    assert resumed.files() == whole.files()
    assert resumed.archive.last_prepared_round() == 4
    for number in range(1, 5):
        ours, theirs = (f.archive.attestation(number) for f in (resumed, whole))
        assert (ours.scores, ours.signatures) == (theirs.scores, theirs.signatures)
        assert ours.landed


def test_a_finished_run_with_a_closing_round_resumes_to_nothing_left_to_do(tmp_path):
    chain = LightChain()
    before = Federation(tmp_path, chain, attestors=TWO).run().files()
    again = Federation(tmp_path, chain, attestors=TWO).run()
    assert again.grid.sent == []
    assert again.files() == before


def failed_checks(federation):
    """Round and name of every check that fails."""
    checks = audit(federation.archive, federation.chain)
    return {(check.round, check.name) for check in checks if not check.holds}


def altered(federation, number, change):
    """What the audit says of a run whose attestation file was changed."""
    path = federation.archive.round_folder(number) / "attestation.json"
    original = path.read_text()
    document = json.loads(original)
    change(document)
    path.write_text(json.dumps(document))
    try:
        return {
            (c.round, c.name) for c in audit(federation.archive, federation.chain) if not c.holds
        }
    finally:
        path.write_text(original)


def test_an_altered_attestation_fails_the_audit_by_name(federation):
    def swap(document):
        names = document["signatures"]
        names["east"], names["north"] = names["north"], names["east"]

    assert altered(federation, 2, swap) == {
        (2, "attestation by east"),
        (2, "attestation by north"),
    }

    def raise_score(document):
        document["scores"]["scores"][0][1] += 1

    # The rewards sealed with round 3 no longer follow from it, either.
    failed = altered(federation, 2, raise_score)
    assert {(2, "attestation"), (3, "rewards")} <= failed
    path = federation.archive.round_folder(2) / "attestation.json"
    content = path.read_bytes()
    path.unlink()
    failed = failed_checks(federation)
    path.write_bytes(content)
    assert {(2, "attestation"), (3, "rewards")} <= failed


def test_scores_are_hashed_in_one_form_only(federation):
    table = federation.archive.attestation(1).scores
    assert ScoreTable.from_json(json.loads(canonical_json(table.to_json()))) == table


@pytest.mark.real
def test_on_a_real_chain_rounds_are_attested_and_their_rewards_sealed(tmp_path, chain):
    settings = small_settings(max_tokens=77)
    federation = Federation(tmp_path, chain, settings, attestors=TWO)
    federation.run()
    records = chain.rounds(federation.task)
    assert [record.phase for record in records] == [Phase.SEALED] * 3
    assert all(any(record.scores) for record in records)
    assert [c for c in audit(federation.archive, chain) if not c.holds] == []
    gas = federation.archive.attestation(1).landed["gas_used"]
    assert gas < 100_000
