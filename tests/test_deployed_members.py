"""Members on separate machines: founded by who joined, bound to their nodes by the chain."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
from eth_account import Account
from flwr.app import RecordDict

from blockchain.merkle import organization_id
from server_app.roster import RosterError, find_members
from strategies import protocol
from strategies.deployed_members import (
    MembersError,
    founding,
    joined_organizations,
    member_nodes,
)
from strategies.joined import Joined
from strategies.node_key import make_node_key, public_key_of
from strategies.settings import RunSettings
from tests.flower_messages import reply_to

NAMES = ("north", "south", "east")


@pytest.fixture(scope="module")
def node_keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nodes")
    return {name: public_key_of(make_node_key(folder / name)) for name in (*NAMES, "other")}


@pytest.fixture
def settings(tmp_path):
    return RunSettings.from_run_config(
        {"home": str(tmp_path), "organizations": ",".join(NAMES), "bundle": "ab" * 32}
    )


def join(settings, node_keys, names=NAMES) -> dict[str, Joined]:
    found = {}
    for number, name in enumerate(names):
        found[name] = Joined(
            organization=name,
            key=Account.from_key(bytes([number + 1]) * 32).address,
            node_key=node_keys[name],
            node=100 + number,
            invitation="ab" * 32,
            signature="cd" * 65,
        )
        joined_organizations(settings.home_path).write(found[name])
    return found


def chain(joined, **changes):
    """A registry in which everybody stands as they joined, but for what is changed."""

    def member(identifier):
        for name, one in joined.items():
            if organization_id(name) == identifier:
                usual = {
                    "is_member": True,
                    "left_in": None,
                    "node_key": one.node_key_hash,
                    "is_attestor": True,
                }
                return SimpleNamespace(**{**usual, **changes.get(name, {})})
        return SimpleNamespace(is_member=False, left_in=None)

    return SimpleNamespace(members=SimpleNamespace(member=member))


def test_those_who_joined_found_the_registry_with_their_own_keys(settings, node_keys):
    joined = join(settings, node_keys)
    made = founding(settings, "0x" + "11" * 20)
    assert [f.organization for f in made.founders] == [organization_id(n) for n in NAMES]
    assert [f.key for f in made.founders] == [joined[n].key for n in NAMES]
    assert [f.node_key for f in made.founders] == [joined[n].node_key_hash for n in NAMES]
    assert (made.threshold, made.attestor_threshold) == (2, 2)
    assert made.coordinators == ("0x" + "11" * 20,)


def test_nothing_is_founded_before_all_have_joined(settings, node_keys):
    join(settings, node_keys, ("south",))
    with pytest.raises(MembersError, match=r"^north, east did not join yet: invite them"):
        founding(settings, "0x" + "11" * 20)


def test_the_node_of_each_is_the_one_that_the_registry_binds_to_it(settings, node_keys):
    joined = join(settings, node_keys)
    assert member_nodes(settings, chain(joined), NAMES) == {"north": 100, "south": 101, "east": 102}


def test_one_that_is_another_on_the_chain_than_here_takes_no_part(settings, node_keys):
    joined = join(settings, node_keys)
    for change, said in (
        ({"is_member": False}, "has joined and is no member yet"),
        ({"is_member": False, "left_in": 7}, r"north has left the federation \(block 7\): begin"),
        ({"node_key": b"\x01" * 32}, "the node key of north on the chain has hash 0x0101"),
        ({"is_attestor": False}, "north is to attest, and is no attestor"),
    ):
        with pytest.raises(MembersError, match=said):
            member_nodes(settings, chain(joined, north=change), NAMES)


@dataclass
class Nodes:
    """Connected nodes, each of which says whom it answers for."""

    says: dict[int, list[str]]
    asked: list[int] = field(default_factory=list)

    def get_node_ids(self):
        return list(self.says)

    def send_and_receive(self, messages, timeout):
        replies = []
        for message in messages:
            node = message.metadata.dst_node_id
            self.asked.append(node)
            header = protocol.header_record({protocol.ORGANIZATIONS: self.says[node]})
            replies.append(reply_to(message, RecordDict({protocol.HEADER: header})))
        return replies


@pytest.mark.usefixtures("flower_task")
def test_a_stolen_name_is_not_even_heard(settings, node_keys):
    joined = join(settings, node_keys)
    nodes = Nodes({100: ["north"], 101: ["south"], 102: ["east"], 666: ["north", "south"]})
    found = find_members(nodes, NAMES, settings, chain(joined))
    assert found == {"north": 100, "south": 101, "east": 102}
    assert 666 not in nodes.asked


@pytest.mark.usefixtures("flower_task")
def test_who_answers_for_another_or_not_at_all_does_not_keep_the_others_from_work(
    settings, node_keys
):
    joined = join(settings, node_keys)
    found = {}
    for nodes in (
        Nodes({100: ["south"], 101: ["south"], 102: ["east"]}),
        Nodes({101: ["south"], 102: ["east"]}),
    ):
        missing = {}
        found[len(nodes.says)] = find_members(
            *(nodes, NAMES, settings, chain(joined)),
            timeout=0.5,
            enough=2,
            absent=missing.__setitem__,
        )
        assert set(missing) == {"north"}
    # It is invited to rounds all the same, where the registry says it is reached.
    assert found[2] == found[3] == {"north": 100, "south": 101, "east": 102}
    with pytest.raises(RosterError, match=r"2 of 3 that it takes are there \(north: no answer"):
        find_members(nodes, NAMES, settings, chain(joined), timeout=0.5)


@pytest.mark.usefixtures("flower_task")
def test_where_all_are_needed_a_wrong_answer_ends_the_search_at_once(settings, node_keys):
    joined = join(settings, node_keys)
    nodes = Nodes({100: ["south"]})
    with pytest.raises(RosterError, match="north: its node answers for another name"):
        find_members(nodes, NAMES, settings, chain(joined))


def test_who_has_not_joined_is_not_waited_for(settings, node_keys):
    joined = join(settings, node_keys, ("north", "south"))
    with pytest.raises(RosterError, match="east did not join yet"):
        find_members(Nodes({}), NAMES, settings, chain(joined))
