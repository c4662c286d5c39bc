"""Members of a federation whose keys all lie under one home: a simulation by one operator.

On separate machines each organization makes its own key and members sign for one another; here one
operator holds all the keys and signs with them in everyone's name.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from blockchain.canonical import hash_json
from blockchain.membership import Change, ChangeKind, Founder, Founding, majority
from blockchain.merkle import organization_id
from blockchain.public_chain import PublicChain
from strategies.organization_key import signing_account, signing_address
from strategies.settings import RunSettings

#: Stands where a deployed organization gives the hash of its SuperNode's public key.
_NO_NODE_KEY: Final = keccak(b"foedus: simulated, no node key")

_RECOVERY_DELAY: Final = 86_400
_SIGNATURE_SECONDS: Final = 600


def founding(settings: RunSettings, coordinator: str) -> Founding:
    """Return the registry that a run's organizations found.

    Parameters
    ----------
    settings : RunSettings
        Names organizations and attestors.
    coordinator : str
        Address of the coordinator's account, which gets the roles and no vote.
    """
    names = settings.organization_names
    return Founding(
        founders=tuple(_founder(settings.home_path, name) for name in names),
        threshold=majority(len(names)),
        attestors=tuple(organization_id(name) for name in settings.attestor_names),
        attestor_threshold=majority(len(settings.attestor_names)),
        coordinators=(coordinator,),
        pauser=coordinator,
        recovery_delay=_RECOVERY_DELAY,
    )


def admit_missing(settings: RunSettings, chain: PublicChain) -> list[str]:
    """Make members of the run's organizations that are none yet, and attestors of its attestors.

    Each change is signed by as many members as it needs, with the keys under this home.

    Returns
    -------
    list of str
        The organizations that were admitted.
    """
    members = chain.members
    known = set(members.members())
    admitted = []
    for name in settings.organization_names:
        if organization_id(name) in known:
            continue
        founder = _founder(settings.home_path, name)
        _execute(
            settings.home_path,
            chain,
            ChangeKind.ADMIT_MEMBER,
            organization=founder.organization,
            account=founder.key,
            node_key=founder.node_key,
            metadata=founder.metadata,
            threshold=majority(len(members.members()) + 1),
        )
        admitted.append(name)
    attestors = set(members.attestors())
    for name in settings.attestor_names:
        if organization_id(name) not in attestors:
            _execute(
                settings.home_path,
                chain,
                ChangeKind.ADD_ATTESTOR,
                organization=organization_id(name),
            )
    return admitted


def _founder(home: Path, name: str) -> Founder:
    return Founder(
        organization=organization_id(name),
        key=signing_address(home, name),
        node_key=_NO_NODE_KEY,
        metadata=hash_json({"name": name}),
    )


def _execute(home: Path, chain: PublicChain, kind: ChangeKind, **fields: Any) -> None:
    members = chain.members
    change = Change(
        kind,
        nonce=members.next_nonce(),
        deadline=int(time.time()) + _SIGNATURE_SECONDS,
        **fields,
    )
    approvals: dict[bytes, bytes] = {}
    for organization, account in _accounts(home):
        if len(approvals) == members.threshold():
            break
        if members.key_of(organization) == account.address:
            approvals[organization] = members.approve(change, account)
    members.execute(change, approvals)


def _accounts(home: Path) -> Iterator[tuple[bytes, LocalAccount]]:
    """Yield the ids and keys of all organizations under a home."""
    for folder in sorted((home / "organizations").glob("*/keys")):
        name = folder.parent.name
        yield organization_id(name), signing_account(home, name)
