"""Every kind of record of a private ledger, and what it holds; nothing else is taken.

A record has a body, which stands in the leaf for good and for every member to read; or a payload,
which is encrypted, read by the roles that may, and can be erased; or both. Bodies hold neither
names, texts nor ids of records.

What all of them have in common is in :mod:`blockchain.private.record_fields`, the participation
agent's records are in :mod:`blockchain.private.agent_records`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from blockchain.private.agent_records import AgentDecision, AgentReward
from blockchain.private.errors import RecordRefusedError
from blockchain.private.record_fields import (
    MAX_BYTES,
    Address,
    Hash,
    Integer,
    Number,
    Numbers,
    Part,
    Real,
    Signature,
    Slug,
    Text,
)


class Role(StrEnum):
    """What a member of a ledger is there for."""

    OPERATOR = "operator"
    TRAINER = "trainer"
    AUDITOR = "auditor"
    OFFICER = "data-protection-officer"


# Who is a member, and who may do what


class Member(Part):
    """A member: its address, its roles, and the key that what it may read is sealed to.

    Parameters
    ----------
    address : str
        Of its signing key.
    roles : tuple of Role
        In the order of their names; empty for one that is a member no longer.
    encryption : str
        Its X25519 public key, 32 bytes.
    proof : str
        Its signature over both (`blockchain.private.encoding.member_key_digest`), 65 bytes.
    """

    address: Address
    roles: tuple[Role, ...]
    encryption: Hash
    proof: Signature


class RoleKey(Part):
    """A role's public key, and how many it had before."""

    generation: Number
    public: Hash


class Rules(Part):
    """Who may write and read which type of record, and whose endorsement it needs.

    Parameters
    ----------
    writers, readers : mapping of str to tuple of Role
        By type of record.
    endorsements : mapping of str to mapping of Role to int
        By type of record: how many members of each role have to stand behind it, its author among
        them. A member counts for one role.
    """

    writers: dict[Slug, tuple[Role, ...]]
    readers: dict[Slug, tuple[Role, ...]]
    endorsements: dict[Slug, dict[Role, Annotated[int, Field(ge=1, le=64)]]]


#: Public keys by role; ``member`` stands for what all members share.
RoleKeys = dict[Slug, RoleKey]


class Genesis(Part):
    """The first record: whose ledger it is, its first members and rules.

    Parameters
    ----------
    organization : str
        Id of the organization, 32 bytes.
    address : str
        Its signing key's address then: every signature of this ledger is bound to it.
    nonce : str
        32 random bytes: no two ledgers have the same id.
    """

    record_type: ClassVar[str] = "genesis"

    organization: Hash
    address: Address
    nonce: Hash
    members: tuple[Member, ...]
    role_keys: RoleKeys
    rules: Rules


class MembershipChange(Part):
    """A member is admitted, gets other roles, or (with none) leaves.

    Parameters
    ----------
    member : Member
        As it is to be.
    role_keys : mapping of str to RoleKey
        New keys of the roles that somebody loses.
    valid_from : int
        First height at which it may count.
    """

    record_type: ClassVar[str] = "membership"

    member: Member
    role_keys: RoleKeys
    valid_from: Number


class PolicyChange(Part):
    """Other rules."""

    record_type: ClassVar[str] = "policy"

    rules: Rules
    valid_from: Number


class KeyRotation(Part):
    """A member, who is the author, goes on under another key."""

    record_type: ClassVar[str] = "key-rotation"

    successor: Address
    encryption: Hash
    proof: Signature


class Endorsement(Part):
    """A member stands behind a record.

    Parameters
    ----------
    record : int
        Number of the record.
    leaf : str
        Its leaf's hash, 32 bytes.
    member : str
        Who; whoever puts it on the ledger may be another.
    role : Role
        As what.
    signature : str
        `blockchain.private.encoding.endorsement_digest`, signed by the member, 65 bytes.
    """

    record_type: ClassVar[str] = "endorsement"

    record: Number
    leaf: Hash
    member: Address
    role: Role
    signature: Signature


# What was trained on, and what came of it


class DataSet(Part):
    """The training set from now on: a tree with one leaf for each record id ever committed.

    Parameters
    ----------
    added : int
        Leaves that are new.
    size : int
        Leaves in all.
    root : str
        RFC 9162 root over them, those of forgotten records replaced by one fixed leaf, 32 bytes.
    """

    record_type: ClassVar[str] = "data-set"

    added: Number
    size: Number
    root: Hash


class DataSetKey(Part):
    """What opens the new leaves of a data set.

    Parameters
    ----------
    source : str
        Where the records come from, for people.
    key : str
        Under which ids, digests and salts of the new leaves are encrypted, 32 bytes.
    """

    record_type: ClassVar[str] = "data-set"

    source: Text
    key: Hash


class TrainingRun(Part):
    """What was trained in a round.

    Parameters
    ----------
    task : str
        The task's id, 32 bytes.
    run : str
        The run's name.
    round : int
        The round.
    configuration : mapping of str to str, int or bool
        The settings that training obeyed; floats as `float.hex`.
    seed : int
        Seed of everything drawn.
    data_set : int
        Number of the record that commits to the training set drawn from.
    drawn : tuple of int
        Leaves of that data set whose records were used, ascending.
    parent, update, commitment : str
        Hashes of the adapter trained from and of the update; what was signed for it. 32 bytes each.
    records, tokens, steps : int
        Records used, tokens processed, optimizer steps.
    seconds, first_loss, last_loss : str
        Wall time, and the losses of the first and last step in nats.
    """

    record_type: ClassVar[str] = "training-run"

    task: Hash
    run: Text
    round: Number
    configuration: dict[Slug, str | Integer | bool]
    seed: Number
    data_set: Number
    drawn: Numbers
    parent: Hash
    update: Hash
    commitment: Hash
    records: Number
    tokens: Number
    steps: Number
    seconds: Real
    first_loss: Real
    last_loss: Real


class ReceiptVerification(Part):
    """The coordinator's receipt for our update of a round, and what we found when we checked it.

    Parameters
    ----------
    task : str
        The task's id, 32 bytes.
    round : int
        The round.
    index, verdict : int
        Position and verdict of our leaf.
    digest : str
        What we had signed, 32 bytes.
    proof : tuple of str
        Inclusion proof.
    transaction : str
        The sealing one.
    coordinator : str
        Who signed the receipt, as the chain names it.
    signature : str
        The coordinator's, 65 bytes.
    included : bool
        Whether the proof leads to the root sealed on chain.
    chain_id, height : int
        The chain, and its newest block when we checked.
    block : str
        That block's hash, 32 bytes.
    """

    record_type: ClassVar[str] = "receipt"

    task: Hash
    round: Number
    index: Number
    verdict: Number
    digest: Hash
    proof: Annotated[tuple[Hash, ...], Field(max_length=64)]
    transaction: Text
    coordinator: Address
    signature: Signature
    included: bool
    chain_id: Number
    height: Number
    block: Hash


# What was forgotten


class UnlearningRequest(Part):
    """Somebody wants records forgotten.

    Parameters
    ----------
    request : str
        Id of the request, 32 bytes.
    scope : {"records", "organization"}
        What is to be forgotten.
    method : {"exact", "fast"}
        How.
    positions : tuple of int
        Leaves of the data set; empty for the whole organization.
    salt : str
        Opens the commitment on the public chain, 32 bytes.
    deadline : int
        Second since the epoch.
    """

    record_type: ClassVar[str] = "unlearning-request"

    request: Hash
    scope: Literal["records", "organization"]
    method: Literal["exact", "fast"]
    positions: Numbers
    salt: Hash
    deadline: Number

    @model_validator(mode="after")
    def _positions_where_records_are_named(self) -> Self:
        if bool(self.positions) != (self.scope == "records"):
            raise ValueError("positions: expected some for the scope records, none for another")
        return self


class UnlearningEvidence(Part):
    """What was done about a request, and what it was measured to have done.

    Parameters
    ----------
    request : str
        Id of the request, 32 bytes.
    label : str
        What is claimed.
    figures : mapping of str to str
        Measurements, by name.
    artifacts : mapping of str to str
        Hashes of what they were made on, 32 bytes each, by name.
    """

    record_type: ClassVar[str] = "unlearning-evidence"

    request: Hash
    label: Literal["EXACT_ISOLATED", "EXACT_REPLAY", "EMPIRICAL", "NO_OP"]
    figures: dict[Slug, Real]
    artifacts: dict[Slug, Hash]


class Tombstone(Part):
    """Leaves of the data set whose records are out of it for good."""

    record_type: ClassVar[str] = "tombstone"

    positions: Annotated[Numbers, Field(min_length=1)]


class TombstoneDetails(Part):
    """Since when, why, and how the records are recognized should they come again.

    Parameters
    ----------
    request : str
        Id of the request, 32 bytes.
    task : str
        The task of the first round that they are barred from, 32 bytes; zeros where there is none.
    since_round : int
        That round.
    generation : int
        Of the members' common key, which the suppression key is derived from.
    suppressed : tuple of str
        Each id under the suppression key, 32 bytes.
    """

    record_type: ClassVar[str] = "tombstone"

    request: Hash
    task: Hash
    since_round: Number
    generation: Number
    suppressed: tuple[Hash, ...]


class ErasePending(Part):
    """Payloads are about to be erased.

    Parameters
    ----------
    records : tuple of int
        Records whose payloads are.
    entries : tuple of int
        Leaves of the data set whose ids, digests and salts are.
    reason : str
        Why: a word, such as ``unlearning`` or ``retention``.
    """

    record_type: ClassVar[str] = "erase-pending"

    records: Numbers
    entries: Numbers
    reason: Slug


class Erased(Part):
    """They are erased: keys, salts and ciphertexts are gone from the files.

    Parameters
    ----------
    pending : int
        Number of the record that said so before.
    """

    record_type: ClassVar[str] = "erased"

    pending: Number


class ReadsSoFar(Part):
    """How far the log of reads goes.

    Parameters
    ----------
    count : int
        Reads logged so far.
    head : str
        MAC of the last one, 32 bytes.
    """

    record_type: ClassVar[str] = "reads"

    count: Number
    head: Hash


_BODIES: Final = (
    Genesis,
    MembershipChange,
    PolicyChange,
    KeyRotation,
    Endorsement,
    DataSet,
    Tombstone,
    ErasePending,
    Erased,
    ReadsSoFar,
)
_PAYLOADS: Final = (
    DataSetKey,
    TrainingRun,
    AgentDecision,
    AgentReward,
    ReceiptVerification,
    UnlearningRequest,
    UnlearningEvidence,
    TombstoneDetails,
)

#: By type of record, the model of its body and of its payload.
BODIES: Final[Mapping[str, type[Part]]] = {model.record_type: model for model in _BODIES}
PAYLOADS: Final[Mapping[str, type[Part]]] = {model.record_type: model for model in _PAYLOADS}
TYPES: Final = tuple(sorted(BODIES.keys() | PAYLOADS.keys()))


def read_body(record_type: str, encoded: bytes) -> Part:
    """Read a body strictly; `RecordRefusedError` names what is wrong with it."""
    return _read(BODIES, record_type, encoded, "body")


def read_payload(record_type: str, encoded: bytes) -> Part:
    """Read a payload strictly; `RecordRefusedError` names what is wrong with it."""
    return _read(PAYLOADS, record_type, encoded, "payload")


def check_parts(record_type: str, *, body: bool, payload: bool) -> None:
    """Make sure that a record of a type has the parts that it is to have.

    Raises
    ------
    RecordRefusedError
        The type is unknown, or a part is missing or surplus.
    """
    if record_type not in TYPES:
        raise RecordRefusedError(
            f"{record_type!r:.80} is no type of record: expected one of {', '.join(TYPES)}"
        )
    for name, models, has in (("body", BODIES, body), ("payload", PAYLOADS, payload)):
        if (record_type in models) != has:
            raise RecordRefusedError(
                f"{record_type}: {'a surplus' if has else 'expected a'} {name}"
            )


def first_fault(error: ValidationError, whole: str) -> str:
    """Say in one line where a model was refused first, and why.

    Parameters
    ----------
    error : ValidationError
        Pydantic's.
    whole : str
        What the model is, for a fault that is not in one of its fields.
    """
    first = error.errors(include_input=False, include_url=False)[0]
    where = ".".join(str(step) for step in first["loc"]) or whole
    # Names of surplus fields come from whoever wrote it.
    shown = "".join(sign if sign.isprintable() else "?" for sign in where[:80])
    return f"{shown}: {first['msg']}"


def _read(models: Mapping[str, type[Part]], record_type: str, encoded: bytes, what: str) -> Part:
    model = models.get(record_type)
    if model is None:
        raise RecordRefusedError(f"{record_type!r:.80} has no {what}")
    if len(encoded) > MAX_BYTES:
        raise RecordRefusedError(
            f"{record_type}: a {what} of {len(encoded):,} bytes, expected at most {MAX_BYTES:,}"
        )
    try:
        part = model.model_validate_json(encoded)
    except ValidationError as error:
        raise RecordRefusedError(f"{record_type}: {first_fault(error, what)}") from None
    if part.canonical() != encoded:
        raise RecordRefusedError(f"{record_type}: its {what} is not in canonical form")
    return part
