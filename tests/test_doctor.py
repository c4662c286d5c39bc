"""`foedus doctor`: each thing that can be amiss on a machine is found, with what to do about it."""

import os
import shutil
import sqlite3
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import flwr.common.constant
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blockchain.merkle import organization_id
from blockchain.private.founding import found
from client_app.deployment.certificates import CA_DAYS, make_authority
from client_app.deployment.coordinator import certificates, configuration_path
from client_app.deployment.node import node_path
from client_app.deployment.processes import Processes
from client_app.doctor import clocks, disk, secret_files, versions
from client_app.doctor.check import Status
from client_app.doctor.examination import examine
from client_app.doctor.machine import Machine, Told
from client_app.doctor.registry import ORGANIZATION
from llm import model_source
from strategies.federation_word import FederationWord
from strategies.home import ledger_folder
from strategies.organization_key import key_folder
from tests.doctor_cases import (
    BUNDLE,
    coordinator_machine,
    fails,
    fresh,
    holds,
    organization_machine,
    told,
    warns,
    write_rows,
)
from tests.signing_cases import account_of


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FOEDUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def coordinator(tmp_path):
    return coordinator_machine(tmp_path / "coordinator")


@pytest.fixture
def north(tmp_path, coordinator):
    return organization_machine(tmp_path / "north", certificates(coordinator.home))


def test_a_file_that_says_nothing_that_can_be_is_named_with_what_to_do(coordinator, north):
    holds(coordinator, "configuration", "2 organizations")
    holds(north, "configuration", "north")
    path = configuration_path(coordinator.home)
    path.write_text(path.read_text().replace("[run]", "[run]\nrounds = 0"))
    fails(coordinator, "configuration", "rounds", "edit coordinator.toml")
    path.write_text("port = = 1")
    fails(coordinator, "configuration", f"{path} is no TOML", "edit coordinator.toml")
    path = node_path(north.home, "north")
    path.write_text(path.read_text().replace('"embedded"', '"reviews.jsonl"'))
    fails(north, "configuration", "absolute path", "edit node.toml")
    other = organization_machine(north.home, name="south")
    shutil.copy(node_path(north.home, "south"), path)
    fails(fresh(north), "configuration", "is that of south, in the folder of north", "move")
    fails(other, "joined", "south has not joined", "`foedus join INVITATION`")


def test_versions_that_are_not_those_of_foedus_are_named(coordinator, monkeypatch):
    holds(coordinator, "versions", "Foedus 0.1.0", "flwr 1.41.0", "torch 2.13.0")
    holds(coordinator, "node", "Node v24")
    there = versions.version_of
    for package, version, said in (
        ("flwr", "1.40.0", "flwr 1.40.0, expected 1.41.0"),
        ("torch", None, "torch is missing, expected 2.13.0"),
        ("foedus", None, "Foedus is not installed"),
    ):

        def other(name, package=package, version=version):
            return version if name == package else there(name)

        monkeypatch.setattr(versions, "version_of", other)
        fails(coordinator, "versions", said, "`make setup`")
    monkeypatch.undo()
    monkeypatch.setattr(versions, "PYTHON", (3, 12))
    fails(coordinator, "versions", "expected 3.11", "`make setup`")


def test_an_application_that_is_not_agreed_to_is_named_with_its_hash(tmp_path, north, monkeypatch):
    monkeypatch.setattr(versions, "own_bundle", lambda: BUNDLE)
    holds(north, "bundle", BUNDLE[:16])
    monkeypatch.setattr(versions, "own_bundle", lambda: "cd" * 32)
    fails(north, "bundle", "cd" * 32, "add it to bundles in", "foedus up")
    none = organization_machine(
        tmp_path / "none", certificates(tmp_path / "coordinator"), bundles=[]
    )
    fails(none, "bundle", "bundles is empty", "cd" * 32)


@pytest.mark.parametrize(
    ("gib", "status"), [(0.5, "fails"), (1.5, "warns"), (5.5, "ok"), (900, "ok")]
)
def test_little_room_is_warned_of_and_too_little_fails(coordinator, monkeypatch, gib, status):
    usage = SimpleNamespace(free=int(gib * (1 << 30)))
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: usage)
    found = disk.disk(coordinator)
    assert found.status == status
    assert ("make room" in found.remedy) == (status != "ok")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, coordinator, monkeypatch):
    holds(coordinator, "cache", str(tmp_path / "cache"))
    assert not (tmp_path / "cache").exists()
    monkeypatch.setenv("FOEDUS_CACHE", "/proc/cache")
    fails(coordinator, "cache", "/proc/cache cannot be written to", "`FOEDUS_CACHE`")
    fails(Machine(tmp_path / "none"), "disk", "No such file or directory", "owns")


def test_secrets_that_others_may_read_or_that_are_missing_are_named(coordinator, north):
    holds(coordinator, "secret files", "3 files")
    holds(north, "secret files", "4 files")
    for machine, path in (
        (coordinator, certificates(coordinator.home).authority_key),
        (coordinator, certificates(coordinator.home).server_key),
        (north, north.home / "organizations" / "north" / "node" / "node"),
        (north, node_path(north.home, "north")),
        (north, key_folder(north.home, "north") / "signing.passphrase"),
    ):
        for mode in (0o640, 0o604, 0o620):
            path.chmod(mode)
            fails(machine, "secret files", f"others may read: {path}", f"`chmod 600 {path}`")
        path.chmod(0o600)
        holds(machine, "secret files")
    path.unlink()
    fails(north, "secret files", f"missing: {path}", "backup")


def test_files_that_another_user_has_put_out_of_reach_are_named(north, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(13, "Permission denied", str(path))

    path = key_folder(north.home, "north") / "signing.json"
    monkeypatch.setattr(type(path), "stat", refuse)
    found = secret_files.secret_files(north)
    assert found.status is Status.FAILS
    assert f"{path} cannot be looked at" in found.found
    assert f"the user who owns {north.home}" in found.remedy


def test_the_authoritys_certificate_is_there_holds_and_is_its_keys(tmp_path, coordinator, north):
    holds(coordinator, "authority", str(certificates(coordinator.home).authority))
    holds(north, "authority", "3649 days")
    kept = north.home / "chain" / "ca.pem"
    for days, said, remedy in (
        (CA_DAYS + 1, "it has ended on", "new invitation"),
        (-2, "it holds from", "timedatectl"),
    ):
        moment = datetime.now(UTC) - timedelta(days=days)
        other = make_authority(tmp_path / str(days), moment)
        kept.write_bytes(other.authority.read_bytes())
        fails(north, "authority", said, remedy)
    ending = make_authority(tmp_path / "ending", datetime.now(UTC) - timedelta(days=CA_DAYS - 9))
    kept.write_bytes(ending.authority.read_bytes())
    warns(north, "authority", "(8 days)", "new invitation")
    kept.unlink()
    fails(north, "authority", f"{kept}: no certificate in PEM", "`foedus join`")
    certificates(coordinator.home).authority_key.write_bytes(ending.authority_key.read_bytes())
    fails(coordinator, "authority", "is not the key of", "backup")


@example(ahead=-29.0, trip=20.0, when=1.0)
@example(ahead=4.0, trip=20.0, when=0.0)
@given(ahead=st.floats(-400, 400), trip=st.floats(0, 20), when=st.floats(0, 1))
def test_a_clock_is_wrong_only_where_no_moment_of_the_answer_explains_it(ahead, trip, when):
    """The coordinator read its clock somewhere between question and answer."""
    now = 1.8e9
    word = FederationWord(deployment=None, time=now + trip * when - ahead)
    machine = Machine("/home", "north")
    vars(machine)["told"] = Told(word, now, now + trip)
    found = clocks.clock(machine)
    if -clocks.LIMIT_SECONDS < ahead < clocks.AHEAD_SECONDS:
        assert found.status is Status.HOLDS
    if not -clocks.LIMIT_SECONDS - trip - 1 < ahead < clocks.AHEAD_SECONDS + trip + 1:
        assert found.status is Status.FAILS
        assert "timedatectl" in found.remedy
        assert ("ahead of" if ahead > 0 else "behind") in found.found


def test_a_node_may_be_no_further_ahead_than_flower_allows():
    assert clocks.AHEAD_SECONDS == flwr.common.constant.SYSTEM_TIME_TOLERANCE


def machine_told(machine, **changes):
    """The same machine, once the door has said this."""
    heard = fresh(machine)
    now = time.time()
    vars(heard)["told"] = Told(FederationWord.read(told(**changes)), now, now)
    return heard


def test_a_coordinator_of_another_or_an_older_version_is_named(north):
    assert versions.coordinators(machine_told(north)).status is Status.HOLDS
    for changes, said in (
        ({"foedus": "0.2.0"}, "Foedus 0.2.0 at the coordinator, 0.1.0 here"),
        ({"flwr": "1.42.0"}, "Flower 1.42.0 at the coordinator, 1.41.0 here"),
    ):
        found = versions.coordinators(machine_told(north, **changes))
        assert found.status is Status.FAILS
        assert said in found.found
        assert "git pull" in found.remedy
    older = machine_told(north, foedus="", flwr="", time=None)
    for look in (versions.coordinators, clocks.clock):
        assert look(older).status is Status.WARNS
        assert "up to date" in look(older).remedy


def test_records_are_read_as_a_run_would_and_nothing_in_them_is_said(tmp_path, coordinator):
    files = certificates(coordinator.home)
    path = write_rows(tmp_path / "rows.jsonl", text="review")
    north = organization_machine(tmp_path / "n", files, data=str(path))
    holds(north, "data", "60 rows")
    [check] = [one for one in ORGANIZATION if one.name == "records"]

    def records(**run):
        [one] = examine(machine_told(north, run=run), [check])
        return one.finding

    wrong = records()
    assert wrong.status is Status.FAILS
    assert "data-fields" in wrong.remedy
    assert "wise" not in wrong.found
    right = records(**{"data-fields": "text=review"})
    assert right.status is Status.HOLDS
    assert "to train on" in right.found
    assert records(**{"data-fields": "nonsense=review"}).status is Status.FAILS
    path.write_text(path.read_text() + '{"review": "my secret illness"\n')
    fails(north, "data", f"{path}:61: ", "correct the file")
    path.write_text("")
    assert records(**{"data-fields": "text=review"}).status is Status.FAILS
    path.unlink()
    fails(north, "data", f"{path}: no such file", "data in node.toml")


def test_data_and_models_that_have_to_be_fetched_are_not(tmp_path, coordinator, monkeypatch):
    files = certificates(coordinator.home)
    embedded = organization_machine(tmp_path / "e", files, name="cinema")
    hub = organization_machine(tmp_path / "h", files, data="hub:owner/reviews")
    holds(embedded, "data", "the first run fetches 2.5 MB")
    holds(hub, "data", "the first run fetches what is not cached")
    unknown = organization_machine(tmp_path / "u", files)
    fails(unknown, "data", "no embedded data of 'north'", "node.toml")
    holds(coordinator, "model", "the first run fetches 93 MB")
    (tmp_path / "cache" / "SmolLM2-135M-Instruct").mkdir(parents=True)
    warns(coordinator, "model", "its manifest is missing", "copy the folder")
    path = configuration_path(coordinator.home)
    path.write_text(path.read_text().replace("[run]", '[run]\nmodel = "owner/large"'))
    asked, look = [], model_source.snapshot_download
    monkeypatch.setattr(
        model_source, "snapshot_download", lambda *a, **more: asked.append(more) or look(*a, **more)
    )
    holds(coordinator, "model", "the first run fetches it from the Hugging Face hub")
    assert [more["local_files_only"] for more in asked] == [True]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fails(coordinator, "model", "forbids to fetch it", "unset HF_HUB_OFFLINE")
    path.write_text(path.read_text().replace("owner/large", "/no/such"))
    fails(coordinator, "model", "/no/such: no such folder", "coordinator.toml")
    path.write_text(path.read_text().replace("/no/such", str(tmp_path)))
    holds(coordinator, "model", str(tmp_path))


def test_a_ledger_is_verified_where_there_is_one_and_none_is_made(north):
    holds(north, "ledger", "none yet")
    folder = ledger_folder(north.home, "north")
    assert not folder.exists()
    found(folder, organization_id("north"), account_of("north"))
    holds(north, "ledger", "1 blocks")
    with sqlite3.connect(folder / "ledger.sqlite") as file:
        file.execute("UPDATE blocks SET time = time + 1")
    fails(north, "ledger", "block 0", "`foedus ledger verify`")
    (folder / "ledger.sqlite").write_bytes(b"nonsense" * 1000)
    fails(north, "ledger", "ledger.sqlite", "`foedus ledger restore`")


def test_processes_that_do_not_run_are_named_with_their_logs(tmp_path, coordinator, north):
    fails(
        coordinator, "processes", "superlink, door, chain: not running", "`foedus up`", "door.log"
    )
    fails(north, "processes", "supernode: not running", "`foedus up`", "supernode.log")
    started = Processes(north.home / "organizations" / "north" / "processes")
    try:
        started.start("supernode", ["sleep", "60"], os.environ)
        holds(north, "processes", "supernode")
    finally:
        started.stop()
    elsewhere = coordinator_machine(tmp_path / "e", chain_url="https://node.example", chain_id=5)
    holds(elsewhere, "node", "not needed")
    fails(elsewhere, "processes", "superlink, door: not running", "`foedus up`")
