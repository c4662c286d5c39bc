"""The keys that one member has: of its roles, and through them of payloads; and the MAC's.

Private keys of roles come from ``secrets.sqlite``, sealed to the member. A change of members that
does not count yet may have made keys that never will: a role can have several of one generation,
and the policy in force says which counts.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection, and_, delete, or_, select
from sqlalchemy.dialects.sqlite import insert

from blockchain.canonical import CanonicalJSON
from blockchain.private import sealing
from blockchain.private.errors import InvalidLedgerError, NotPermittedError
from blockchain.private.policy import EVERYBODY, Policy
from blockchain.private.record_types import RoleKey
from blockchain.private.schema import role_keys
from blockchain.private.sealing import KEY_SIZE, SealError

#: Columns that a row's MAC covers; the last names the generation of the MAC's key.
_COVERED: Final = {
    "keys": ("record", "role", "generation", "sealed", "mac_generation"),
    "role_keys": ("role", "public", "holder", "generation", "sealed", "mac_generation"),
    "witness": ("id", "height", "head", "mac_generation"),
    "outbox": (
        "size",
        "root",
        "deadline",
        "signature",
        "state",
        "transaction",
        "block",
        "generation",
    ),
}


class Keyring:
    """What one member can open, in one ledger.

    Parameters
    ----------
    ledger : bytes
        Id of the ledger, 32 bytes.
    account : LocalAccount
        The member's.
    """

    def __init__(self, ledger: bytes, account: LocalAccount) -> None:
        self._ledger = ledger
        self._address = account.address
        self._own = sealing.member_private_key(account)
        # Private keys by role and generation, then by public key.
        self._privates: dict[tuple[str, int], dict[bytes, bytes]] = {}
        self._mac_keys: dict[bytes, bytes] = {}

    # What the member has

    def load(self, connection: Connection) -> None:
        """Read what is sealed to the member and was not read yet, from ``secrets.sqlite``.

        Raises
        ------
        InvalidLedgerError
            A row does not open, or to another key than it says.
        """
        for row in connection.execute(select(role_keys).where(role_keys.c.holder == self._address)):
            if row.public in self._privates.get((row.role, row.generation), {}):
                continue
            where = f"role_keys.sealed of {row.role}, generation {row.generation}"
            try:
                place = self._role_place(row.role, row.generation, self._address)
                private = sealing.unseal(self._own, row.sealed, place)
            except SealError as error:
                raise InvalidLedgerError(where, str(error)) from error
            if sealing.public_key(private) != row.public:
                raise InvalidLedgerError(where, "it is another key than the public one beside it")
            self.add(row.role, row.generation, private)

    def add(self, role: str, generation: int, private: bytes) -> None:
        """Take up a role's private key."""
        known = self._privates.setdefault((role, generation), {})
        known[sealing.public_key(private)] = private

    def private(self, role: str, key: RoleKey) -> bytes:
        """Return a role's private key, 32 bytes.

        Raises
        ------
        NotPermittedError
            The member does not have it.
        """
        found = self._privates.get((role, key.generation), {}).get(bytes.fromhex(key.public))
        if found is None:
            raise NotPermittedError(
                f"{self._address} was not given the key of {role}, generation {key.generation}: "
                "a holder of it has to open the ledger first"
            )
        return found

    def lacks(self, policy: Policy) -> bool:
        """Whether a key that this member is to have under a policy was not taken up yet."""
        return any(
            self._address in policy.holders(role) and not self._has(role, key)
            for role, key in policy.role_keys.items()
        )

    # Payload keys

    def seal_payload_key(
        self, policy: Policy, record: int, record_type: str, secret: bytes
    ) -> list[dict[str, Any]]:
        """Seal a payload's key and salt to each role that may read it; rows of ``keys``."""
        rows = []
        for role in policy.readers(record_type):
            key = policy.role_keys[role]
            place = self._payload_place(record, role, key.generation)
            row = {
                "record": record,
                "role": str(role),
                "generation": key.generation,
                "sealed": sealing.seal(bytes.fromhex(key.public), secret, place),
            }
            rows.append(self.signed_row("keys", policy, row))
        return rows

    def open_payload_key(self, row: Any) -> tuple[bytes, bytes] | None:
        """Return a payload's key and salt, 32 bytes each; None where the member lacks the role.

        Raises
        ------
        SealError
            The row was altered.
        """
        privates = self._privates.get((row.role, row.generation))
        if privates is None:
            return None
        place = self._payload_place(row.record, row.role, row.generation)
        for private in privates.values():
            try:
                secret = sealing.unseal(private, row.sealed, place)
            except SealError:
                continue
            return secret[:KEY_SIZE], secret[KEY_SIZE:]
        raise SealError("it was sealed to another key, or altered")

    # Keys of roles, shared

    def role_key_rows(
        self, policy: Policy, role: str, generation: int, private: bytes, holders: Iterable[str]
    ) -> list[dict[str, Any]]:
        """Seal a role's private key to members of a policy; rows of ``role_keys``."""
        rows = []
        for holder in holders:
            encryption = bytes.fromhex(policy.members[holder].encryption)
            row = {
                "role": role,
                "public": sealing.public_key(private),
                "holder": holder,
                "generation": generation,
                "sealed": sealing.seal(
                    encryption, private, self._role_place(role, generation, holder)
                ),
            }
            rows.append(self.signed_row("role_keys", policy, row))
        return rows

    def hand_over(self, connection: Connection, policy: Policy, successor: str) -> None:
        """Give what is sealed to this member to the address that it goes on under.

        Parameters
        ----------
        connection : Connection
            To ``secrets.sqlite``, writing.
        policy : Policy
            With the successor.
        successor : str
            Its address.
        """
        self.load(connection)
        # What a writer left that was killed before its block was there.
        connection.execute(delete(role_keys).where(role_keys.c.holder == successor))
        own = select(role_keys).where(role_keys.c.holder == self._address)
        for row in connection.execute(own).all():
            private = self._privates[row.role, row.generation][row.public]
            handed = self.role_key_rows(policy, row.role, row.generation, private, [successor])
            connection.execute(insert(role_keys), handed)

    def share(self, connection: Connection, policy: Policy) -> None:
        """Give each holder of a role the keys of it that this member has; drop those of others."""
        rows, dropped = self._shares(connection, policy)
        if rows:
            connection.execute(insert(role_keys), rows)
        if dropped:
            connection.execute(
                delete(role_keys).where(
                    or_(
                        *(
                            and_(
                                role_keys.c.role == role,
                                role_keys.c.public == public,
                                role_keys.c.holder == holder,
                            )
                            for role, public, holder in dropped
                        )
                    )
                )
            )

    def must_share(self, connection: Connection, policy: Policy) -> bool:
        """Whether `share` would change anything."""
        return any(self._shares(connection, policy))

    def _shares(
        self, connection: Connection, policy: Policy
    ) -> tuple[list[dict[str, Any]], list[tuple[str, bytes, str]]]:
        """Return the rows to insert, and the role, key and holder of those to drop."""
        having: dict[tuple[str, int, bytes], set[str]] = {}
        columns = role_keys.c.role, role_keys.c.generation, role_keys.c.public, role_keys.c.holder
        for role, generation, public, holder in connection.execute(select(*columns)):
            having.setdefault((role, generation, public), set()).add(holder)
        rows, dropped = [], []
        # Who has left, or waits for that key itself, cannot sign what it would share.
        signs = self._has(EVERYBODY, policy.role_keys[EVERYBODY])
        for (role, generation, public), there in having.items():
            key = policy.role_keys.get(role)
            if key is None or generation > key.generation:
                # Of a change that does not count yet.
                continue
            holders = set(policy.holders(role))
            private = self._privates.get((role, generation), {}).get(public) if signs else None
            lacking = sorted(holders - there)
            if lacking and private is None:
                continue
            if private is not None:
                rows += self.role_key_rows(policy, role, generation, private, lacking)
            dropped += [(role, public, holder) for holder in sorted(there - holders)]
        return rows, dropped

    # MACs

    def signed_row(self, table: str, policy: Policy, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row with its MAC, under the key that all members have now."""
        key = policy.role_keys[EVERYBODY]
        signed = {**row, _COVERED[table][-1]: key.generation}
        return {**signed, "mac": self.mac(policy, table, _covered(table, signed))}

    def check_row(self, table: str, row: Any) -> None:
        """Make sure that a member wrote a row; `InvalidLedgerError` names the table."""
        values = row._asdict()
        self.check_mac(values[_COVERED[table][-1]], table, _covered(table, values), row.mac)

    def mac(self, policy: Policy, kind: str, row: Mapping[str, CanonicalJSON]) -> bytes:
        """Return a row's MAC under the key that all members have now, 32 bytes."""
        private = self.private(EVERYBODY, policy.role_keys[EVERYBODY])
        return self._mac(private, kind, row)

    def check_mac(
        self, generation: int, kind: str, row: Mapping[str, CanonicalJSON], found: bytes
    ) -> None:
        """Make sure that a MAC is that of a row; `InvalidLedgerError` names its table."""
        privates = self._privates.get((EVERYBODY, generation), {}).values()
        try:
            held = any(sealing.same(self._mac(private, kind, row), found) for private in privates)
        except (TypeError, ValueError):
            # A value that canonical JSON cannot hold.
            held = False
        if not held:
            raise InvalidLedgerError(f"{kind}.mac", "no member wrote this row so")

    def keyed_id(self, key: RoleKey, record_id: str) -> bytes:
        """Return what an id is recognized by (`sealing.keyed_id`), 32 bytes."""
        private = self.private(EVERYBODY, key)
        return sealing.keyed_id(sealing.suppression_key(private), record_id)

    def keyed_ids(self, generation: int, record_id: str) -> list[bytes]:
        """Return what a forgotten id may be recognized by (`sealing.keyed_id`), 32 bytes each."""
        privates = self._privates.get((EVERYBODY, generation), {}).values()
        return [
            sealing.keyed_id(sealing.suppression_key(private), record_id) for private in privates
        ]

    def _has(self, role: str, key: RoleKey) -> bool:
        return bytes.fromhex(key.public) in self._privates.get((role, key.generation), {})

    def _mac(self, private: bytes, kind: str, row: Mapping[str, CanonicalJSON]) -> bytes:
        key = self._mac_keys.get(private)
        if key is None:
            key = self._mac_keys[private] = sealing.mac_key(private)
        return sealing.mac(key, kind, {"ledger": self._ledger.hex(), **row})

    def _role_place(self, role: str, generation: int, holder: str) -> bytes:
        return sealing.place(
            self._ledger, "role-key", role=role, generation=generation, holder=holder
        )

    def _payload_place(self, record: int, role: str, generation: int) -> bytes:
        return sealing.place(
            self._ledger, "payload-key", record=record, role=str(role), generation=generation
        )


def payload_place(ledger: bytes, record: int, record_type: str) -> bytes:
    """Name where a payload's ciphertext belongs."""
    return sealing.place(ledger, "payload", record=record, type=record_type)


def entry_place(ledger: bytes, position: int) -> bytes:
    """Name where an entry's secrets belong."""
    return sealing.place(ledger, "entry", position=position)


def _covered(table: str, row: Mapping[str, Any]) -> dict[str, CanonicalJSON]:
    return {
        name: row[name].hex() if isinstance(row[name], bytes) else row[name]
        for name in _COVERED[table]
    }
