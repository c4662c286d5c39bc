"""End to end on separate machines: a coordinator and three organizations, by the commands alone.

TLS, SuperNode authentication and the bundle's guard are on. Each machine has a network namespace of
its own where the test may make them, and a loopback port where not.
"""

import base64
import contextlib
import hashlib
import json
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from client_app.deployment.coordinator import certificates
from tests.chain_samples import free_port
from tests.foedus_home import wait_for
from tests.machines import NAMES, NODE_PORTS, Federation, Machine, changed, join, node_toml
from tests.machines import federation as machines
from tests.network import Namespaces

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]

RECORDER = Path(__file__).with_name("recorder.py")


@pytest.fixture(scope="module")
def federation(tmp_path_factory):
    """All of them have joined, up and running; what leaves north's machine is recorded."""
    folder = tmp_path_factory.mktemp("machines")
    with machines(folder) as fed, recorded(fed) as address:
        join(fed, {"north": address})
        yield fed


@contextlib.contextmanager
def recorded(fed: Federation) -> Iterator[str]:
    """Record what leaves north's machine; gives the address at which it reaches the coordinator."""
    site, port = fed.coordinator.site, free_port()
    files = certificates(fed.coordinator.path)
    proxy = [
        *("connections", "--output", str(fed.folder / "sent")),
        *("--host", site.address, "--port", str(port)),
        *("--to", str(site.ports.get("port", 9443))),
        *("--certificate", str(files.server), "--key", str(files.server_key)),
        *("--authority", str(files.authority)),
    ]
    started = [[*site.entry, sys.executable, RECORDER, *proxy]]
    if isinstance(fed.net, Namespaces):
        tap = ("--port-name", fed.net.port_of("north"), "--output", fed.folder / "packets.json")
        started.append([*fed.net.at_the_switch, sys.executable, RECORDER, "packets", *tap])
    with contextlib.ExitStack() as ended:
        for command in started:
            process = ended.enter_context(subprocess.Popen(command))
            ended.callback(process.terminate)
        wait_for((fed.folder / "sent").exists, seconds=30)
        yield f"{site.address}:{port}"


def test_a_run_ends_and_holds_wherever_it_is_checked(federation):
    summary = federation.run("treaty")
    assert set(summary["organizations"]) == set(federation.organizations)
    assert federation.coordinator.json("verify")
    # Of the run there, and of its own ledger at each organization.
    page = Path(federation.coordinator.json("report")["file"])
    assert "treaty" in page.read_text()
    for name, machine in federation.organizations.items():
        machine.json("ledger", "verify", "--org", name)
        machine.json("agent", "verify", "--org", name)
        own = Path(machine.json("report")["file"]).read_text()
        assert f"Private ledger of {name}" in own
        assert not [other for other in federation.organizations if f">{other}<" in own]
        assert not (machine.path / "runs").exists()
        # Where the coordinator's file lies was not told; what it holds was fetched.
        [handed] = (machine.path / "public-validation").iterdir()
        assert handed.read_bytes() == (federation.data / "public.jsonl").read_bytes()
    run = json.loads((federation.coordinator.run_folder("treaty") / "run.json").read_text())
    assert run["terms"]["public-validation"] == f"sha256:{handed.name}"
    assert run["terms"]["public-validation-hash"]


def test_nothing_of_a_record_leaves_its_organizations_machine(federation):
    sent = (federation.folder / "sent").read_bytes()
    # The control: inside TLS the recorder sees what travels.
    for known in (b"POST /join", b"POST /v1/fleet/push-object", b"commitment", b"north"):
        assert known in sent
    rows = [json.loads(line) for line in (federation.data / "north.jsonl").open()]
    tokenizer = AutoTokenizer.from_pretrained(federation.folder / "tiny")
    for row in rows:
        for what in traces_of(row, tokenizer):
            assert what not in sent, row["id"]
    if isinstance(federation.net, Namespaces):
        address = federation.coordinator.site.address
        packets = json.loads((federation.folder / "packets.json").read_text())
        told = {where.rpartition(":")[0] for where in packets if where.startswith("tcp")}
        assert told == {f"tcp {address}"}
        # Who has which address, and who is a neighbour.
        others = {where for where in packets if not where.startswith(("tcp", "arp", "ipv6 ff02"))}
        assert not others


def traces_of(row: dict, tokenizer) -> Iterator[bytes]:
    """Whatever would show that a record was sent, or a part of it."""
    for told in (row["id"], row["text"], row["label"]):
        plain = told.encode()
        yield from (plain, plain.hex().encode(), told.encode("utf-16-le"))
        # A base64 of anything that holds it has one of these in it.
        for shift in range(3):
            coded = base64.b64encode(bytes(shift) + plain)
            yield coded[(0, 2, 3)[shift] : -4]
        if len(plain) > len("positive"):
            digest = hashlib.sha256(plain).digest()
            yield from (digest, digest.hex().encode())
    tokens = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
    yield from (np.asarray(tokens, kind).tobytes() for kind in ("<i2", "<i4", "<i8"))


def test_the_doctor_finds_machines_well_that_have_run_and_tells_what_stopped(federation):
    coordinator, organizations = federation.coordinator, federation.organizations
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
    machines = (federation.coordinator, *federation.organizations.values())
    files = [path for machine in machines for path in secret_files(machine)]
    assert len(files) == 4 + 6 * len(federation.organizations)
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    # Of a key in PEM a line in its middle: the first and the last may be the same in many.
    plain = [path for path in files if path.suffix in {".passphrase", ".key", ""}]
    secrets = [(lines := path.read_bytes().split())[len(lines) // 2] for path in plain]
    said = [(path, path.read_bytes()) for one in machines for path in one.path.rglob("*.log")]
    said += [(p.pid, " ".join(p.cmdline()).encode()) for m in machines for p in m.processes()]
    said.append(("what north has sent", (federation.folder / "sent").read_bytes()))
    assert len(said) > len(machines) * 3
    for secret in secrets:
        assert len(secret) >= 16
        for where, content in said:
            assert secret not in content, where


def secret_files(machine: Machine) -> list[Path]:
    """What its owner alone may read: keys and what opens them."""
    own, coordinator = machine.path / "organizations" / machine.name, machine.path / "coordinator"
    folders = (own / "keys", own / "node", coordinator / "tls", machine.path / "chain" / "keys")
    kinds = ("*.passphrase", "*.json", "*.key", "node")
    found = [path for folder in folders for kind in kinds for path in folder.glob(kind)]
    return [*found, *own.glob("ledger/secrets.sqlite")]


@pytest.mark.long
def test_one_that_joins_late_is_admitted_by_the_members_and_takes_part(federation):
    coordinator, folder = federation.coordinator, federation.folder
    rows = folder / "west.jsonl"
    rows.write_text((federation.data / "east.jsonl").read_text().replace("east", "west"))
    west = Machine(folder / "west", federation.net.site("west", NODE_PORTS))
    with contextlib.ExitStack() as ended:
        ended.callback(west.close)
        told = coordinator.path / "coordinator" / "coordinator.toml"
        changed(told, {"organizations": [*NAMES, "west"]})
        ended.callback(changed, told, {"organizations": list(NAMES)})
        coordinator.json("up")
        coordinator.json("invite", "west", "--output", str(folder / "west.json"))
        west.json("init", "organization", "--org", "west", "--data", str(rows))
        west.json("join", str(folder / "west.json"))
        changed(node_toml(west), west.site.ports)
        west.json("up")
        early = coordinator.foedus("run", "-c", "run-name=early")
        assert early.returncode == 1
        assert "west has joined and is no member yet" in early.stderr
        proposal = str(folder / "admit-west.json")
        coordinator.json("members", "admit", "west", "--output", proposal)
        approvals = [str(folder / f"admit-west-{name}.json") for name in ("north", "south")]
        for name, path in zip(("north", "south"), approvals, strict=True):
            member = federation.organizations[name]
            member.json("members", "approve", proposal, "--org", name, "--output", path)
        alone = coordinator.foedus("members", "execute", proposal, approvals[0])
        assert alone.returncode == 1
        assert "1 of 2 members that it takes approved" in alone.stderr
        made = coordinator.json("members", "execute", proposal, *approvals)
        assert made["organization"] == "west"
        assert {one["name"] for one in coordinator.json("members")["members"]} == {*NAMES, "west"}
        # Whoever has another key since, and whoever is new, can pay for anchors all the same.
        south = federation.organizations["south"]
        south.json("keys", "rotate", "--org", "south")
        summary = federation.run("four")
        assert set(summary["organizations"]) == {*NAMES, "west"}
        assert coordinator.json("verify")
        for machine in (south, west):
            verified = machine.json("ledger", "verify", "--org", machine.name)
            assert verified["anchored"]["records"] == verified["records"]


@pytest.mark.long
def test_one_that_has_left_is_started_no_more_and_the_next_run_goes_on_without_it(federation):
    coordinator, organizations = federation.coordinator, federation.organizations
    east = organizations["east"]
    refused = organizations["north"].foedus("leave", "--yes")
    assert refused.returncode == 1
    assert "it is an attestor, an attestation needs 2 of them" in refused.stderr
    left = east.json("leave", "--yes")
    assert (left["organization"], left["block"] > 0) == ("east", True)
    assert east.json("down") == {"stopped": ["supernode"]}
    again = east.foedus("up")
    assert again.returncode == 1
    assert f"east has left the federation (block {left['block']})" in again.stderr
    summary = coordinator.json("run", "-c", "run-name=without")
    assert set(summary["organizations"]) == {"north", "south"}
    assert coordinator.json("verify")
