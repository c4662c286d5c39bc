"""The policy in force: members, roles, their keys, and who may write, read and must endorse what.

Pure: a policy never changes, a change makes another one. Which changes count, and from which
height, is for :mod:`blockchain.private.history`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from blockchain.canonical import hash_json
from blockchain.private.encoding import member_key_digest
from blockchain.private.errors import NotPermittedError, RecordRefusedError
from blockchain.private.record_types import (
    PAYLOADS,
    TYPES,
    Genesis,
    KeyRotation,
    Member,
    MembershipChange,
    PolicyChange,
    Role,
    RoleKey,
    Rules,
)
from blockchain.typed_data import SignatureError, check_signer

#: Stands among the roles for what all members share.
EVERYBODY: Final = "member"

_OPERATOR, _TRAINER, _AUDITOR, _OFFICER = Role.OPERATOR, Role.TRAINER, Role.AUDITOR, Role.OFFICER
_ALL: Final = tuple(sorted(Role))


def _roles(*roles: Role) -> tuple[Role, ...]:
    return tuple(sorted(roles))


_BOTH: Final = {_OPERATOR: 1, _OFFICER: 1}

#: What a ledger begins with unless told otherwise.
DEFAULT_RULES: Final = Rules(
    writers={
        "agent-decision": _roles(_TRAINER),
        "agent-reward": _roles(_TRAINER),
        "data-set": _roles(_OPERATOR, _TRAINER),
        "endorsement": _ALL,
        "erase-pending": _roles(_OPERATOR, _OFFICER),
        "erased": _roles(_OPERATOR, _TRAINER, _OFFICER),
        "genesis": (),
        "key-rotation": _ALL,
        "membership": _roles(_OPERATOR, _OFFICER),
        "policy": _roles(_OPERATOR, _OFFICER),
        "reads": _ALL,
        "receipt": _roles(_OPERATOR, _TRAINER),
        "tombstone": _roles(_OPERATOR, _TRAINER, _OFFICER),
        "training-run": _roles(_TRAINER),
        "unlearning-evidence": _roles(_OPERATOR, _TRAINER),
        "unlearning-request": _roles(_OPERATOR, _OFFICER),
    },
    readers={
        "agent-decision": _roles(_OPERATOR, _TRAINER),
        "agent-reward": _roles(_OPERATOR, _TRAINER),
        "data-set": _roles(_OPERATOR, _TRAINER, _OFFICER),
        "receipt": _roles(_OPERATOR, _TRAINER, _AUDITOR),
        "tombstone": _ALL,
        "training-run": _roles(_OPERATOR, _TRAINER, _AUDITOR),
        "unlearning-evidence": _roles(_OPERATOR, _OFFICER),
        "unlearning-request": _roles(_OPERATOR, _OFFICER),
    },
    endorsements={"membership": _BOTH, "policy": _BOTH, "unlearning-evidence": _BOTH},
)


@dataclass(frozen=True)
class Policy:
    """Members and rules at one height.

    Parameters
    ----------
    members : mapping of str to Member
        By address.
    role_keys : mapping of str to RoleKey
        By role, and that of `EVERYBODY`.
    rules : Rules
        Who may do what.
    """

    members: Mapping[str, Member]
    role_keys: Mapping[str, RoleKey]
    rules: Rules

    @classmethod
    def of(cls, genesis: Genesis) -> "Policy":
        """Return what a ledger begins with; `RecordRefusedError` for one nobody can work with."""
        members = {member.address: member for member in genesis.members}
        if len(members) < len(genesis.members):
            raise RecordRefusedError("genesis: members: one is there twice")
        for member in genesis.members:
            check_member(member)
        if sorted(genesis.role_keys) != _key_names():
            raise RecordRefusedError(f"genesis: role_keys: expected {', '.join(_key_names())}")
        check_rules(genesis.rules)
        policy = cls(members, genesis.role_keys, genesis.rules)
        if Role.OPERATOR not in policy.roles_of(genesis.address):
            raise RecordRefusedError(
                f"genesis: members: expected the organization {genesis.address} as an operator"
            )
        return policy

    @cached_property
    def hash(self) -> bytes:
        """Hash of the policy, 32 bytes: what blocks hold of it."""
        return hash_json(
            {
                "members": {
                    address: member.model_dump(mode="json")
                    for address, member in self.members.items()
                },
                "role_keys": {
                    role: key.model_dump(mode="json") for role, key in self.role_keys.items()
                },
                "rules": self.rules.model_dump(mode="json"),
            }
        )

    def with_role(self, role: Role) -> list[str]:
        """Return the addresses of a role's members, in order."""
        return sorted(a for a, member in self.members.items() if role in member.roles)

    def holders(self, role: str) -> list[str]:
        """Return who holds a role's private key: its members; the operators where there is none."""
        if role == EVERYBODY:
            return sorted(self.members)
        return self.with_role(Role(role)) or self.with_role(Role.OPERATOR)

    def roles_of(self, address: str) -> tuple[Role, ...]:
        """Return a member's roles; none for a stranger."""
        member = self.members.get(address)
        return member.roles if member else ()

    def readers(self, record_type: str) -> tuple[Role, ...]:
        """Return the roles that a payload of this type is sealed to."""
        return self.rules.readers[record_type] if record_type in PAYLOADS else ()

    def role_to_write(self, address: str, record_type: str) -> Role:
        """Return the first of a member's roles in which it may write a type of record.

        Raises
        ------
        NotPermittedError
            There is none.
        """
        allowed = self.rules.writers.get(record_type, ())
        for role in self.roles_of(address):
            if role in allowed:
                return role
        raise NotPermittedError(
            f"{_shown(address, self.roles_of(address))} may not write {record_type} records: "
            f"{_listed(allowed)} may"
        )

    def check_writer(self, address: str, role: Role, record_type: str) -> None:
        """Make sure that a member may write a type of record in a role; `NotPermittedError`."""
        if role not in self.roles_of(address):
            raise NotPermittedError(f"{_shown(address, self.roles_of(address))} is no {role}")
        allowed = self.rules.writers.get(record_type, ())
        if role not in allowed:
            raise NotPermittedError(
                f"a {role} may not write {record_type} records: {_listed(allowed)} may"
            )

    def missing(self, record_type: str, endorsers: Iterable[tuple[str, Role]]) -> dict[Role, int]:
        """Return how many members of each role a record still lacks behind it.

        Parameters
        ----------
        record_type : str
            Its type.
        endorsers : iterable of (str, Role)
            Who stands behind it, its author first, each with the role. A member counts once.
        """
        standing: dict[str, Role] = {}
        for address, role in endorsers:
            standing.setdefault(address, role)
        counted = list(standing.values())
        needed = self.rules.endorsements.get(record_type, {})
        lacking = {role: needed[role] - counted.count(role) for role in sorted(needed)}
        return {role: count for role, count in lacking.items() if count > 0}

    def changed_by(self, change: MembershipChange) -> "Policy":
        """Return the policy with another member; `RecordRefusedError` where that cannot be."""
        member = change.member
        check_member(member)
        if not member.roles and member.address not in self.members:
            raise RecordRefusedError(f"membership: {member.address} is no member")
        after = self.with_member(member)
        if not after.with_role(Role.OPERATOR):
            raise RecordRefusedError("membership: it would leave the ledger without an operator")
        lost = self.keys_lost(after)
        if change.role_keys.keys() != set(lost):
            raise RecordRefusedError(
                f"membership: role_keys: expected new keys of {_listed(lost)}, got "
                f"{_listed(sorted(change.role_keys))}"
            )
        for role, key in change.role_keys.items():
            expected = self.role_keys[role].generation + 1
            if key.generation != expected:
                raise RecordRefusedError(
                    f"membership: role_keys.{role}: generation {key.generation}, expected "
                    f"{expected}: another change came first"
                )
        return replace(after, role_keys={**self.role_keys, **change.role_keys})

    def with_member(self, member: Member) -> "Policy":
        """Return the policy with a member as it says, or without it where it has no roles."""
        others = {key: one for key, one in self.members.items() if key != member.address}
        staying = {member.address: member} if member.roles else {}
        return replace(self, members={**others, **staying})

    def keys_lost(self, after: "Policy") -> list[str]:
        """Return the roles whose key somebody holds now and is not to hold then, in order."""
        return sorted(
            role
            for role in self.role_keys
            if not set(self.holders(role)) <= set(after.holders(role))
        )

    def ruled_by(self, change: PolicyChange) -> "Policy":
        """Return the policy with other rules; `RecordRefusedError` for malformed ones."""
        check_rules(change.rules)
        return replace(self, rules=change.rules)

    def succeeded(self, author: str, change: KeyRotation) -> "Policy":
        """Return the policy with a member under another key; `RecordRefusedError` if taken."""
        if author not in self.members:
            raise RecordRefusedError(f"key-rotation: {author} is no member any more")
        if change.successor in self.members:
            raise RecordRefusedError(f"key-rotation: {change.successor} is a member already")
        successor = Member(
            address=change.successor,
            roles=self.members[author].roles,
            encryption=change.encryption,
            proof=change.proof,
        )
        check_member(successor)
        others = {key: member for key, member in self.members.items() if key != author}
        return replace(self, members={**others, change.successor: successor})


def check_member(member: Member) -> None:
    """Make sure that a member's encryption key is its own; `RecordRefusedError`."""
    if list(member.roles) != sorted(set(member.roles)):
        raise RecordRefusedError(f"membership: roles of {member.address}: not in order, or twice")
    said = member_key_digest(member.address, bytes.fromhex(member.encryption))
    try:
        check_signer(said, bytes.fromhex(member.proof), member.address)
    except SignatureError as error:
        raise RecordRefusedError(f"membership: proof of {member.address}: {error}") from error


def check_rules(rules: Rules) -> None:
    """Make sure that rules speak of every type of record, and of no other; `RecordRefusedError`."""
    for name, given, expected in (
        ("writers", rules.writers, set(TYPES)),
        ("readers", rules.readers, set(PAYLOADS)),
    ):
        if given.keys() != expected:
            differing = sorted(given.keys() ^ expected)
            raise RecordRefusedError(f"rules: {name}: missing or surplus: {_listed(differing)}")
        for record_type, roles in given.items():
            if list(roles) != sorted(set(roles)):
                raise RecordRefusedError(f"rules: {name}.{record_type}: not in order, or twice")
    if not rules.endorsements.keys() <= set(TYPES):
        raise RecordRefusedError("rules: endorsements: of a type that there is not")
    for record_type in ("membership", "policy", "endorsement"):
        if not rules.writers[record_type]:
            raise RecordRefusedError(
                f"rules: writers.{record_type}: nobody: nothing could ever be changed"
            )
    for record_type, roles in rules.readers.items():
        if not roles:
            raise RecordRefusedError(f"rules: readers.{record_type}: nobody: its key would be lost")
    for record_type in ("endorsement", "erased", "reads", "key-rotation"):
        if rules.endorsements.get(record_type):
            raise RecordRefusedError(
                f"rules: endorsements.{record_type}: these count at once, expected none"
            )


def _key_names() -> list[str]:
    return sorted([*_ALL, EVERYBODY])


def _shown(address: str, roles: tuple[Role, ...]) -> str:
    return f"{address} ({_listed(roles) if roles else 'no member'})"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "nobody"
