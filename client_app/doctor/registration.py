"""Who stands in the registry: the organization with its own keys, the coordinator with its role."""

from blockchain.keys import account_address
from blockchain.membership import COORDINATOR
from blockchain.merkle import organization_id
from client_app.deployment.node import node_key_folder
from client_app.doctor.check import Finding, fails, holds
from client_app.doctor.machine import Machine
from strategies.deployed_members import MembersError, joined_organizations, member_nodes
from strategies.node_key import node_key_hash, public_key_of
from strategies.organization_key import signing_address
from strategies.run_accounts import COORDINATOR_KEY


def registered(machine: Machine) -> Finding:
    """Compare what the registry says of the organization with its own keys, opening neither."""
    registry = machine.chain.members
    member = registry.member(organization_id(machine.name))
    if not member.is_member:
        return fails(
            f"{machine.name} is no member in the Registry at {machine.chain.addresses['Registry']}",
            "have the coordinator propose it (`foedus members admit`) and members approve",
        )
    own = signing_address(machine.home, machine.name)
    if member.key != own:
        return fails(
            f"the Registry has the key {member.key} for {machine.name}, the one here is {own}",
            "bring the registered key back from a backup (`foedus keys list`); if it never was "
            "yours, somebody else stands there in your name: tell the other members",
        )
    node_key = node_key_hash(public_key_of(node_key_folder(machine.home, machine.name) / "node"))
    if member.node_key != node_key:
        return fails(
            f"the Registry has a node key of hash 0x{member.node_key.hex()} for {machine.name}, "
            f"the one here has 0x{node_key.hex()}",
            "bring the registered node key back from a backup; if it never was yours, somebody "
            "else takes your part: tell the other members",
        )
    attests = ", an attestor" if member.is_attestor else ""
    return holds(f"a member{attests}, with the keys that lie here")


def answered(machine: Machine) -> Finding:
    """Look who of those invited has answered."""
    names = machine.coordinator.organizations
    record = joined_organizations(machine.home)
    if waiting := [name for name in names if record.read(name) is None]:
        return fails(
            f"{', '.join(waiting)} did not join yet",
            f"`foedus invite {waiting[0]}`, and have it answer by `foedus join`",
        )
    return holds(", ".join(names))


def members(machine: Machine) -> Finding:
    """Look whether all that take part are members, with the nodes that they joined with."""
    settings, names = machine.settings, machine.coordinator.organizations
    wrong = []
    for name in names:
        try:
            member_nodes(settings, machine.chain, [name])
        except MembersError as error:
            wrong.append(str(error))
    if wrong:
        return fails(
            "; ".join(wrong),
            "one that is no member: `foedus members admit NAME`; one with another node key, or "
            "none that attests: agree on what counts, and change coordinator.toml or the registry",
        )
    return holds(f"{len(names)} organizations, with the nodes that they joined with")


def role(machine: Machine) -> Finding:
    """Look whether the coordinator's account may open rounds."""
    keys = machine.home / "chain" / "keys"
    if not (keys / f"{COORDINATOR_KEY}.json").exists():
        return fails(
            f"there is no coordinator's key in {keys}",
            "bring it back from a backup: the registry gave its role to that key alone",
        )
    own = account_address(keys, COORDINATOR_KEY)
    holders = machine.chain.members.role_holders(COORDINATOR)
    if own not in holders:
        return fails(
            f"{own} has no coordinator's role; {', '.join(holders) or 'nobody'} has",
            "bring the key that has it back from a backup",
        )
    return holds(f"{own} may open rounds")
