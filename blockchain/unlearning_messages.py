"""What is signed about requests to forget, as EIP-712 typed data under ``Unlearning``.

An organization signs a `Request`, and a `Cancellation` should it take it back. Attestors sign a
`Completion`, each with its own name and the request's id in it.

What is to be forgotten stands on the chain only as a salted commitment (`subject_commitment`);
positions and salt are kept apart from it, in a payload that can be erased.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Any, Final, TypeVar

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from blockchain.merkle import check_hash
from blockchain.typed_data import Domain, check_integer, digest

REQUEST_TYPE: Final = (
    "Request(bytes32 id,bytes32 task,bytes32 organization,bytes32 subject,uint8 scope,"
    "uint64 deadline)"
)
COMPLETION_TYPE: Final = (
    "Completion(bytes32 id,bytes32 organization,bytes32 evidenceRoot,bytes32 adapter,"
    "uint64 firstAffectedRound,uint8 guarantee)"
)
CANCELLATION_TYPE: Final = "Cancellation(bytes32 id)"

#: What a commitment to a subject begins with, so that it is no hash of anything else.
_SUBJECT_PURPOSE: Final = "foedus: what is to be forgotten, version 1"

_E = TypeVar("_E", bound=IntEnum)


class UnlearningScope(IntEnum):
    """What of an organization's data is to be forgotten. Numbered as in the contract."""

    RECORDS = 0
    ORGANIZATION = 1


class Guarantee(IntEnum):
    """What attestors vouch for. Numbered as in the contract.

    ``EXACT_ISOLATED``: the data never reached the model that is used now, only one that was set
    apart. ``EXACT_REPLAY``: the model was trained again without the data. ``EMPIRICAL``: measured,
    not proven. ``NOTHING_TO_FORGET``: the data was never trained on.
    """

    EXACT_ISOLATED = 0
    EXACT_REPLAY = 1
    EMPIRICAL = 2
    NOTHING_TO_FORGET = 3


class RequestState(IntEnum):
    """What became of a request; it only ever moves forward. Numbered as in the contract."""

    NONE = 0
    OPEN = 1
    COMPLETED = 2
    REJECTED = 3
    CANCELLED = 4


@dataclass(frozen=True)
class Request:
    """An organization's word that a task's model is to forget some of its data, or all of it.

    Parameters
    ----------
    task : bytes
        Id of the task, 32 bytes.
    organization : bytes
        :func:`blockchain.merkle.organization_id` of its name, 32 bytes.
    subject : bytes
        :func:`subject_commitment` to what is to be forgotten, 32 bytes. A new salt makes a new
        request.
    scope : UnlearningScope
        Whether records or all of the organization's data.
    deadline : int
        Seconds since the epoch after which the request is overdue, and until which the contract
        takes it, 64 bits.

    Raises
    ------
    ValueError
        If a field has not its size: encoders pad what is shorter, and would sign something else.
    """

    task: bytes
    organization: bytes
    subject: bytes
    scope: UnlearningScope
    deadline: int

    def __post_init__(self) -> None:
        for field in ("task", "organization", "subject"):
            check_hash(getattr(self, field), field)
        _check_member("scope", self.scope, UnlearningScope)
        check_integer("deadline", self.deadline, 64)

    @property
    def id(self) -> bytes:
        """The id that follows from all the rest, 32 bytes; see `request_id`."""
        fields = (self.task, self.organization, self.subject, int(self.scope), self.deadline)
        return keccak(encode(("bytes32", "bytes32", "bytes32", "uint8", "uint64"), fields))

    def digest(self, domain: Domain) -> bytes:
        """Return what the organization signs, 32 bytes."""
        return digest(domain, REQUEST_TYPE, self.values())

    def values(self) -> dict[str, Any]:
        """Return the fields under the names and in the order of the contract's struct."""
        return {
            "id": self.id,
            "task": self.task,
            "organization": self.organization,
            "subject": self.subject,
            "scope": int(self.scope),
            "deadline": self.deadline,
        }


@dataclass(frozen=True)
class Completion:
    """What attestors vouch for, once something was forgotten.

    Parameters
    ----------
    evidence_root : bytes
        Root of the evidence that they checked, 32 bytes.
    adapter : bytes
        Canonical hash of the adapter that has forgotten, 32 bytes.
    first_affected_round : int
        First round that the data was part of, 64 bits; 0 exactly where nothing was to forget.
    guarantee : Guarantee
        How far they vouch for it.

    Raises
    ------
    ValueError
        If a field has not its size.
    """

    evidence_root: bytes
    adapter: bytes
    first_affected_round: int
    guarantee: Guarantee

    def __post_init__(self) -> None:
        for field in ("evidence_root", "adapter"):
            check_hash(getattr(self, field), field)
        check_integer("first_affected_round", self.first_affected_round, 64)
        _check_member("guarantee", self.guarantee, Guarantee)

    def digest(self, domain: Domain, id: bytes, organization: bytes) -> bytes:
        """Return what an attestor signs, 32 bytes.

        Parameters
        ----------
        domain : Domain
            Where the signature counts.
        id : bytes
            Id of the request, 32 bytes.
        organization : bytes
            Id of the attestor, 32 bytes.
        """
        values = {"id": id, "organization": organization, **self.values()}
        return digest(domain, COMPLETION_TYPE, values)

    def values(self) -> dict[str, Any]:
        """Return the fields under the names and in the order of the contract's struct."""
        return {
            "evidenceRoot": self.evidence_root,
            "adapter": self.adapter,
            "firstAffectedRound": self.first_affected_round,
            "guarantee": int(self.guarantee),
        }


@dataclass(frozen=True)
class Cancellation:
    """An organization's word that it takes a request back.

    Parameters
    ----------
    id : bytes
        Id of the request, 32 bytes.

    Raises
    ------
    ValueError
        If it has not its size.
    """

    id: bytes

    def __post_init__(self) -> None:
        check_hash(self.id, "id")

    def digest(self, domain: Domain) -> bytes:
        """Return what the organization signs, 32 bytes."""
        return digest(domain, CANCELLATION_TYPE, self.values())

    def values(self) -> dict[str, Any]:
        """Return the fields under the names of the signed type."""
        return {"id": self.id}


def request_id(
    task: bytes, organization: bytes, subject: bytes, scope: UnlearningScope, deadline: int
) -> bytes:
    """Return the id that a request must have, as the contract's ``idOf``.

    Nobody else can then take the id of a request that is still on its way, and so keep it out.

    Parameters
    ----------
    task, organization, subject : bytes
        As in the `Request`, 32 bytes each.
    scope : UnlearningScope
        As in the `Request`.
    deadline : int
        As in the `Request`, 64 bits.

    Returns
    -------
    bytes
        ``keccak(abi.encode(task, organization, subject, scope, deadline))``, 32 bytes.
    """
    return Request(task, organization, subject, scope, deadline).id


def subject_commitment(salt: bytes, scope: UnlearningScope, positions: Sequence[int]) -> bytes:
    """Commit to what is to be forgotten.

    Whoever is given salt and positions computes it again and compares. To everyone else it says
    nothing: positions alone are few enough to be guessed, but the salt, of 32 random bytes, would
    have to be guessed with them. For the same reason a salt serves once.

    Parameters
    ----------
    salt : bytes
        Random, 32 bytes, new for every request.
    scope : UnlearningScope
        Whether records or all of the organization's data.
    positions : sequence of int
        Leaves of the organization's data set, 64 bits each, strictly ascending, so that a set of
        them has one commitment; none where all of the data is to be forgotten.

    Returns
    -------
    bytes
        ``keccak(abi.encode(purpose, scope, salt, positions))``, 32 bytes, where the purpose is the
        string "foedus: what is to be forgotten, version 1" and positions are a ``uint64[]``.

    Raises
    ------
    ValueError
        If a value has not its size, positions do not ascend, or there are some where the scope
        wants none, or the other way round.
    """
    check_hash(salt, "salt")
    _check_member("scope", scope, UnlearningScope)
    if bool(positions) != (scope is UnlearningScope.RECORDS):
        raise ValueError(
            f"positions: {len(positions)} for the scope {scope.name}, expected some for RECORDS "
            "and none for ORGANIZATION"
        )
    for position in positions:
        check_integer("positions", position, 64)
    for before, after in pairwise(positions):
        if after <= before:
            raise ValueError(f"positions: {after} after {before}, expected strictly ascending")
    types = ("string", "uint8", "bytes32", "uint64[]")
    return keccak(encode(types, (_SUBJECT_PURPOSE, int(scope), salt, list(positions))))


def _check_member(name: str, value: _E, kind: type[_E]) -> None:
    if type(value) is not kind:
        raise ValueError(f"{name}: {value!r}, expected one of {', '.join(kind.__members__)}")
