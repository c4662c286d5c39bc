"""Purging: what held forgotten data goes, and nothing else that is missing passes for purged."""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pytest

from blockchain.chain_records import Phase
from blockchain.errors import ContractMissingError
from blockchain.unlearning_messages import (
    Completion,
    Guarantee,
    Request,
    RequestState,
    UnlearningScope,
)
from blockchain.unlearning_requests import StoredRequest
from client_app.own_record import OwnRecord
from strategies.assurance import assurances
from strategies.audit import audit
from strategies.audit_purged import check_purged
from strategies.purging import purge_rounds, purged_by, purges_of
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import ArchiveError, RunArchive
from tests.attestation_cases import attest
from tests.signing_cases import signed_update
from tests.small_federation import (
    Federation,
    KilledError,
    LightChain,
    examples_of,
    honest_update,
    small_settings,
)

pytestmark = pytest.mark.usefixtures("flower_task")

#: The first round that is purged, of three.
FIRST = 2


@dataclass
class ForgettingChain(LightChain):
    """A light chain on which requests to forget are known."""

    requests: dict[bytes, StoredRequest] = field(default_factory=dict)

    @property
    def unlearning(self):
        return SimpleNamespace(request_of=self.requests.get)


def asked(task, subject=1):
    organization, about = bytes([7]) * 32, bytes([subject]) * 32
    return Request(task, organization, about, UnlearningScope.RECORDS, 2**40)


def stored(request, state=RequestState.COMPLETED, first=FIRST, guarantee=Guarantee.EXACT_REPLAY):
    completed = state is RequestState.COMPLETED
    completion = Completion(bytes([1]) * 32, bytes([2]) * 32, first, guarantee)
    return StoredRequest(
        request, state, 1, 0, completion if completed else None, reason=0, details=bytes(32)
    )


@pytest.fixture(scope="module")
def run_once(tmp_path_factory):
    """One run of three rounds, the second of which was attested."""
    home = tmp_path_factory.mktemp("purged")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_task_id", "_run_id", "_node_id"):
            patch.setattr(f"flwr.supercore.task_identity.TaskIdentity.{name}", 1)
        federation = Federation(home, ForgettingChain(), small_settings(rounds=3)).run()
        attest(federation, 2)
        return federation


@dataclass
class Run:
    """A copy of the run, and a chain of its own on which its request is completed."""

    archive: RunArchive
    chain: ForgettingChain
    task: bytes
    request: Request

    def failures(self, **more):
        checks = audit(self.archive, self.chain, **more)
        return [check for check in checks if not check.holds]

    def purge(self, first=FIRST):
        return purge_rounds(self.archive, first, [self.request.id])

    def say(self, **changes):
        """Let the chain say something else of the request."""
        self.chain.requests = {self.request.id: stored(self.request, **changes)}

    def files(self):
        """Everything of the run, less what a killed write leaves aside."""
        return {
            path.relative_to(self.archive.folder).as_posix(): path.read_bytes()
            for path in sorted(self.archive.folder.rglob("*"))
            if path.is_file() and not path.name.startswith(".")
        }


@pytest.fixture
def run(run_once, tmp_path):
    copy = tmp_path / "runs" / "treaty"
    shutil.copytree(run_once.archive.folder, copy)
    request = asked(run_once.task)
    chain = replace(run_once.chain, requests={request.id: stored(request)})
    return Run(RunArchive(copy), chain, run_once.task, request)


def said(checks):
    return "\n".join(f"{check.round} {check.name}: {check.detail}" for check in checks)


def doomed(run):
    """What a purge from the second round on deletes, by what the run consists of."""
    kept = {opening.update_hash.hex() for opening in run.archive.openings(1).values()}
    parts = ("state.safetensors", "adapter/", "openings.json")
    return {
        name: content
        for name, content in run.files().items()
        if name.startswith(tuple(f"rounds/000{n}/{part}" for n in (2, 3) for part in parts))
        or (name.startswith("updates/") and name[8:72] not in kept)
    }


def rewritten(run, change):
    path = run.archive.folder / "purged.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_purged_run_holds_and_names_the_request(run):
    run.purge()
    checks = list(audit(run.archive, run.chain))
    assert said(check for check in checks if not check.holds) == ""
    name = f"purged by request 0x{run.request.id.hex()}"
    assert [check.round for check in checks if check.name == name] == [2, 3]
    of_round = {n: {check.name for check in checks if check.round == n} for n in (1, 2, 3)}
    stay = {"manifest", "adapter on chain", "parent on chain", "updates' root", "recorded block"}
    assert stay | {"signature of east", "rewards"} <= of_round[3] < of_round[2]
    assert of_round[2] - of_round[3] == {
        "parent",
        "attestation",
        "attestation by east",
        "attestation by north",
    }
    assert {"stored files", "state", "update of east", "aggregate"} <= of_round[1]


def test_exactly_what_holds_the_data_is_deleted_and_noted(run):
    before, gone = run.files(), doomed(run)
    assert len(gone) == 2 * 4 + 8
    began = datetime.now(UTC).date()
    purge = run.purge()
    assert (purge.first_round, purge.requests) == (FIRST, (run.request.id,))
    # Two days only where midnight falls between.
    assert began <= purge.day <= datetime.now(UTC).date()
    assert {file.path: (file.sha256, file.size) for file in purge.files} == {
        name: (hashlib.sha256(content).hexdigest(), len(content)) for name, content in gone.items()
    }
    after = run.files()
    assert json.loads(after.pop("purged.json"))["version"] == 1
    assert after == {name: content for name, content in before.items() if name not in gone}
    assert not run.archive.adapter_folder(2).exists()
    assert purges_of(run.archive) == (purge,)
    assert [purged_by(run.archive, n) for n in (1, 2)] == [(), (run.request.id,)]


def test_the_updates_of_rounds_that_are_kept_survive(run):
    # The very same update in a round that is kept and in one that is purged.
    path = run.archive.round_folder(3) / "openings.json"
    kept = json.loads((run.archive.round_folder(1) / "openings.json").read_text())
    path.write_text(json.dumps({**json.loads(path.read_text()), "east": kept["east"]}))
    run.purge()
    for opening in run.archive.openings(1).values():
        assert run.archive.load_update(opening.update_hash)
    assert len(list((run.archive.folder / "updates").iterdir())) == 4


def test_what_a_kill_left_half_written_is_deleted_as_well(run):
    left = run.archive.folder / "rounds" / "0004.partial"
    (left / "adapter").mkdir(parents=True)
    (left / "adapter" / "adapter_model.safetensors").write_bytes(b"half")
    aside = run.archive.folder / "updates" / ".ab.safetensors.x1"
    aside.write_bytes(b"half")
    names = {file.path for file in run.purge().files}
    assert {
        "rounds/0004.partial/adapter/adapter_model.safetensors",
        f"updates/{aside.name}",
    } <= names
    assert not left.exists()
    assert not aside.exists()


def test_every_single_file_that_is_missing_without_a_note_fails(run):
    for name, content in doomed(run).items():
        path = run.archive.folder / name
        path.unlink()
        assert str(path) in said(run.failures()), name
        path.write_bytes(content)
    assert run.failures() == []


def test_everything_missing_without_a_note_fails_although_the_request_is_completed(run):
    run.purge()
    (run.archive.folder / "purged.json").unlink()
    assert {check.round for check in run.failures()} == {2, 3}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"state": RequestState.OPEN}, "it is OPEN, expected COMPLETED"),
        ({"state": RequestState.REJECTED}, "it is REJECTED, expected COMPLETED"),
        ({"state": RequestState.CANCELLED}, "it is CANCELLED, expected COMPLETED"),
        (
            {"guarantee": Guarantee.NOTHING_TO_FORGET, "first": 0},
            "completed as NOTHING_TO_FORGET: no round was replaced",
        ),
        ({"first": 4}, "the first affected round is 4, this is 2"),
    ],
    ids=str,
)
def test_a_request_that_is_no_reason_fails_every_purged_round(run, changes, why):
    run.purge()
    run.say(**changes)
    failed = run.failures()
    name = f"purged by request 0x{run.request.id.hex()}"
    assert [(check.round, check.name) for check in failed] == [(2, name), (3, name)]
    assert why in failed[0].detail


def test_a_request_whose_first_round_is_later_excuses_that_one_alone(run):
    run.purge()
    run.say(first=3)
    assert [check.round for check in run.failures()] == [2]


def test_a_request_of_another_task_an_unknown_one_and_no_contract_fail(run, run_once):
    run.purge()
    other = asked(bytes([9]) * 32)
    run.chain.requests = {run.request.id: stored(other)}
    assert "which is no run's of these rounds" in said(run.failures())
    run.chain.requests = {}
    assert "it is not on the chain" in said(run.failures())
    fields = {k: v for k, v in vars(run_once.chain).items() if k != "requests"}
    run.chain = LightChain(**fields)
    assert "the chain has no contract for requests to forget" in said(run.failures())


def test_a_chain_that_does_not_answer_fails_in_one_line(run, monkeypatch):
    def missing(_):
        raise ContractMissingError("nothing lies at the address")

    run.purge()
    unlearning = SimpleNamespace(request_of=missing)
    monkeypatch.setattr(ForgettingChain, "unlearning", unlearning)
    assert "nothing lies at the address" in said(run.failures())


def test_every_request_that_is_named_must_be_a_reason(run):
    other = asked(run.task, subject=3)
    purge_rounds(run.archive, FIRST, [run.request.id, other.id, run.request.id])
    assert purged_by(run.archive, 2) == (run.request.id, other.id)
    assert f"request 0x{other.id.hex()}: it is not on the chain" in said(run.failures())
    run.chain.requests[other.id] = stored(other, guarantee=Guarantee.NOTHING_TO_FORGET, first=0)
    assert [check.round for check in run.failures()] == [2, 3]
    run.chain.requests[other.id] = stored(other)
    assert run.failures() == []


def test_of_requests_that_are_carried_out_together_the_first_affected_round_counts(run):
    other = asked(run.task, subject=3)
    purge_rounds(run.archive, FIRST, [run.request.id, other.id])
    run.chain.requests[other.id] = stored(other, first=3)
    assert run.failures() == []
    run.say(first=3)
    run.chain.requests[other.id] = stored(other, first=3)
    assert [check.round for check in run.failures()] == [2]


def test_rounds_of_a_run_that_goes_on_count_by_their_lineage(run):
    purge = run.purge()
    before, earlier = bytes([5]) * 32, bytes([6]) * 32
    settings = small_settings(
        rounds=9,
        lineage=f"0x{earlier.hex()}:1,0x{before.hex()}:4",
        requests=f"0x{bytes([7]).hex() * 32}",
    )
    outcome = RoundOutcome.from_manifest(run.archive.manifest(2))

    def holds(about, first):
        """Of a run whose own second round is the lineage's sixth."""
        run.chain.requests = {run.request.id: stored(asked(about), first=first)}
        return check_purged(run.archive, settings, outcome, [purge], run.task, run.chain).holds

    # Whichever task a request is about, its completion counts that task's own rounds.
    assert [holds(earlier, n) for n in (6, 7)] == [True, False]
    assert [holds(before, n) for n in (5, 6)] == [True, False]
    assert [holds(run.task, n) for n in (2, 3)] == [True, False]
    assert not holds(bytes([4]) * 32, 1)


def test_what_a_run_made_for_a_request_is_not_excused_by_it_but_what_it_unlearned_from_is(run):
    purge, outcome = run.purge(), RoundOutcome.from_manifest(run.archive.manifest(2))
    before = bytes([5]) * 32
    changes = {
        "rounds": 9,
        "lineage": f"0x{before.hex()}:4",
        "requests": f"0x{run.request.id.hex()}",
    }
    run.chain.requests = {run.request.id: stored(asked(before), first=1)}

    def check(**more):
        settings = small_settings(**changes, **more)
        return check_purged(run.archive, settings, outcome, [purge], run.task, run.chain)

    assert "the run itself carried out" in check().detail
    assert "the run itself carried out" in check(unlearners="east", recovery_rounds=1).detail
    assert check(unlearners="east,north", recovery_rounds=1).holds


def test_a_file_that_was_put_back_fails_and_is_named_until_it_is_purged_again(run):
    gone = doomed(run)
    purge = run.purge()
    for name, content in gone.items():
        path = run.archive.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        assert f"still there: {path}" in said(run.failures()), name
        assert run.purge() == purge
    assert run.failures() == []


def test_a_file_that_was_not_there_before_fails_as_well(run):
    run.purge()
    for name in ("0003/adapter/adapter_model.bin", "0003.partial/state.safetensors"):
        path = run.archive.folder / "rounds" / name
        path.parent.mkdir()
        path.write_bytes(b"more")
        assert f"still there: {path}" in said(run.failures())
        assert [file.path for file in run.purge().files] == [f"rounds/{name}"]
        assert run.failures() == []


def test_what_was_altered_or_lost_before_it_was_purged_stays_a_failure(run):
    path = run.archive.round_folder(2) / "state.safetensors"
    path.write_bytes(path.read_bytes() + b"\0")
    lost = run.archive.adapter_folder(3) / "adapter_config.json"
    lost.unlink()
    run.purge()
    assert [
        (check.round, str(p) in check.detail)
        for check, p in zip(run.failures(), (path, lost), strict=True)
    ] == [(2, True), (3, True)]


@pytest.mark.parametrize("number", [2, 3])
def test_what_is_left_of_a_purged_round_is_still_checked(run, number):
    run.purge()
    assert run.failures(only_round=number) == []
    path = run.archive.round_folder(number) / "manifest.json"
    path.write_text(path.read_text().replace('"examples":8', '"examples":9'))
    failed = {check.name for check in run.failures(only_round=number)}
    assert {"manifest", "signature of east"} <= failed
    path.unlink()
    assert str(path) in said(run.failures())


def test_a_round_that_is_kept_still_needs_all_of_its_files(run):
    run.purge()
    for path in [p for p in run.archive.round_folder(1).rglob("*") if p.is_file()]:
        if path.name not in ("record.json", "seal.json"):
            content = path.read_bytes()
            path.unlink()
            assert 1 in {check.round for check in run.failures()}, path
            path.write_bytes(content)


def test_levels_pass_over_what_nobody_can_make_again_and_say_so(run):
    def reached():
        checks, rounds = audit(run.archive, run.chain), run.chain.rounds(run.task)
        found = assurances(checks, run.chain.task(run.task), rounds, 10**9)
        return [(assurance.level, assurance.missing) for assurance in found]

    name = f"purged by request 0x{run.request.id.hex()}"
    run.purge()
    assert reached() == [
        ("recomputed", "it is not attested"),
        ("attested", f"{name}; round 1, which it builds on, cannot be final yet"),
        ("signed", f"{name}; it is not attested"),
    ]
    record = run.chain.round(run.task, 2)
    run.chain.records = {**run.chain.records, (run.task, 2): replace(record, phase=Phase.FINAL)}
    assert reached()[1] == ("final", name)
    run.say(state=RequestState.REJECTED)
    assert reached()[1:] == [("failed", f"{name} does not hold")] * 2


def test_a_purged_round_whose_rewards_are_not_those_attested_is_signed_at_most(run):
    run.purge()
    (run.archive.round_folder(2) / "attestation.json").unlink()
    checks, rounds = list(audit(run.archive, run.chain)), run.chain.rounds(run.task)
    assert {(2, "attestation")} <= {
        (check.round, check.name) for check in checks if not check.holds
    }
    found = assurances(checks, run.chain.task(run.task), rounds, 10**9)
    assert [assurance.level for assurance in found] == ["recomputed", "signed", "signed"]


class Death:
    """Lets a process die at one call of those that alter files, and do nothing from then on."""

    def __init__(self, patch, calls):
        self.left = calls
        for name in ("unlink", "rmdir", "replace"):
            self._patch(patch, name)

    def _patch(self, patch, name):
        real = getattr(os, name)

        def until_dead(*arguments, **more):
            if self.left <= 0:
                raise KilledError
            self.left -= 1
            return real(*arguments, **more)

        patch.setattr(os, name, until_dead)


def test_killed_at_any_step_it_is_finished_by_the_next_call(run, tmp_path):
    untouched = tmp_path / "untouched"
    shutil.copytree(run.archive.folder, untouched)
    purge, done = run.purge(), run.files()
    steps = 1 + len(purge.files) + 2
    for step in range(steps + 1):
        shutil.rmtree(run.archive.folder)
        shutil.copytree(untouched, run.archive.folder)
        with pytest.MonkeyPatch.context() as patch:
            Death(patch, step)
            if step < steps:
                with pytest.raises(KilledError):
                    run.purge()
            else:
                run.purge()
        if 0 < step <= len(purge.files):
            assert "still there" in said(run.failures(only_round=3))
        assert run.purge() == purge
        assert run.files() == done
        assert not run.archive.adapter_folder(2).exists()
    assert run.failures() == []


def test_purging_twice_writes_one_entry_and_going_further_back_another(run):
    first = run.purge(3)
    written = (run.archive.folder / "purged.json").read_bytes()
    assert run.purge(3) == first
    assert (run.archive.folder / "purged.json").read_bytes() == written
    other = asked(run.task, subject=3)
    # Of rounds that are gone already nothing is left to delete for another request.
    assert purge_rounds(run.archive, 3, [other.id]).files == ()
    assert purges_of(run.archive) == (first,)
    run.say(first=3)
    second = purge_rounds(run.archive, 2, [other.id])
    run.chain.requests[other.id] = stored(other)
    assert purges_of(run.archive) == (first, second)
    assert not {file.path for file in first.files} & {file.path for file in second.files}
    assert purged_by(run.archive, 2) == (other.id,)
    assert purged_by(run.archive, 3) == (run.request.id, other.id)
    assert run.failures() == []


def test_a_purge_of_fewer_rounds_finishes_one_of_more_that_was_cut_short(run):
    with pytest.MonkeyPatch.context() as patch:
        Death(patch, 6)
        with pytest.raises(KilledError):
            run.purge()
    purge_rounds(run.archive, 3, [run.request.id])
    assert [purge.first_round for purge in purges_of(run.archive)] == [FIRST]
    assert run.failures() == []


def of_first_file(change):
    return lambda document: change(document["purges"][0]["files"][0])


def at(path):
    return of_first_file(lambda file: file.update(path=path))


def of_entry(**changes):
    return lambda document: document["purges"][0].update(changes)


ALTERED = {
    "a path outside": at("../../../precious"),
    "a path outside by way of a round": at("rounds/0002/adapter/../../../../../precious"),
    "a path outside by way of updates": at("updates/../../../precious"),
    "an absolute path": at("/etc/hostname"),
    "another spelling": at("rounds/0002//state.safetensors"),
    "a dot": at("updates/./x"),
    "another spelling of a round": at("rounds/00002/state.safetensors"),
    "a null byte": at("updates/\0"),
    "half a character": at("updates/\ud800"),
    "a file that is never purged": at("rounds/0002/manifest.json"),
    "the run itself": at("run.json"),
    "a round that is kept": at("rounds/0001/state.safetensors"),
    "an unknown field": lambda document: document.update(more=1),
    "an unknown field of a purge": of_entry(more=1),
    "an unknown field of a file": of_first_file(lambda file: file.update(more=1)),
    "a missing field": lambda document: document["purges"][0].pop("day"),
    "another version": lambda document: document.update(version=2),
    "a version of another type": lambda document: document.update(version="1"),
    "no list": lambda document: document.update(purges={}),
    "a round of another type": of_entry(**{"first-round": "2"}),
    "a round that is true": of_entry(**{"first-round": True}),
    "a round before the first": of_entry(**{"first-round": -1}),
    "no request": of_entry(requests=[]),
    "a short request": of_entry(requests=["0xab"]),
    "a request without its mark": of_entry(requests=["ab" * 32]),
    "no day": of_entry(day="2026-13-01"),
    "a time": of_entry(day="2026-01-01T00:00:00"),
    "no files": of_entry(files=[]),
    "a file twice": lambda d: d["purges"][0]["files"].append(d["purges"][0]["files"][0]),
    "a purge twice": lambda d: d["purges"].append(d["purges"][0]),
    "no digest": of_first_file(lambda file: file.update(sha256="AB" * 32)),
    "less than nothing": of_first_file(lambda file: file.update(bytes=-1)),
    "half a byte": of_first_file(lambda file: file.update(bytes=0.5)),
}


@pytest.fixture
def cut_short(run, tmp_path):
    """A run of whose purge nothing but the note was done, and what it must not reach."""
    (tmp_path / "precious").write_bytes(b"precious")
    with pytest.MonkeyPatch.context() as patch:
        Death(patch, 1)
        with pytest.raises(KilledError):
            run.purge()
    return run


def refused(run, match):
    before = run.files()
    with pytest.raises(ArchiveError, match=match):
        run.purge()
    assert run.files() == before
    assert (run.archive.folder.parent.parent / "precious").read_bytes() == b"precious"


def test_an_altered_note_is_refused_deletes_nothing_and_fails(cut_short):
    original = (cut_short.archive.folder / "purged.json").read_bytes()
    for what, change in ALTERED.items():
        rewritten(cut_short, change)
        refused(cut_short, r"purged\.json was altered")
        with pytest.raises(ArchiveError):
            purged_by(cut_short.archive, 3)
        (cut_short.archive.folder / "purged.json").write_bytes(original)
        assert len(purges_of(cut_short.archive)) == 1, what
    (cut_short.archive.folder / "purged.json").write_text("[]")
    refused(cut_short, "expected a JSON object")
    failed = cut_short.failures()
    assert [(check.round, check.name) for check in failed] == [(0, "purges")]


def test_a_note_that_names_an_update_of_a_kept_round_is_refused(cut_short):
    kept = next(iter(cut_short.archive.openings(1).values())).update_hash
    rewritten(cut_short, at(f"updates/{kept.hex()}.safetensors"))
    refused(cut_short, "which a round that is kept was made of")


@pytest.mark.parametrize(
    "place", ["rounds/0003", "rounds/0003/adapter", "rounds/0003/state.safetensors", "updates"]
)
def test_a_link_is_not_followed_before_the_note_nor_after_it(run, tmp_path, place):
    (tmp_path / "precious").write_bytes(b"precious")
    elsewhere = tmp_path / "elsewhere"
    path = run.archive.folder / place
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    refused(run, "is a link, or no file")
    path.unlink()
    shutil.move(elsewhere, path)
    with pytest.MonkeyPatch.context() as patch:
        Death(patch, 1)
        with pytest.raises(KilledError):
            run.purge()
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)
    refused(run, "is a link, or no file")


def test_a_kept_round_whose_openings_cannot_be_read_keeps_everything(run, tmp_path):
    (tmp_path / "precious").write_bytes(b"precious")
    (run.archive.round_folder(1) / "openings.json").unlink()
    refused(run, r"openings\.json is missing")


@pytest.mark.parametrize(("first", "requests"), [(-1, [bytes(32)]), (1, []), (1, [b"short"])])
def test_a_purge_of_no_round_or_for_no_request_is_refused(run, first, requests):
    before = run.files()
    with pytest.raises(ValueError, match=r"expected|32"):
        purge_rounds(run.archive, first, requests)
    assert run.files() == before


def test_an_organization_deletes_its_own_openings_and_keeps_what_it_signed(run_once, tmp_path):
    record = OwnRecord(tmp_path / "east", run_once.task)
    assert record.purge(1) == []
    for number in (1, 2, 3):
        arrays = {
            name: np.ascontiguousarray(array)
            for name, array in honest_update(run_once.rule, number, "east", 4).items()
        }
        opening = run_once.archive.openings(number)["east"]
        signed = signed_update(
            run_once.context,
            "east",
            number,
            bytes(32),
            update_hash=opening.update_hash,
            num_examples=examples_of("east"),
        )
        record.replied(signed, bytes([number]) * 32, arrays, {})
    folder = tmp_path / "east" / "tasks" / run_once.task.hex() / "openings"
    (folder / ".round-0003.safetensors.x_1").write_bytes(b"half")
    (folder / "notes.txt").write_text("ours")
    assert record.purge(2) == [
        ".round-0003.safetensors.x_1",
        "round-0002.json",
        "round-0002.safetensors",
        "round-0003.json",
        "round-0003.safetensors",
    ]
    assert record.purge(2) == []
    assert sorted(path.name for path in folder.iterdir()) == [
        "notes.txt",
        "round-0001.json",
        "round-0001.safetensors",
    ]
    assert record.payload(record.reply_in(1)).keys() == arrays.keys()
    purged = record.reply_in(2)
    assert (purged.digest, any(purged.signed.opening.salt)) == (bytes([2]) * 32, False)
    with pytest.raises(ArchiveError, match=r"round-0002\.safetensors is missing"):
        record.payload(purged)
