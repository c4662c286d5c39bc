"""The organizations, their keys and their attestors, as the contract ``Registry`` holds them.

Everything changes by signatures of ``threshold`` members over one `Change`, whoever brings them;
an organization looks after its own key by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_utils.crypto import keccak

from blockchain.contract import Contract
from blockchain.sender import TransactionReceipt
from blockchain.typed_data import Domain, digest, sign_digest

COORDINATOR: Final = keccak(b"COORDINATOR")
PAUSER: Final = keccak(b"PAUSER")

CHANGE_TYPE: Final = (
    "Change(uint8 kind,bytes32 organization,address account,bytes32 nodeKey,bytes32 metadata,"
    "bytes32 role,uint16 threshold,uint256 nonce,uint256 deadline)"
)
ROTATION_TYPE: Final = (
    "KeyRotation(bytes32 organization,address newKey,uint256 nonce,uint256 deadline)"
)
DEPARTURE_TYPE: Final = "Departure(bytes32 organization,uint256 nonce,uint256 deadline)"
NO_ACCOUNT: Final = "0x" + "00" * 20
_NOTHING: Final = bytes(32)


class ChangeKind(IntEnum):
    """What a change does. Numbered as in the contract."""

    ADMIT_MEMBER = 0
    REMOVE_MEMBER = 1
    SET_THRESHOLD = 2
    ADD_ATTESTOR = 3
    REMOVE_ATTESTOR = 4
    SET_ATTESTOR_THRESHOLD = 5
    GRANT_ROLE = 6
    REVOKE_ROLE = 7
    PROPOSE_RECOVERY = 8


@dataclass(frozen=True)
class Founder:
    """A member from the start.

    Parameters
    ----------
    organization : bytes
        Id of the organization, 32 bytes.
    key : str
        Address of its signing key.
    node_key, metadata : bytes
        Hashes of its node's key and of its metadata, 32 bytes, not zero.
    """

    organization: bytes
    key: str
    node_key: bytes
    metadata: bytes


@dataclass(frozen=True)
class Founding:
    """What a registry starts with.

    Parameters
    ----------
    founders : tuple of Founder
        First members.
    threshold : int
        Number of members that a change needs.
    attestors : tuple of bytes
        Ids of the first attestors, all of them founders.
    attestor_threshold : int
        Number of attestors that an attestation needs.
    coordinators : tuple of str
        Accounts that may open tasks and rounds.
    pauser : str
        Account that may stop new rounds.
    recovery_delay : int
        Seconds between the proposal of a key's recovery and its completion.
    """

    founders: tuple[Founder, ...]
    threshold: int
    attestors: tuple[bytes, ...]
    attestor_threshold: int
    coordinators: tuple[str, ...]
    pauser: str
    recovery_delay: int

    def argument(self) -> tuple[Any, ...]:
        """Lay the founding out as the constructor takes it."""
        return (
            [(f.organization, f.key, f.node_key, f.metadata) for f in self.founders],
            self.threshold,
            list(self.attestors),
            self.attestor_threshold,
            list(self.coordinators),
            self.pauser,
            self.recovery_delay,
        )


@dataclass(frozen=True)
class Change:
    """A change that members sign; the fields that its kind does not use stay as they are here."""

    kind: ChangeKind
    nonce: int
    deadline: int
    organization: bytes = _NOTHING
    account: str = NO_ACCOUNT
    node_key: bytes = _NOTHING
    metadata: bytes = _NOTHING
    role: bytes = _NOTHING
    threshold: int = 0

    def values(self) -> dict[str, Any]:
        """Return the fields under the contract's names, in its order."""
        return {
            "kind": int(self.kind),
            "organization": self.organization,
            "account": self.account,
            "nodeKey": self.node_key,
            "metadata": self.metadata,
            "role": self.role,
            "threshold": self.threshold,
            "nonce": self.nonce,
            "deadline": self.deadline,
        }


@dataclass(frozen=True)
class KeyPeriod:
    """The key of an organization from a block on; `NO_ACCOUNT` while it was no member."""

    from_block: int
    key: str


@dataclass(frozen=True)
class Member:
    """An organization as the registry holds it, also after it left."""

    organization: bytes
    key: str
    node_key: bytes
    metadata: bytes
    nonce: int
    is_attestor: bool
    keys: tuple[KeyPeriod, ...]

    @property
    def is_member(self) -> bool:
        """Whether it is a member now."""
        return self.key != NO_ACCOUNT

    @property
    def left_in(self) -> int | None:
        """Block in which its membership ended; ``None`` if it is a member, or never was one."""
        return self.keys[-1].from_block if self.keys and not self.is_member else None


class Membership:
    """The contract ``Registry``.

    Parameters
    ----------
    contract : Contract
        The contract, with an account where changes are to be sent.
    """

    def __init__(self, contract: Contract) -> None:
        self._contract = contract

    @property
    def domain(self) -> Domain:
        """Where signatures about members count."""
        contract = self._contract
        return Domain(contract.settings.chain_id, contract.address, "Foedus Registry")

    def key_of(self, organization: bytes) -> str:
        """Return the address of an organization's key now; `NO_ACCOUNT` if it is no member."""
        return str(self._contract.read("keyOf", organization))

    def keys_between(self, organization: bytes, first_block: int, last_block: int) -> list[str]:
        """Return every key that was an organization's at the end of some block of a range.

        Both ends are included. A signature made in a round counts under any of the keys that were
        valid while it was open.
        """
        keys = []
        periods = self.key_history(organization)
        for position, period in enumerate(periods):
            ends = periods[position + 1].from_block if position + 1 < len(periods) else None
            if period.from_block <= last_block and (ends is None or ends > first_block):
                keys.append(period.key)
        return [key for key in keys if key != NO_ACCOUNT]

    def key_history(self, organization: bytes) -> list[KeyPeriod]:
        """Return every key of an organization, the oldest first."""
        periods = self._contract.read("keyHistory", organization)
        return [KeyPeriod(int(block), str(key)) for block, key in periods]

    def member(self, organization: bytes) -> Member:
        """Return an organization; its key is `NO_ACCOUNT` if it is no member."""
        fields = self._contract.read_struct("getMember", organization)
        return Member(
            organization=organization,
            is_attestor=self.is_attestor(organization),
            keys=tuple(self.key_history(organization)),
            **fields,
        )

    def members(self) -> list[bytes]:
        """Return the ids of all members, ascending."""
        return sorted(self._contract.read("members"))

    def attestors(self) -> list[bytes]:
        """Return the ids of all attestors, ascending."""
        return sorted(self._contract.read("attestors"))

    def is_attestor(self, organization: bytes) -> bool:
        """Whether an organization is an attestor."""
        return bool(self._contract.read("isAttestor", organization))

    def role_holders(self, role: bytes) -> list[str]:
        """Return the accounts with a role, sorted."""
        return sorted(str(account) for account in self._contract.read("roleHolders", role))

    def threshold(self) -> int:
        """Return how many members a change needs."""
        return int(self._contract.read("threshold"))

    def attestor_threshold(self) -> int:
        """Return how many attestors an attestation needs."""
        return int(self._contract.read("attestorThreshold"))

    def next_nonce(self) -> int:
        """Return the number that the next change must carry."""
        return int(self._contract.read("changeNonce"))

    def digest(self, change: Change) -> bytes:
        """Return what members sign of a change, 32 bytes."""
        return digest(self.domain, CHANGE_TYPE, change.values())

    def approve(self, change: Change, account: LocalAccount) -> bytes:
        """Return a member's signature of a change, 65 bytes."""
        return sign_digest(self.digest(change), account)

    def execute(self, change: Change, approvals: Mapping[bytes, bytes]) -> TransactionReceipt:
        """Make a change that members signed.

        Parameters
        ----------
        change : Change
            The change.
        approvals : mapping of bytes to bytes
            Signature by id of the member.
        """
        return self._contract.send(
            "execute", tuple(change.values().values()), approvals_argument(approvals)
        )

    def rotate_key(
        self, organization: bytes, old: LocalAccount, new: LocalAccount, deadline: int
    ) -> TransactionReceipt:
        """Replace an organization's key at once; the old and the new key both sign.

        Parameters
        ----------
        organization : bytes
            Its id, 32 bytes.
        old, new : LocalAccount
            The key it has, and the one it is to have.
        deadline : int
            Seconds since the epoch until which the signatures hold.
        """
        signed = digest(
            self.domain,
            ROTATION_TYPE,
            {
                "organization": organization,
                "newKey": new.address,
                "nonce": int(self._contract.read("nonceOf", organization)),
                "deadline": deadline,
            },
        )
        signatures = (sign_digest(signed, old), sign_digest(signed, new))
        return self._contract.send("rotateKey", organization, new.address, deadline, *signatures)

    def depart(
        self, organization: bytes, account: LocalAccount, deadline: int
    ) -> TransactionReceipt:
        """End an organization's membership by its own signature.

        Parameters
        ----------
        organization : bytes
            Its id, 32 bytes.
        account : LocalAccount
            The key that it has.
        deadline : int
            Seconds since the epoch until which the signature holds.

        Raises
        ------
        TransactionRevertedError
            If too few members or attestors would be left for the thresholds, it is no member, or
            the key is not its own.
        """
        return self._contract.send("depart", *self._departure(organization, account, deadline))

    def check_departure(self, organization: bytes, account: LocalAccount, deadline: int) -> None:
        """Ask the contract whether it would take what :meth:`depart` sends; nothing is changed.

        Raises
        ------
        TransactionRevertedError
            As :meth:`depart`.
        """
        self._contract.read("depart", *self._departure(organization, account, deadline))

    def _departure(
        self, organization: bytes, account: LocalAccount, deadline: int
    ) -> tuple[bytes, int, bytes]:
        said = {
            "organization": organization,
            "nonce": int(self._contract.read("nonceOf", organization)),
            "deadline": deadline,
        }
        signed = digest(self.domain, DEPARTURE_TYPE, said)
        return organization, deadline, sign_digest(signed, account)


def approvals_argument(approvals: Mapping[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Lay signatures out as the contracts take them: ascending by organization."""
    return [(organization, approvals[organization]) for organization in sorted(approvals)]


def majority(count: int) -> int:
    """Return how many of `count` members a change is to need: more than half."""
    return count // 2 + 1
