"""One fault at a time, in a federation on separate machines: the run ends right and audits hold."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client_app import bundle_guard
from client_app.deployment.certificates import issue_server
from client_app.deployment.coordinator import certificates
from strategies.node_key import make_node_key
from strategies.replies import Verdict
from strategies.round_outcome import RoundOutcome
from strategies.run_archive import RunArchive
from tests.machines import Federation, Machine, join, node_toml
from tests.machines import federation as machines
from tests.network import Loopback

pytestmark = [pytest.mark.real, pytest.mark.long, pytest.mark.timeout(1200)]

#: Seconds that a round waits; with two processors for four machines, an honest one takes 15.
DEADLINE = 60


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    with machines(tmp_path_factory.mktemp("machines"), **{"round-deadline": DEADLINE}) as fed:
        join(fed)
        yield fed


@pytest.fixture
def north(federation):
    return federation.organizations["north"]


def ended(federation: Federation, running, run: str) -> dict:
    """Wait for a run's end; it finished, and its audit and everybody's ledger hold."""
    out, err = running.communicate(timeout=900)
    assert running.returncode == 0, out[-2000:] + err[-3000:]
    return held(federation, run)


def held(federation: Federation, run: str) -> dict:
    assert federation.coordinator.json("verify")
    for name, machine in federation.organizations.items():
        machine.json("ledger", "verify", "--org", name)
        machine.json("agent", "verify", "--org", name)
    folder = federation.coordinator.run_folder(run)
    return json.loads((folder / "summary.json").read_text())


def outcome(federation: Federation, run: str, number: int) -> RoundOutcome:
    """Read what came of a round."""
    return RoundOutcome.from_manifest(
        RunArchive(federation.coordinator.run_folder(run)).manifest(number)
    )


def took_part(federation: Federation, run: str, number: int) -> set[str]:
    """Whose update counts in a round."""
    entries = outcome(federation, run, number).entries
    return {one.organization for one in entries if one.verdict == Verdict.ACCEPTED}


def working(machine: Machine) -> None:
    """Wait until a machine works on a message."""
    deadline = time.monotonic() + 120
    while not machine.processes("bundle_guard"):
        assert time.monotonic() < deadline
        time.sleep(0.01)


EVERYBODY = {"north", "south", "east"}


def test_a_supernode_killed_in_training_and_started_again_takes_part_in_the_next_round(
    federation, north
):
    running = federation.begin("killed-node", rounds=2)
    federation.await_event("killed-node", "round-opened", round=1)
    working(north)
    north.kill()
    assert north.json("up") == {"started": ["supernode"]}
    ended(federation, running, "killed-node")
    assert took_part(federation, "killed-node", 1) >= {"south", "east"}
    assert took_part(federation, "killed-node", 2) == EVERYBODY


def test_an_organization_cut_off_for_a_round_is_there_in_the_next(federation, north):
    if isinstance(federation.net, Loopback):
        pytest.skip(federation.net.description)
    running = federation.begin("cut-off", rounds=2)
    federation.await_event("cut-off", "round-opened", round=1)
    federation.net.cut(north.site)
    federation.await_event("cut-off", "round-sealed", round=1)
    federation.net.mend(north.site)
    ended(federation, running, "cut-off")
    assert took_part(federation, "cut-off", 1) == {"south", "east"}
    assert took_part(federation, "cut-off", 2) == EVERYBODY


def test_who_is_slower_than_the_deadline_is_late_and_what_comes_then_counts_for_nothing(
    federation, north
):
    running = federation.begin("slow", rounds=2)
    federation.await_event("slow", "round-opened", round=1)
    north.signal(signal.SIGSTOP)
    federation.await_event("slow", "organization-absent", organization="north")
    north.signal(signal.SIGCONT)
    ended(federation, running, "slow")
    assert took_part(federation, "slow", 1) == {"south", "east"}
    assert took_part(federation, "slow", 2) == EVERYBODY


def test_who_is_away_at_the_start_keeps_nobody_from_work_and_joins_in_when_it_is_there(
    federation, north
):
    north.json("down")
    running = federation.begin("away", rounds=2)
    federation.await_event("away", "organization-missing", organization="north")
    federation.await_event("away", "round-sealed", round=1)
    north.json("up")
    ended(federation, running, "away")
    assert took_part(federation, "away", 1) == {"south", "east"}
    assert took_part(federation, "away", 2) == EVERYBODY


def test_a_superlink_killed_in_a_round_is_started_again_and_the_run_goes_on(federation):
    running = federation.begin("killed-superlink", rounds=2)
    federation.await_event("killed-superlink", "round-opened", round=2)
    federation.coordinator.kill()
    _, said = running.communicate(timeout=120)
    assert running.returncode == 1
    assert "--resume" in said
    assert "superlink" in federation.coordinator.json("up")["started"]
    again = federation.begin("killed-superlink", rounds=2, resume=True)
    ended(federation, again, "killed-superlink")
    assert federation.happened("killed-superlink", "run-resumed", after=1)
    assert took_part(federation, "killed-superlink", 2) == EVERYBODY


def test_a_chain_that_is_gone_for_a_minute_is_waited_for(federation):
    running = federation.begin("no-chain", rounds=2)
    federation.await_event("no-chain", "round-opened", round=1)
    federation.coordinator.json("chain", "stop")
    time.sleep(60)
    federation.coordinator.json("chain", "start")
    ended(federation, running, "no-chain")
    assert took_part(federation, "no-chain", 2) == EVERYBODY


def test_a_coordinator_killed_between_aggregation_and_seal_seals_that_round_once_it_goes_on(
    federation,
):
    coordinator = federation.coordinator
    running = federation.begin("killed-coordinator", rounds=2)
    federation.await_event("killed-coordinator", "round-opened", round=1)
    federation.await_event("killed-coordinator", "update-accepted")
    # The chain holds its breath: what was aggregated is on disk, and its seal cannot land.
    chain = json.loads((coordinator.path / "chain" / "node.json").read_text())["pid"]
    os.kill(chain, signal.SIGSTOP)
    try:
        manifest = coordinator.run_folder("killed-coordinator") / "rounds" / "0001"
        deadline = time.monotonic() + 120
        while not (manifest / "manifest.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        coordinator.kill("flwr-serverapp")
    finally:
        os.kill(chain, signal.SIGCONT)
    before = (manifest / "manifest.json").read_bytes()
    running.communicate(timeout=300)
    assert running.returncode == 1
    assert not federation.happened("killed-coordinator", "round-sealed", round=1)
    again = federation.begin("killed-coordinator", rounds=2, resume=True)
    ended(federation, again, "killed-coordinator")
    assert (manifest / "manifest.json").read_bytes() == before
    assert federation.happened("killed-coordinator", "run-resumed", after=1)


def test_what_a_hostile_organization_sends_counts_for_nothing_and_costs_the_others_nothing(
    federation, north
):
    attacks = {
        2: ("forged", None),
        3: ("replayed", None),
        4: ("in another's name", Verdict.WRONG_ORGANIZATION),
        5: ("not finite", Verdict.NOT_FINITE),
        6: ("wrongly shaped", Verdict.WRONG_SHAPE),
        7: ("oversized", Verdict.WRONG_NAMES),
        8: ("scaled", Verdict.NORM_EXCEEDED),
    }
    plan = north.path / "attacks.json"
    plan.write_text(json.dumps({number: attack for number, (attack, _) in attacks.items()}))
    hostile = Path(__file__).with_name("hostile_clientapp.py")
    agreed = [part for part in guard_of(north).read_text().split() if len(part) == 64]
    guard_of(north).write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -P "{hostile}" "{bundle_guard.__file__}" "{plan}" '
        f'--bundle {agreed[0]} "$@"\n'
    )
    running = federation.begin("hostile", rounds=len(attacks) + 1)
    summary = ended(federation, running, "hostile")
    assert took_part(federation, "hostile", 1) == EVERYBODY
    for number, (attack, verdict) in attacks.items():
        assert took_part(federation, "hostile", number) == {"south", "east"}, attack
        found = outcome(federation, "hostile", number)
        if verdict is None:
            assert found.absent == {"north": "unsigned"}, attack
        else:
            assert {e.organization: e.verdict for e in found.entries}["north"] == verdict, attack
    # As if it had been away in those rounds.
    north.json("down")
    assert north.json("up") == {"started": ["supernode"]}
    assert summary


def guard_of(machine: Machine) -> Path:
    return machine.path / "organizations" / machine.name / "bin" / "flwr-clientapp"


def test_a_stolen_name_is_answered_to_by_nobody(federation, north):
    south = federation.organizations["south"]
    south.json("down")
    text = node_toml(south).read_text()
    assert north.foedus("down").returncode == 0
    try:
        # South's node says that it is north's, whose machine is off.
        folder = south.path / "organizations" / "south"
        (south.path / "organizations" / "north").mkdir()
        stolen = south.path / "organizations" / "north" / "node.toml"
        stolen.write_text(text.replace('organization = "south"', 'organization = "north"'))
        (stolen.parent / "node").symlink_to(folder / "node")
        south.json("up", "--org", "north")
        refused = federation.coordinator.foedus("run", "-c", "run-name=stolen", "-c", "rounds=1")
        assert refused.returncode == 1
        assert "its node answers for another name than the registry says" in refused.stderr
    finally:
        south.foedus("down", "--org", "north")
        (stolen.parent / "node").unlink()
        stolen.unlink()
        for machine in (north, south):
            machine.json("up")


def test_an_expired_certificate_is_refused_and_renewed(federation, north):
    coordinator = federation.coordinator
    files = certificates(coordinator.path)
    door = json.loads((coordinator.path / "coordinator" / "processes" / "door.json").read_text())
    north.json("down")
    os.killpg(door["pid"], signal.SIGTERM)
    issue_server(files, [coordinator.site.address], datetime.now(UTC) - timedelta(days=400))
    command = [*coordinator.site.entry, *door["command"]]
    with subprocess.Popen(command, env=coordinator.environment) as expired:
        try:
            deadline = time.monotonic() + 60
            while "certificate has expired" not in (refused := north.foedus("up")).stderr:
                assert time.monotonic() < deadline, refused.stderr
            assert refused.returncode == 1
        finally:
            expired.terminate()
    assert "door" in coordinator.json("up")["started"]
    assert north.json("up") == {"started": ["supernode"]}
    # Flower's SuperNode ends where it meets such a certificate.
    for machine in federation.organizations.values():
        machine.json("up")
        assert machine.processes("flower-supernode")


def test_a_node_whose_key_nobody_registered_is_not_let_in(federation, north):
    own = north.path / "organizations" / "north" / "node" / "node"
    registered = own.read_bytes()
    north.json("down")
    try:
        own.write_bytes(make_node_key(federation.folder / "another").read_bytes())
        refused = north.foedus("up")
        assert refused.returncode == 1
        assert "it does not know the node's key" in refused.stderr
        assert not north.processes("flower-supernode")
    finally:
        own.write_bytes(registered)
        assert north.json("up") == {"started": ["supernode"]}
