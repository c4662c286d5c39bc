"""End to end on separate machines: a coordinator and three organizations, by the commands alone.

TLS, SuperNode authentication and the bundle's guard are on. Each machine has a network namespace of
its own where the test may make them, and a loopback port where not.
"""

import stat

import pytest

from tests.machines import federation as machines
from tests.machines import join

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """All of them have joined, up and running."""
    with machines(tmp_path_factory.mktemp("machines")) as fed:
        print(f"machines stand in: {fed.net.description}")
        for machine in fed.organizations.values():
            early = machine.foedus("up")
            assert early.returncode == 2
        join(fed)
        yield fed


def test_a_run_ends_and_holds_wherever_it_is_checked(federation):
    summary = federation.run("treaty")
    assert set(summary["organizations"]) == set(federation.organizations)
    assert federation.coordinator.json("verify")
    for name, machine in federation.organizations.items():
        machine.json("ledger", "verify", "--org", name)
        machine.json("agent", "verify", "--org", name)
        assert not (machine.path / "runs").exists()


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_what_one_organization_asks_to_be_forgotten_is_and_another_checks_the_receipt(federation):
    coordinator = federation.coordinator
    federation.run("three", rounds=3)
    north, south = federation.organizations["north"], federation.organizations["south"]
    record = north.json("ledger", "show", "--org", "north", "--records", "1")["records"][0]
    asked = north.json("unlearn", "--org", "north", "--records", record)
    assert asked["state"] == "open"
    coordinator.json("unlearn", "carry-out")
    [request] = north.json("unlearn", "status")["requests"]
    assert (request["id"], request["state"]) == (asked["id"], "completed")
    for machine in (north, south, coordinator):
        receipt = machine.json("receipt", asked["id"])
        assert receipt["holds"], receipt
        assert receipt["evidence"]["label"] == "EXACT_REPLAY"
    assert coordinator.json("verify")


def test_no_secret_stands_where_others_read_it(federation):
    secret_files = [
        federation.coordinator.path / "coordinator" / "tls" / "ca.key",
        federation.coordinator.path / "coordinator" / "tls" / "server.key",
    ]
    for name, machine in federation.organizations.items():
        own = machine.path / "organizations" / name
        secret_files += [own / "node" / "node", own / "node.toml"]
    for path in secret_files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
