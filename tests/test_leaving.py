"""An organization leaves for good by its own signature, on a real chain; nobody waits for it."""

import io
import json
import shutil

import pytest

from blockchain.errors import TransactionRevertedError
from blockchain.membership import DEPARTURE_TYPE, Change, ChangeKind
from blockchain.merkle import organization_id
from blockchain.private import data_sets
from blockchain.typed_data import digest, sign_digest
from blockchain.unlearning_messages import UnlearningScope
from client_app import leaving
from client_app.cli.run import _without_departed
from client_app.deployment.node import NodeConfiguration, write_node
from client_app.deployment.start_node import NotReadyError, check_not_left
from client_app.leaving import LeavingError, check_leaving, leave
from client_app.ledger_opening import open_ledger
from client_app.own_record import OwnRecord
from client_app.own_requests import ask
from strategies.departures import departures, settings_without
from strategies.deployed_members import MembersError, joined_organizations, member_nodes
from strategies.home import organization_folder
from strategies.joined import Joined
from strategies.organization_key import key_folder
from strategies.settings import RunSettings
from tests.chain_samples import digest as hashed
from tests.chain_samples import fresh_task
from tests.foedus_command import foedus
from tests.signing_cases import DEADLINE, NAMES, account_of
from tests.travelling_chain import store_key

__all__ = ["foedus"]

pytestmark = pytest.mark.real
pytest_plugins = ["tests.travelling_chain"]

SOUTH, WEST = organization_id("south"), organization_id("west")


@pytest.fixture
def node(travelling, tmp_path):
    """An organization's own home, as `foedus join` leaves it, with its key on the chain."""

    def made(name, account=None):
        home = travelling.home(tmp_path / name)
        shutil.rmtree(home / "chain" / "keys")
        store_key(key_folder(home, name), "signing", account_of(account or name).key)
        told = NodeConfiguration(
            organization=name,
            coordinator="127.0.0.1:9",
            chain_url=str(travelling.settings.rpc_url),
            chain_id=travelling.settings.chain_id,
            bundles=["ab" * 32],
        )
        write_node(home, told)
        return (
            home,
            told,
            RunSettings.from_run_config({"organizations": name, **told.reading(home)}),
        )

    return made


@pytest.fixture(scope="module")
def change(travelling):
    """Make a change of the registry, signed by as many members as it takes."""
    keys = {organization_id(name): account_of(name) for name in (*NAMES, "south again")}
    keys[SOUTH] = account_of("south")

    def make(kind, **fields):
        members = travelling.chain.members
        made = Change(kind, nonce=members.next_nonce(), deadline=DEADLINE, **fields)
        signers = [one for one in members.members() if members.key_of(one) == keys[one].address]
        signers = signers[: members.threshold()]
        members.execute(made, {one: members.approve(made, keys[one]) for one in signers})

    return make


def test_an_attestor_that_is_needed_and_whoever_is_none_of_them_cannot_leave(travelling, node):
    _, _, settings = node("east")
    with pytest.raises(
        LeavingError, match="needs 2 of them, and 1 would be left; members have to name another"
    ):
        check_leaving(settings, travelling.chain, "east")
    with pytest.raises(LeavingError, match="RegistryAttestorThresholdOutOfRange"):
        leave(settings, travelling.chain, "east")
    _, _, settings = node("stranger")
    with pytest.raises(LeavingError, match="stranger is no member: there is nothing to leave"):
        check_leaving(settings, travelling.chain, "stranger")
    _, _, settings = node("south", account="thief")
    with pytest.raises(LeavingError, match=r"the key of south on the chain is .*: only its holder"):
        check_leaving(settings, travelling.chain, "south")
    assert len(travelling.chain.members.members()) == len(NAMES)


def test_the_contract_takes_the_departure_that_its_key_signed_and_no_other(travelling):
    members, registry = travelling.chain.members, travelling.chain.contracts["Registry"]
    said = {"organization": SOUTH, "nonce": members.member(SOUTH).nonce, "deadline": DEADLINE}
    for other, signer, error in (
        ({"nonce": 7}, "south", "MemberKeysWrongSigner"),
        ({"organization": WEST}, "south", "MemberKeysWrongSigner"),
        ({"deadline": DEADLINE + 1}, "south", "MemberKeysWrongSigner"),
        ({}, "west", "MemberKeysWrongSigner"),
    ):
        signature = sign_digest(
            digest(members.domain, DEPARTURE_TYPE, {**said, **other}), account_of(signer)
        )
        with pytest.raises(TransactionRevertedError) as refused:
            registry.send("depart", SOUTH, DEADLINE, signature)
        assert refused.value.error == error
    with pytest.raises(TransactionRevertedError) as refused:
        members.check_departure(SOUTH, account_of("south"), 1)
    assert refused.value.error == "MemberKeysExpired"
    height = travelling.chain.height()
    members.check_departure(SOUTH, account_of("south"), DEADLINE)
    assert travelling.chain.height() == height
    assert members.member(SOUTH).is_member


def test_with_a_request_to_forget_that_is_open_it_leaves_only_anyway(travelling, node):
    home, _, settings = node("south")
    account, task = account_of("south"), fresh_task(travelling.chain)
    OwnRecord(organization_folder(home, "south"), task)
    with open_ledger(home, "south", account, travelling.chain) as ledger:
        data_sets.commit(ledger, "reviews", {"review-1": bytes(32)})
        check_leaving(settings, travelling.chain, "south")
        own = ask(
            *(ledger, travelling.sent_by("south"), account, "south", task),
            scope=UnlearningScope.ORGANIZATION,
            record_ids=[],
            method="exact",
            seconds=3600,
            now=travelling.chain.now(),
        )
    with pytest.raises(LeavingError, match=f"open still \\(0x{own.id.hex()[:10]}…\\)"):
        check_leaving(settings, travelling.chain, "south")
    check_leaving(settings, travelling.chain, "south", anyway=True)


def test_one_that_waits_to_be_brought_counts_as_open(travelling, node, monkeypatch):
    home, _, settings = node("south")
    account, task = account_of("south"), fresh_task(travelling.chain)
    OwnRecord(organization_folder(home, "south"), task)
    with open_ledger(home, "south", account, travelling.chain) as ledger:
        data_sets.commit(ledger, "reviews", {"review-1": bytes(32)})
        with pytest.raises(Exception, match="was not brought to the chain"):
            ask(
                *(ledger, travelling.chain.sent_by(account_of("poor"), home), account),
                *("south", task),
                scope=UnlearningScope.RECORDS,
                record_ids=["review-1"],
                method="exact",
                seconds=3600,
                now=travelling.chain.now(),
            )
    with pytest.raises(LeavingError, match="is open still"):
        check_leaving(settings, travelling.chain, "south")


def joined(home, *names):
    """What the coordinator wrote of those who answered."""
    for number, name in enumerate(names):
        joined_organizations(home).write(
            Joined(
                organization=name,
                key=account_of(name).address,
                node_key="ssh-ed25519 AAAA",
                node=100 + number,
                invitation="ab" * 32,
                signature="cd" * 65,
            )
        )


@pytest.fixture
def back(travelling, change):
    """Whoever left in a test is admitted again, by a key that was never used."""
    yield
    if not travelling.chain.members.member(SOUTH).is_member:
        change(
            ChangeKind.ADMIT_MEMBER,
            organization=SOUTH,
            account=account_of("south again").address,
            node_key=hashed("south"),
            metadata=hashed("south"),
            threshold=3,
        )


@pytest.mark.usefixtures("back")
def test_it_leaves_by_one_command_and_nobody_waits_for_it(
    foedus, travelling, node, tmp_path, monkeypatch, capsys
):
    home, told, _ = node("south")
    at = ("--home", str(home))
    check_not_left(home, told)
    # It is told what leaving does, and asked.
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    status, out, err = foedus("leave", *at)
    assert status == 1
    assert "What it trained stays in the model unless its data is withdrawn" in " ".join(
        out.split()
    )
    assert "foedus unlearn --org south --withdraw" in " ".join(out.split())
    assert "Have south leave?" in err
    status, out, err = foedus("leave", "--json", *at)
    assert (status, out) == (2, "")
    assert "--json does not ask" in err
    assert travelling.chain.members.member(SOUTH).is_member

    status, out, err = foedus("leave", "--yes", "--json", *at)
    assert status == 0, err
    left = json.loads(out)
    member = travelling.chain.members.member(SOUTH)
    assert (left["organization"], left["block"]) == ("south", member.left_in)
    assert not member.is_member

    # Once is enough, and its node is not started any more.
    status, out, err = foedus("leave", "--yes", *at)
    assert (status, out) == (1, "")
    assert err == f"foedus: south has left already, in block {member.left_in}\n"
    with pytest.raises(
        NotReadyError, match=f"south has left the federation .block {left['block']}"
    ):
        check_not_left(home, told)
    away = told.model_copy(update={"chain_url": "http://127.0.0.1:9"})
    check_not_left(home, away)

    # Three members are left, and as many have to sign a change: west has to stay.
    _, _, west = node("west")
    with pytest.raises(
        LeavingError, match="a change of the registry needs 3 members, and 2 would be left"
    ):
        check_leaving(west, travelling.chain, "west")

    # The coordinator's next run passes it over; one that names it says what to change.
    place = travelling.home(tmp_path / "coordinator")
    joined(place, *NAMES)
    run = RunSettings.from_run_config(
        {
            "home": str(place),
            "bundle": "ab" * 32,
            "organizations": ",".join(NAMES),
            "ranks": "south=4,west=2",
            "token-prices": "south=3",
            "attestors": "north,south,east",
            "chain-url": str(travelling.settings.rpc_url),
        }
    )
    capsys.readouterr()
    without = _without_departed(run)
    assert "south has left the federation (block" in capsys.readouterr().err
    assert without == {
        "organizations": "east,north,west",
        "attestors": "north,east",
        "ranks": "west=2",
        "token-prices": "",
    }
    goes_on = RunSettings.from_run_config({**run.to_run_config(), **without})
    assert goes_on.organization_names == ["east", "north", "west"]
    assert _without_departed(goes_on) == {}
    with pytest.raises(MembersError, match=r"south has left the federation .*begin a run without"):
        member_nodes(run, travelling.chain, ["south"])
    nowhere = run.model_copy(update={"chain_url": "http://127.0.0.1:9"})
    assert _without_departed(nowhere) == {}


def test_whoever_came_back_has_not_left(travelling):
    """By the key with which it was admitted again."""
    assert departures(travelling.chain.members, ["south", "north", "nobody"]) == {}
    assert travelling.chain.members.key_of(SOUTH) == account_of("south again").address


def test_attestors_that_follow_from_the_order_stay_those_that_they_were():
    settings = RunSettings.from_run_config({"organizations": "north,south,east,west"})
    assert settings.attestor_names == ["north", "south"]
    assert settings_without(settings, {"north"}) == {
        "organizations": "south,east,west",
        "attestors": "south",
        "ranks": "",
        "token-prices": "",
    }


def test_who_pays_does_not_matter_and_it_leaves_once(travelling, node, monkeypatch):
    _, _, settings = node("south", account="south again")
    monkeypatch.setattr(leaving, "organization_chain", lambda *_: travelling.sent_by("coordinator"))
    leave(settings, travelling.chain, "south")
    with pytest.raises(LeavingError, match=r"south cannot leave now: .*MemberKeysNotMember"):
        leave(settings, travelling.chain, "south")
    with pytest.raises(LeavingError, match="south has left already, in block"):
        check_leaving(settings, travelling.chain, "south")
