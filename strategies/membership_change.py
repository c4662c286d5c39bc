"""Changes of the registry, as files that travel between members until enough have signed.

A proposal says what is to change; a member's approval is its signature of exactly that. Who brings
them to the chain does not matter: the contract counts the signatures.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Final, Self, TypeVar

from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from blockchain.canonical import hash_json
from blockchain.durable_file import write_durably
from blockchain.membership import Change, ChangeKind, Membership, majority
from blockchain.merkle import organization_id
from blockchain.sender import TransactionReceipt
from blockchain.typed_data import SignatureError, recover
from strategies.invitation import OrganizationName
from strategies.joined import Joined
from strategies.node_key import NodeKeyError, node_key_hash

_DAY_SECONDS: Final = 86_400
_MAX_BYTES: Final = 16 * 1024

_Model = TypeVar("_Model", bound=BaseModel)


class ChangeError(Exception):
    """A change or an approval does not hold; one line says why."""


class Admission(BaseModel):
    """A proposal that an organization become a member.

    Parameters
    ----------
    organization : str
        Its name.
    key : str
        Address of the key that signs its updates.
    node_key : str
        Public key of its node, in OpenSSH's form.
    threshold : int
        How many members a change needs from then on.
    nonce : int
        Number of the change on the chain.
    deadline : int
        Second since the epoch after which it cannot be made.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    organization: OrganizationName
    key: Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
    node_key: Annotated[str, Field(max_length=1024)]
    threshold: int = Field(ge=1, lt=2**16)
    nonce: int = Field(ge=0, lt=2**63)
    deadline: int = Field(ge=0, lt=2**53)

    @classmethod
    def of(cls, joined: Joined, members: Membership, *, days: int = 14) -> Self:
        """Propose one that answered its invitation; more than half decide from then on."""
        return cls(
            organization=joined.organization,
            key=joined.key,
            node_key=joined.node_key,
            threshold=majority(len(members.members()) + 1),
            nonce=members.next_nonce(),
            deadline=int(time.time()) + days * _DAY_SECONDS,
        )

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a proposal.

        Raises
        ------
        ChangeError
            If it is none.
        """
        found = _read(path, cls)
        try:
            node_key_hash(found.node_key)
        except NodeKeyError as error:
            raise ChangeError(f"{path}: {error}") from None
        return found

    def write(self, path: Path) -> None:
        """Write it."""
        write_durably(path, self.model_dump_json(indent=1) + "\n")

    @property
    def change(self) -> Change:
        """What members sign."""
        return Change(
            ChangeKind.ADMIT_MEMBER,
            nonce=self.nonce,
            deadline=self.deadline,
            organization=organization_id(self.organization),
            account=self.key,
            node_key=node_key_hash(self.node_key),
            metadata=hash_json({"name": self.organization}),
            threshold=self.threshold,
        )

    def check(self, members: Membership) -> None:
        """Make sure that it can still be made.

        Raises
        ------
        ChangeError
            If its number is taken, its time is over, or the organization is a member already.
        """
        if members.member(organization_id(self.organization)).is_member:
            raise ChangeError(f"{self.organization} is a member already")
        if self.nonce != (expected := members.next_nonce()):
            raise ChangeError(
                f"it is change number {self.nonce}, the next one is {expected}: another was made "
                "meanwhile; propose it again"
            )
        if time.time() > self.deadline:
            raise ChangeError("its time is over: propose it again")


class Approval(BaseModel):
    """A member's signature of a change.

    Parameters
    ----------
    member : str
        Its name.
    signature : str
        65 bytes in hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    member: OrganizationName
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]

    @classmethod
    def signed(
        cls, admission: Admission, members: Membership, member: str, account: LocalAccount
    ) -> Self:
        """Sign a proposal, once it was looked at.

        Raises
        ------
        ChangeError
            If it cannot be made any more, or the key is not the member's.
        """
        admission.check(members)
        if members.key_of(organization_id(member)) != account.address:
            raise ChangeError(f"{account.address} is not the key of {member} in the registry")
        return cls(member=member, signature=members.approve(admission.change, account).hex())

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read an approval.

        Raises
        ------
        ChangeError
            If it is none.
        """
        return _read(path, cls)

    def write(self, path: Path) -> None:
        """Write it."""
        write_durably(path, self.model_dump_json(indent=1) + "\n")


def execute(
    admission: Admission, approvals: Sequence[Approval], members: Membership
) -> TransactionReceipt:
    """Bring a change that enough members approved to the chain.

    Raises
    ------
    ChangeError
        If it cannot be made, or too few approved: each that does not count is named.
    """
    admission.check(members)
    counted, wrong = _counted(admission, approvals, members)
    needed = members.threshold()
    if len(counted) < needed:
        refused = f"; {'; '.join(wrong)}" if wrong else ""
        raise ChangeError(f"{len(counted)} of {needed} members that it takes approved{refused}")
    return members.execute(admission.change, counted)


def _counted(
    admission: Admission, approvals: Sequence[Approval], members: Membership
) -> tuple[Mapping[bytes, bytes], list[str]]:
    counted, wrong = {}, []
    signed = members.digest(admission.change)
    for approval in approvals:
        identifier, signature = organization_id(approval.member), bytes.fromhex(approval.signature)
        try:
            signer = recover(signed, signature)
        except SignatureError as error:
            wrong.append(f"{approval.member}: {error}")
            continue
        if signer == members.key_of(identifier):
            counted[identifier] = signature
        else:
            wrong.append(f"{approval.member}: not its signature of this change")
    return counted, wrong


def _read(path: Path, model: type[_Model]) -> _Model:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ChangeError(f"{path}: {error.strerror}") from None
    try:
        if len(content) > _MAX_BYTES:
            raise ChangeError(f"{path}: {len(content)} bytes, expected at most {_MAX_BYTES}")
        return model.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        what = model.__name__.lower()
        raise ChangeError(f"{path} is no {what}: {where}: {first['msg']}") from None
