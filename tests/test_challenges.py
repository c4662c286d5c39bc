"""Challenges: a coordinator that drops, alters, swaps or silently rejects an update is caught."""

import itertools
import json
from dataclasses import replace

import pytest

from blockchain.canonical import hash_arrays
from blockchain.chain_records import Phase
from blockchain.disputes import ChallengeState
from blockchain.merkle import Leaf
from blockchain.model_update import receipt_digest
from blockchain.typed_data import sign_digest
from client_app.own_record import OwnRecord
from strategies.assurance import assurances
from strategies.audit import audit
from strategies.challenges import (
    ChallengeError,
    answer_challenges,
    list_challenges,
    open_challenge,
    settle_challenges,
    withdraw_credits,
)
from strategies.protocol import RoundReceipt
from strategies.replies import Verdict
from strategies.round_outcome import RoundOutcome
from strategies.signed_update import sign_decline
from tests.chain_samples import DISPUTES
from tests.foedus_command import foedus
from tests.signing_cases import DEADLINE, NAMES, account_of, signed_update
from tests.small_federation import (
    Federation,
    declining,
    examples_of,
    honest_update,
    small_settings,
)

__all__ = ["foedus"]

pytestmark = [pytest.mark.usefixtures("flower_task"), pytest.mark.real]
pytest_plugins = ["tests.travelling_chain"]

_tasks = itertools.count(100)
WINDOW = DISPUTES.challenge_window
WHOLE = DISPUTES.challenge_window + DISPUTES.response_window


@pytest.fixture
def federation(tmp_path, travelling):
    """A run of two rounds that was not carried out yet, on a task of its own."""

    def make(**behaviours):
        settings = small_settings(
            max_tokens=next(_tasks),
            chain_url=str(travelling.settings.rpc_url),
            home=str(tmp_path),
        )
        return Federation(tmp_path, travelling.chain, settings, behaviours)

    return make


def signed_by(run, name, number):
    """What an organization honestly signs in a round, and the arrays behind it."""
    arrays = honest_update(run.rule, number, name, run.settings.rank_of(name))
    parent = run.chain.round(run.task, number).parent_adapter
    signed = signed_update(
        run.context,
        name,
        number,
        parent,
        update_hash=hash_arrays(arrays),
        num_examples=examples_of(name),
    )
    return signed, arrays


def acknowledged(run, update):
    """The coordinator's receipt for an update, with a proof that leads nowhere."""
    digest = update.digest(run.context.domain)
    word = sign_digest(receipt_digest(digest, run.context.domain), account_of("coordinator"))
    return RoundReceipt(update.round, 3, 0, digest, (bytes(32),), "00" * 32, word)


def keep(run, name, number, receipt=None):
    """The organization's own record of its reply, and of its receipt."""
    signed, arrays = signed_by(run, name, number)
    record = OwnRecord(run.archive.home / "organizations" / name, run.task)
    record.replied(signed, signed.update.digest(run.context.domain), arrays, {})
    if receipt is not None:
        record.received(receipt, included=False)
    return signed.update


def tampering(run, number, change):
    """Let the coordinator change the entries of a round before it seals them."""
    real = run.strategy._entries

    def entries(*arguments):
        found = list(real(*arguments))
        return change(found) if run.strategy._progress.round + 1 == number else found

    run.strategy._entries = entries
    return run.run()


def failing(run):
    return {check.name for check in audit(run.archive, run.chain) if not check.holds}


def levels(run):
    checks = list(audit(run.archive, run.chain))
    rounds, task = run.chain.rounds(run.task), run.chain.task(run.task)
    return {a.round: a.level for a in assurances(checks, task, rounds, run.chain.now())}


def upheld(run, travelling, update, number):
    """Let nothing answer a challenge, and settle it."""
    unanswered = answer_challenges(run.chain, run.archive, run.task).unanswered
    assert [filed.digest for filed, _ in unanswered] == [update.digest(run.context.domain)]
    travelling.travel(WHOLE + 1)
    settled = settle_challenges(travelling.sent_by("north"), run.task)
    assert settled.disputed == [number]
    assert run.chain.round(run.task, number).phase is Phase.DISPUTED
    (listed,) = list_challenges(run.chain, run.task)
    return listed.filed.challenge.state is ChallengeState.UPHELD


def test_an_update_that_was_acknowledged_and_dropped_is_missed_by_verify_and_upheld(
    federation, travelling
):
    run = federation(west=lambda *_: None).run()
    update = keep(run, "west", 2, acknowledged(run, signed_by(run, "west", 2)[0].update))
    assert failing(run) == {"receipt of west"}
    assert levels(run)[2] == "sealed"
    open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))
    assert upheld(run, travelling, update, 2)
    assert levels(run)[2] == "disputed"
    # The challenger has its bond back, and the next round builds on the last final one.
    paid = withdraw_credits([("west", travelling.sent_by("west"))])
    assert paid == {"west": DISPUTES.bond}
    assert run.chain.task(run.task).head_round == 0


def test_an_altered_update_fails_by_name_and_what_was_signed_is_upheld(federation, travelling):
    def altered(entries):
        *others, west = entries
        assert west.organization == "west"
        return [*others, replace(west, num_examples=9, digest=bytes([9]) * 32)]

    run = tampering(federation(), 2, altered)
    update = signed_by(run, "west", 2)[0].update
    assert "signature of west" in failing(run)
    assert levels(run)[2] == "sealed"
    open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))
    assert upheld(run, travelling, update, 2)


def test_an_update_swapped_for_an_earlier_one_fails_by_name_and_is_upheld(federation, travelling):
    first = {}

    def remembered_and_swapped(entries):
        if not first:
            first.update({entry.organization: entry for entry in entries})
            return entries
        return [first["west"] if e.organization == "west" else e for e in entries]

    run = federation()
    real = run.strategy._entries
    run.strategy._entries = lambda *arguments: remembered_and_swapped(list(real(*arguments)))
    run.run()
    update = signed_by(run, "west", 2)[0].update
    assert "signature of west" in failing(run)
    open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))
    assert upheld(run, travelling, update, 2)


def test_an_update_rejected_in_silence_is_put_on_the_chain_and_upheld(federation, travelling):
    def submitted_and_silenced(content, number, sign):
        if number == 2:
            signed, _ = signed_by(run, "west", 2)
            travelling.sent_by("west").disputes.submit(signed.update, signed.signature)
        return content

    # The reply comes, and the coordinator says that it was late and knows of no submission.
    run = federation(west=submitted_and_silenced)
    tampering(run, 2, lambda entries: [e for e in entries if e.organization != "west"])
    assert "submission on chain" in failing(run)
    update = signed_by(run, "west", 2)[0].update
    open_challenge(travelling.sent_by("west"), update, None)
    (listed,) = list_challenges(run.chain, run.task)
    assert not listed.filed.challenge.by_receipt
    assert upheld(run, travelling, update, 2)


def test_declines_are_proved_under_their_seal_and_one_that_was_left_out_is_upheld(
    federation, travelling
):
    # All decline both rounds; the coordinator acknowledges west's second decline, and drops it.
    run = federation(**dict.fromkeys(NAMES, declining))
    tampering(run, 2, lambda entries: [e for e in entries if e.organization != "west"])
    rounds = {number: run.chain.round(run.task, number) for number in (1, 2)}
    assert [record.leaf_count for record in rounds.values()] == [4, 3]
    assert rounds[2].adapter_hash == run.chain.task(run.task).genesis_adapter
    for number in (1, 2):
        outcome = RoundOutcome.from_manifest(run.archive.manifest(number))
        receipts = run.notary.receipts(outcome, run.archive.seal(number))
        assert len(receipts) == rounds[number].leaf_count
        for receipt in receipts.values():
            assert receipt.verdict == Verdict.DECLINED
            leaf = Leaf(receipt.digest, receipt.index, receipt.verdict)
            assert run.chain.is_included(run.task, number, leaf, receipt.proof)
            for other in (Verdict.ACCEPTED, Verdict.MALFORMED):
                leaf = Leaf(receipt.digest, receipt.index, int(other))
                assert not run.chain.is_included(run.task, number, leaf, receipt.proof)
    update = sign_decline(
        run.context,
        account_of("west"),
        "west",
        2,
        rounds[2].parent_adapter,
        deadline=DEADLINE,
    ).update
    assert failing(run) == set()
    open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))
    assert upheld(run, travelling, update, 2)
    assert levels(run)[2] == "disputed"


def test_a_decline_that_is_included_is_answered_and_one_on_the_chain_is_not_missed(
    federation, travelling
):
    def submitted(content, number, sign):
        if number == 2:
            parent = run.chain.round(run.task, 2).parent_adapter
            signed = sign_decline(
                run.context, account_of("west"), "west", 2, parent, deadline=DEADLINE
            )
            travelling.sent_by("west").disputes.submit(signed.update, signed.signature)
            first.append(signed.update)
        return sign(None)

    first = []
    run = federation(west=submitted)
    run.run()
    assert failing(run) == set()
    assert run.manifest_entries(2)["west"]["verdict"] == Verdict.DECLINED
    open_challenge(travelling.sent_by("west"), first[0], None)
    assert len(answer_challenges(run.chain, run.archive, run.task).included) == 1
    assert withdraw_credits([("coordinator", run.chain)]) == {"coordinator": DISPUTES.bond}


def test_an_included_update_cannot_be_challenged_and_a_challenge_anyway_is_answered(
    federation, travelling
):
    run = federation().run()
    update = signed_by(run, "west", 2)[0].update
    outcome = RoundOutcome.from_manifest(run.archive.manifest(2))
    receipt = run.notary.receipts(outcome, run.archive.seal(2))["west"]
    with pytest.raises(ChallengeError, match="the update is included, as leaf 3 with verdict 0"):
        open_challenge(travelling.sent_by("west"), update, receipt)
    open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))
    with pytest.raises(ChallengeError, match="challenged already"):
        open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))
    answers = answer_challenges(run.chain, run.archive, run.task)
    assert (len(answers.included), answers.unavailable, answers.unanswered) == (1, [], [])
    # The bond is the coordinator's.
    paid = withdraw_credits([("coordinator", run.chain)])
    assert paid == {"coordinator": DISPUTES.bond}
    travelling.travel(WHOLE + 1)
    assert settle_challenges(run.chain, run.task).disputed == []


def test_without_receipt_or_submission_and_after_the_window_there_is_no_challenge(
    federation, travelling
):
    run = federation(west=lambda *_: None).run()
    update = signed_by(run, "west", 2)[0].update
    with pytest.raises(ChallengeError, match="neither the coordinator's receipt"):
        open_challenge(travelling.sent_by("west"), update, None)
    forged = replace(acknowledged(run, update), signature=bytes(65))
    with pytest.raises(ChallengeError, match="neither the coordinator's receipt"):
        open_challenge(travelling.sent_by("west"), update, forged)
    travelling.travel(WINDOW + 1)
    with pytest.raises(ChallengeError, match="can no longer be challenged"):
        open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))


def test_a_pause_during_a_challenge_does_not_block_it(federation, travelling):
    run = federation(west=lambda *_: None).run()
    update = signed_by(run, "west", 2)[0].update
    rounds = run.chain.contracts["Rounds"]
    rounds.send("pause")
    try:
        assert run.chain.paused()
        open_challenge(travelling.sent_by("west"), update, acknowledged(run, update))
        assert upheld(run, travelling, update, 2)
        assert withdraw_credits([("west", travelling.sent_by("west"))])
    finally:
        rounds.send("unpause")


def test_the_commands_open_list_answer_and_settle(federation, travelling, foedus):
    run = federation(west=lambda *_: None).run()
    home = travelling.home(run.archive.home, "west")
    at = ("--home", str(home), "--json")
    keep(run, "west", 1)
    status, _, said = foedus("challenge", "open", "--org", "west", "--round", "1", *at)
    assert status == 1
    assert "neither the coordinator's receipt" in said
    status, _, said = foedus("challenge", "open", "--org", "south", *at)
    assert (status, "there is no signing key of 'south'" in said) == (2, True)
    keep(run, "west", 2, acknowledged(run, signed_by(run, "west", 2)[0].update))
    status, out, _ = foedus("challenge", "open", "--org", "west", *at)
    assert (status, json.loads(out)["round"]) == (0, 2)
    status, out, _ = foedus("challenge", "list", *at)
    (entry,) = json.loads(out)["challenges"]
    assert (status, entry["organization"], entry["state"]) == (0, "west", "OPEN")
    status, out, _ = foedus("challenge", "answer", "--unavailable", *at)
    (entry,) = json.loads(out)["unanswered"]
    assert (status, entry["reason"]) == (1, "the update is not among the round's leaves")
    status, out, _ = foedus("challenge", "settle", *at)
    assert (status, list(json.loads(out)["waiting"])) == (0, ["2"])
    travelling.travel(WHOLE + 1)
    status, out, _ = foedus("challenge", "settle", *at)
    settled = json.loads(out)
    assert (status, settled["disputed"], settled["withdrawn"]) == (
        0,
        [2],
        {"west": str(DISPUTES.bond)},
    )
    for command in (("list",), ("settle",), ("answer",)):
        status, out, _ = foedus("challenge", *command, "--home", str(home))
        assert (status, bool(out)) == (0, True)
