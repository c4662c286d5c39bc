"""End to end on separate homes: a coordinator and three organizations, by the commands alone.

TLS, SuperNode authentication and the bundle's guard are on. Machines are stood in for by homes and
loopback ports.
"""

import contextlib
import json
import stat
from pathlib import Path

import pytest

from tests.chain_samples import free_port
from tests.foedus_home import FoedusHome
from tests.tiny_model import build_tiny_model
from tests.whole_federation import write_data

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

NAMES = ("north", "south", "east")


class Machine(FoedusHome):
    """A home of its own, and the command in it."""

    def json(self, *arguments: str):
        """What a command that has to succeed prints."""
        done = self.foedus(*arguments, "--json")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """A coordinator and three organizations that have joined, up and running."""
    folder = tmp_path_factory.mktemp("machines")
    model, data = build_tiny_model(folder / "tiny"), write_data(folder / "data")
    coordinator = Machine(folder / "coordinator")
    organizations = {name: Machine(folder / name) for name in NAMES}
    with contextlib.ExitStack() as ended:
        for machine in (coordinator, *organizations.values()):
            ended.callback(machine.foedus, "down")
        coordinator.json(
            *("init", "coordinator", "--organizations", ",".join(NAMES)),
            *("--address", "127.0.0.1", "--port", str(free_port())),
        )
        told(coordinator, model, data)
        assert set(coordinator.json("up")["started"]) == {"chain", "superlink", "door"}
        for name, machine in organizations.items():
            invitation = folder / f"{name}.json"
            coordinator.json("invite", name, "--output", str(invitation))
            rows = str(data / f"{name}.jsonl")
            machine.json("init", "organization", "--org", name, "--data", rows)
            machine.json("join", str(invitation))
            early = machine.foedus("up")
            assert early.returncode == 1
            assert "the federation is not founded yet" in early.stderr
        coordinator.json("deploy")
        for machine in organizations.values():
            [node] = (machine.path / "organizations").glob("*/node.toml")
            changed(node, {"runtime-port": free_port()})
            assert machine.json("up") == {"started": ["supernode"]}
        yield coordinator, organizations


def told(coordinator: Machine, model: Path, data: Path) -> None:
    """Edit the configuration, as its owner would."""
    path = coordinator.path / "coordinator" / "coordinator.toml"
    changed(path, {"superlink-port": free_port(), "chain-port": free_port()})
    settings = {
        "rounds": 1,
        "records-per-round": 32,
        "validation-records": 4,
        "model": str(model),
        "quantization": "none",
        "compute-dtype": "float32",
        "rank": 4,
        "learning-rate": 0.02,
        "batch-size": 4,
        "micro-batch-size": 4,
        "max-tokens": 64,
        "challenge-window": 1,
        "response-window": 1,
        "data-fields": "id=id",
        "public-validation": str(data / "public.jsonl"),
    }
    text = path.read_text()
    assert text.rstrip().endswith("[run]")
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    path.write_text(text.rstrip() + "\n" + "\n".join(lines) + "\n")


def changed(path: Path, values: dict[str, object]) -> None:
    lines = path.read_text().splitlines()
    for key, value in values.items():
        [at] = [n for n, line in enumerate(lines) if line.startswith(f"{key} = ")]
        lines[at] = f"{key} = {json.dumps(value)}"
    path.write_text("\n".join(lines) + "\n")


def test_a_run_over_separate_homes_ends_and_holds_wherever_it_is_checked(federation):
    coordinator, organizations = federation
    summary = coordinator.json("run", "-c", "run-name=treaty")
    assert {one["domain"] for one in summary["organizations"].values()}
    assert coordinator.json("verify")
    for name, machine in organizations.items():
        machine.json("ledger", "verify", "--org", name)
        machine.json("agent", "verify", "--org", name)
        assert not (machine.path / "runs").exists()


def test_the_doctor_finds_machines_well_that_have_run_and_tells_what_stopped(federation):
    coordinator, organizations = federation
    for machine in (coordinator, *organizations.values()):
        said = machine.json("doctor")
        assert said["holds"], said
        assert {one["status"] for one in said["checks"]} == {"ok"}, said
    north = organizations["north"]
    north.json("down")
    done = north.foedus("doctor", "--json")
    wrong = [one for one in json.loads(done.stdout)["checks"] if one["status"] != "ok"]
    assert done.returncode == 1
    assert [(one["check"], "`foedus up`" in one["remedy"]) for one in wrong] == [
        ("processes", True)
    ]
    north.json("up")


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_what_one_organization_asks_to_be_forgotten_is_and_another_checks_the_receipt(federation):
    coordinator, organizations = federation
    coordinator.json("run", "-c", "run-name=three", "-c", "rounds=3")
    north, south = organizations["north"], organizations["south"]
    record = north.json("ledger", "show", "--org", "north", "--records", "1")["records"][0]
    asked = north.json("unlearn", "--org", "north", "--records", record)
    assert asked["state"] == "open"
    done = coordinator.foedus("unlearn", "carry-out")
    assert done.returncode == 0, done.stderr[-3000:]
    [request] = north.json("unlearn", "status")["requests"]
    assert (request["id"], request["state"]) == (asked["id"], "completed")
    for machine in (north, south, coordinator):
        receipt = machine.json("receipt", asked["id"])
        assert receipt["holds"], receipt
        assert receipt["evidence"]["label"] == "EXACT_REPLAY"
    assert coordinator.json("verify")


def test_no_secret_stands_where_others_read_it(federation):
    coordinator, organizations = federation
    secret_files = [
        coordinator.path / "coordinator" / "tls" / "ca.key",
        coordinator.path / "coordinator" / "tls" / "server.key",
        *(m.path / "organizations" / n / "node" / "node" for n, m in organizations.items()),
        *(m.path / "organizations" / n / "node.toml" for n, m in organizations.items()),
    ]
    for path in secret_files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
