"""`foedus doctor` before a real door and a real chain: what is amiss between machines is found."""

import json
import shutil
import socket
import time
from datetime import UTC, datetime, timedelta

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from blockchain.deployment import deploy, read_deployment, write_deployment
from blockchain.keys import fund_from_development_account
from blockchain.merkle import organization_id
from blockchain.private.founding import found as found_ledger
from client_app.deployment.certificates import SERVER_DAYS, issue_server, make_authority
from client_app.deployment.coordinator import certificates, configuration_path
from client_app.deployment.node import node_key_folder, node_path
from client_app.deployment.start_node import fetch_contracts
from client_app.doctor.check import Status
from client_app.doctor.examination import examine
from client_app.doctor.registry import COORDINATOR, ORGANIZATION
from client_app.own_registration import check_registered
from client_app.request import CoordinatorError
from server_app.serve_gateway import federation
from strategies.deployed_members import founding, joined_organizations
from strategies.federation_word import FederationWord, FederationWordError
from strategies.home import ledger_folder, organization_folder
from strategies.joined import Joined
from strategies.node_key import make_node_key, public_key_of
from strategies.organization_key import SIGNING, key_folder
from strategies.witnessed_blocks import witness, witnessed_file
from tests.chain_samples import free_port
from tests.doctor_cases import (
    SaysOf,
    coordinator_machine,
    fails,
    fresh,
    holds,
    open_door,
    organization_machine,
    serving,
    told,
    warns,
)
from tests.signing_cases import account_of
from tests.travelling_chain import store_key

pytest_plugins = ["tests.chain_fixtures"]

NAMES = ("north", "south")


@pytest.fixture
def coordinator(tmp_path):
    return coordinator_machine(tmp_path / "coordinator")


@pytest.fixture
def files(coordinator):
    return certificates(coordinator.home)


@pytest.fixture
def north(tmp_path, coordinator, files):
    address = f"127.0.0.1:{coordinator.coordinator.port}"
    return organization_machine(tmp_path / "north", files, coordinator=address)


def test_a_door_that_shows_what_it_should_is_trusted_and_one_that_will_end_is_told_of(
    coordinator, files, north
):
    port = coordinator.coordinator.port
    for days, expected in ((0, holds), (SERVER_DAYS - 10, warns)):
        issue_server(files, ["127.0.0.1"], datetime.now(UTC) - timedelta(days=days))
        with open_door(files, port, SaysOf(told())):
            if expected is holds:
                holds(north, "certificate", "for 127.0.0.1", "(396 days)")
                holds(coordinator, "certificate", "(396 days)")
            else:
                warns(north, "certificate", "(9 days)", "the coordinator's `foedus up` renews it")
                warns(coordinator, "certificate", "(9 days)", "`foedus up` renews it")


def test_a_door_that_is_not_the_coordinators_or_is_out_of_date_is_not_trusted(
    tmp_path, coordinator, files, north
):
    port = coordinator.coordinator.port
    issue_server(files, ["127.0.0.1"], datetime.now(UTC) - timedelta(days=SERVER_DAYS + 1))
    with open_door(files, port, SaysOf(told())):
        fails(north, "certificate", "certificate has expired", "`foedus up` renews it", "clock")
        fails(coordinator, "certificate", "certificate has expired", "`foedus up` renews it")
    issue_server(files, ["127.0.0.1"], datetime.now(UTC) + timedelta(days=2))
    with open_door(files, port, SaysOf(told())):
        fails(north, "certificate", "not yet valid", "timedatectl")
    stranger = make_authority(tmp_path / "stranger")
    issue_server(stranger, ["127.0.0.1"])
    with open_door(stranger, port, SaysOf(told())):
        fails(north, "certificate", "unable to get local issuer", "do not go on", "by a way that")
        fails(coordinator, "certificate", "unable to get local issuer", "`foedus down`")


def test_an_address_that_the_certificate_does_not_name_is_named(coordinator, files, north):
    path = configuration_path(coordinator.home)
    text = path.read_text().replace('["127.0.0.1"]', '["127.0.0.1", "new.example", "10.9.9.9"]')
    path.write_text(text)
    with open_door(files, coordinator.coordinator.port, SaysOf(told())):
        fails(coordinator, "certificate", "not valid for 'new.example'", "`foedus up` issues one")
        path.write_text(text.replace('"new.example", ', ""))
        fails(coordinator, "certificate", "not valid for '10.9.9.9'", "`foedus up` issues one")
    # Loopback alone is in every certificate: the address that an organization uses is not.
    there = node_path(north.home, "north")
    there.write_text(there.read_text().replace("127.0.0.1", "127.0.0.2"))
    issue_server(files, ["10.0.0.1"])
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
    with open_door(files, port, SaysOf(told()), host="127.0.0.2"):
        old = fresh(north).node.coordinator
        there.write_text(there.read_text().replace(old, f"127.0.0.2:{port}"))
        fails(north, "certificate", "not valid for '127.0.0.2'", "add 127.0.0.2 to addresses")


@pytest.mark.parametrize("address", ["nowhere", "https://c.example:1", "c.example:70000", ".x:1"])
def test_what_is_no_address_is_said_before_anything_is_asked(tmp_path, files, address):
    machine = organization_machine(tmp_path / "n", files, coordinator=address)
    fails(machine, "certificate", f"'{address}' is no address", "write the coordinator's into")


def test_a_door_that_does_not_answer_is_named_with_who_can_do_something(coordinator, north):
    fails(north, "certificate", "no handshake with 127.0.0.1", "have the coordinator", "port")
    fails(coordinator, "certificate", "refused", "`foedus up`", "door.log")
    with socket.create_server(("127.0.0.1", coordinator.coordinator.port)) as listener:
        listener.settimeout(0.1)
        fails(coordinator, "superlink", "does not answer", "superlink.log")


def test_calls_that_start_runs_are_behind_no_open_port(coordinator, files):
    port = coordinator.coordinator.port
    with open_door(files, port, SaysOf(told())):
        holds(coordinator, "control", "not to be had")
        holds(coordinator, "door", "and the SuperLink behind it")

    async def everything(_):
        return PlainTextResponse("yes", status_code=415)

    app = Starlette(routes=[Route("/{path:path}", everything, methods=["POST"])])
    with serving(app, files, port):
        fails(
            coordinator, "control", "/v1/control/start-run is answered with 415", "close the port"
        )


def test_what_the_door_says_is_read_with_suspicion(coordinator, files, north):
    says = SaysOf(told())
    with open_door(files, coordinator.coordinator.port, says):
        holds(north, "federation", "not founded yet")
        holds(north, "clock")
        fails(north, "founded", "names no contracts", "`foedus deploy`")
        says.answer = told(time=time.time() + 3600)
        fails(north, "clock", "behind the coordinator's", "timedatectl")
        says.answer = told(time=time.time() - 20)
        fails(north, "clock", "refuses what is signed in its future", "timedatectl")
        says.answer = told(foedus="9.9")
        fails(north, "coordinator's versions", "Foedus 9.9 at the coordinator", "git pull")
        for wrong in ({"foedus": "\x1b[2J"}, {"time": "noon"}, {"deployment": {"chain_id": "x"}}):
            says.answer = told(**wrong)
            [name] = wrong
            fails(north, "federation", f"is none: {name}", "`foedus doctor` on its machine")
        says.answer = ["nothing"]
        fails(north, "federation", "no JSON object", "`foedus doctor` on its machine")


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"deployment": None, "foedus": "1" * 65},
        {"deployment": None, "flwr": 1},
        {"deployment": None, "time": float("nan")},
        {"deployment": None, "time": float("inf")},
        {"deployment": None, "time": -1.0},
        {"deployment": None, "run": {"model": 1}},
        {"deployment": None, "run": []},
    ],
)
def test_an_answer_that_is_none_is_refused_in_one_line(wrong):
    with pytest.raises(FederationWordError) as caught:
        FederationWord.read(wrong)
    assert len(str(caught.value).splitlines()) == 1


def test_the_door_tells_what_decides_who_can_take_part_and_no_more(coordinator):
    path = configuration_path(coordinator.home)
    text = path.read_text()
    path.write_text(text.replace("[run]", '[run]\nmodel = "owner/large"\nrounds = 3'))
    word = FederationWord.read({**federation(coordinator.home), "newer": 1})
    assert word.run == {"model": "owner/large"}
    assert abs(word.time - time.time()) < 10
    assert (word.deployment, word.flwr) == (None, "1.41.0")
    path.write_text(f'run = 3\nmodel = "{"x" * 5000}"')
    assert FederationWord.read(federation(coordinator.home)).run == {}
    path.write_text(f'[run]\nmodel = "{"x" * 5000}"\ndata-form = 3')
    assert FederationWord.read(federation(coordinator.home)).run == {}
    path.write_text("[run")
    assert FederationWord.read(federation(coordinator.home)).run == {}
    unknown = {"deployment": None, "run": {"home": "/elsewhere", "data-form": "text-label"}}
    assert FederationWord.read(unknown).run == {"data-form": "text-label"}


class Federation:
    """A coordinator's and an organization's machine on a real chain, founded by both members."""

    def __init__(self, folder, node):
        self.node = node
        self.coordinator = coordinator_machine(
            folder / "coordinator", chain_port=node.port, organizations=list(NAMES)
        )
        self.files = certificates(self.coordinator.home)
        self.port = self.coordinator.coordinator.port
        address = f"127.0.0.1:{self.port}"
        self.machines = {
            name: organization_machine(folder / name, self.files, coordinator=address, name=name)
            for name in NAMES
        }
        for number, name in enumerate(NAMES):
            home = self.machines[name].home
            joined = Joined(
                organization=name,
                key=account_of(name).address,
                node_key=public_key_of(node_key_folder(home, name) / "node"),
                node=100 + number,
                invitation="ab" * 32,
                signature="cd" * 65,
            )
            joined_organizations(self.coordinator.home).write(joined)
        chain, account = self.coordinator.home / "chain", account_of("the doctor's coordinator")
        store_key(chain / "keys", "coordinator", account.key)
        fund_from_development_account(node.settings, account.address, chain)
        deploy(
            node.settings,
            account,
            chain,
            lambda: founding(self.coordinator.settings, account.address),
            managed=True,
        )
        self.says = SaysOf(lambda: federation(self.coordinator.home))

    def door(self):
        return open_door(self.files, self.port, self.says, str(self.node.settings.rpc_url))


@pytest.fixture(scope="module")
def founded(tmp_path_factory, chain_node):
    made = Federation(tmp_path_factory.mktemp("federation"), chain_node)
    with made.door():
        for machine in made.machines.values():
            fetch_contracts(machine.home, machine.node)
        yield made


@pytest.fixture
def member(founded, tmp_path):
    """The machine of `north`, as a copy that a test may spoil."""
    shutil.copytree(founded.machines["north"].home, tmp_path / "copy")
    copy = founded.machines["north"]
    return type(copy)(tmp_path / "copy", "north")


@pytest.fixture
def head(founded, tmp_path):
    """The coordinator's machine, as a copy that a test may spoil."""
    shutil.copytree(founded.coordinator.home, tmp_path / "head")
    return type(founded.coordinator)(tmp_path / "head")


#: What this federation has not: processes of its own, agreement to an application, data.
ABSENT = {"processes", "superlink", "bundle", "data", "records"}


@pytest.mark.real
def test_nothing_is_wrong_with_a_federation_that_was_founded(member, head):
    for machine, checks in ((member, ORGANIZATION), (head, COORDINATOR)):
        looked = [check for check in checks if check.name not in {*ABSENT, "funds"}]
        for one in examine(machine, looked):
            assert one.finding.status is Status.HOLDS, one
    holds(member, "registered", "a member, an attestor")
    holds(head, "joined", "north, south")
    holds(head, "funds", "which opens and seals rounds, has ")


@pytest.mark.real
def test_another_chain_and_other_contracts_are_told_from_the_federations(member, head):
    path = node_path(member.home, "north")
    text = path.read_text()
    path.write_text(text.replace("chain-id = 31337", "chain-id = 5"))
    fails(member, "chain", "serves chain 31337, expected 5", "chain-id in node.toml")
    path.write_text(text.replace('chain-url = ""', f'chain-url = "http://127.0.0.1:{free_port()}"'))
    fails(member, "chain", "no Ethereum node answers", "correct chain-url in node.toml")
    path.write_text(text)
    kept = read_deployment(member.home / "chain")
    other = kept.model_copy(update={"genesis_hash": "0x" + "ab" * 32})
    swapped = {**kept.contracts, "Rounds": kept.contracts["Anchors"]}
    moved = kept.contracts["Rounds"].model_copy(update={"address": "0x" + "11" * 20})
    for changed, said in (
        (other, "was reset"),
        (kept.model_copy(update={"contracts": swapped}), "is not that of this version's"),
        (
            kept.model_copy(update={"contracts": {**kept.contracts, "Rounds": moved}}),
            "no contract Rounds",
        ),
    ):
        for machine, remedy in ((member, "chain-url in node.toml"), (head, "`foedus deploy`")):
            write_deployment(machine.home / "chain", changed)
            fails(machine, "contracts", said, remedy)
        fails(member, "told contracts", "names other contracts", "do not go on")
    for machine in (member, head):
        (machine.home / "chain" / "deployment.json").unlink()
    fails(member, "kept contracts", "no record of all contracts", "`foedus up` fetches them")
    fails(head, "kept contracts", "no record of all contracts", "`foedus deploy`")


@pytest.mark.real
def test_a_block_that_has_left_the_chain_is_evidence(member):
    holds(member, "blocks", "none noted yet")
    chain = fresh(member).chain
    assert witness(chain, member.home, "north") == []
    holds(member, "blocks", "all that were noted stand")
    path = witnessed_file(chain, member.home, "north")
    noted = json.loads(path.read_text())
    path.write_text(json.dumps({**noted, "hash": "0x" + "ab" * 32}) + "\n")
    fails(member, "blocks", f"block {noted['height']}", "`foedus down`", str(path))
    path.write_text("nonsense\n")
    fails(member, "blocks", f"{path}:1 is no noted block", "the other members")


@pytest.mark.real
def test_who_stands_in_the_registry_with_other_keys_or_not_at_all_is_told(
    tmp_path, founded, member
):
    key = node_key_folder(member.home, "north") / "node"
    key.unlink()
    make_node_key(key.parent)
    fails(member, "registered", "has a node key of hash", "backup", "tell the other members")
    store_key(key_folder(member.home, "north"), SIGNING, account_of("somebody else").key)
    fails(member, "registered", f"has the key {account_of('north').address}", "backup")
    address = f"127.0.0.1:{founded.port}"
    west = organization_machine(tmp_path / "w", founded.files, coordinator=address, name="west")
    fetch_contracts(west.home, west.node)
    fails(west, "registered", "west is no member", "`foedus members admit`")


@pytest.mark.real
def test_an_organization_answers_nobody_where_it_stands_in_the_registry_with_other_keys(member):
    chain, own = member.chain, account_of("north")
    check_registered(chain, member.home, "north", own)
    with pytest.raises(CoordinatorError, match="west is no member in the Registry at 0x"):
        check_registered(chain, member.home, "west", own)
    with pytest.raises(CoordinatorError, match=f"has the key {own.address} for north, expected"):
        check_registered(chain, member.home, "north", account_of("somebody else"))
    (node_key_folder(member.home, "north") / "node").unlink()
    make_node_key(node_key_folder(member.home, "north"))
    with pytest.raises(CoordinatorError, match="has a node key of hash 0x"):
        check_registered(chain, member.home, "north", own)


@pytest.mark.real
def test_the_coordinator_learns_who_is_missing_and_whether_it_has_its_role(head):
    path = configuration_path(head.home)
    text = path.read_text()
    path.write_text(text.replace('"south"]', '"south", "west"]'))
    fails(head, "joined", "west did not join yet", "`foedus invite west`")
    record = joined_organizations(head.home)
    south = record.read("south")
    record.write(Joined(**{**vars(south), "organization": "west"}))
    fails(head, "members", "west has joined and is no member yet", "`foedus members admit NAME`")
    path.write_text(text)
    record.write(Joined(**{**vars(south), "node_key": record.read("north").node_key}))
    fails(head, "members", "the node key of south", "agree on what counts")
    keys = head.home / "chain" / "keys"
    store_key(keys, "coordinator", account_of("somebody else").key)
    fails(head, "role", "has no coordinator's role", "backup")
    (keys / "coordinator.json").unlink()
    fails(head, "role", "there is no coordinator's key", "backup")


@pytest.mark.real
def test_an_account_that_cannot_pay_on_a_chain_of_others_is_named(founded, member):
    path = node_path(member.home, "north")
    managed, url = path.read_text(), str(founded.node.settings.rpc_url)
    own = account_of("north").address
    has = f"{own}, which anchors the ledger and claims rewards, has 0"
    warns(member, "funds", has, "foedus run")
    path.write_text(managed.replace('chain-url = ""', f'chain-url = "{url}"'))
    fails(member, "funds", has, "send it")
    fund_from_development_account(founded.node.settings, own, founded.coordinator.home / "chain")
    holds(member, "funds", "has 100 ether")
    path.write_text(managed)
    holds(member, "funds", "has 100 ether")


@pytest.mark.real
def test_an_anchor_that_failed_is_told_with_what_to_look_at(member):
    found_ledger(ledger_folder(member.home, "north"), organization_id("north"), account_of("north"))
    kept = organization_folder(member.home, "north") / "tasks" / "ab" / "anchor.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"outcome": "no money", "failed_at": 1}))
    said = "0 of 1 records are anchored; the last try failed: no money"
    warns(member, "anchored", said, "`funds`", "`foedus ledger anchor`")
    kept.write_text(json.dumps({"outcome": "1 records anchored", "failed_at": None}))
    holds(member, "anchored", "0 records are anchored, and stand")
