"""The strategy: rounds equal the plain aggregation, bad organizations are left out, runs resume."""

import re
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Error, RecordDict

from blockchain.canonical import hash_arrays
from blockchain.chain_records import Phase
from blockchain.errors import ChainError, ChainWasResetError
from blockchain.merkle import Leaf, organization_id
from blockchain.model_update import receipt_digest
from blockchain.typed_data import check_signer
from llm.factors import A_SUFFIX, B_SUFFIX, arrays_from_adapter
from strategies import protocol
from strategies.aggregation import RULE_NAMES, Contribution
from strategies.protocol import RoundReceipt
from strategies.replies import Verdict
from strategies.round_terms import Participant
from strategies.run_archive import ArchiveError
from strategies.signed_update import sign_decline
from tests.signing_cases import DEADLINE, NAMES, account_of
from tests.small_federation import (
    Federation,
    KilledError,
    LightChain,
    declining,
    examples_of,
    honest_update,
    in_round_one,
    small_settings,
)

pytestmark = pytest.mark.usefixtures("flower_task")
pytest_plugins = ["tests.chain_fixtures"]


def aggregated_plainly(federation, rounds=2, without=()):
    """State and weights by the rule alone: no Flower, no chain, no disk."""
    rule, state, weights = federation.rule, federation.rule.initial_state(), {}
    for number in range(1, rounds + 1):
        contributions = [
            Contribution(
                name,
                examples_of(name),
                honest_update(rule, number, name, federation.settings.rank_of(name)),
            )
            for name in NAMES
            if (name, number) not in without
        ]
        aggregate = rule.aggregate(state, number, contributions)
        state, weights = aggregate.state, aggregate.weights
    return state, weights


def with_header(content, **changes):
    header = {**content[protocol.HEADER], **{k.replace("_", "-"): v for k, v in changes.items()}}
    return RecordDict({**content, protocol.HEADER: protocol.header_record(header)})


def changed_update(change):
    """An answer with a changed update, which its sender signed all the same."""

    def answer(content, sign):
        arrays = {name: array.numpy().copy() for name, array in content[protocol.UPDATE].items()}
        change(arrays)
        return sign(arrays)

    return answer


def poisoned(value):
    def change(arrays):
        next(iter(arrays.values()))[0, 0] = value

    return changed_update(change)


without_a_layer = changed_update(lambda arrays: arrays.pop(next(iter(arrays))))


def with_opening(content, **changes):
    opening = {**content[protocol.OPENING], **{k.replace("_", "-"): v for k, v in changes.items()}}
    return RecordDict({**content, protocol.OPENING: protocol.header_record(opening)})


def altered_on_the_way(content, _):
    arrays = {name: array.numpy().copy() for name, array in content[protocol.UPDATE].items()}
    next(iter(arrays.values()))[0, 0] += 1
    return RecordDict({**content, protocol.UPDATE: protocol.array_record(arrays)})


RULES_AND_STATISTICS = [
    *[{"aggregation": rule} for rule in RULE_NAMES],
    {"robust": "norm-clip", "clip_norm": 0.5},
    {"robust": "trimmed-mean"},
    {"robust": "geometric-median"},
    {"robust": "multi-krum", "byzantine": 0},
    {"ranks": "east=1,west=3"},
    {"aggregation": "flora", "ranks": "east=1,west=3"},
    {"weight_cap": 0.3},
]


@pytest.mark.parametrize("changes", RULES_AND_STATISTICS, ids=str)
def test_two_rounds_equal_the_plain_aggregation_of_the_same_updates(tmp_path, changes):
    federation = Federation(tmp_path, LightChain(), small_settings(**changes)).run()
    state, weights = aggregated_plainly(federation)
    assert hash_arrays(federation.archive.state(2)) == hash_arrays(state.to_arrays())
    adapter = arrays_from_adapter(federation.rule.adapter(state))
    assert hash_arrays(federation.archive.adapter_arrays(2)) == hash_arrays(adapter)
    assert federation.chain.round(federation.task, 2).adapter_hash == hash_arrays(adapter)
    assert any(array.any() for name, array in adapter.items() if name.endswith(B_SUFFIX))
    entries = federation.manifest_entries(2)
    assert {n: float.fromhex(e["weight"]) for n, e in entries.items()} == weights
    assert federation.strategy.last_round == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (lambda content, _: with_header(content, organization="north"), Verdict.WRONG_ORGANIZATION),
        (lambda content, _: with_header(content, round=2), Verdict.WRONG_ROUND),
        (lambda content, _: with_header(content, round="1"), Verdict.MALFORMED),
        (without_a_layer, Verdict.WRONG_NAMES),
        (poisoned(np.nan), Verdict.NOT_FINITE),
        (altered_on_the_way, Verdict.WRONG_HASH),
        (lambda content, _: with_opening(content, salt=bytes(32)), Verdict.WRONG_COMMITMENT),
    ],
    ids=lambda value: value.name if isinstance(value, Verdict) else "",
)
def test_a_rejected_organization_is_left_out_and_named_and_the_round_goes_on(
    tmp_path, answer, code
):
    federation = Federation(tmp_path, LightChain(), behaviours={"south": in_round_one(answer)})
    federation.run()
    state, _ = aggregated_plainly(federation, without={("south", 1)})
    assert hash_arrays(federation.archive.state(2)) == hash_arrays(state.to_arrays())
    (rejection,) = federation.events_of("update-rejected")
    assert (rejection["organization"], rejection["code"]) == ("south", code.name)
    entry = federation.manifest_entries(1)["south"]
    assert (entry["verdict"], float.fromhex(entry["weight"])) == (code, 0.0)
    assert federation.archive.record(1)["reasons"] == {"south": rejection["reason"]}
    assert federation.manifest_entries(2)["south"]["verdict"] == Verdict.ACCEPTED
    # A rejected reply has a leaf as well, and its sender a receipt that says why.
    assert federation.chain.round(federation.task, 1).leaf_count == 4


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda *_: None, "late"),
        (lambda *_: Error(0, "OrganizationError: no disk"), "failed"),
        (lambda *_: RecordDict(), "unsigned"),
        (lambda content, _: with_header(content, num_examples=63), "unsigned"),
        (lambda content, _: with_header(content, signature=bytes(65)), "unsigned"),
    ],
)
def test_an_absent_organization_is_named_with_the_reason_and_the_round_goes_on(
    tmp_path, answer, reason
):
    federation = Federation(tmp_path, LightChain(), behaviours={"south": in_round_one(answer)})
    federation.run()
    state, _ = aggregated_plainly(federation, without={("south", 1)})
    assert hash_arrays(federation.archive.state(2)) == hash_arrays(state.to_arrays())
    assert federation.archive.manifest(1)["absent"] == {"south": reason}
    (absence,) = federation.events_of("organization-absent")
    assert (absence["organization"], absence["reason"]) == ("south", reason)
    assert absence["error"]
    assert federation.chain.round(federation.task, 1).leaf_count == 3


def test_too_few_updates_leave_the_adapter_as_it_was_and_the_round_is_sealed(tmp_path):
    silent = in_round_one(lambda *_: None)
    federation = Federation(
        tmp_path,
        LightChain(),
        behaviours={"east": silent, "north": silent, "south": in_round_one(poisoned(np.inf))},
    ).run()
    record = federation.chain.round(federation.task, 1)
    assert record.phase is Phase.SEALED
    assert record.adapter_hash == record.parent_adapter
    assert federation.archive.adapter_folder(1).is_dir()
    entries = federation.manifest_entries(1)
    assert {name: entry["verdict"] for name, entry in entries.items()} == {
        "south": Verdict.NOT_FINITE,
        "west": Verdict.TOO_FEW,
    }
    (event,) = federation.events_of("round-unchanged")
    assert (event["round"], event["accepted"]) == (1, 1)
    state, _ = aggregated_plainly(federation, without={(name, 1) for name in NAMES[:3]})
    assert federation.archive.last_prepared_round() == 2
    assert hash_arrays(federation.archive.state(2)) != hash_arrays(state.to_arrays())


def test_nobody_answering_seals_an_empty_round(tmp_path):
    behaviours = {name: in_round_one(lambda *_: None) for name in NAMES}
    federation = Federation(tmp_path, LightChain(), behaviours=behaviours).run()
    record = federation.chain.round(federation.task, 1)
    assert (record.phase, record.leaf_count, record.updates_root) == (Phase.SEALED, 0, bytes(32))


def test_updates_that_are_finite_but_sum_beyond_float32_change_nothing_and_end_nothing(tmp_path):
    huge = changed_update(lambda arrays: [array.fill(3.4e38) for array in arrays.values()])
    settings = small_settings(organizations="south", min_organizations=1, rounds=3, norm_bound=0.0)
    federation = Federation(tmp_path, LightChain(), settings, {"south": lambda c, _, s: huge(c, s)})
    federation.strategy._participants = federation.strategy._participants[2:3]
    federation.run()
    assert federation.manifest_entries(1)["south"]["verdict"] == Verdict.ACCEPTED
    for number in (2, 3):
        assert federation.manifest_entries(number)["south"]["verdict"] == Verdict.NO_AGGREGATE
        record = federation.chain.round(federation.task, number)
        assert record.adapter_hash == record.parent_adapter


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_an_update_beyond_the_norm_bound_is_rejected_with_both_norms(tmp_path, rule):
    settings = small_settings(aggregation=rule, norm_bound=1000.0)
    federation = Federation(
        tmp_path, LightChain(), settings, {"south": in_round_one(poisoned(1e5))}
    ).run()
    (rejection,) = federation.events_of("update-rejected")
    assert rejection["code"] == "NORM_EXCEEDED"
    assert re.fullmatch(r"the update's norm is \S+, the terms allow 1000", rejection["reason"])
    assert {e["verdict"] for n, e in federation.manifest_entries(1).items() if n != "south"} == {0}


def test_with_a_frozen_a_neither_message_nor_reply_ever_carries_it(tmp_path):
    federation = Federation(tmp_path, LightChain()).run()
    travelled = [m.content[protocol.ADAPTER] for m in federation.grid.sent]
    travelled += [m.content[protocol.ADAPTER] for m in federation.strategy.closing_messages()]
    assert len(travelled) == 12
    assert not any(name.endswith(A_SUFFIX) for record in travelled for name in record)
    # Nothing has moved before the first round.
    assert [len(record) for record in travelled[:4]] == [0] * 4
    assert [len(record) for record in travelled[4:]] == [4] * 8


def test_an_update_that_stands_on_the_chain_alone_is_listed_as_unavailable(tmp_path):
    chain = LightChain()
    federation = Federation(tmp_path, chain, behaviours={"south": in_round_one(lambda *_: None)})
    south, stranger, digest = organization_id("south"), bytes([7]) * 32, bytes([8]) * 32
    chain.submitted[federation.task, 1] = {south: digest, stranger: bytes([9]) * 32}
    federation.run()
    entries = federation.manifest_entries(1)
    assert entries["south"]["digest"] == digest.hex()
    for name in ("south", f"0x{stranger.hex()}"):
        assert entries[name]["verdict"] == Verdict.PAYLOAD_UNAVAILABLE
        assert (entries[name]["signature"], float.fromhex(entries[name]["weight"])) == ("", 0.0)
    assert chain.round(federation.task, 1).leaf_count == 5
    # No receipt: nothing of theirs was received.
    assert receipts_of(federation.grid.sent[4:8])["south"] is None


def test_what_was_replied_and_put_on_the_chain_too_has_one_leaf(tmp_path):
    whole = Federation(tmp_path / "whole", LightChain()).run()
    chain = LightChain()
    federation = Federation(tmp_path / "submitted", chain)
    digest = bytes.fromhex(whole.manifest_entries(1)["south"]["digest"])
    chain.submitted[federation.task, 1] = {organization_id("south"): digest}
    assert federation.run().files() == whole.files()


def test_one_that_says_two_things_counts_with_neither(tmp_path):
    chain = LightChain()
    federation = Federation(tmp_path, chain)
    digest = bytes([8]) * 32
    chain.submitted[federation.task, 1] = {organization_id("south"): digest}
    federation.run()
    updates = federation.archive.manifest(1)["updates"]
    verdicts = {e["digest"]: e["verdict"] for e in updates if e["organization"] == "south"}
    assert verdicts.pop(digest.hex()) == Verdict.PAYLOAD_UNAVAILABLE
    assert list(verdicts.values()) == [Verdict.CONTRADICTED]
    state, _ = aggregated_plainly(federation, without={("south", 1)})
    assert hash_arrays(federation.archive.state(2)) == hash_arrays(state.to_arrays())
    (rejection,) = federation.events_of("update-rejected")
    assert (rejection["organization"], rejection["code"]) == ("south", "CONTRADICTED")


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_what_travels_and_what_the_seed_gives_are_the_whole_adapter(tmp_path, rule):
    federation = Federation(tmp_path, LightChain(), small_settings(aggregation=rule)).run()
    initial = arrays_from_adapter(federation.rule.adapter(federation.rule.initial_state()))
    for message in federation.strategy.closing_messages():
        sent = {n: a.numpy() for n, a in message.content[protocol.ADAPTER].items()}
        header = message.content[protocol.HEADER]
        assert hash_arrays({**initial, **sent}) == header["adapter-hash"]
        assert header["adapter-hash"] == hash_arrays(federation.archive.adapter_arrays(2))


def receipts_of(messages):
    return {
        message.content[protocol.HEADER]["organization"]: RoundReceipt.from_header(
            message.content[protocol.HEADER]
        )
        for message in messages
    }


def test_every_organization_gets_a_receipt_that_proves_its_reply_accepted_or_not(tmp_path):
    federation = Federation(
        tmp_path, LightChain(), behaviours={"south": in_round_one(poisoned(np.nan))}
    ).run()
    assert set(receipts_of(federation.grid.sent[:4]).values()) == {None}
    for number, messages in (
        (1, federation.grid.sent[4:8]),
        (2, federation.strategy.closing_messages()),
    ):
        for name, receipt in receipts_of(messages).items():
            entry = federation.manifest_entries(number)[name]
            assert receipt.round == number
            assert receipt.digest.hex() == entry["digest"]
            assert receipt.verdict == entry["verdict"]
            assert receipt.transaction == federation.archive.seal(number)["transaction"]
            leaf = Leaf(receipt.digest, receipt.index, receipt.verdict)
            assert federation.chain.is_included(federation.task, number, leaf, receipt.proof)
            word = receipt_digest(receipt.digest, federation.context.domain)
            check_signer(word, receipt.signature, account_of("coordinator").address)


def test_one_that_was_late_keeps_the_receipt_of_its_last_reply(tmp_path):
    federation = Federation(
        tmp_path, LightChain(), behaviours={"south": lambda c, n, _: None if n == 2 else c}
    ).run()
    receipts = receipts_of(federation.strategy.closing_messages())
    assert receipts["south"].round == 1
    assert receipts["east"].round == 2


def test_a_hostile_figure_cannot_pass_for_the_logs_own_words(tmp_path):
    def boasting(content, *_):
        content[protocol.METRICS]["organization"] = 1.0
        content[protocol.METRICS]["commitment"] = 2.0
        return content

    federation = Federation(tmp_path, LightChain(), behaviours={"south": boasting}).run()
    accepted = federation.events_of("update-accepted")
    assert [event["organization"] for event in accepted] == [*NAMES, *NAMES]
    assert all(re.fullmatch("[0-9a-f]{64}", event["commitment"]) for event in accepted)


@pytest.mark.parametrize("rule", ["ffa", "alternating", "flora", "accumulators"])
@pytest.mark.parametrize("stage", Federation.STAGES)
def test_a_run_killed_at_any_stage_resumes_to_the_same_bits(tmp_path, stage, rule):
    settings = small_settings(rounds=3, aggregation=rule)
    whole = Federation(tmp_path / "whole", LightChain(), settings).run()
    chain = LightChain()
    killed = Federation(tmp_path / "killed", chain, settings, killed_at=stage)
    with pytest.raises(KilledError):
        killed.run()
    resumed = Federation(tmp_path / "killed", chain, settings).run()
    assert resumed.files() == whole.files()
    assert chain.task(resumed.task).head_adapter == whole.chain.task(whole.task).head_adapter
    for number in (1, 2, 3):
        assert resumed.archive.is_sealed(number)
        assert (
            resumed.archive.seal(number)["updates_root"]
            == (whole.archive.seal(number)["updates_root"])
        )
    assert receipts_of(resumed.strategy.closing_messages()) == receipts_of(
        whole.strategy.closing_messages()
    )


def test_a_finished_run_resumes_to_nothing_left_to_do(tmp_path):
    chain = LightChain()
    before = Federation(tmp_path, chain).run().files()
    again = Federation(tmp_path, chain).run()
    assert again.grid.sent == []
    assert again.files() == before


def test_a_state_altered_between_kill_and_resume_is_not_gone_on_from(tmp_path):
    chain = LightChain()
    with pytest.raises(KilledError):
        Federation(tmp_path, chain, killed_at="prepared").run()
    again = Federation(tmp_path, chain)
    path = again.archive.round_folder(2) / "state.safetensors"
    altered = bytearray(path.read_bytes())
    altered[-1] ^= 1
    path.write_bytes(altered)
    with pytest.raises(ArchiveError, match="the state is not the one"):
        again.run()
    assert chain.round(again.task, 2).phase is Phase.OPEN


def test_a_chain_that_was_reset_is_said_and_the_run_does_not_go_on(tmp_path):
    with pytest.raises(KilledError):
        Federation(tmp_path, LightChain(), killed_at="round opened").run()
    with pytest.raises(ChainWasResetError, match="round 1 was sealed, but the chain"):
        Federation(tmp_path, LightChain()).run()


def test_a_chain_that_refuses_a_seal_ends_the_run_with_the_round_prepared(tmp_path):
    federation = Federation(tmp_path, LightChain())

    def refuse(*_):
        raise ChainError("seal was refused")

    federation.chain.seal = refuse
    with pytest.raises(ChainError, match="refused"):
        federation.run()
    assert federation.archive.is_prepared(1)
    assert not federation.archive.is_sealed(1)


def declining_in_round_one(content, number, sign):
    return declining(content, number, sign) if number == 1 else content


DECLINE_FIGURES = {"tokens": 0.0, "received-loss": 0.75}


def test_one_that_declines_is_not_aggregated_and_has_a_leaf_and_a_receipt_that_say_so(tmp_path):
    federation = Federation(
        tmp_path, LightChain(), behaviours={"south": declining_in_round_one}
    ).run()
    state, _ = aggregated_plainly(federation, without={("south", 1)})
    assert hash_arrays(federation.archive.state(2)) == hash_arrays(state.to_arrays())
    entry = federation.manifest_entries(1)["south"]
    assert (entry["verdict"], float.fromhex(entry["weight"])) == (Verdict.DECLINED, 0.0)
    assert federation.chain.round(federation.task, 1).leaf_count == 4
    receipt = receipts_of(federation.grid.sent[4:8])["south"]
    assert (receipt.verdict, receipt.digest.hex()) == (Verdict.DECLINED, entry["digest"])
    leaf = Leaf(receipt.digest, receipt.index, receipt.verdict)
    assert federation.chain.is_included(federation.task, 1, leaf, receipt.proof)
    # Nothing of it is stored that could be erased.
    assert set(federation.archive.openings(1)) == {"east", "north", "west"}
    assert federation.manifest_entries(2)["south"]["verdict"] == Verdict.ACCEPTED


def test_declined_absent_rejected_and_accepted_are_told_apart_everywhere(tmp_path):
    federation = Federation(
        tmp_path,
        LightChain(),
        behaviours={
            "east": declining_in_round_one,
            "north": in_round_one(lambda *_: None),
            "south": in_round_one(poisoned(np.nan)),
        },
    ).run()
    manifest, record = federation.archive.manifest(1), federation.archive.record(1)
    assert manifest["absent"] == record["absent"] == {"north": "late"}
    assert {e["organization"]: e["verdict"] for e in manifest["updates"]} == {
        "east": Verdict.DECLINED,
        "south": Verdict.NOT_FINITE,
        "west": Verdict.TOO_FEW,
    }
    assert record["declined"] == ["east"]
    assert set(record["reasons"]) == {"south", "west"}
    assert record["metrics"]["east"] == DECLINE_FIGURES
    assert federation.events_of("organization-declined") == [
        {"organization": "east", "metrics": DECLINE_FIGURES}
    ]
    assert [e["organization"] for e in federation.events_of("update-rejected")] == ["south"]
    assert [e["organization"] for e in federation.events_of("organization-absent")] == ["north"]
    assert federation.events_of("update-accepted")[0]["organization"] == "west"
    (event,) = federation.events_of("round-unchanged")
    assert (event["accepted"], event["declined"]) == (1, 1)
    assert event["reason"] == (
        "1 updates were accepted and 1 of 3 organizations that replied declined, the round needs "
        "2 to count"
    )
    assert record["reasons"]["west"] == event["reason"]
    assert federation.archive.record(2)["declined"] == []


@pytest.mark.parametrize(
    ("silent", "reason"),
    [
        ((), "all 4 organizations that replied declined"),
        (("east",), "all 3 organizations that replied declined"),
        (("east", "north", "south"), "the one organization that replied declined"),
        (NAMES, "no organization replied"),
    ],
)
def test_a_round_that_all_decline_moves_nothing_says_so_and_the_next_one_goes_on(
    tmp_path, silent, reason
):
    behaviours = dict.fromkeys(NAMES, declining_in_round_one)
    behaviours |= {name: in_round_one(lambda *_: None) for name in silent}
    federation = Federation(tmp_path, LightChain(), behaviours=behaviours).run()
    archive, record = federation.archive, federation.chain.round(federation.task, 1)
    assert record.phase is Phase.SEALED
    assert record.leaf_count == len(NAMES) - len(silent)
    assert record.adapter_hash == record.parent_adapter
    assert hash_arrays(archive.state(1)) == hash_arrays(archive.state(0))
    (event,) = federation.events_of("round-unchanged")
    assert (event["round"], event["accepted"]) == (1, 0)
    assert event["declined"] == len(NAMES) - len(silent)
    assert event["reason"] == reason
    verdicts = {entry["verdict"] for entry in federation.manifest_entries(1).values()}
    assert verdicts <= {Verdict.DECLINED}
    rule = federation.rule
    second = [
        Contribution(name, examples_of(name), honest_update(rule, 2, name, 4)) for name in NAMES
    ]
    state = rule.aggregate(rule.initial_state(), 2, second).state
    assert hash_arrays(archive.state(2)) == hash_arrays(state.to_arrays())


def test_a_decline_that_is_put_on_the_chain_too_has_one_leaf(tmp_path):
    behaviours = {"south": declining}
    whole = Federation(tmp_path / "whole", LightChain(), behaviours=behaviours).run()
    chain = LightChain()
    federation = Federation(tmp_path / "submitted", chain, behaviours=behaviours)
    digest = bytes.fromhex(whole.manifest_entries(1)["south"]["digest"])
    chain.submitted[federation.task, 1] = {organization_id("south"): digest}
    assert federation.run().files() == whole.files()


@pytest.mark.parametrize("replies", ["decline", "update"])
def test_one_that_declines_here_and_updates_there_counts_with_neither(tmp_path, replies):
    chain = LightChain()
    behaviours = {"south": declining_in_round_one} if replies == "decline" else {}
    federation = Federation(tmp_path, chain, behaviours=behaviours)
    parent = chain.task(federation.task).genesis_adapter
    declined = sign_decline(
        federation.context, account_of("south"), "south", 1, parent, deadline=DEADLINE
    )
    digest = declined.update.digest(federation.context.domain)
    if replies == "decline":
        digest = bytes([8]) * 32
    chain.submitted[federation.task, 1] = {organization_id("south"): digest}
    federation.run()
    verdicts = {
        e["digest"]: e["verdict"]
        for e in federation.archive.manifest(1)["updates"]
        if e["organization"] == "south"
    }
    assert verdicts.pop(digest.hex()) == Verdict.PAYLOAD_UNAVAILABLE
    assert list(verdicts.values()) == [Verdict.CONTRADICTED]
    assert federation.events_of("organization-declined") == []


def with_efforts(federation, *ranks):
    """Let every organization train one of some ranks, up to its own."""
    federation.strategy.admit(
        Participant(
            name,
            federation.nodes[name],
            own := federation.settings.rank_of(name),
            tuple(sorted({own, *(rank for rank in ranks if rank < own)})),
        )
        for name in NAMES
    )
    return federation


#: The rank that each organization trains in the first and in the second round.
TRAINED = {"east": (4, 1), "north": (2, 4), "south": (1, 1), "west": (2, 2)}


def of_rank(federation, name):
    """Answer with an honest update of the rank that the round's effort is."""

    def answer(content, number, sign):
        return sign(honest_update(federation.rule, number, name, TRAINED[name][number - 1]))

    return answer


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_two_rounds_of_several_ranks_equal_the_plain_aggregation_of_the_same_updates(
    tmp_path, rule
):
    federation = Federation(tmp_path, LightChain(), small_settings(aggregation=rule))
    federation._behaviours.update({name: of_rank(federation, name) for name in NAMES})
    with_efforts(federation, 1, 2).run()
    rule, state = federation.rule, federation.rule.initial_state()
    for number in (1, 2):
        contributions = [
            Contribution(
                name, examples_of(name), honest_update(rule, number, name, ranks[number - 1])
            )
            for name, ranks in TRAINED.items()
        ]
        state = rule.aggregate(state, number, contributions).state
        verdicts = {e["verdict"] for e in federation.manifest_entries(number).values()}
        assert verdicts == {Verdict.ACCEPTED}
    assert hash_arrays(federation.archive.state(2)) == hash_arrays(state.to_arrays())


@pytest.mark.parametrize("rule", RULE_NAMES)
def test_an_update_of_a_small_rank_is_held_to_the_norm_bound_and_to_the_ranks_allowed(
    tmp_path, rule
):
    settings = small_settings(aggregation=rule, norm_bound=1000.0, rounds=1)
    federation = Federation(tmp_path, LightChain(), settings)

    def of(name, rank, factor=1.0):
        def answer(content, number, sign):
            update = honest_update(federation.rule, number, name, rank)
            return sign({n: array * np.float32(factor) for n, array in update.items()})

        return answer

    federation._behaviours.update(
        {"east": of("east", 1), "north": of("north", 1, 1e5), "south": of("south", 3)}
    )
    with_efforts(federation, 1, 2).run()
    verdicts = {name: entry["verdict"] for name, entry in federation.manifest_entries(1).items()}
    assert verdicts == {
        "east": Verdict.ACCEPTED,
        "north": Verdict.NORM_EXCEEDED,
        "south": Verdict.WRONG_SHAPE,
        "west": Verdict.ACCEPTED,
    }


def test_the_ranks_of_a_participant_ascend_to_its_own():
    assert Participant("east", 1, 4).ranks == (4,)
    assert replace(Participant("east", 1, 4), ranks=(1, 2, 4)).ranks == (1, 2, 4)
    for ranks in ((1, 2), (4, 2), (2, 2, 4), (4, 8)):
        with pytest.raises(ValueError, match="east: ranks"):
            Participant("east", 1, 4, ranks)


@pytest.mark.parametrize("stage", Federation.STAGES)
def test_a_run_with_declines_that_is_killed_resumes_to_the_same_bits(tmp_path, stage):
    settings = small_settings(rounds=3)
    behaviours = {name: lambda c, n, s: declining(c, n, s) if n == 2 else c for name in NAMES}
    whole = Federation(tmp_path / "whole", LightChain(), settings, behaviours).run()
    chain = LightChain()
    killed = Federation(tmp_path / "killed", chain, settings, behaviours, killed_at=stage)
    with pytest.raises(KilledError):
        killed.run()
    resumed = Federation(tmp_path / "killed", chain, settings, behaviours).run()
    assert resumed.files() == whole.files()
    assert receipts_of(resumed.strategy.closing_messages()) == receipts_of(
        whole.strategy.closing_messages()
    )


@pytest.mark.real
@pytest.mark.parametrize("stage", [None, "prepared", "sealed on chain"])
def test_on_a_real_chain_two_rounds_come_to_the_same_adapter_killed_or_not(tmp_path, chain, stage):
    # Terms that name the stage: each case is a task of its own on the one contract.
    settings = small_settings(max_tokens=64 + len(stage or ""))
    if stage is not None:
        with pytest.raises(KilledError):
            Federation(tmp_path, chain, settings, killed_at=stage).run()
    federation = Federation(tmp_path, chain, settings).run()
    state, _ = aggregated_plainly(federation)
    adapter = hash_arrays(arrays_from_adapter(federation.rule.adapter(state)))
    records = chain.rounds(federation.task)
    assert [record.phase for record in records] == [Phase.SEALED] * 2
    assert records[1].adapter_hash == adapter == chain.task(federation.task).head_adapter
    for receipt in receipts_of(federation.strategy.closing_messages()).values():
        leaf = Leaf(receipt.digest, receipt.index, receipt.verdict)
        assert chain.is_included(federation.task, receipt.round, leaf, receipt.proof)
    seal = federation.archive.seal(2)
    assert seal["block"] == records[1].closed_block
    assert seal["updates_root"] == records[1].updates_root.hex()
