"""How a block gets onto the disk: secrets first, then the block, each whole or not at all."""

import time
from collections.abc import Sequence
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from sqlalchemy import Connection, Table, bindparam, delete, insert, select
from sqlalchemy.dialects.sqlite import insert as upsert

from blockchain.private import sealing
from blockchain.private.drafts import Draft, NewEntry
from blockchain.private.encoding import (
    VERSION,
    Block,
    Leaf,
    Sealed,
    ciphertext_hash,
    payload_commitment,
)
from blockchain.private.errors import InvalidLedgerError, RecordRefusedError
from blockchain.private.files import LedgerFiles
from blockchain.private.history import History
from blockchain.private.keyring import Keyring, entry_place, payload_place
from blockchain.private.policy import Policy
from blockchain.private.record_types import (
    KeyRotation,
    MembershipChange,
)
from blockchain.private.schema import (
    blocks,
    entries,
    entry_secrets,
    keys,
    payloads,
    records,
    role_keys,
    witness,
)
from blockchain.typed_data import sign_digest

# Laid out once: that takes longer than SQLite takes to do it.
_INSERTS: Final = {
    table: insert(table)
    for table in (blocks, records, payloads, entries, keys, entry_secrets, role_keys)
}
_FROM_RECORD: Final = keys.c.record >= bindparam("first")
_FROM_POSITION: Final = entry_secrets.c.position >= bindparam("first")
_KEYS_LEFT: Final = select(keys.c.record).where(_FROM_RECORD).limit(1)
_ENTRY_SECRETS_LEFT: Final = select(entry_secrets.c.position).where(_FROM_POSITION).limit(1)
_DROP_KEYS: Final = delete(keys).where(_FROM_RECORD)
_DROP_ENTRY_SECRETS: Final = delete(entry_secrets).where(_FROM_POSITION)
_NEW: Final = upsert(witness)
_TESTIFY: Final = _NEW.on_conflict_do_update(index_elements=["id"], set_=dict(_NEW.excluded))


class BlockWriter:
    """Writes blocks as one member.

    Parameters
    ----------
    files : LedgerFiles
        The ledger's files.
    account : LocalAccount
        The member's.
    keyring : Keyring
        Its keys.
    """

    def __init__(self, files: LedgerFiles, account: LocalAccount, keyring: Keyring) -> None:
        self._files = files
        self._account = account
        self._keyring = keyring

    def write(self, connection: Connection, state: History, drafts: Sequence[Draft]) -> list[int]:
        """Write records in one block, on top of a state, which takes it in.

        Parameters
        ----------
        connection : Connection
            To ``ledger.sqlite``, holding the write lock; the caller commits.
        state : History
            All that is there. After an error, or unless the caller commits, it is of no more use.
        drafts : sequence of Draft
            The records.

        Returns
        -------
        list of int
            Their numbers.
        """
        before = {"height": state.height, "head": state.head}
        policy, first, first_entry = state.members, state.size, state.entries.size
        now = max(int(time.time()), state.time)
        leaves, payload_rows, key_rows = [], [], []
        for number, draft in enumerate(drafts, start=first):
            role = policy.role_to_write(self._account.address, draft.type)
            sealed = None
            if draft.payload is not None:
                sealed, payload_row, sealed_keys = self._seal(policy, state.ledger, number, draft)
                payload_rows.append(payload_row)
                key_rows += sealed_keys
            leaves.append(
                Leaf(
                    version=VERSION,
                    ledger=state.ledger.hex(),
                    record=number,
                    type=draft.type,
                    time=now,
                    author=self._account.address,
                    role=role,
                    body=None if draft.body is None else draft.body.checked(),
                    sealed=sealed,
                )
            )
        encoded = [leaf.encoded() for leaf in leaves]
        block = Block(
            version=VERSION,
            ledger=state.ledger,
            height=state.height,
            previous=state.head,
            size=first + len(leaves),
            root=state.root_with(encoded),
            policy=policy.hash,
            time=now,
            author=self._account.address,
        )
        signature = sign_digest(block.digest(state.domain), self._account)
        successors = {
            draft.body.successor: policy.succeeded(self._account.address, draft.body)
            for draft in drafts
            if isinstance(draft.body, KeyRotation)
        }
        added = {
            number: [entry.commitment for entry in draft.entries]
            for number, draft in enumerate(drafts, start=first)
        }
        try:
            state.apply(block, signature, encoded, added.__getitem__)
        except InvalidLedgerError as error:
            raise RecordRefusedError(f"{error.field}: {error.detail}") from error
        new_entries = [entry for draft in drafts for entry in draft.entries]
        role_key_rows = [row for draft in drafts for row in self._role_keys(policy, draft)]
        written = key_rows or new_entries or role_key_rows or successors
        if written or self._are_left(first, first_entry):
            with self._files.secrets.writing() as secrets:
                secrets.execute(_DROP_KEYS, {"first": first})
                secrets.execute(_DROP_ENTRY_SECRETS, {"first": first_entry})
                _insert(secrets, keys, key_rows)
                _insert(secrets, role_keys, role_key_rows)
                # Nobody else may be there who could, and this key opens nothing afterwards.
                for successor, after in successors.items():
                    self._keyring.hand_over(secrets, after, successor)
                _insert(secrets, entry_secrets, _encrypted(state, first_entry, new_entries))
                self._testify(secrets, policy, before)
        insert_block(connection, block, signature, leaves, encoded)
        _insert(connection, payloads, payload_rows)
        committed = [
            {"record": number, "commitment": entry.commitment}
            for number, draft in enumerate(drafts, start=first)
            for entry in draft.entries
        ]
        rows = [{"position": i, **row} for i, row in enumerate(committed, start=first_entry)]
        _insert(connection, entries, rows)
        return [leaf.record for leaf in leaves]

    def testify(self, state: History) -> None:
        """Keep which block the ledger has, as is done with secrets; the caller has its lock."""
        with self._files.secrets.writing() as secrets:
            self._testify(secrets, state.members, {"height": state.height, "head": state.head})

    def _are_left(self, record: int, position: int) -> bool:
        """Whether there are secrets of what is not there: of a writer killed before its block."""
        with self._files.secrets.reading() as secrets:
            return any(
                secrets.execute(query, {"first": first}).first()
                for query, first in ((_KEYS_LEFT, record), (_ENTRY_SECRETS_LEFT, position))
            )

    def _seal(
        self, policy: Policy, ledger: bytes, number: int, draft: Draft
    ) -> tuple[Sealed, dict[str, Any], list[dict[str, Any]]]:
        """Encrypt a payload; what its leaf holds of it, its row, and the rows of its key."""
        if draft.payload is None:
            raise RecordRefusedError(f"{draft.type}: there is no payload to seal")
        key, salt = sealing.random_key(), sealing.random_key()
        content = draft.payload.canonical()
        nonce, ciphertext = sealing.encrypt(key, content, payload_place(ledger, number, draft.type))
        sealed = Sealed(
            commitment=payload_commitment(salt, content).hex(),
            ciphertext=ciphertext_hash(nonce, ciphertext).hex(),
        )
        row = {"record": number, "nonce": nonce, "ciphertext": ciphertext}
        return sealed, row, self._keyring.seal_payload_key(policy, number, draft.type, key + salt)

    def _role_keys(self, policy: Policy, draft: Draft) -> list[dict[str, Any]]:
        """Seal the new keys that a change of members makes to those who will hold them."""
        if not isinstance(draft.body, MembershipChange):
            return []
        made = {role: sealing.public_key(key).hex() for role, key in draft.role_keys.items()}
        if made != {role: key.public for role, key in draft.body.role_keys.items()}:
            raise RecordRefusedError(
                "membership: role_keys: expected the private key of each, and no other"
            )
        after = policy.with_member(draft.body.member)
        # The MAC is under the key that members share now.
        sealed_to = Policy(after.members, policy.role_keys, policy.rules)
        return [
            row
            for role, key in draft.body.role_keys.items()
            for row in self._keyring.role_key_rows(
                sealed_to, role, key.generation, draft.role_keys[role], after.holders(role)
            )
        ]

    def _testify(self, connection: Connection, policy: Policy, seen: dict[str, Any]) -> None:
        """Keep which block the ledger has: an older file that lacks it is told by that."""
        row = self._keyring.signed_row("witness", policy, {"id": 1, **seen})
        connection.execute(_TESTIFY, row)


def insert_block(
    connection: Connection,
    block: Block,
    signature: bytes,
    leaves: Sequence[Leaf],
    encoded: Sequence[bytes],
) -> None:
    """Write a block and its records' rows."""
    connection.execute(
        _INSERTS[blocks],
        {
            "height": block.height,
            "version": block.version,
            "previous": block.previous,
            "size": block.size,
            "root": block.root,
            "policy": block.policy,
            "time": block.time,
            "author": block.author,
            "signature": signature,
        },
    )
    rows = [
        {"record": leaf.record, "block": block.height, "type": leaf.type, "leaf": content}
        for leaf, content in zip(leaves, encoded, strict=True)
    ]
    connection.execute(_INSERTS[records], rows)


def _encrypted(state: History, first: int, added: Sequence[NewEntry]) -> list[dict[str, Any]]:
    rows = []
    for position, entry in enumerate(added, start=first):
        nonce, ciphertext = sealing.encrypt(
            entry.key, entry.secret, entry_place(state.ledger, position)
        )
        rows.append({"position": position, "nonce": nonce, "ciphertext": ciphertext})
    return rows


def _insert(connection: Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    if rows:
        connection.execute(_INSERTS[table], list(rows))
