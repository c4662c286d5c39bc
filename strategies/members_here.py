"""The registry's organizations and this home's keystores, held against each other."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from blockchain.keys import account_address
from blockchain.membership import COORDINATOR, PAUSER, KeyPeriod, Membership
from blockchain.merkle import organization_id
from strategies.organization_key import OFFICER, SIGNING

#: Owner of the keystores under ``<home>/chain/keys``.
COORDINATOR_OWNER = "coordinator"


@dataclass(frozen=True)
class ListedMember:
    """One organization of the registry.

    Parameters
    ----------
    id : str
        Its id, ``0x`` and hexadecimal.
    name : str or None
        Its name, where this home knows it.
    key : str
        Address of its signing key now.
    since : int
        Block since which it is a member.
    key_since : int
        Block since which that key is its.
    attestor : bool
        Whether it is an attestor.
    key_here : bool
        Whether the key lies under this home.
    """

    id: str
    name: str | None
    key: str
    since: int
    key_since: int
    attestor: bool
    key_here: bool


@dataclass(frozen=True)
class Roster:
    """The registry as it stands.

    Parameters
    ----------
    members : tuple of ListedMember
        By name, those without one last.
    threshold, attestor_threshold : int
        Members that a change needs, attestors that an attestation needs.
    coordinators, pausers : tuple of str
        Accounts with the roles.
    """

    members: tuple[ListedMember, ...]
    threshold: int
    attestor_threshold: int
    coordinators: tuple[str, ...]
    pausers: tuple[str, ...]

    @property
    def simulated(self) -> bool:
        """Whether one operator holds all keys: they lie under one home."""
        return all(member.key_here for member in self.members)

    def to_json(self) -> dict[str, Any]:
        """Lay it out for ``--json``."""
        return {**asdict(self), "simulated": self.simulated}


@dataclass(frozen=True)
class ListedKey:
    """One keystore under a home.

    Parameters
    ----------
    owner : str
        The organization, or ``coordinator``.
    use : str
        ``signing``; ``next`` while a rotation is under way; ``old`` after one.
    address : str
        As the keystore states it.
    path : Path
        The keystore.
    registered : bool or None
        Whether the registry knows it now; ``None`` where the chain was not asked.
    """

    owner: str
    use: str
    address: str
    path: Path
    registered: bool | None

    def to_json(self) -> dict[str, Any]:
        """Lay it out for ``--json``."""
        return {**asdict(self), "path": str(self.path)}


def roster(members: Membership, home: Path, names: Mapping[bytes, str]) -> Roster:
    """Read the registry, and say which keys lie under a home.

    Parameters
    ----------
    members : Membership
        The registry.
    home : Path
        The home.
    names : mapping of bytes to str
        Names of organizations by id, as far as they are known.
    """
    here = {key.address for key in keys_here(home, None) if key.owner != COORDINATOR_OWNER}
    listed = []
    for organization in members.members():
        member = members.member(organization)
        listed.append(
            ListedMember(
                id=f"0x{organization.hex()}",
                name=names.get(organization),
                key=member.key,
                since=_member_since(member.keys),
                key_since=member.keys[-1].from_block,
                attestor=member.is_attestor,
                key_here=member.key in here,
            )
        )
    return Roster(
        members=tuple(sorted(listed, key=lambda m: (m.name is None, m.name or m.id))),
        threshold=members.threshold(),
        attestor_threshold=members.attestor_threshold(),
        coordinators=tuple(members.role_holders(COORDINATOR)),
        pausers=tuple(members.role_holders(PAUSER)),
    )


def keys_here(home: Path, members: Membership | None) -> list[ListedKey]:
    """Return every keystore under a home, none of them opened.

    Parameters
    ----------
    home : Path
        The home.
    members : Membership or None
        The registry, where it can be asked.
    """
    found = []
    coordinators = None if members is None else members.role_holders(COORDINATOR)
    for path in sorted((home / "chain" / "keys").glob("*.json")):
        address = account_address(path.parent, path.stem)
        known = None if coordinators is None else address in coordinators
        found.append(ListedKey(COORDINATOR_OWNER, "signing", address, path, known))
    for path in sorted((home / "organizations").glob(f"*/keys/{SIGNING}*.json")):
        owner, address = path.parents[1].name, account_address(path.parent, path.stem)
        known = None if members is None else members.key_of(organization_id(owner)) == address
        found.append(ListedKey(owner, _use(path.stem), address, path, known))
    for path in sorted((home / "organizations").glob(f"*/keys/{OFFICER}.json")):
        # The registry knows nothing of it: it is a key of the private ledger alone.
        address = account_address(path.parent, path.stem)
        found.append(ListedKey(path.parents[1].name, "officer", address, path, None))
    return found


def _use(stem: str) -> str:
    if stem == SIGNING:
        return "signing"
    return "old" if re.fullmatch(rf"{SIGNING}\.0x[0-9a-fA-F]{{40}}", stem) else "next"


def _member_since(keys: tuple[KeyPeriod, ...]) -> int:
    """Return the block since which an organization has had a key without a break."""
    since = 0
    member = False
    for period in keys:
        has_key = int(period.key, 16) != 0
        if has_key and not member:
            since = period.from_block
        member = has_key
    return since
