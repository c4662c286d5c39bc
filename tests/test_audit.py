"""The audit: a valid run holds, one changed byte anywhere fails and is named."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import RecordDict

from blockchain.anchors import Anchor, AnchorEvent
from blockchain.canonical import canonical_json
from blockchain.merkle import organization_id
from strategies import protocol
from strategies.assurance import level_of
from strategies.audit import audit
from strategies.recomputation import EvidenceError
from strategies.replies import VERDICTS_OF_DECLINES, Verdict
from strategies.round_evidence import RoundEvidence
from strategies.run_archive import RunArchive
from tests.signing_cases import NAMES
from tests.small_federation import (
    Federation,
    KilledError,
    LightChain,
    declining,
    in_round_one,
    scored,
    small_settings,
)

pytestmark = pytest.mark.usefixtures("flower_task")
pytest_plugins = ["tests.chain_fixtures"]


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """One run of two rounds, in the first of which one organization was late."""
    home = tmp_path_factory.mktemp("audited")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(f"flwr.supercore.task_identity.TaskIdentity.{name}", 1)
        federation = Federation(
            home, LightChain(), behaviours={"west": in_round_one(lambda *_: None)}
        )
        return federation.run()


@pytest.fixture
def federation(run_once, tmp_path):
    """The run, in a copy of its folder that a test may alter."""
    copy = tmp_path / "runs" / "treaty"
    shutil.copytree(run_once.archive.folder, copy)
    run_once.copy = RunArchive(copy)
    return run_once


def failures(federation, archive=None, chain=None, **more):
    archive = archive or federation.copy
    return [check for check in audit(archive, chain or federation.chain, **more) if not check.holds]


def said(checks):
    return "\n".join(f"{check.round} {check.name}: {check.detail}" for check in checks)


def flip(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"aggregation": "alternating"},
        {"aggregation": "fedit"},
        {"aggregation": "flora"},
        {"aggregation": "accumulators"},
        {"robust": "trimmed-mean"},
        {"robust": "geometric-median"},
        {"norm_bound": 0.01},
    ],
    ids=str,
)
def test_a_valid_run_holds_under_every_rule(tmp_path, changes):
    federation = Federation(tmp_path, LightChain(), small_settings(**changes)).run()
    checks = list(audit(federation.archive, federation.chain))
    assert said([check for check in checks if not check.holds]) == ""
    names = {check.name for check in checks if check.round == 2}
    expected = {"manifest", "adapter", "state", "updates' root", "signature of east", "aggregate"}
    assert expected <= names


def test_a_run_with_absent_and_rejected_organizations_holds(federation):
    checks = list(audit(federation.copy, federation.chain))
    assert said([check for check in checks if not check.holds]) == ""
    assert [c.name for c in checks if c.round == 1 and c.name.startswith("update of")] == [
        "update of east",
        "update of north",
        "update of south",
    ]


def round_files(federation):
    return [
        f"rounds/{number:04d}/{name}"
        for number in (0, 1, 2)
        for name in (
            "state.safetensors",
            "manifest.json",
            "adapter/adapter_model.safetensors",
            "adapter/adapter_config.json",
        )
    ]


def altered_files(federation):
    updates = [f"updates/{path.name}" for path in (federation.copy.folder / "updates").iterdir()]
    return [*round_files(federation), *updates]


def test_one_changed_byte_in_any_file_fails_and_the_file_is_named(federation):
    files = altered_files(federation)
    assert len(files) == 12 + 7
    for name in files:
        path = federation.copy.folder / name
        original = path.read_bytes()
        for place in (0, len(original) // 2, -1):
            flip(path, place)
            failed = failures(federation)
            # A manifest that still reads as one is named by its round and check.
            named = str(path) in said(failed) or (
                path.name == "manifest.json"
                and any(c.name in ("manifest", "stored files", "readable") for c in failed)
            )
            assert named, (name, place, said(failed))
            path.write_bytes(original)
    assert failures(federation) == []


def test_a_missing_file_fails_and_is_named(federation):
    for name in altered_files(federation):
        path = federation.copy.folder / name
        original = path.read_bytes()
        path.unlink()
        assert str(path) in said(failures(federation)), name
        path.write_bytes(original)


def rewritten(federation, change):
    """The run's second manifest changed, in its canonical form."""
    manifest = federation.copy.manifest(2)
    change(manifest)
    path = federation.copy.round_folder(2) / "manifest.json"
    path.write_bytes(canonical_json(manifest))
    return {check.name for check in failures(federation)}


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.update(examples=entry["examples"] + 1),
        lambda entry: entry.update(commitment="00" * 32),
        lambda entry: entry.update(deadline=7),
        lambda entry: entry.update(signature="00" * 65),
        lambda entry: entry.update(signature=""),
        lambda entry: entry.update(digest="00" * 32),
        lambda entry: entry.update(organization="microblog"),
    ],
)
def test_an_entry_that_its_organization_did_not_sign_fails_by_name(federation, change):
    names = rewritten(federation, lambda manifest: change(manifest["updates"][0]))
    assert {"signature of east", "signature of microblog"} & names


def test_two_organizations_signatures_exchanged_fail(federation):
    def exchange(manifest):
        one, other = manifest["updates"][:2]
        one["signature"], other["signature"] = other["signature"], one["signature"]

    names = rewritten(federation, exchange)
    assert {"signature of east", "signature of north"} <= names


def test_a_submission_on_chain_that_the_coordinator_left_out_fails(federation):
    place = (federation.task, 2)
    federation.chain.submitted[place] = {bytes([7]) * 32: bytes([8]) * 32}
    try:
        assert "submission on chain" in {check.name for check in failures(federation)}
    finally:
        del federation.chain.submitted[place]


def test_an_anchor_that_no_event_tells_of_fails_by_the_organizations_name(federation):
    told = AnchorEvent(Anchor(4, bytes([1]) * 32, 3), previous_size=2)
    east = organization_id("east")
    sound = replace(federation.chain, anchored={east: [told]})
    assert failures(federation, chain=sound) == []
    gap = AnchorEvent(Anchor(9, bytes([2]) * 32, 5), previous_size=7)
    broken = replace(federation.chain, anchored={east: [told, gap]})
    assert "anchors of east: the anchor of size 9 follows size 7, expected 4" in said(
        failures(federation, chain=broken)
    )
    # A single round is checked by itself.
    assert failures(federation, chain=broken, only_round=1) == []


def test_an_opening_that_is_another_fails_and_one_erased_is_said(federation):
    path = federation.copy.round_folder(2) / "openings.json"
    openings = json.loads(path.read_text())
    for change in (
        {"update": "00" * 32, "salt": openings["east"]["salt"]},
        {"update": openings["east"]["update"], "salt": "00" * 32},
    ):
        path.write_text(json.dumps({**openings, "east": change}))
        failed = failures(federation)
        assert {"update of east", "aggregate"} <= {check.name for check in failed}
    path.write_text(json.dumps({k: v for k, v in openings.items() if k != "east"}))
    assert "nothing opens its commitment" in said(failures(federation))


def test_a_missing_round_fails_and_is_named(federation):
    shutil.rmtree(federation.copy.round_folder(2))
    failed = failures(federation)
    assert "sealed on chain: [1, 2], on disk: 1 to 1" in said(failed)
    assert "0002" in said(failed)


def test_a_file_added_to_an_adapter_fails_and_is_named(federation):
    added = federation.copy.adapter_folder(2) / "adapter_model.bin"
    added.write_bytes(b"a pickle")
    assert str(added) in said(failures(federation))


def test_a_manifest_rewritten_to_fit_altered_files_fails_against_the_chain(federation):
    original = federation.copy.manifest(2)
    names = rewritten(federation, lambda manifest: manifest["updates"][0].update(examples=7))
    assert {"manifest", "signature of east", "update of east", "aggregate"} <= names
    (federation.copy.round_folder(2) / "manifest.json").write_bytes(canonical_json(original))
    names = rewritten(federation, lambda manifest: manifest["updates"][0].update(weight="0x1p-9"))
    assert {"manifest", "weights"} <= names


def test_a_number_turned_into_another_notation_is_not_a_crash(federation):
    path = federation.copy.round_folder(1) / "manifest.json"
    text = path.read_text()
    assert '"examples":16' in text
    path.write_text(text.replace('"examples":16', '"examples":1e1'))
    assert str(path) in said(failures(federation))


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 8), ("rank", 3), ("learning-rate", 0.002), ("aggregation", "flora"), ("rank", "x")],
)
def test_settings_that_are_not_those_of_the_terms_fail(federation, key, value):
    run = federation.copy.read_run()
    run["settings"][key] = value
    federation.copy.write_run(run)
    assert key in said(failures(federation))


@pytest.mark.parametrize(
    "change",
    [
        lambda run: run["terms"].update(seed=8),
        lambda run: run["terms"].update(seed=8.5),
        lambda run: run.pop("terms"),
        lambda run: run.update(terms=[]),
        lambda run: run.pop("settings"),
        lambda run: run.pop("task"),
        lambda run: run.update(task="zz"),
        lambda run: run.update(task=5),
        lambda run: run.update(task="00" * 32),
    ],
)
def test_an_altered_entry_of_the_run_fails_and_is_no_crash(federation, change):
    run = federation.copy.read_run()
    change(run)
    federation.copy.write_run(run)
    assert failures(federation)


@pytest.mark.parametrize("number", [0, 1])
def test_every_byte_of_a_manifest_counts(federation, number):
    path = federation.copy.round_folder(number) / "manifest.json"
    original = path.read_bytes()
    for place in range(number, len(original), 7):
        flip(path, place)
        checks = audit(federation.copy, federation.chain)
        assert any(not check.holds for check in checks), place
        if place % 5 == 0:
            # To its end: what follows a failure is no crash.
            list(checks)
        path.write_bytes(original)


def test_another_runs_round_in_its_place_fails(federation, tmp_path):
    other = Federation(tmp_path / "other", LightChain(), small_settings(seed=8)).run()
    folder = federation.copy.round_folder(2)
    shutil.rmtree(folder)
    shutil.copytree(other.archive.round_folder(2), folder)
    failed = failures(federation)
    assert {(2, "manifest"), (2, "adapter on chain")} <= {(c.round, c.name) for c in failed}


def test_a_runs_own_earlier_round_in_the_place_of_a_later_one_fails(federation):
    folder = federation.copy.round_folder(2)
    shutil.rmtree(folder)
    shutil.copytree(federation.copy.round_folder(1), folder)
    assert {(2, "manifest"), (2, "adapter on chain")} <= {
        (check.round, check.name) for check in failures(federation)
    }


def test_a_whole_other_run_under_this_ones_name_fails(federation, tmp_path):
    other = Federation(tmp_path / "other", LightChain(), small_settings(seed=8)).run()
    assert "RoundsUnknownTask" in said(failures(federation, archive=other.archive))


def test_a_chain_that_was_reset_fails_in_one_line(federation):
    (failed,) = failures(federation, chain=LightChain())
    assert "RoundsUnknownTask" in failed.detail


def test_one_round_can_be_checked_alone(federation):
    flip(federation.copy.round_folder(2) / "state.safetensors")
    assert failures(federation, only_round=1) == []
    assert failures(federation, only_round=2)
    assert "round 3 is not sealed on chain" in said(failures(federation, only_round=3))


def test_a_seal_on_chain_without_its_round_on_disk_fails(tmp_path):
    chain = LightChain()
    with pytest.raises(KilledError):
        Federation(tmp_path, chain, killed_at="sealed on chain").run()
    again = Federation(tmp_path, chain)
    # Sealed on chain, the note of it not yet written: nothing is wrong with what lies there.
    assert failures(again, archive=again.archive) == []
    shutil.rmtree(again.archive.round_folder(2))
    assert "sealed on chain: [1, 2], on disk: 1 to 1" in said(failures(again, again.archive))


def test_checks_are_plain_json(federation):
    for check in audit(federation.copy, federation.chain):
        assert json.loads(json.dumps(check.to_json())) == check.to_json()


def attested(federation, number=1):
    """What an honest attestor scores of a round, or why it refuses."""
    evidence = RoundEvidence.of_archive(federation.archive, number, exact=True)
    _, table = scored(federation, RecordDict(evidence.to_records(federation.task)))
    return table.scores


def sealed_as(federation, change):
    """Let a hostile coordinator change the checked replies of round 1 before it aggregates."""
    strategy, real = federation.strategy, federation.strategy._checked

    def checked(replies):
        found, absent = real(replies)
        first = strategy.last_round == 0
        return [change(reply) if first else reply for reply in found], absent

    strategy._checked = checked
    return federation.run()


def passed_off(verdict, name="west"):
    """Give one organization's reply another verdict, and forget the update."""

    def change(reply):
        return replace(reply, verdict=verdict, arrays=None) if reply.organization == name else reply

    return change


@pytest.mark.parametrize("who", [("west",), ("west", "east"), NAMES], ids=str)
def test_a_run_with_declines_holds_and_can_be_attested(tmp_path, who):
    federation = Federation(tmp_path, LightChain(), behaviours=dict.fromkeys(who, declining)).run()
    assert said(failures(federation, federation.archive)) == ""
    scores = attested(federation)
    assert {name for name, score in scores.items() if score} == set(NAMES) - set(who)


def test_an_update_that_is_passed_off_as_a_decline_fails_by_name_and_is_not_attested(tmp_path):
    federation = sealed_as(Federation(tmp_path, LightChain()), passed_off(Verdict.DECLINED))
    # All else fits: the aggregate is that of the others.
    (failed,) = failures(federation, federation.archive)
    assert (failed.round, failed.name, level_of(failed)) == (1, "signature of west", "signed")
    assert failed.detail == "signed an update over 32 records, and its verdict is DECLINED"
    with pytest.raises(EvidenceError, match="signature of west: signed an update over 32 records"):
        attested(federation)


FALSE_VERDICTS = [v for v in Verdict if v not in {*VERDICTS_OF_DECLINES, Verdict.ACCEPTED}]


@pytest.mark.parametrize("verdict", FALSE_VERDICTS, ids=lambda verdict: verdict.name)
def test_a_decline_that_is_passed_off_as_an_update_fails_by_name_and_is_not_attested(
    tmp_path, verdict
):
    federation = Federation(tmp_path, LightChain(), behaviours={"west": declining})
    sealed_as(federation, passed_off(verdict))
    (failed,) = failures(federation, federation.archive)
    assert (failed.round, failed.name) == (1, "signature of west")
    assert failed.detail == f"signed that it declines, and its verdict is {verdict.name}"
    with pytest.raises(EvidenceError, match="signature of west: signed that it declines"):
        attested(federation)


def test_a_decline_that_is_passed_off_as_accepted_fails_by_name_and_is_not_attested(tmp_path):
    federation = Federation(tmp_path, LightChain(), behaviours={"west": declining})
    real = federation.strategy._entries

    def entries(*arguments):
        return [
            replace(entry, verdict=int(Verdict.ACCEPTED)) if entry.organization == "west" else entry
            for entry in real(*arguments)
        ]

    federation.strategy._entries = entries
    federation.run()
    failed = {(check.round, check.name) for check in failures(federation, federation.archive)}
    assert {(1, "signature of west"), (1, "update of west"), (1, "aggregate")} <= failed
    with pytest.raises(EvidenceError, match="signature of west: signed that it declines"):
        attested(federation)


def around_a_decline():
    """From a valid decline: messages out of order around what was signed, with their verdicts."""
    arrays = protocol.array_record({"layer": np.zeros((2, 2), np.float32)})

    def headed(content, **changes):
        header = {**content[protocol.HEADER], **changes}
        return RecordDict({**content, protocol.HEADER: protocol.header_record(header)})

    return {
        Verdict.MALFORMED: lambda content: RecordDict({**content, protocol.UPDATE: arrays}),
        Verdict.WRONG_ORGANIZATION: lambda content: headed(content, organization="east"),
        Verdict.WRONG_ROUND: lambda content: headed(content, round=7),
    }


@pytest.mark.parametrize("verdict", around_a_decline(), ids=lambda verdict: verdict.name)
def test_nobody_can_make_an_honest_round_fail_by_a_message_out_of_order_around_a_decline(
    tmp_path, verdict
):
    answer = around_a_decline()[verdict]
    federation = Federation(
        tmp_path,
        LightChain(),
        behaviours={"west": in_round_one(lambda _, sign: answer(sign(None)))},
    ).run()
    assert federation.manifest_entries(1)["west"]["verdict"] == verdict
    assert said(failures(federation, federation.archive)) == ""
    assert attested(federation)["west"] == 0


def test_nor_by_saying_something_else_on_the_chain(tmp_path):
    chain = LightChain()
    federation = Federation(
        tmp_path, chain, behaviours={"west": in_round_one(lambda _, s: s(None))}
    )
    chain.submitted[federation.task, 1] = {organization_id("west"): bytes([8]) * 32}
    federation.run()
    assert said(failures(federation, federation.archive)) == ""
    assert attested(federation)["west"] == 0


@pytest.mark.parametrize("verdict", [Verdict.ACCEPTED, Verdict.DECLINED, Verdict.MALFORMED])
def test_what_is_known_from_the_chain_alone_can_be_listed_as_nothing_else(tmp_path, verdict):
    chain = LightChain()
    federation = Federation(tmp_path, chain, behaviours={"west": in_round_one(lambda *_: None)})
    chain.submitted[federation.task, 1] = {organization_id("west"): bytes([8]) * 32}
    real = federation.strategy._entries

    def entries(*arguments):
        return [
            entry if entry.signature else replace(entry, verdict=int(verdict))
            for entry in real(*arguments)
        ]

    federation.strategy._entries = entries
    federation.run()
    failed = failures(federation, federation.archive)
    assert (1, "signature of west") in {(check.round, check.name) for check in failed}
    assert "known from the chain alone" in said(failed)
    with pytest.raises(EvidenceError, match="signature of west: known from the chain alone"):
        attested(federation)


@pytest.mark.real
def test_a_run_on_a_real_chain_holds_and_a_changed_byte_does_not(tmp_path, chain):
    federation = Federation(tmp_path, chain, small_settings(max_tokens=99)).run()
    assert said(failures(federation, federation.archive)) == ""
    path = federation.archive.adapter_folder(2) / "adapter_model.safetensors"
    flip(path)
    assert str(path) in said(failures(federation, federation.archive))
