"""Members of a federation on separate machines: the coordinator never holds their keys."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from blockchain.canonical import hash_json
from blockchain.membership import NO_ACCOUNT, Founder, Founding, majority
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from strategies.joined import Joined, JoinedOrganizations
from strategies.settings import RunSettings

#: Seconds between the proposal of another key for a member that lost its own, and its use.
RECOVERY_DELAY: Final = 86_400


class MembersError(Exception):
    """An organization of the run has not joined, or is another on the chain than here."""


def coordinator_folder(home: Path) -> Path:
    """Return where a coordinator of separate machines keeps what is its own."""
    return home / "coordinator"


def joined_organizations(home: Path) -> JoinedOrganizations:
    """Return the coordinator's record of who joined."""
    return JoinedOrganizations(coordinator_folder(home) / "joined")


def paying_keys(home: Path, chain: PublicChain) -> list[str]:
    """Return the addresses from which the organizations that joined pay for transactions.

    The keys that they sign with now, which may be others than those that they joined with.

    Parameters
    ----------
    home : Path
        The coordinator's.
    chain : PublicChain
        A connection that can read.
    """
    found = []
    for one in joined_organizations(home):
        registered = chain.members.key_of(organization_id(one.organization))
        found.append(one.key if registered == NO_ACCOUNT else registered)
    return found


def founding(settings: RunSettings, coordinator: str) -> Founding:
    """Return the registry that the organizations that joined found.

    Parameters
    ----------
    settings : RunSettings
        Names organizations and attestors.
    coordinator : str
        Address of the coordinator's account, which gets the roles and no vote.

    Raises
    ------
    MembersError
        If one has not joined.
    """
    joined = _joined(settings.home_path, settings.organization_names)
    return Founding(
        founders=tuple(
            Founder(
                organization=organization_id(name),
                key=one.key,
                node_key=one.node_key_hash,
                metadata=hash_json({"name": name}),
            )
            for name, one in joined.items()
        ),
        threshold=majority(len(joined)),
        attestors=tuple(organization_id(name) for name in settings.attestor_names),
        attestor_threshold=majority(len(settings.attestor_names)),
        coordinators=(coordinator,),
        pauser=coordinator,
        recovery_delay=RECOVERY_DELAY,
    )


def member_nodes(settings: RunSettings, chain: PublicChain, names: Sequence[str]) -> dict[str, int]:
    """Return the node of each of some organizations, as the registry binds it.

    Parameters
    ----------
    settings : RunSettings
        Name home and attestors.
    chain : PublicChain
        A connection that can read.
    names : sequence of str
        Whose.

    Raises
    ------
    MembersError
        If one has not joined, is no member or no longer one, no attestor where the run has it
        attest, or has another node's key on the chain.
    """
    joined = _joined(settings.home_path, names)
    for name, one in joined.items():
        member = chain.members.member(organization_id(name))
        if member.left_in is not None:
            raise MembersError(
                f"{name} has left the federation (block {member.left_in}): begin a run without it "
                "(`foedus run` passes it over), and strike it from organizations in "
                "coordinator.toml"
            )
        if not member.is_member:
            raise MembersError(
                f"{name} has joined and is no member yet: members have to admit it "
                "(`foedus members admit`)"
            )
        if member.node_key != one.node_key_hash:
            raise MembersError(
                f"the node key of {name} on the chain has hash 0x{member.node_key.hex()}, the one "
                f"it joined with 0x{one.node_key_hash.hex()}"
            )
        if name in settings.attestor_names and not member.is_attestor:
            raise MembersError(f"{name} is to attest, and is no attestor in the registry")
    return {name: one.node for name, one in joined.items()}


def _joined(home: Path, names: Sequence[str]) -> Mapping[str, Joined]:
    there = {name: joined_organizations(home).read(name) for name in names}
    if missing := [name for name, one in there.items() if one is None]:
        raise MembersError(
            f"{', '.join(missing)} did not join yet: invite them (`foedus invite`), and have them "
            "answer (`foedus join`)"
        )
    return {name: one for name, one in there.items() if one is not None}
