"""Looks whether the registry has an organization on a machine of its own with its own keys."""

from pathlib import Path

from eth_account.signers.local import LocalAccount

from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from client_app.deployment.node import node_key_folder
from client_app.request import CoordinatorError
from strategies.node_key import node_key_hash, public_key_of


def check_registered(chain: PublicChain, home: Path, name: str, account: LocalAccount) -> None:
    """Make sure that the registry has an organization with the keys that lie here.

    Contracts in which somebody else stands in its name are not those that it agreed to.

    Parameters
    ----------
    chain : PublicChain
        As the organization reads it.
    home : Path
        The organization's.
    name : str
        Its name.
    account : LocalAccount
        Its signing key.

    Raises
    ------
    CoordinatorError
        If it is no member, or one with another key.
    NodeKeyError
        If its node has no key here.
    """
    member = chain.members.member(organization_id(name))
    where = f"the Registry at {chain.addresses['Registry']}"
    if not member.is_member:
        raise CoordinatorError(f"{name} is no member in {where}")
    if member.key != account.address:
        raise CoordinatorError(
            f"{where} has the key {member.key} for {name}, expected {account.address}"
        )
    node_key = node_key_hash(public_key_of(node_key_folder(home, name) / "node"))
    if member.node_key != node_key:
        raise CoordinatorError(
            f"{where} has a node key of hash 0x{member.node_key.hex()} for {name}, expected "
            f"0x{node_key.hex()}"
        )
