"""Levels of assurance: each counts only where all below it hold, and nothing is claimed unseen."""

import json
import shutil
from dataclasses import replace

import pytest

from blockchain.block_witness import SeenBlock
from blockchain.canonical import canonical_json
from blockchain.chain_records import Phase
from strategies.assurance import LEVELS, assurances, level_of
from strategies.audit import audit
from strategies.audit_check import Check
from strategies.finality import finality
from strategies.run_archive import RunArchive
from tests.attestation_cases import attest
from tests.chain_samples import DISPUTES
from tests.small_federation import Federation, LightChain

pytestmark = pytest.mark.usefixtures("flower_task")

LATER = 10**9


@pytest.fixture
def federation(tmp_path):
    """A run of two rounds, the first of which was attested; its chain can be altered."""
    run = Federation(tmp_path, LightChain()).run()
    attest(run, 1)
    return run


def reached(federation, *, now=LATER, archive=None, only_round=None):
    chain, archive = federation.chain, archive or federation.archive
    checks = list(audit(archive, chain, only_round=only_round))
    rounds = chain.rounds(federation.task)
    return {a.round: a for a in assurances(checks, chain.task(federation.task), rounds, now)}


def levels(federation, **more):
    return {number: found.level for number, found in reached(federation, **more).items()}


def on_chain(federation, number, **fields):
    place = (federation.task, number)
    federation.chain.records[place] = replace(federation.chain.records[place], **fields)


def of_task(federation, **fields):
    task = federation.task
    federation.chain.tasks[task] = replace(federation.chain.tasks[task], **fields)


def test_a_round_reaches_attested_once_attestors_signed_and_else_recomputed(federation):
    found = reached(federation)
    assert {number: a.level for number, a in found.items()} == {1: "attested", 2: "recomputed"}
    assert found[1].missing == "nobody has made it final yet"
    assert found[2].missing == "it is not attested"


def test_a_final_round_is_final(federation):
    on_chain(federation, 1, phase=Phase.FINAL)
    assert levels(federation) == {1: "final", 2: "recomputed"}


def test_a_level_counts_only_if_all_below_it_hold(federation):
    on_chain(federation, 1, phase=Phase.FINAL)
    path = federation.archive.round_folder(1) / "openings.json"
    path.write_text("{}")
    # The chain says final, but nobody can make the aggregate again: signed is all that is shown.
    assert levels(federation)[1] == "signed"
    manifest = federation.archive.manifest(1)
    federation.chain.submitted[federation.task, 1] = {bytes([7]) * 32: bytes([8]) * 32}
    assert levels(federation)[1] == "sealed"
    manifest["absent"] = {"east": "late"}
    (path.parent / "manifest.json").write_bytes(canonical_json(manifest))
    assert levels(federation) == {1: "failed", 2: "recomputed"}


def test_what_is_wrong_with_the_attestation_leaves_the_round_recomputed(federation):
    path = federation.archive.round_folder(1) / "attestation.json"
    noted = json.loads(path.read_text())
    noted["signatures"]["east"] = noted["signatures"]["north"]
    path.write_text(json.dumps(noted))
    assert levels(federation)[1] == "recomputed"
    assert reached(federation)[1].missing == "attestation by east does not hold"


def test_disputed_and_orphaned_rounds_are_said_to_be_so_and_never_become_final(federation):
    on_chain(federation, 1, phase=Phase.DISPUTED)
    of_task(federation, branch_start=2)
    found = reached(federation)
    assert (found[1].level, found[1].final_from) == ("disputed", None)
    assert (found[2].level, found[2].final_from) == ("orphaned", None)


def test_terms_that_are_not_those_on_chain_fail_every_round(federation):
    of_task(federation, terms=bytes(32))
    assert set(levels(federation).values()) == {"failed"}


def test_a_round_that_was_not_audited_has_no_level(federation):
    assert set(levels(federation, only_round=2)) == {2}


def test_a_round_can_be_final_after_its_own_window_and_its_parents(federation):
    window = DISPUTES.challenge_window
    on_chain(federation, 1, closed_at=5000)
    on_chain(federation, 2, closed_at=100)
    found = reached(federation, now=0)
    # The second was sealed earlier by this clock, and still cannot be final before the first.
    assert [found[n].final_from for n in (1, 2)] == [5000 + window + 1] * 2
    assert "the time to challenge it is not over" in found[1].missing


def test_what_keeps_a_round_from_being_final_is_said(federation):
    chain, task = federation.chain, federation.task
    on_chain(federation, 1, open_challenges=3)
    found = finality(chain.task(task), chain.rounds(task), LATER)
    assert found[1].hindrances == ("3 of its challenges are open",)
    assert found[2].hindrances == (
        "it is not attested",
        "round 1, which it builds on, cannot be final yet",
    )
    on_chain(federation, 1, open_challenges=0)
    assert finality(chain.task(task), chain.rounds(task), LATER)[1].ready


def test_a_recorded_block_that_the_chain_no_longer_has_fails_the_round(federation, tmp_path):
    copy = RunArchive(tmp_path / "copy" / "runs" / "treaty")
    shutil.copytree(federation.archive.folder, copy.folder, dirs_exist_ok=True)
    seal = copy.seal(2)
    copy.write_seal(2, {**seal, "block_hash": "00" * 32})
    (failed,) = [c for c in audit(copy, federation.chain) if not c.holds]
    assert (failed.round, failed.name) == (2, "recorded block")
    assert levels(federation, archive=copy) == {1: "attested", 2: "failed"}
    copy.write_seal(2, {**seal, "block": 10**6})
    assert "none there" in next(c.detail for c in audit(copy, federation.chain) if not c.holds)


@pytest.mark.parametrize("change", [{"block": "7"}, {"block": -1}, {"block_hash": "zz"}])
def test_a_seal_that_was_altered_is_named_and_no_crash(federation, change):
    federation.archive.write_seal(2, {**federation.archive.seal(2), **change})
    path = federation.archive.round_folder(2) / "seal.json"
    assert str(path) in " ".join(
        c.detail for c in audit(federation.archive, federation.chain) if not c.holds
    )


def test_every_check_of_an_audit_belongs_to_a_level(federation):
    found = {level_of(check) for check in audit(federation.archive, federation.chain)}
    assert found == set(LEVELS) - {"final"}
    assert level_of(Check(1, "something new", True)) == "sealed"


def test_a_block_that_an_organization_saw_and_that_left_the_chain_fails_every_round(
    federation, monkeypatch
):
    (federation.archive.home / "organizations" / "east" / "blocks").mkdir(parents=True)
    seen = SeenBlock(chain_id=31337, height=7, hash="0x" + "ab" * 32)
    monkeypatch.setattr("strategies.audit_blocks.witnessed_file", lambda *_: None)
    monkeypatch.setattr("strategies.audit_blocks.missing", lambda *_: [])
    federation.chain.node = None
    assert levels(federation)[1] == "attested"
    monkeypatch.setattr("strategies.audit_blocks.missing", lambda *_: [seen])
    assert set(levels(federation).values()) == {"failed"}
    (failed,) = [c for c in audit(federation.archive, federation.chain) if not c.holds]
    assert (failed.round, failed.name) == (0, "recorded block")
    assert "east saw block 7" in failed.detail
